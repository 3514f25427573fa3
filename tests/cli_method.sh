# bench/method/run.py on a set of a few images: what a run leaves in the table, what is skipped, resumed and done anew.
. "$(dirname "$0")/support.sh"
if ! command -v python3 >/dev/null; then
    echo "skipped: no python3"
    exit 0
fi
export HETACUMN PYTHONDONTWRITEBYTECODE=1

cat >suite.json <<'END'
{"sets": {"motion": "1D-motion -D 32 -n 40 --snr-db 10"}, "seeds": "1-2", "new_images": true,
 "set": ["encoder.width=16", "encoder.head=32", "decoder.width=32", "decoder.frequencies=16", "z_dim=2", "train.batch=8",
         "run.log_steps=1", "train.epochs=0.4", "init.method=none"],
 "settings": {"default": {}, "no CPP": {"set": ["ablation.cpp=false"]}, "other": {"set": ["no.such_key=1"]}, "wrong": {"set": ["z_dim=0"]}}}
END
# suite CODE ARGUMENTS: run.py on the suite, which must end with the code.
suite()
{
    local wanted=$1 code=0
    shift
    timeout -k 5 300 python3 "$TESTS/../bench/method/run.py" suite.json -o made "$@" >out 2>err || code=$?
    [ $code -eq "$wanted" ] || fail "run.py ended with $code where $wanted was expected"
}
results() { jq -s "$1" made/results.jsonl; }

suite 0 --jobs 2 --only default,other
grep -q 'left out: other: the program does not know no.such_key' err || fail "the unknown key is not named"
[ "$(results 'map([.setting, .set, .seed, .exit, .images]) | sort | tostring')" = \
    '"[[\"default\",\"motion\",1,0,16],[\"default\",\"motion\",2,0,16]]"' ] || fail "results: $(cat made/results.jsonl)"
results 'all(.rot > 0 and .trans_raw >= 0 and .corr >= 0 and .err == null and (.res | length) == 10 and .seconds > 0 and
    .rot_encoder > 0 and .corr_encoder >= 0 and .err_encoder == null) or error' \
    >/dev/null || fail "measures: $(cat made/results.jsonl)"
grep -q '^| default | 0 of 2 | ' out || fail "no row of the table"
! cmp -s made/sets/motion-1/stack.h5 made/sets/motion-2/stack.h5 || fail "both seeds have the same images"

suite 0 --only default --seeds 1 # done: nothing new
[ "$(results length)" = 2 ] || fail "a finished run was done again"
suite 0 --only default --seeds 1 --set train.epochs=0.8 # another command: anew
[ "$(results '.[-1].images == 32 and length == 3')" = true ] || fail "another command was not run: $(cat made/results.jsonl)"
suite 0 --only wrong --seeds 1
[ "$(results '.[-1] | [.exit, .rot] == [2, null]')" = true ] || fail "a failed run is not recorded: $(cat made/results.jsonl)"
grep -q '^| wrong | 0 of 1 (1 failed) | ' out || fail "the table does not show the failure"

# Cut off by time: measured as it stands; more time takes it further from where it was.
suite 0 --only "no CPP" --seeds 1 --set train.epochs=400 --hours 0.0005
[ "$(results '.[-1] | .exit == 75 and .rot != null and .images < 16000')" = true ] || fail "time limit: $(cat made/results.jsonl)"
suite 0 --only "no CPP" --seeds 1 --set train.epochs=400 --hours 0.0012
[ "$(results '.[-1].images > .[-2].images')" = true ] || fail "more time was not used: $(cat made/results.jsonl)"
grep -q 'going on from' made/runs/motion/no_CPP/seed-1/train.log || fail "it did not go on from its checkpoint"

# Interrupted: nothing is recorded, and exit code 75.
count=$(results length)
log=made/runs/motion/no_CPP/seed-2/train.log
python3 "$TESTS/../bench/method/run.py" suite.json -o made --only "no CPP" --seeds 2 --set train.epochs=4000 >out 2>err &
for _ in $(seq 1200); do
    grep -qs ' epoch ' $log && break
    sleep 0.1
done
kill -TERM $!
code=0
wait $! || code=$?
[ $code -eq 75 ] || fail "run.py ended with $code after SIGTERM"
[ "$(results length)" = "$count" ] || fail "an interrupted run was recorded"
grep -q 'stopped early' $log || fail "it was not stopped with a checkpoint"
echo passed
