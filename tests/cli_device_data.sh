# The images in the device's memory (run.device_data), on the two test doubles of a GPU (see cli_device): the same bits as by the
# loader, once over the bus, where they fit; otherwise by the loader, or refused.
. "$(dirname "$0")/support.sh"
DOUBLES=$(dirname "$HETACUMN")/tests/cuda_host
unset HET_PLUGIN_PATH HET_TEST_DEVICE
export HET_CUDA_CONV=columns HET_CUDA_FFT=sums HET_CUDA_ROWS=2000 HET_CUDA_COLUMNS=100000

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 44 -D 16 --seed 5 -o stack.h5
common=("${TINY[@]}" --set train.epochs=2 --set train.pose_steps=1 --set run.log_steps=1)
same() { h5diff "$1"/checkpoints/step-*.h5 "$2"/checkpoints/step-*.h5 >out 2>err && [ -s "$1/log.jsonl" ] || fail "$1 and $2 differ"; }
stored() { grep -q "the images are in the device's memory: $1 MiB" err || fail "images are not stored, or not $1 MiB"; }
read_in() { ! grep -q "images are in the device's memory" err || fail "images are stored"; }

# train NAME ARGUMENTS..: on the CPU, or where HET_PLUGIN_PATH is set on that device
train()
{
    local name=$1 device=cpu
    shift
    [ -z "${HET_PLUGIN_PATH:-}" ] || device=cuda
    run train stack.h5 -o "$name" "${common[@]}" --device $device "$@"
}

# fp32: the CPU reads batches unless asked, and has the same bits either way; so has a device whose memory the host cannot touch.
train cpu
read_in
train asked --set run.device_data=yes
stored 0.0
same cpu asked
export HET_PLUGIN_PATH=$DOUBLES/emulated
train auto
stored 0.0
same cpu auto
train no --set run.device_data=no
read_in
same cpu no
unset HET_PLUGIN_PATH
for more in "--set train.shards=2 --deterministic" "--refine --set refine.rounds=1 --set refine.epochs=1"; do
    rm -rf cpu auto
    train cpu $more
    HET_PLUGIN_PATH=$DOUBLES/emulated train auto $more
    stored 0.0
    same cpu auto
done
h5diff -q cpu/refined/predictions.h5 auto/refined/predictions.h5 || fail "another refinement with images on the device"
ranks 2 train stack.h5 -o cpu2 "${common[@]}" --device cpu
[ $CODE -eq 0 ] || fail "exit code $CODE on 2 ranks"
HET_PLUGIN_PATH=$DOUBLES/emulated ranks 2 train stack.h5 -o auto2 "${common[@]}" --device cuda
[ $CODE -eq 0 ] || fail "exit code $CODE on 2 ranks of the emulated device"
stored 0.0
same cpu2 auto2

# The kernels of the GPU, in both precisions. Every image comes from the host once: 44 of them in place of 8 in each of 10 steps.
from_host() { sed -n 's/^cuda_host: \([0-9]*\) bytes from the host$/\1/p' err; }
export HET_PLUGIN_PATH=$DOUBLES HET_HOST_COUNT=1
for precision in fp32:4 bf16:2; do
    bytes=$((256 * ${precision#*:}))
    train "yes-$precision" --set train.precision=${precision%:*} --set run.device_data=yes
    stored 0.0
    once=$(from_host)
    train "no-$precision" --set train.precision=${precision%:*} --set run.device_data=no
    read_in
    each=$(from_host)
    [ $((each - once)) -eq $((80 * bytes - 44 * bytes)) ] || fail "$precision: $once bytes come from the host, otherwise $each"
    same "yes-$precision" "no-$precision"
done
unset HET_HOST_COUNT

# fp16 changes the mean square of what images show little: a device of its own in bf16 against the CPU in bf16 (left out where this CPU has
# none). Losses say nothing here: the rounding of an encoder in bf16 carries any change as far as 2 % in a few steps.
HET_PLUGIN_PATH=
if "$HETACUMN" train stack.h5 -o narrow "${common[@]}" --device cpu --set train.precision=bf16 2>err; then
    HET_PLUGIN_PATH=$DOUBLES/emulated train half --set train.precision=bf16
    paste <(jq .zero_loss narrow/log.jsonl) <(jq .zero_loss half/log.jsonl) |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 5e-4 * $1) bad++; if (d > 0) other++; n++; print } END { exit n != 10 || bad || !other }' >out ||
        fail "images change by more than fp16 explains, or not at all"
fi

# Where they do not fit: by the loader, or refused with what is missing.
export HET_PLUGIN_PATH=$DOUBLES/emulated
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 6000 -D 16 --seed 5 -o stack.h5
common+=(--set train.epochs=0.01)
train dry --set run.device_data=no --dry-run
needs=$(sed -n 's/.*memory: in all \([0-9.]*\) MiB on the device, .*/\1/p' err)
free=$(awk -v mib="$needs" 'BEGIN { printf "%.0f", 1048576 * (mib + 3) }')
HET_EMULATED_FREE=$free train little
read_in
HET_EMULATED_FREE=$free refused 1 'training needs [0-9.]* MiB of the device .*: the images are 5.9 of them, which run.device_data=no leaves in their file' \
    train stack.h5 -o never "${common[@]}" --device cuda --set run.device_data=yes
export HET_PLUGIN_PATH=$DOUBLES HET_HOST_MEMORY=5000000 # no allocation may be larger
train fewer
grep -q 'warning: the images do not fit into the device' err || fail "it is not said that images do not fit"
refused 1 'no memory on the device for 5.9 MiB of images: take run.device_data=no' train stack.h5 -o never "${common[@]}" --device cuda \
    --set run.device_data=yes
[ ! -e never ] || fail "a refused command left the run's folder"
echo passed
