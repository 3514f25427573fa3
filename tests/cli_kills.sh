# Two ranks; one of them is killed again and again, at random moments, also while a checkpoint is being written. Each time the
# same command goes on from the newest checkpoint; in the end parameters, moments and log are those of a run that was left alone.
# KILLS times, 5 here and 50 in long_kills.sh; the moments follow from a fixed seed and the machine's pace.
. "$(dirname "$0")/support.sh"
KILLS=${KILLS:-5}
RANDOM=20
every=3 # cycles from one checkpoint to the next: most of the time one is being written

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 128 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 3 -o stack.h5
# 16 cycles of three steps an epoch, a line of log.jsonl for each
epochs=$((2 * KILLS))
last=checkpoints/step-$((48 * epochs)).h5
training=(mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" train stack.h5 "${TINY[@]}" --set train.freeze_epochs=1
          --set train.epochs=$epochs --set run.log_steps=1 --set run.checkpoint_steps=$every)
pid=
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null; rm -rf "$WORK"' EXIT

# newest: the step of the newest checkpoint, 0 where there is none.
newest()
{
    local file step=0
    for file in killed/checkpoints/step-*.h5; do
        file=${file##*/step-} file=${file%.h5}
        [ "$file" != '*' ] && [ "$file" -gt $step ] && step=$file
    done
    echo $step
}

# lines: of the log, which are cycles done
lines()
{
    if [ -e killed/log.jsonl ]; then wc -l <killed/log.jsonl; else echo 0; fi
}

# has_come CYCLES: the run that was started last goes on, and has done so many.
has_come()
{
    grep -q ' images of box' err && [ "$(lines)" -ge "$1" ]
}

same_as_whole()
{
    [ -s killed/$last ] || fail "it did not come to its end: $(ls killed/checkpoints)"
    h5diff -q whole/$last killed/$last || fail "after $kills kills the last checkpoint is another one"
    jq -cS 'del(.images_per_second, .seconds)' killed/log.jsonl >log.txt
    diff whole.txt log.txt >differences || fail "after $kills kills log.jsonl differs: $(head -n 4 differences)"
}

# start: the run in the background; what it goes on from is the newest file, which is whole.
start()
{
    from=$(newest)
    "${training[@]}" -o killed >out 2>err &
    pid=$!
}

said_where_from()
{
    ! grep -q 'damaged' err || fail "a damaged checkpoint after $kills kills"
    [ "$from" -eq 0 ] || ! grep -q ' images of box' err || grep -q "going on from killed/checkpoints/step-$from.h5" err ||
        fail "it did not go on from step $from"
}

# kill_one: a random rank of the run that is going; mpirun then ends the others. Killed while it starts, mpirun (Open MPI 4.1) may
# wait for ever: after ten seconds everything is killed. The exit code is in CODE.
kill_one()
{
    local all i
    mapfile -t all < <(pgrep -P $pid)
    CODE=0
    [ ${#all[@]} -eq 0 ] || kill -KILL "${all[RANDOM % ${#all[@]}]}" 2>/dev/null
    for ((i = 0; i < 200; i++)); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
    [ ${#all[@]} -eq 0 ] || kill -KILL "${all[@]}" 2>/dev/null
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null || CODE=$?
    pid=
    for i in "${all[@]}"; do while [ -e "/proc/$i" ]; do sleep 0.01; done; done
}

"${training[@]}" -o whole >out 2>err || fail "exit code $?"
jq -cS 'del(.images_per_second, .seconds)' whole/log.jsonl >whole.txt

kills=0 torn=0 starting=0 most=0 runs=1
while [ $kills -lt "$KILLS" ]; do
    start
    target=$((from / 3 + RANDOM % 20))
    moment=$((RANDOM % 30))
    if [ $((RANDOM % 5)) -eq 0 ]; then # while it starts
        until [ -n "$(pgrep -P $pid)" ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
        moment=$((moment * 20))
    else
        until has_come $target || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    fi
    sleep "$(printf '0.%03d' $moment)"
    kill_one
    said_where_from
    if [ $CODE -eq 0 ]; then # it was over before
        same_as_whole
        rm -rf killed
        runs=$((runs + 1))
        continue
    fi
    kills=$((kills + 1))
    if compgen -G 'killed/checkpoints/*.tmp' >/dev/null; then torn=$((torn + 1)); fi
    grep -q ' images of box' err || starting=$((starting + 1))
    lost=$(($(lines) - $(newest) / 3))
    [ $lost -le $most ] || most=$lost
    # the file before the one in progress is there, and training waits before it begins another
    [ $lost -le $((2 * every)) ] || fail "kill $kills: $(lines) cycles were done, and the newest checkpoint is step $(newest)"
done
start
wait $pid || fail "exit code $? of the last run"
pid=
said_where_from
same_as_whole
echo "$kills kills, $torn of them while a checkpoint was written, $starting before the first step; at most $most cycles lost" \
     "(a checkpoint every $every); $runs run(s); $SECONDS s"
echo passed
