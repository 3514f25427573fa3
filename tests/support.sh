# Sourced by tests/cli_*.sh: `. support.sh`. Gives HETACUMN (the program, first argument), TESTS (this folder), an empty
# working folder that goes when the test ends, and the functions below.
set -u
HETACUMN=$1
TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=$(mktemp -d "$PWD/$(basename "$0" .sh).XXXXXX")
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive LC_ALL=C

# fail WORDS: end the test, showing what the last command of run, refused or ranks said.
fail()
{
    echo "FAILED: $*" >&2
    if [ -s out ]; then echo "-- stdout:" >&2; tail -n 20 out >&2; fi
    if [ -s err ]; then echo "-- stderr:" >&2; tail -n 20 err >&2; fi
    exit 1
}

# HET_SHORT: set for the sanitizers (CMakePresets.json), leaves out what other tests run there and takes minutes.

# run ARGUMENTS: the program, which must succeed; its output is in the files out and err.
run()
{
    local code=0
    timeout -k 5 900 "$HETACUMN" "$@" >out 2>err || code=$?
    [ $code -eq 0 ] || fail "exit code $code: hetacumn $*"
}

# ends_with CODE ARGUMENTS: the program, which must end with this exit code within five minutes.
ends_with()
{
    local wanted=$1 code=0
    shift
    timeout -k 5 300 "$HETACUMN" "$@" >out 2>err || code=$?
    [ $code -eq "$wanted" ] || fail "exit code $code where $wanted was expected: hetacumn $*"
}

# says_once PATTERN: stderr holds exactly one line of error, and it matches the extended regular expression.
says_once()
{
    [ "$(grep -c 'error: ' err)" -eq 1 ] || fail "not exactly one line of error where '$1' was expected"
    grep 'error: ' err | grep -Eq -- "$1" || fail "the error does not match '$1'"
}

# refused CODE PATTERN ARGUMENTS: ends with the code and one line of error that matches.
refused()
{
    local code=$1 pattern=$2
    shift 2
    ends_with "$code" "$@"
    says_once "$pattern"
}

# ranks N ARGUMENTS: the program under mpirun; the exit code is in CODE.
ranks()
{
    local count=$1
    shift
    CODE=0
    timeout -k 5 600 mpirun --oversubscribe --bind-to none -np "$count" "$HETACUMN" "$@" >out 2>err || CODE=$?
}

# wait_for WHAT COMMAND..: until the command succeeds, at most two minutes.
wait_for()
{
    local what=$1 i
    shift
    for ((i = 0; i < 2400; i++)); do
        "$@" && return
        sleep 0.05
    done
    fail "waited two minutes for $what"
}

# make_atoms FILE: a random chain of carbons in two domains, A and B, without symmetry (PDB).
make_atoms()
{
    awk 'function random() { state = (state * 16807) % 2147483647; return state / 2147483647 }
         BEGIN {
             state = 1234
             for (i = 1; i <= 240; i++) {
                 chain = i <= 140 ? "A" : "B"
                 if (i == 141) { x = 18; y = 4; z = -6 }
                 x += 9 * random() - 4.5; y += 9 * random() - 4.5; z += 9 * random() - 4.5
                 printf "ATOM  %5d  CA  GLY %s%4d    %8.3f%8.3f%8.3f  1.00  0.00           C\n", i, chain, i, x, y, z
             }
             print "END"
         }' >"$1"
}

# A network small enough for tests: pass it to train as "${TINY[@]}".
TINY=(--set encoder.width=16 --set encoder.head=32 --set decoder.width=32 --set decoder.frequencies=16 --set z_dim=2
      --set init.method=none --set train.batch=8 --set train.threads=1 --set train.precision=fp32)
