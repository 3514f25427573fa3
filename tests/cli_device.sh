# Devices by name: what each answers where it cannot be used, and trainings on two test doubles that are loaded as the CUDA plugin
# is. One computes as the CPU does, but stops the program where the host looks into device memory: its results are the CPU's
# bits. The other runs the kernels of kernels/cuda on the host.
. "$(dirname "$0")/support.sh"
DOUBLES=$(dirname "$HETACUMN")/tests/cuda_host
unset HET_PLUGIN_PATH HET_TEST_DEVICE
export HET_CUDA_CONV=columns HET_CUDA_FFT=sums # the doubles must not meet real libraries

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 40 -D 16 --seed 5 -o stack.h5
train=(train stack.h5 "${TINY[@]}" --set train.epochs=1 --set run.log_steps=1)

# with KEY=VALUE.. -- COMMAND..: the command with a plugin of the tests
with()
{
    local folder=$1 settings=()
    shift
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    shift
    export HET_PLUGIN_PATH=$folder "${settings[@]}"
    "$@"
    unset HET_PLUGIN_PATH "${settings[@]%%=*}"
}
refuse() { refused "$1" "$2" "${train[@]}" -o never --device "${3:-cuda}"; }

# names, and what is missing, in words
refuse 2 '--device abacus: it must be cpu, auto, cuda or cuda:N' abacus
refuse 2 '--device cuda:x' cuda:x
with "$WORK" -- refuse 1 'no CUDA plugin'
mkdir text && echo text >text/hetacumn_cuda.so
with "$WORK/text" -- refuse 1 'cannot be loaded'
mkdir other && cp "$(ls /usr/lib/*/libz.so.1 | head -n 1)" other/hetacumn_cuda.so
with "$WORK/other" -- refuse 1 'no plugin of this version'
with "$DOUBLES" HET_HOST_DRIVER=0 -- refuse 1 'no NVIDIA driver'
with "$DOUBLES" HET_HOST_DRIVER=12080 -- refuse 1 'driver is too old: it serves CUDA 12.8, this plugin was built with 13.0'
with "$DOUBLES" HET_HOST_DEVICES=0 -- refuse 1 'no GPU here'
with "$DOUBLES" -- refuse 2 'there are 1 GPUs' cuda:3
with "$DOUBLES" HET_HOST_MEMORY=1000000 HET_CUDA_ROWS=500 -- ends_with 1 "${train[@]}" -o never --device cuda
grep -q 'the GPU has no memory for .* MiB: .* of .* MiB are free' err || fail "need and have of memory are not said"
says_once 'no .*(memory|MiB)'
[ ! -e never ] || fail "a refused command left the run's folder"
if [ -e "$(dirname "$HETACUMN")/hetacumn_cuda.so" ] && [ ! -e /dev/nvidiactl ]; then
    refuse 1 'no NVIDIA driver' # the plugin itself, beside the program
fi

# A fault in the middle ends the training, once, by name; nothing is reported as success.
with "$DOUBLES" HET_HOST_FAULT=400 HET_CUDA_ROWS=2000 -- ends_with 1 "${train[@]}" -o faulty --device cuda
says_once 'the GPU failed at cuda[A-Za-z]*\(.*\) \([a-z]*\.cu line [0-9]+\): unspecified launch failure'

# auto is the CPU where the kernel offers no GPU
[ -e /dev/nvidiactl ] || with "$WORK" -- run "${train[@]}" -o auto
run "${train[@]}" -o cpu --device cpu
[ -e /dev/nvidiactl ] || h5diff cpu/checkpoints/step-15.h5 auto/checkpoints/step-15.h5 >out || fail "auto is not the CPU"

# The emulated device: the same bits, on one rank and two, with parts of a batch, and with poses searched and given.
same() { h5diff "$1" "$2" >out 2>err && [ -s "$1" ] || fail "$1 and $2 differ"; }
with "$DOUBLES/emulated" -- run "${train[@]}" -o emulated --device cuda
same cpu/checkpoints/step-15.h5 emulated/checkpoints/step-15.h5
ranks 2 "${train[@]}" -o cpu2 --device cpu
[ $CODE -eq 0 ] || fail "exit code $CODE on 2 ranks"
with "$DOUBLES/emulated" -- ranks 2 "${train[@]}" -o emulated2 --device cuda
[ $CODE -eq 0 ] || fail "exit code $CODE on 2 ranks of the emulated device"
same cpu2/checkpoints/step-15.h5 emulated2/checkpoints/step-15.h5

for more in "--set train.shards=2 --deterministic" "--set train.method=cryodrgn2 --set search.pretrain=40"; do
    rm -rf cpu emulated
    run "${train[@]}" $more -o cpu --device cpu
    with "$DOUBLES/emulated" -- run "${train[@]}" $more -o emulated --device cuda
    same cpu/checkpoints/step-*.h5 emulated/checkpoints/step-*.h5
