#!/usr/bin/env bash
# Set up, build and test: the release build with warnings as errors, then the sanitizers: of addresses and undefined behaviour in one
# build, and of threads, over the tests in which threads of our own run (the CPU kernels' are OpenMP's, which it cannot follow) and
# over the CUDA kernels on their test double.
#   ./test.sh                   all presets
#   ./test.sh release asan ...  only these
#   ./test.sh --long            only the long tests, trainings to a result, of the release build
set -uo pipefail
cd "$(dirname "$0")"
presets=(release asan tsan)
long=()
case "${1:-}" in
--long) long=(-C long -L long) presets=(release); shift ;;
-h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
[ $# -gt 0 ] && presets=("$@")

scripts/setup.sh || exit 1
mkdir -p build

# One preset: configure, build, test. What goes wrong is printed; the rest is in build/test-PRESET.log.
test_preset() {
    local preset=$1 log=build/test-$1.log
    if ! { cmake --preset "$preset" -DHET_WERROR=ON && cmake --build --preset "$preset"; } >"$log" 2>&1; then
        grep -E -A8 'error|FAILED|CMake Error' "$log" | tail -n 60
        echo "$preset: the build failed; see $log"
        return 1
    fi
    # Two tests at a time in random order; no tests at all is an error (CMakePresets.json).
    if ! ctest --preset "$preset" "${long[@]}" >>"$log" 2>&1; then
        grep -vE '^ *Start |Passed' "$log" | tail -n 150
        echo "$preset: tests failed; see $log"
        return 1
    fi
}

failed=0
summary=$(printf '%-9s %-8s %9s  %s' preset result seconds tests)
for preset in "${presets[@]}"; do
    echo "== $preset"
    SECONDS=0
    result=passed
    test_preset "$preset" || { result=FAILED; failed=1; }
    tests=$(grep -E '% tests passed' "build/test-$preset.log" | tail -n 1)
    summary+=$(printf '\n%-9s %-8s %9d  %s' "$preset" "$result" "$SECONDS" "${tests:-none}")
done
echo
echo "$summary"
[ $failed -eq 0 ] && echo "all tests passed" || echo "SOME TESTS FAILED"
exit $failed
