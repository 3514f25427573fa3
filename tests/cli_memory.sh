# What a training takes is told in advance, to a few percent, and one that does not fit is refused with a batch that does.
. "$(dirname "$0")/support.sh"
make_atoms atoms.pdb
run simulate --atoms atoms.pdb -n 400 -D 16 --apix 6 --snr-db 5 --seed 3 -o stack.h5

# told, used: MiB, from what the last command said
told()
{
    sed -n 's/.*memory: in all \([0-9.]*\) MiB per rank.*/\1/p' err
}
used()
{
    sed -n 's/.*memory: at most \([0-9.]*\) MiB were in use.*/\1/p' err
}
near()
{
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0.95 * b && a < 1.1 * b) }'
}

# Encoder and decoder as they are, so that the small parts that are not told do not count.
settings=(--set encoder.width=32 --set train.threads=1 --set train.epochs=1 --set train.pose_steps=1)
for start in none --; do
    more=("${settings[@]}" --set init.method=none)
    [ $start = none ] || more=("${settings[@]}" --set init.radius=5 --set init.starts=2 --set init.rounds=2 --set init.search_rounds=2)
    run train stack.h5 -o "dry$start" "${more[@]}" --dry-run
    before=$(told)
    [ ! -e "dry$start" ] || fail "--dry-run left a folder"
    run train stack.h5 -o "run$start" "${more[@]}"
    near "$before" "$(used)" || fail "told $before MiB, used $(used), start $start"
done

settings+=(--set init.method=none)
run train stack.h5 -o dry "${settings[@]}" --dry-run
all=$(told)
limit=$(awk -v all="$all" 'BEGIN { printf "%.0fk", 1024 * all - 512 }')
refused 1 "training needs $all MiB of memory and there are [0-9.]+ for each of 1 rank.s.: train.batch=[0-9]+ would fit" \
    train stack.h5 -o small "${settings[@]}" --memory "$limit"
batch=$(sed -n 's/.*train.batch=\([0-9]*\) would fit.*/\1/p' err)
[ "$batch" -lt 64 ] && [ "$batch" -gt 32 ] || fail "train.batch=$batch is not near the largest"
run train stack.h5 -o small "${settings[@]}" --memory "$limit" --set train.batch="$batch"
run train stack.h5 -o dry "${settings[@]}" --memory 1M --dry-run
grep -q 'warning: training needs .* no batch is small enough' err || fail "--dry-run does not say that it would not fit"
# The ranks of a node share it.
ranks 2 train stack.h5 -o dry "${settings[@]}" --memory "$limit" --dry-run
grep -q 'for each of 2 rank' err || fail "two ranks do not share a node"
for size in 0 1X G 8GB -1 ''; do refused 2 'memory .*it must be a number' train stack.h5 -o x --memory "$size"; done

# A device with memory of its own says what it has (the test double of cli_device.sh).
export HET_PLUGIN_PATH=$(dirname "$HETACUMN")/tests/cuda_host/emulated
run train stack.h5 -o dry "${settings[@]}" --device cuda --dry-run
grep -Eq 'images on the device 0\.[24]' err || fail "images that will be on the device are not told"
settings+=(--set run.device_data=no)
run train stack.h5 -o dry "${settings[@]}" --device cuda --dry-run
device=$(sed -n 's/.*memory: in all \([0-9.]*\) MiB on the device, .*/\1/p' err)
[ -n "$device" ] || fail "what the device needs is not told"
free=$(awk -v mib="$device" 'BEGIN { printf "%.0f", 1048576 * (mib - 1) }')
HET_EMULATED_FREE=$free refused 1 "training needs $device MiB of the device and there are .* train.batch=[0-9]+ would fit" \
    train stack.h5 -o device "${settings[@]}" --device cuda
