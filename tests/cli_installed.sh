# The installed program, away from its build folder: the whole pipeline with it.
. "$(dirname "$0")/support.sh"
cmake --install "$(dirname "$HETACUMN")" --prefix "$WORK/prefix" >out 2>err || fail "cmake --install"
[ -s prefix/share/doc/hetacumn/LICENSE ] || fail "the licence is not installed"
submit=prefix/share/hetacumn/slurm/submit
$submit --dry-run cpu "$0" -o run >out 2>err && grep -q 'common.sh' out && [ -s "$(dirname $submit)/common.sh" ] ||
    fail "the job scripts are not installed"
HETACUMN=$WORK/prefix/bin/hetacumn
run --help
grep -q 'usage: hetacumn COMMAND' out || fail "no usage"
ends_with 2
ends_with 2 frobnicate
bash "$TESTS/cli_pipeline.sh" "$HETACUMN" || fail "the pipeline with the installed program"
