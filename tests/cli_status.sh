# What `status` says of a run from its folder alone, in every state that a run can be in; the file for Prometheus.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 96 -D 16 --seed 5 -o stack.h5
TINY+=(--set train.march_start=0) # nothing to warn of
long=(train stack.h5 "${TINY[@]}" --set run.log_steps=5 --set run.checkpoint_steps=20 --set train.epochs=100000)

# says PATTERN: the last output matches.
says()
{
    grep -Eq -- "$1" out || fail "nothing like '$1'"
}

# is_at STATE RUN: the state in the JSON; the object stays in `object`.
is_at()
{
    run status "$2" --json
    cp out object
    [ "$(jq -r .state object)" = "$1" ] || fail "$2 is '$(jq -r .state object)' where $1 was expected"
}

running_with_checkpoint()
{
    compgen -G "$1/checkpoints/step-*.h5" >/dev/null && [ -s "$1/log.jsonl" ]
}

# the command line
run status --help
says 'stopped, finished, failed'
refused 2 'give the folder' status
refused 2 'unknown option --frobnicate' status run --frobnicate
refused 1 'nowhere: No such file' status nowhere
refused 1 'atoms.pdb is not the folder' status atoms.pdb
mkdir empty
refused 1 'empty is not the folder of a run: it has no config.yaml' status empty

# finished
run train stack.h5 -o run "${TINY[@]}" --set run.log_steps=5 --set train.epochs=2 --prometheus run.prom
grep -Eq '[0-9]+ images/s  [0-9]+ min left  health: ok$' err || fail "the progress line lacks rate, time left or health"
run status run
says '^run: finished$'
says 'progress +step 72 of 72, epoch 1.92 of 2; [0-9]+ images/s; reported'
says 'losses +image 0\.[0-9]+ \(nothing 0\.[0-9]+\), pose 0\.[0-9]+'
says 'health +ok'
says 'checkpoint +step 72, epoch 1.92, [0-9]+ s old'
says 'warnings +none'
says 'refinement +none'
is_at finished run
jq -e '.checkpoint.step == 72 and .report.step == 72 and .steps == 72 and .warnings == 0 and .ranks == 1 and
       .report.image_loss > 0 and .images_per_second > 0 and .warning == null' object >/dev/null || fail "$(cat object)"

