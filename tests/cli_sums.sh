# Sums of gradients between GPUs (src/train_sums.c, kernels/cuda/nccl.cu), on the test doubles of the CUDA runtime and of NCCL
# (tests/cuda_host): the same training as with MPI's sums, and what happens where they cannot be had, or fail.
. "$(dirname "$0")/support.sh"
DOUBLES=$(dirname "$HETACUMN")/tests/cuda_host
unset HET_TEST_DEVICE HET_CUDA_SUMS HET_NCCL_LIBRARY HET_HOST_NCCL
export HET_PLUGIN_PATH=$DOUBLES LD_LIBRARY_PATH=$DOUBLES/libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export HET_CUDA_CONV=columns HET_CUDA_FFT=sums HET_CUDA_ROWS=2000 HET_CUDA_COLUMNS=100000 HET_HOST_DEVICES=4 TMPDIR=$WORK

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 16 -D 16 --seed 5 -o stack.h5
train=(train stack.h5 "${TINY[@]}" --set train.epochs=1 --set train.pose_steps=1 --set run.log_steps=1 --device cuda)

# after CODE RANKS NAME ARGUMENTS..: a training whose exit code this is; one rank without mpirun
after()
{
    local wanted=$1 count=$2 name=$3
    shift 3
    rm -rf "$name"
    if [ "$count" -eq 1 ]; then
        CODE=0
        timeout -k 5 120 "$HETACUMN" "${train[@]}" -o "$name" "$@" >out 2>err || CODE=$?
    else
        ranks "$count" "${train[@]}" -o "$name" "$@"
    fi
    [ "$CODE" -eq "$wanted" ] || fail "exit code $CODE where $wanted was expected: $name on $count ranks"
}
says() { grep -Eq -- "$1" err || fail "not said: $1"; }
same() { h5diff "$1"/checkpoints/step-*.h5 "$2"/checkpoints/step-*.h5 >out 2>err && [ -s "$1/log.jsonl" ] || fail "$1 and $2 differ"; }
near()
{
    paste <(jq -r '.image_loss, .pose_loss, .kl' "$1/log.jsonl") <(jq -r '.image_loss, .pose_loss, .kl' "$2/log.jsonl") |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-6 * ($1 < 0 ? -$1 : $1)) { print; bad++ } n++ }
             END { if (n < 6 || bad) { print n " numbers, " bad " differ"; exit 1 } }' >out || fail "$1 and $2 differ"
}

# Two ranks: a + b has one rounding, whoever adds. Four: to rounding, and with group norm, as batch norm of two images makes 1e-3 of it in
# two steps.
HET_CUDA_SUMS=mpi after 0 2 mpi2
says 'added up by MPI, through pinned host memory: HET_CUDA_SUMS=mpi'
after 0 2 nccl2
says 'added up by NCCL, between the GPUs'
same mpi2 nccl2
HET_HOST_NCCL_VERSION=22304 after 0 2 early # says success too early
says 'added up by NCCL, between the GPUs'
same mpi2 early
after 0 4 nccl4 --set train.shards=4 --set encoder.norm=group
HET_CUDA_SUMS=mpi after 0 4 mpi4 --set train.shards=4 --set encoder.norm=group
near nccl4 mpi4

# What is told in advance: a copy of the gradients on the host with MPI, none with NCCL or for one rank.
plans() # plans RANKS
{
    after 0 "$1" dry --dry-run --set decoder.width=256
    sed -n 's/.*memory: parameters [0-9.]*, gradients \([0-9.]*\), .* plans \([0-9.]*\), .*/\1 \2/p' err
}
{ plans 1 && plans 2 && HET_CUDA_SUMS=mpi plans 2; } >told
awk '{ gradients = $1; plans[NR] = $2 }
     END { exit NR != 3 || gradients < 1 || plans[2] - plans[1] > 0.2 || (plans[3] - plans[2] - gradients) ^ 2 > 0.04 }' told ||
    fail "memory told: $(cat told)"

# One rank has no need of it, but can be made to use it.
after 0 1 alone
! grep -q 'added up' err || fail "one rank speaks of sums"
HET_CUDA_SUMS=nccl after 0 1 forced
says 'added up by NCCL'
same alone forced
HET_CUDA_SUMS=gpu after 2 1 never
says_once 'HET_CUDA_SUMS=gpu: it must be nccl or mpi'

# Where it cannot be had: the same training by MPI, and one line that says why.
without() # without PATTERN SETTING..
{
    local pattern=$1
    shift
    export "$@"
    after 0 2 without
    unset "${@%%=*}"
    says "warning: gradients are added up by MPI, through pinned host memory: $pattern"
    [ "$(grep -c 'warning: gradients' err)" -eq 1 ] || fail "said more than once"
    same mpi2 without
}
without 'rank 0 on .*: the library NCCL \(/nowhere/libnccl.so.2\) is missing' HET_NCCL_LIBRARY=/nowhere/libnccl.so.2
without 'rank 0 on .*: NCCL has no ncclGetVersion' HET_NCCL_LIBRARY=libz.so.1
without 'rank 0 on .*: NCCL is too old: .* 21304, and 21400 \(2.14\)' HET_HOST_NCCL_VERSION=21304
without 'rank 1: NCCL failed at CommInitRankConfig: unhandled system error: words of the double$' HET_HOST_NCCL=join:1
without 'rank 1: NCCL added up 2 ones to 3 and 3' HET_HOST_NCCL=wrong:1:1
without 'ranks 0 and 1 share a GPU of' HET_HOST_DEVICES=1
export HET_HOST_DEVICES=4
HET_HOST_NCCL=absent:1 after 0 2 without --set run.watchdog=1
says 'rank [01]: NCCL did not find the other ranks within 1 s'
same mpi2 without
after 0 2 fixed --set train.shards=2 --deterministic
says 'added up by MPI, through pinned host memory: train.deterministic fixes the order of sums'
! grep -q 'warning: gradients' err || fail "what was asked for is warned of"

# An error that NCCL meets on one rank in the midst of training ends all of them, by one line.
for rank in 0 1; do
    HET_HOST_NCCL=sum:$rank:5 after 74 2 lost
    says_once "rank $rank: NCCL failed at AllReduce: remote process exited .*; start the job again to go on from its checkpoint"
done

# So does a fault of one rank's GPU, which the others hear of while they wait for it.
for rank in 0 1; do
    HET_HOST_FAULT=300:$rank after 1 2 faulty --set train.epochs=8
    says_once "rank $rank: the GPU failed at cuda[A-Za-z]*\(.*\) \([a-z]*\.cu line [0-9]+\): unspecified launch failure"
done

# A rank that is stopped sends nothing and says nothing: the watch ends the others, which wait for its part of a sum.
timeout -k 5 120 mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" "${train[@]}" -o stopped --set train.epochs=10000 \
    --set run.watchdog=4 >out 2>err &
job=$!
wait_for "the first steps" test -s stopped/log.jsonl
for pid in $(pgrep -f "train stack.h5 .* -o stopped "); do
    [ "$(readlink /proc/$pid/cwd)" = "$WORK" ] && grep -qzx OMPI_COMM_WORLD_RANK=1 /proc/$pid/environ && kill -s STOP $pid
done 2>/dev/null
CODE=0
wait $job || CODE=$?
[ $CODE -eq 74 ] || fail "exit code $CODE after rank 1 was stopped"
says_once 'rank 1 of 2 .* is lost: no sign of life for 4\.[0-9] s, .*; rank 0 is in step [0-9]+, task (one|two), waiting in a sum of gradients'
echo passed
