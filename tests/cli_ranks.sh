# One run on 1, 2 and 4 ranks: the same numbers to rounding while nothing is learned, close ones while learning amplifies
# rounding; stopping and going on under mpirun, also on another number of ranks.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 256 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 4 -o stack.h5
# Four batch-norm groups of 8 images on any number of ranks; enough pixels in the last stage for statistics that do not
# amplify rounding.
settings=("${TINY[@]}" --set train.batch=32 --set train.shards=4 --set encoder.stem_stride=1 --set encoder.stem_pool=false
          --set train.freeze_epochs=0.5)

# close KEY A B LINES TOLERANCE: the first LINES numbers of two logs agree relatively.
close()
{
    local worst
    worst=$(jq -ns --arg key "$1" --argjson lines "$4" --slurpfile a "$2/log.jsonl" --slurpfile b "$3/log.jsonl" \
        '[range($lines) | (($a[.][$key] - $b[.][$key]) / $a[.][$key]) | fabs] | max')
    echo "$1 of $2 and $3: relative difference at most $worst in $4 reports"
    jq -en --argjson worst "$worst" --argjson most "$5" '$worst <= $most' >/dev/null || fail "more than $5"
}

# trained N RUN ARGUMENTS: train on N ranks to the end.
trained()
{
    local count=$1 folder=$2
    shift 2
    ranks "$count" train stack.h5 -o "$folder" "${settings[@]}" "$@"
    [ $CODE -eq 0 ] || fail "exit code $CODE on $count ranks"
}

# same_moment N WHICH DELTA: one of Adam's moments after N ranks is that of one rank, up to DELTA (h5diff's exit code also
# counts the checksums, which are not).
same_moment()
{
    local count
    count=$(h5diff -r -d "$3" still1/checkpoints/step-24.h5 "still$1/checkpoints/step-24.h5" "/optimiser/moment$2" |
            awk '/^dataset/ { inside = 1 } inside && /differences found/ { print $1; exit }')
    [ "$count" = 0 ] || fail "moment $2 of $1 ranks differs from one rank's by more than $3 in ${count:-?} places"
}

# Next to nothing is learned: losses and sums of gradients (Adam's moments) are those of one rank.
for n in 1 2 4; do
    trained $n still$n --set train.rate_encoder=1e-20 --set train.rate_decoder=1e-20 --set train.epochs=1 --set run.log_steps=1
done
for n in 2 4; do
    close image_loss still1 still$n 8 1e-5
    close pose_loss still1 still$n 8 1e-4
    same_moment $n 1 5e-3 # of at most 0.12; rounding is 1e-7, a ReLU that flips 1e-3, a lost quarter of the sum 0.03
    same_moment $n 2 2e-4 # of at most 0.0028
done

# Learning: rounding grows with every step.
for n in 1 2 4; do trained $n learn$n --set train.epochs=2 --set run.log_steps=1; done
for n in 2 4; do
    close image_loss learn1 learn$n 1 1e-3
    close pose_loss learn1 learn$n 1 1e-2
    close image_loss learn1 learn$n 16 0.3
done

# Stopped on two ranks by a signal to mpirun; going on with two gives the numbers of the whole run, with one close ones.
settings+=(--set train.epochs=4 --set run.log_steps=1 --set run.checkpoint_steps=10)
trained 2 whole
for ((try = 0; try < 5; try++)); do
    rm -rf stopped
    code=0
    mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" train stack.h5 -o stopped "${settings[@]}" >out 2>err &
    pid=$!
    for ((i = 0; i < 1200; i++)); do [ -s stopped/log.jsonl ] && break; sleep 0.05; done
    kill -s USR1 $pid
    wait $pid || code=$?
    [ -e stopped/checkpoints/step-96.h5 ] || break
done
[ $code -eq 75 ] || fail "exit code $code after SIGUSR1 to mpirun"
cp -r stopped alone
trained 2 stopped
h5diff -q whole/checkpoints/step-96.h5 stopped/checkpoints/step-96.h5 ||
    fail "two ranks that were stopped and went on differ from those that were not"
trained 1 alone
close image_loss whole alone 32 0.3
echo passed
