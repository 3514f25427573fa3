# What scripts/gpu_kit.sh packs for a machine with a GPU: complete, it starts elsewhere, and says why it can do nothing here.
. "$(dirname "$0")/support.sh"
build=$(dirname "$HETACUMN")
[ -e "$build/hetacumn_cuda.so" ] || { echo "skipped: the plugin was not built"; exit 77; }
"$TESTS/../scripts/gpu_kit.sh" kit "$build" >out 2>err || fail "gpu_kit.sh"
mv kit moved
for program in moved/bin/hetacumn moved/bin/step moved/bin/tests/test_ops_conv moved/bin/tests/cuda_host/cuda_graph moved/tools/jq \
    moved/tools/h5diff; do [ -x "$program" ] || fail "no $program"; done
[ -s moved/lib/hetacumn/hetacumn_cuda.so ] || fail "no plugin"
echo '{"a": [1, 2]}' | moved/tools/jq .a[1] >out 2>err && grep -qx 2 out || fail "jq of the kit"
code=0
HET_GPU_QUICK=1 env -u HET_PLUGIN_PATH moved/check >out 2>err || code=$?
if [ $code -eq 0 ]; then echo "passed, and there is a GPU"; exit 0; fi
[ $code -eq 77 ] && grep -q 'skipped: --device cuda' err || fail "exit code $code of check"
! grep -q MISSING out || fail "$(cat out)"
code=0
"$TESTS/../scripts/gpu_kit.sh" moved "$build" >out 2>err || code=$?
[ $code -ne 0 ] && grep -q 'there already' err || fail "it writes over a folder"
echo passed
