# Which checkpoints stay, and a disk that is full for a while.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 128 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 3 -o stack.h5
# 16 steps an epoch, two pose steps each: 48.
settings=("${TINY[@]}" --set run.log_steps=5 --set train.epochs=6)
last=checkpoints/step-288.h5

# files RUN WANTED: the steps of the run's checkpoints.
files()
{
    local found
    found=$(ls "$1/checkpoints" | sed -n 's/^step-\([0-9]*\)\.h5$/\1/p' | sort -n | tr '\n' ' ')
    [ "$found" = "$2 " ] || fail "checkpoints of $1: $found, expected $2"
    [ "$(ls "$1/checkpoints" | wc -w)" -eq "$(wc -w <<<"$2")" ] || fail "something else in $1: $(ls "$1/checkpoints")"
}

# by steps; one of every second epoch stays for good
run train stack.h5 -o steps "${settings[@]}" --set run.keep=2 --set run.keep_every=2 \
    --set run.checkpoint_steps=7
files steps '96 192 273 288' # 91 steps of task one, and the end
# by time
run train stack.h5 -o timed "${settings[@]}" --set run.keep=100 --set run.checkpoint_minutes=0.0001
[ "$(ls timed/checkpoints | wc -l)" -gt 2 ] || fail "none by time: $(ls timed/checkpoints)"
h5diff -q steps/$last timed/$last || fail "saving changed the training"

# all damaged: refused, nothing is overwritten
cp -r timed damaged
for file in damaged/checkpoints/*; do [ $file = damaged/$last ] || rm $file; done
printf 'damaged!' | dd of=damaged/$last bs=1 seek=100000 conv=notrunc 2>/dev/null
cp damaged/log.jsonl before.jsonl
refused 1 'damaged/checkpoints: no checkpoint in it is whole.*-o a new folder' \
    train stack.h5 -o damaged "${settings[@]}"
cmp -s damaged/log.jsonl before.jsonl || fail "the log of a run whose checkpoints are damaged was changed"

# A disk that is full, imitated by a limit on the size of files, until a first checkpoint has failed; then there is room.
# Where the run is over before (a busy machine), once more.
for ((try = 0; try < 5; try++)); do
    rm -rf full
    (ulimit -S -f 4096 && exec "$HETACUMN" train stack.h5 -o full "${settings[@]}" --set run.checkpoint_steps=10) >out 2>err &
    pid=$!
    until grep -q 'warning: full/checkpoints/step-30.h5.tmp: .*training goes on.*make room' err || ! kill -0 $pid 2>/dev/null; do
        sleep 0.02
    done
    prlimit --pid $pid --fsize=unlimited 2>/dev/null
    code=0
    wait $pid || code=$?
    [ $code -eq 0 ] && break
    grep -q 'error: full/checkpoints/step-288.h5' err || fail "exit code $code on a disk that was full for a while"
done
[ $code -eq 0 ] || fail "the run was over before there was room, $try times"
grep -q 'training goes on' err || fail "no warning of a full disk"
files full '270 288'
h5diff -q steps/$last full/$last || fail "a full disk changed the training"
[ "$(jq -s length steps/log.jsonl)" -eq "$(jq -s length full/log.jsonl)" ] || fail "lines of log.jsonl are missing"
echo passed
