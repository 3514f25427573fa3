# The work of a step as a CUDA graph, on the test double of the runtime (see cli_device), whose streams record what is launched while
# they capture: the same bits as kernel by kernel, in both precisions, with libraries and without, with poses given, after changes of
# the step's shape; one copy to the device and one read in a step; and what is said where graphs cannot be had.
. "$(dirname "$0")/support.sh"
DOUBLES=$(dirname "$HETACUMN")/tests/cuda_host
unset HET_TEST_DEVICE
export HET_PLUGIN_PATH=$DOUBLES HET_CUDA_ROWS=1000 HET_CUDA_COLUMNS=100000 HET_HOST_COUNT=1 HET_CUDA_CONV=columns HET_CUDA_FFT=sums

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 16 -D 16 --seed 5 -o stack.h5
common=(stack.h5 "${TINY[@]}" --set train.pose_steps=1 --set train.freeze_epochs=1 --set train.epochs=3 --device cuda)

# counted NAME: of the last run: launched, made, waits
counted() { grep '^cuda_host: ' err | grep -o "[0-9]* $1" | cut -d ' ' -f 1; }
launched() { counted "graphs launched"; }
newest() { ls "$1"/checkpoints/step-*.h5 | sort -V | tail -n 1; }
same() { h5diff "$(newest "$1")" "$(newest "$2")" >out 2>err && [ -s "$1/log.jsonl" ] || fail "$1 and $2 differ"; }

# both NAME ARGUMENTS..: with graphs and without; LAUNCHED and MADE of the first
both()
{
    local name=$1
    shift
    HET_CUDA_GRAPH=off run train "${common[@]}" -o "$name-off" "$@"
    [ "$(launched)" -eq 0 ] || fail "$name: graphs, though they are switched off"
    OFF=$(counted waits)
    run train "${common[@]}" -o "$name" "$@"
    LAUNCHED=$(launched) MADE=$(counted made) WAITS=$(counted waits)
    same "$name" "$name-off"
}

# Twelve steps with the whole disc: of each task the first, and the first that is not frozen, go kernel by kernel, the second ones are captured.
whole=(--set train.march_start=0 --set run.log_steps=1000)
both fp32 "${whole[@]}"
[ "$LAUNCHED $MADE" = "8 4" ] || fail "$LAUNCHED graphs launched and $MADE made, not 8 and 4"
[ "$WAITS" -eq "$OFF" ] || fail "$WAITS waits with graphs, $OFF without"
run train "${common[@]}" -o short "${whole[@]}" --set train.epochs=2
[ $((WAITS - $(counted waits))) -eq 8 ] || fail "in four steps $((WAITS - $(counted waits))) waits, not one to read and one to check each"

# The disc grows: other shapes.
both bf16 --set train.epochs=4 --set train.precision=bf16 --set train.augment=true --set encoder.norm=group --set run.device_data=no
[ "$MADE" -ge 4 ] || fail "bf16: $MADE graphs made"
export HET_CUDA_CONV=cudnn HET_CUDA_FFT=cufft HET_CUDNN_LIBRARY=$DOUBLES/libraries/libcudnn.so.9 HET_CUFFT_LIBRARY=$DOUBLES/libraries/libcufft.so.12
both libraries "${whole[@]}"
[ "$MADE" -eq 4 ] || fail "libraries: $MADE graphs made"
export HET_CUDA_CONV=columns HET_CUDA_FFT=sums

# Poses and conformations given: a start on the CPU, and five more steps of each task on the device.
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 200 -D 16 --seed 5 -o more.h5
given=(train more.h5 "${TINY[@]}" --set init.method=search --set init.search_images=100 --set init.starts=2 --set init.search_rounds=3
       --set init.rounds=1 --set init.epochs=1 --set train.pose_steps=1 --set train.freeze_epochs=1 --set run.log_steps=1)
run "${given[@]}" -o given --set train.epochs=1.4 --device cpu
cp -r given given-off
HET_CUDA_GRAPH=off run "${given[@]}" -o given-off --set train.epochs=1.6 --device cuda
run "${given[@]}" -o given --set train.epochs=1.6 --device cuda
[ "$(counted made)" -eq 2 ] || fail "given poses: $(counted made) graphs made, not one of each task"
[ "$(jq -s '[.[-5:][].conformation_loss != 0] | all' given/log.jsonl)" = true ] || fail "no conformations were given"
same given given-off

# Parts of a batch have memory of their own: kernel by kernel.
HET_CUDA_GRAPH=on run train "${common[@]}" -o parts --set train.epochs=1 --set train.shards=2 --deterministic
[ "$(launched)" -eq 0 ] || fail "graphs with parts of a batch"

# Two ranks: a row of graphs in each step, between which sums of gradients start, by NCCL and by MPI. Of four steps of each task one
# goes kernel by kernel and three are launched, in pieces up to each of the places where gradients are final, and to the end.
export LD_LIBRARY_PATH=$DOUBLES/libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} HET_HOST_DEVICES=2
of_ranks() # of_ranks SUMS NAME LAUNCHED
{
    HET_CUDA_SUMS=$1 ranks 2 train "${common[@]}" -o "$2" "${whole[@]}" --set train.epochs=2 --set train.freeze_epochs=0
    [ "$CODE" -eq 0 ] || fail "$2: exit code $CODE"
    grep -qi "added up by $1" err || fail "$2: sums are not made by $1"
    [ "$(launched | sort -u)" = "$3" ] || fail "$2: $(launched) graphs launched on the two ranks, not $3"
}
HET_CUDA_GRAPH=off of_ranks nccl ranks-off 0
of_ranks nccl ranks-nccl 39
of_ranks mpi ranks-mpi 39
same ranks-nccl ranks-off
same ranks-mpi ranks-off
unset HET_HOST_DEVICES

# Without memory for graphs, one warning and the same bits; other words are refused.
HET_HOST_GRAPH=refuse run train "${common[@]}" -o refused "${whole[@]}"
[ "$(grep -c 'warning: steps are launched kernel by kernel, as they cannot be captured' err)" -eq 1 ] || fail "not one warning"
same refused fp32
HET_CUDA_GRAPH=maybe refused 2 'HET_CUDA_GRAPH=maybe: it must be on or off' train "${common[@]}" -o never

# A fault within a graph ends the training, by name.
HET_HOST_FAULT=240 ends_with 1 train "${common[@]}" "${whole[@]}" -o faulty
says_once 'the GPU failed at cudaGraphLaunch\(.*\) \(graph\.cu line [0-9]+\): unspecified launch failure'
echo passed