done

# The kernels of the GPU on the host: losses as on the CPU. Small rates, as a winner that flips changes the path.
slow=(--set train.rate_encoder=1e-6 --set train.rate_decoder=1e-6)
run "${train[@]}" "${slow[@]}" -o slow --device cpu
with "$DOUBLES" HET_CUDA_ROWS=2000 HET_CUDA_COLUMNS=100000 -- run "${train[@]}" "${slow[@]}" -o double --device cuda
losses() { jq -r '.image_loss, .pose_loss, .kl, .zero_loss, .rotation_spread' "$1/log.jsonl"; }
agree()
{
    paste <(losses "$1") <(losses "$2") | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * ($1 < 0 ? -$1 : $1)) { print; bad++ } n++ }
        END { if (n < 20 || bad) { print n " numbers, " bad " differ"; exit 1 } }' >out || fail "$1 and $2 do not train alike"
}
agree slow double

# The decoder's ways on a GPU train it alike - the encoder stands still, as a rounding there changes the path - and not to the
# same bits: so each was taken. Where wgmma gives wrong results, the next one is.
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 16 -D 16 --seed 5 -o few.h5
few=(train few.h5 "${TINY[@]}" --set train.epochs=2 --set run.log_steps=1 --set train.rate_encoder=0 --set decoder.width=256
     --set decoder.frequencies=32 --set train.precision=bf16 --device cuda)
for way in plain fused wgmma; do with "$DOUBLES" HET_CUDA_DECODE=$way -- run "${few[@]}" -o $way; done
for way in fused wgmma; do
    h5diff plain/checkpoints/step-*.h5 $way/checkpoints/step-*.h5 >out && fail "HET_CUDA_DECODE=$way changes nothing"
    paste <(jq .image_loss plain/log.jsonl) <(jq .image_loss $way/log.jsonl) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * $1) bad++; if (!n++) first = $1; print }
        END { exit n < 4 || bad || $1 > 0.95 * first }' >out || fail "the decoder does not train by $way as it does layer by layer"
done
h5diff fused/checkpoints/step-*.h5 wgmma/checkpoints/step-*.h5 >out && fail "wgmma changes nothing"
with "$DOUBLES" HET_HOST_WGMMA=wrong -- run "${few[@]}" -o wrong
grep -q 'warning: the decoder does without wgmma: on this GPU its results and those of the other kernels are .* apart' err ||
    fail "wrong results of wgmma are not told"
h5diff fused/checkpoints/step-*.h5 wrong/checkpoints/step-*.h5 >out || fail "without wgmma training goes otherwise"
with "$DOUBLES" HET_CUDA_DECODE=fast -- ends_with 2 "${train[@]}" -o never --device cuda
says_once 'HET_CUDA_DECODE=fast: it must be wgmma, fused or plain'

# The same with convolutions and Fourier points by the doubles of cuDNN and cuFFT; where one is missing or does not start, without
# it and with a warning.
library=$DOUBLES/libraries/libcudnn.so.9
export HET_CUDA_CONV=cudnn HET_CUDA_ROWS=2000 HET_CUDA_COLUMNS=100000
with "$DOUBLES" HET_CUDNN_LIBRARY=$library HET_HOST_CUDNN_LEAST=885 HET_CUDA_FFT=cufft HET_HOST_CUFFT_LEAST=21 \
    HET_CUFFT_LIBRARY=$DOUBLES/libraries/libcufft.so.12 -- run "${train[@]}" "${slow[@]}" -o cudnn --device cuda
grep -q 'fp32, cuDNN 9.19.0, cuFFT 12.0' err || fail "the device's name does not hold its libraries"
agree slow cudnn
export HET_CUDA_FFT=cufft HET_CUFFT_LIBRARY=/nowhere/libcufft.so.12
with "$DOUBLES" HET_CUDNN_LIBRARY=$library HET_HOST_CUDNN=dead -- run "${train[@]}" "${slow[@]}" -o without --device cuda
grep -q 'warning: convolutions are computed by columns: cuDNN does not start: words' err || fail "it is not said that cuDNN does not start"
grep -q 'warning: Fourier points are computed by sums: the library cuFFT (/nowhere/libcufft.so.12) is missing' err || fail "it is not said that cuFFT is missing"
same double/checkpoints/step-15.h5 without/checkpoints/step-15.h5
export HET_CUDA_CONV=tensor
with "$DOUBLES" -- refuse 2 'HET_CUDA_CONV=tensor: it must be columns or cudnn'
export HET_CUDA_CONV=columns HET_CUDA_FFT=slow
with "$DOUBLES" -- refuse 2 'HET_CUDA_FFT=slow: it must be sums or cufft'
echo passed
