# One training for a run folder: a second one is refused and touches nothing, a dead holder's folder is taken over, and a holder
# that comes back too late ends. A refused training leaves no folder.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 96 -D 16 --seed 5 -o stack.h5
long=("${TINY[@]}" --set run.log_steps=5 --set run.checkpoint_steps=20 --set train.epochs=100000)
started=()
trap 'kill -KILL "${started[@]}" 2>/dev/null; rm -rf "$WORK"' EXIT

# start NAME FOLDER: a long training in the background; its process is in PID, what it says in NAME.err.
start()
{
    "$HETACUMN" train stack.h5 -o "$2" "${long[@]}" >"$1.out" 2>"$1.err" &
    PID=$!
    started+=($PID)
}

trains()
{
    compgen -G "$1/checkpoints/step-*.h5" >/dev/null && [ "$(jq -r .pid "$1/holder.json" 2>/dev/null)" = "$2" ]
}

# ended PID CODE
ended()
{
    local code=0
    wait "$1" 2>/dev/null || code=$?
    [ $code -eq "$2" ] || fail "exit code $code where $2 was expected: $(tail -n 5 ./*.err)"
}

# A run that was killed, for the holders that follow.
start first run
first=$PID
wait_for 'the first checkpoint' trains run $first
[ "$(stat -c %s run/holder.json)" -eq 1024 ] || fail "$(cat run/holder.json)"
kill -STOP $first # nobody gets further while this is copied
cp -r run killed
cp -r run lost
cp -r run alive
cp -r run back
kill -CONT $first

# the second is refused, also on two ranks, and by other settings
refused 1 "run is in use by host $(hostname), process $first, 1 rank\(s\), since 20..-..-.. ..:..:..: wait" train stack.h5 -o run "${long[@]}"
before=$(stat -c '%i %Y' run/config.yaml)
ranks 2 train stack.h5 -o run "${long[@]}" --set train.rate_decoder=0.1 --set run.log_steps=1
[ $CODE -eq 1 ] || fail "exit code $CODE on two ranks"
says_once "run is in use by host $(hostname), process $first"
[ "$(stat -c '%i %Y' run/config.yaml)" = "$before" ] || fail "a refused training wrote config.yaml"
[ "$(jq -r .pid run/state.json)" = $first ] || fail "a refused training wrote state.json"
run status run
grep -q "held by      host $(hostname), process $first, 1 rank(s), since 20..-" out || fail "status does not say who holds it"
kill -USR1 $first
ended $first 75
[ ! -e run/holder.json ] || fail "a holder stays"
jq -es '[.[].step] | . == sort and . == unique' run/log.jsonl >/dev/null || fail "the log is not one run's"

# its process is gone (killed was copied from it): at once, and by one of those who come together
run status killed
grep -q 'held by .*: it is gone' out || fail "status does not say that the holder is gone"
for i in 1 2 3 4; do
    start "many$i" killed
    many[i]=$PID
done
of_them()
{
    grep -c "$1" many?.err | awk -F : -v wanted="$2" '{ n += $2 > 0 } END { exit n != wanted }'
}
wait_for 'three that are refused' of_them 'killed is in use by' 3
winner=$(jq -r .pid killed/holder.json)
wait_for 'the fourth to go on' of_them 'going on from' 1
[[ " ${many[*]} " == *" $winner "* ]] || fail "$winner holds it, the four are ${many[*]}"
for i in 1 2 3 4; do
    [ "${many[i]}" = "$winner" ] || ended "${many[i]}" 1
done
kill -KILL "$winner"
wait "$winner" 2>/dev/null

# of another machine: refused while it lives, taken over when it gives no sign. record FOLDER KEY=VALUE..: another holder's file.
record()
{
    local file=$1/holder.json
    shift
    jq -c ". $(printf '| .%s' "$@")" "$file" >record.json
    printf '%-1023s\n' "$(cat record.json)" >record.txt
    cp record.txt "$file"
}
record lost 'host="elsewhere"' 'job="4711"' 'id="dead"'
start lost lost
lost=$PID
record alive 'host="elsewhere"' 'job="4711"' 'id="alive"' 'restart=0'
"$HETACUMN" train stack.h5 -o alive "${long[@]}" >alive.out 2>alive.err &
alive=$!
started+=($alive)
wait_for 'a look at the holder' grep -qs 'held by host elsewhere.*waiting' alive.err
record alive 'beat=999999'
ended $alive 1
grep -q 'error: alive is in use by host elsewhere, process .*, Slurm job 4711, since 20' alive.err || fail "$(cat alive.err)"
jq -e '.id == "alive"' alive/holder.json >/dev/null || fail "the other's file was changed"

# a job that was queued again waits for its own earlier start, which is still ending
SLURM_JOB_ID=77 start earlier back
earlier=$PID
wait_for 'the earlier start' trains back $earlier
SLURM_JOB_ID=77 SLURM_RESTART_COUNT=1 start later back
later=$PID
wait_for 'the later start to wait' grep -qs 'back is held by .*Slurm job 77: waiting' later.err
number=$(jq .beat back/holder.json)
beats_twice()
{
    [ "$(jq .beat back/holder.json)" -gt $((number + 1)) ]
}
wait_for 'two signs of life' beats_twice
kill -0 $later || fail "the later start did not wait: $(cat later.err)"
kill -USR1 $earlier
ended $earlier 75
wait_for 'the later start to go on' grep -qs 'going on from' later.err
trains back $later || fail "$(cat back/holder.json later.err)"

# stopped so long that another one took over: it must not go on beside it
kill -STOP $later
record back 'host="elsewhere"' 'id="other"'
ls -l back/checkpoints >checkpoints.txt
cp back/log.jsonl back/config.yaml .
kill -CONT $later
ended $later 1
grep -q 'error: back was taken over by host elsewhere' later.err || fail "$(cat later.err)"
jq -e '.id == "other"' back/holder.json >/dev/null || fail "the other's file was changed"

# a signal ends the waiting
start waits back
waits=$PID
wait_for 'the one that waits' grep -qs 'back is held by .*waiting' waits.err
kill -TERM $waits
ended $waits 75

# half a minute after it was seen first, without a sign
wait_for 'the lost one' trains lost $lost
grep -q 'lost is taken over from host elsewhere, process .*, Slurm job 4711, which ended without a word' lost.err ||
    fail "$(cat lost.err)"
kill -USR1 $lost
ended $lost 75

# what is refused leaves no folder, and one that was there as it was
refused 2 'fewer than train.batch = 512' train stack.h5 -o none "${TINY[@]}" --set train.batch=512
refused 1 'training needs .* MiB' train stack.h5 -o none "${TINY[@]}" --memory 1M
refused 2 'at least 200 images' train stack.h5 -o none "${TINY[@]}" --set init.method=search
ranks 3 train stack.h5 -o none "${TINY[@]}" --set train.batch=24 --deterministic
[ $CODE -eq 2 ] || fail "exit code $CODE"
says_once 'allows 1, 2, 4 ranks, not 3'
[ ! -e none ] || fail "a refused training left a folder: $(ls none)"
cp -r run saved
refused 1 'training needs .* MiB' train stack.h5 -o run "${long[@]}" --set train.rate_decoder=0.1 --memory 1M
diff -r run saved >/dev/null || fail "a refused training changed the run"
echo passed
