# A run that is interrupted and goes on equals one that is not, bit for bit: stopped by a signal, by its time, and killed.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 256 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 3 -o stack.h5
# 8 epochs of 32 steps, two pose steps each: the last checkpoint is step 768.
settings=("${TINY[@]}" --set train.epochs=8 --set train.freeze_epochs=1 --set run.log_steps=7 --set run.checkpoint_steps=60)
last=checkpoints/step-768.h5

has_line()
{
    [ -s "$1/log.jsonl" ]
}

has_checkpoint()
{
    compgen -G "$1/checkpoints/step-*.h5" >/dev/null
}

# interrupt RUN SIGNAL CODE CONDITION..: start the run, send the signal when the condition holds; it must end with the code.
# Where the run is over before the signal comes (a busy machine), once more.
interrupt()
{
    local folder=$1 signal=$2 wanted=$3 try pid code
    shift 3
    for ((try = 0; try < 5; try++)); do
        rm -rf "$folder"
        code=0
        "$HETACUMN" train stack.h5 -o "$folder" "${settings[@]}" >out 2>err &
        pid=$!
        wait_for "$*" "$@"
        kill -s "$signal" $pid
        wait $pid 2>/dev/null || code=$?
        [ -e "$folder/$last" ] && continue
        [ $code -eq "$wanted" ] || fail "exit code $code after SIG$signal"
        return
    done
    fail "the run was over before SIG$signal, $try times"
}

# same_as_whole RUN: parameters, moments, statistics and reports are those of the run that was not interrupted.
same_as_whole()
{
    [ -s "$1/$last" ] || fail "$1 did not come to its end: $(ls "$1/checkpoints")"
    h5diff -q whole/$last "$1/$last" || fail "the last checkpoint of $1 is not that of the whole run"
    jq -cS 'del(.images_per_second, .seconds)' "$1/log.jsonl" >log.txt
    diff whole.txt log.txt >differences || fail "log.jsonl of $1 differs: $(head -n 4 differences)"
}

run train stack.h5 -o whole "${settings[@]}"
[ -s whole/$last ] || fail "no whole/$last: $(ls whole/checkpoints)"
[ "$(ls whole/checkpoints | wc -l)" -eq 2 ] || fail "not the two newest checkpoints are kept: $(ls whole/checkpoints)"
jq -cS 'del(.images_per_second, .seconds)' whole/log.jsonl >whole.txt
cp whole/log.jsonl before.jsonl
run train stack.h5 -o whole "${settings[@]}" # a finished run has nothing to do
cmp -s whole/log.jsonl before.jsonl || fail "a finished run wrote to its log"

interrupt signalled USR1 75 has_line signalled
grep -q 'the same command goes on' err || fail "nothing said about going on"
run train stack.h5 -o signalled "${settings[@]}"
same_as_whole signalled

interrupt killed KILL 137 has_checkpoint killed
printf 'torn' >killed/checkpoints/step-999999.h5.tmp # what a killed run may leave
run train stack.h5 -o killed "${settings[@]}"
same_as_whole killed
[ ! -e killed/checkpoints/step-999999.h5.tmp ] || fail "the torn checkpoint is still there"

# A damaged newest checkpoint: said, and the one before is taken.
cp -r whole damaged
printf 'damaged!' | dd of=damaged/$last bs=1 seek=$(($(stat -c %s damaged/$last) / 2)) conv=notrunc 2>/dev/null
run train stack.h5 -o damaged "${settings[@]}"
grep -q 'warning: .*damaged' err || fail "the damaged checkpoint was not mentioned"
same_as_whole damaged

for ((i = 0; i < 3; i++)); do # less than a step takes: one step each
    ends_with 75 train stack.h5 -o timed "${settings[@]}" --max-hours 1e-9
done
run train stack.h5 -o timed "${settings[@]}"
same_as_whole timed
echo passed
