# train --deterministic: poses of the start, training with its pose search in the midst, the refinement, checkpoints and log are
# equal to the last bit on 1, 2 and 4 ranks, and where a run went on with other numbers of ranks; without it they are not.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 230 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 4 -o stack.h5
# 230 images are not equal parts, neither for the survey nor for searches. A radius of 4 of 7 leaves something for finer poses.
settings=("${TINY[@]}" --set encoder.stem_stride=1 --set encoder.stem_pool=false --set train.batch=32 --set train.epochs=2
          --set train.freeze_epochs=0.5 --set run.log_steps=1 --set run.keep=1 --set init.method=search --set init.radius=4 --set init.starts=2
          --set init.search_rounds=2 --set init.rounds=1 --set init.epochs=0.4 --set init.join_epoch=0.5 --set refine.rounds=1
          --set refine.epochs=1)

# files RUN: all that a run has left but its settings and what status reads; a line for each, with a checksum.
files()
{
    (cd "$1" && find . -name '*.h5' | sort | xargs sha256sum && jq -c 'del(.images_per_second, .seconds)' log.jsonl | sha256sum)
}

# trained N RUN ARGUMENTS
trained()
{
    local count=$1 folder=$2
    shift 2
    ranks "$count" train stack.h5 -o "$folder" "${settings[@]}" "$@"
    [ $CODE -eq 0 ] || fail "exit code $CODE on $count ranks"
}

trained 1 one --deterministic --refine
grep -q 'poses searched anew' err || fail "no pose search in the midst of training"
grep -q 'start: finer poses, round 1' err || fail "no finer poses"
for file in start.h5 kept.h5 checkpoints/step-42.h5 refined/checkpoints/step-42.h5 refined/predictions.h5; do
    [ -s "one/$file" ] || fail "$file is not there to be compared"
done
files one >expected
for n in 2 4; do
    trained $n many$n --deterministic --refine
    files many$n | diff expected - || fail "$n ranks differ from one"
done

# Stopped after every piece of the start and each of two cycles, on other numbers of ranks each time.
counts=(1 4 2)
for ((try = 0; try < 60 && $(cat moved/log.jsonl 2>/dev/null | wc -l) < 2; try++)); do
    ranks ${counts[try % 3]} train stack.h5 -o moved "${settings[@]}" --deterministic --max-hours 1e-9
    [ $CODE -eq 75 ] || fail "exit code $CODE where the time was up, on ${counts[try % 3]} ranks"
done
[ "$(wc -l <moved/log.jsonl)" -eq 2 ] || fail "not two cycles after $try starts"
echo "two cycles after $try starts"
trained 2 moved --deterministic --refine
files moved | diff expected - || fail "a run that went on with other numbers of ranks differs"

# The same shards without it: equal to rounding only, else this test would see nothing.
for n in 1 4; do trained $n plain$n --set train.shards=4 --set init.method=none; done
files plain1 >plain
files plain4 | cmp -s plain - && fail "four ranks equal one without --deterministic: nothing was tested"

# What cannot be is refused in one line.
ranks 3 train stack.h5 -o three "${settings[@]}" --deterministic --set train.batch=36
[ $CODE -eq 2 ] || fail "exit code $CODE on three ranks"
says_once 'train\.deterministic with train\.shards = 4 allows 1, 2, 4 ranks, not 3'
refused 2 'train\.shards = 6: with train\.deterministic it must be a power of two' train stack.h5 -o six "${settings[@]}" \
    --deterministic --set train.batch=36 --set train.shards=6
refused 2 'started with 1 thread.* on each rank, now there are 2.*train\.threads=1' train stack.h5 -o one "${settings[@]}" \
    --deterministic --set train.threads=2
refused 2 'train\.deterministic' train stack.h5 -o one "${settings[@]}"
echo passed