# the file for Prometheus: every value after its HELP and TYPE, with the folder as label
awk -v folder="$(realpath run)" '
    /^# HELP/ { help[$3] = 1; next }
    /^# TYPE/ { if (!help[$3] || $4 !~ /^(gauge|counter)$/) bad = $0; type[$3] = 1; next }
    { name = $0; sub(/\{.*/, "", name)
      if (!type[name] || index($0, "{run=\"" folder "\"") == 0 || $NF !~ /^(-?[0-9.]+(e[-+]?[0-9]+)?|NaN)$/) bad = $0
      lines++ }
    END { if (bad != "" || lines < 18) { print "line: " bad; exit 1 } }' run.prom || fail "run.prom is no text for Prometheus"
grep -q '^hetacumn_step{run=".*"} 72$' run.prom || fail "no step in run.prom"
grep -q '^hetacumn_state{run=".*",state="finished"} 1$' run.prom || fail "no state in run.prom"
[ ! -e run.prom.tmp ] || fail "run.prom.tmp is left"
# one that cannot be written is said once and stops nothing
run train stack.h5 -o deaf "${TINY[@]}" --set run.log_steps=5 --set train.epochs=1 --prometheus nowhere/run.prom
[ "$(grep -c 'warning: cannot write nowhere/run.prom' err)" -eq 1 ] || fail "not one warning of run.prom"
is_at finished deaf
jq -e '.warnings == 1 and (.warning.text | test("nowhere/run.prom"))' object >/dev/null || fail "$(cat object)"

# not started; a run that fails; a command that is refused changes nothing
mkdir fresh
cp run/config.yaml fresh
is_at 'not started' fresh
offset=$(h5dump -p -H -d /images stack.h5 | awk '$1 == "OFFSET" { print $2 }')
cp stack.h5 nan.h5
printf '\000\000\300\177' | dd of=nan.h5 bs=1 seek=$((offset + 4 * (16 * 16 * 17 + 5))) conv=notrunc 2>/dev/null
ends_with 1 train nan.h5 -o failed "${TINY[@]}" --set train.epochs=1
is_at failed failed
jq -e '.reason | test("nan.h5: image 17")' object >/dev/null || fail "$(cat object)"
run status failed
says '^failed: failed: .*nan.h5: image 17.*; there is no checkpoint yet$'
ends_with 2 train stack.h5 -o run "${TINY[@]}" --set train.seed=9
is_at finished run

# running, then stopped by a signal
"$HETACUMN" "${long[@]}" -o going >going.out 2>going.err &
pid=$!
wait_for "a checkpoint of going" running_with_checkpoint going
is_at running going
jq -e --argjson pid $pid '.pid == $pid and .stage == "training" and .silent == false and .seconds_left > 0 and
                          .report.epoch > 0 and .checkpoint.step > 0' object >/dev/null || fail "$(cat object)"
run status going
says '^going: running \(training\), for '
says 'progress .* left; reported '
SLURM_JOB_ID=4711 run status run going # of no meaning for the reader
[ "$(wc -l <out)" -eq 2 ] || fail "not a line for each run"
says '^run +finished .*health: ok$'
says '^going +running .* left .*health: '
kill -s USR1 $pid
code=0
wait $pid || code=$?
[ $code -eq 75 ] || fail "exit code $code after SIGUSR1"
is_at stopped going
jq -e '.reason == "signal USR1"' object >/dev/null || fail "$(cat object)"
run status going
says '^going: stopped: signal USR1; the same command goes on from the checkpoint'
ends_with 1 status going nowhere run
[ "$(wc -l <out)" -eq 2 ] || fail "a bad folder hides the others"
says_once 'nowhere: No such file'

# a damaged checkpoint is a warning that stays in the folder; then killed: lost at once on this machine
newest=$(ls -v going/checkpoints/step-*.h5 | tail -n 1)
printf 'damaged!' | dd of="$newest" bs=1 seek=$(($(stat -c %s "$newest") / 2)) conv=notrunc 2>/dev/null
SLURM_JOB_ID=4711 "$HETACUMN" "${long[@]}" -o going >again.out 2>again.err & # the old files may outlast the next line
pid=$!
wait_for "going to go on" grep -qs 'epoch' again.err
kill -s KILL $pid
wait $pid 2>/dev/null
is_at lost going
jq -e '.job == "4711" and .warnings == 1 and (.warning.text | test("damaged"))' object >/dev/null || fail "$(cat object)"
run status going
says '^going: lost: it ended without a word.*; the same command goes on from the checkpoint'
says 'Slurm job 4711'
says 'warnings +1; the last, at step .*damaged'

# a rank that is stopped: the state says which one
mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" "${long[@]}" -o stuck --set run.watchdog=3 >stuck.out 2>stuck.err &
pid=$!
wait_for "a checkpoint of stuck" running_with_checkpoint stuck
for rank in $(pgrep -P $pid); do
    grep -qzx 'OMPI_COMM_WORLD_RANK=1' /proc/$rank/environ && kill -s STOP $rank
done 2>/dev/null
wait $pid
is_at failed stuck
jq -e '.reason | test("^rank 1 of 2 .* is lost: no sign of life")' object >/dev/null || fail "$(cat object)"

# seen from another machine: as running until its sign of life is old; silent when reports stay away
jq '.host = "elsewhere" | .report_seconds = 2' going/state.json >state.json
cp state.json going/state.json
is_at running going
jq -e '.silent == false' object >/dev/null || fail "$(cat object)"
touch -d '-1 hour' going/log.jsonl
is_at running going
jq -e '.silent' object >/dev/null || fail "$(cat object)"
run status going
says '^going: running .*; but silent: no report for 60 min'
touch -d '-1 hour' going/state.json
is_at lost going
rm going/state.json # a folder of an earlier version
is_at stopped going
printf '{"torn' >going/state.json
is_at stopped going
echo passed
