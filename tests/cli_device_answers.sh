# predict, volume, evaluate and train --refine on the two test doubles of a GPU (see cli_device): the CPU's answers to the bit where
# the double computes as the CPU does, to 1e-4 with the kernels of kernels/cuda.
. "$(dirname "$0")/support.sh"
DOUBLES=$(dirname "$HETACUMN")/tests/cuda_host
unset HET_PLUGIN_PATH HET_TEST_DEVICE
export HET_CUDA_CONV=columns HET_CUDA_FFT=sums HET_CUDA_ROWS=2000 HET_CUDA_COLUMNS=100000

# with FOLDER ARGUMENTS..: the program with the plugin there, on its device
with()
{
    export HET_PLUGIN_PATH=$1
    shift
    run "$@" --device cuda
    unset HET_PLUGIN_PATH
}
same() { h5diff -q "$1" "$2" >out 2>err && [ -s "$1" ] || fail "$1 and $2 differ"; }
near() { h5diff -q -d 1e-4 "$1" "$2" >out 2>err && [ -s "$1" ] || fail "$1 and $2 differ by more than 1e-4"; }

voxels() { od -A n -v -t f4 -w4 -j 1024 "$1"; }

make_atoms atoms.pdb
simulate=(simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,50 -D 16 --apix 6 --snr-db 10 --shift 0.5)
run "${simulate[@]}" -n 200 --seed 5 --write-maps maps -o stack.h5
run "${simulate[@]}" -n 24 --seed 6 -o other.h5

# A device's name is looked at by each; one that cannot be had is an error, also where auto would take the CPU.
run train stack.h5 "${TINY[@]}" --set train.epochs=2 --set train.freeze_epochs=1 -o run --device cpu
for command in "predict run stack.h5" "volume run --z 0,0 -o maps2" "evaluate run --truth stack.h5 --maps maps/class0.mrc,maps/class1.mrc"; do
    refused 2 '--device abacus: it must be cpu, auto, cuda or cuda:N' $command --device abacus
done
run predict run stack.h5 --device cpu
for command in "predict run stack.h5" "volume run --z 0,0 -o maps2" "evaluate run --truth stack.h5 --maps maps/class0.mrc,maps/class1.mrc"; do
    HET_PLUGIN_PATH=$WORK refused 1 'no CUDA plugin' $command --device cuda
done

# The encoder's answers, a map, and measures of the maps at each image's z.
run volume run --z 0.3,-0.2 -o cpu --device cpu
run evaluate run --truth stack.h5 --maps maps/class0.mrc,maps/class1.mrc --per-image 3 --json cpu.json --device cpu
for double in emulated .; do
    with "$DOUBLES/$double" predict run stack.h5 -o answers.h5
    with "$DOUBLES/$double" volume run --z 0.3,-0.2 -o "there$double"
    with "$DOUBLES/$double" evaluate run --truth stack.h5 --maps maps/class0.mrc,maps/class1.mrc --per-image 3 --json "$double.json"
    if [ $double = emulated ]; then
        same run/predictions.h5 answers.h5
        cmp -s cpu/vol_000.mrc thereemulated/vol_000.mrc || fail "another map on the emulated device"
        cmp -s cpu.json emulated.json || fail "other measures on the emulated device"
    else
        near run/predictions.h5 answers.h5
        ! h5diff -q run/predictions.h5 answers.h5 >out || fail "the kernels of the GPU were not used"
        paste <(voxels cpu/vol_000.mrc) <(voxels there./vol_000.mrc) |
            awk '{ d = $1 - $2; sum += $1 * $1; squares += d * d; n++ } END { exit n != 4096 || squares > 1e-8 * sum }' ||
            fail "another map from the GPU's kernels"
        jq -en --slurpfile a cpu.json --slurpfile b ..json '[$a[0], $b[0] | [.. | numbers]] | transpose |
            all((.[0] - .[1] | fabs) <= 1e-4 * (1 + (.[0] | fabs)))' >/dev/null || fail "other measures from the GPU's kernels"
    fi
done

# Searches: refinement, and other images placed in the conformations that training kept or against refined volumes. On two ranks, too.
train=(train stack.h5 "${TINY[@]}" --set init.method=search --set init.search_images=100 --set init.starts=2 --set init.search_rounds=4
       --set init.rounds=2 --set init.components=0 --set init.epochs=1 --set train.epochs=3 --set train.freeze_epochs=1 --set refine.rounds=1 --set refine.epochs=1)
run "${train[@]}" -o placed --device cpu
cp -r placed emulated
run predict placed other.h5 -o cpu.h5 --device cpu
with "$DOUBLES/emulated" predict emulated other.h5 -o emulated.h5
same cpu.h5 emulated.h5
# (Iterations end on the way to a minimum: there the loss is nearly the same, pose and conformation less so.)
with "$DOUBLES" predict emulated other.h5 -o double.h5
h5diff -q -d 1e-3 cpu.h5 double.h5 loss >out || fail "other minima with the GPU's kernels"
ranks 2 predict placed other.h5 -o cpu2.h5 --device cpu
[ $CODE -eq 0 ] || fail "exit code $CODE of predict on two ranks"
HET_PLUGIN_PATH=$DOUBLES/emulated ranks 2 predict emulated other.h5 -o emulated2.h5 --device cuda
[ $CODE -eq 0 ] || fail "exit code $CODE of predict on two ranks of the emulated device"
same cpu2.h5 emulated2.h5
run "${train[@]}" -o placed --refine --device cpu
with "$DOUBLES/emulated" "${train[@]}" -o emulated --refine
same placed/refined/predictions.h5 emulated/refined/predictions.h5
echo passed
