# A start without a model: finds the poses of a made-up particle from nothing, goes on bit for bit, on ranks, and is used.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,40 -n 320 -D 32 --apix 3 --snr-db 10 --shift 1 --seed 3 \
    -o stack.h5
run simulate --atoms atoms.pdb -n 120 -D 32 --apix 3 --snr-db 10 --shift 1 --seed 4 -o few.h5
# 3 epochs of 40 steps, two pose steps each: the last checkpoint is step 360. Frames are joined after two epochs: without the linear model (at the
# end of the list of settings) the start leaves them to training.
settings=("${TINY[@]}" --set init.method=search --set init.join_epoch=1 --set train.rate_final=1 --set train.march_rate=0.25 --set init.radius=8
          --set init.search_images=300 --set init.search_rounds=20 --set init.rounds=2 --set init.epochs=2 --set train.epochs=3 --set train.freeze_epochs=1 --set run.log_steps=7 --set init.components=0)
last=checkpoints/step-360.h5

# right RUN: nearly all poses are right after one rotation and hand (chance: Rot 6).
right()
{
    run predict "$1" stack.h5
    run evaluate "$1" --truth stack.h5 --per-image 0 --json "$1.json"
    jq -en --slurpfile m "$1.json" '$m[0].rot < 0.2 and $m[0].trans_corrected < 0.1' >/dev/null ||
        fail "$1: $(jq -c '[.rot, .trans_corrected]' "$1.json")"
}

run train stack.h5 -o whole "${settings[@]}"
grep -q 'start: random starts . and . agree' err || fail "the random starts do not agree: $(cat err)"
for file in start.h5 kept.h5 $last; do [ -s whole/$file ] || fail "no whole/$file"; done
grep -q 'poses searched anew: [0-9.]* % moved' err || fail "poses are not searched anew: $(cat err)"
grep -q 'frames: ' err || fail "nothing is said of frames: $(cat err)"
h5diff -q whole/start.h5 whole/kept.h5 rotation && fail "the new poses are not used"
right whole
h5diff -q whole/predictions.h5 whole/kept.h5 rotation || fail "predict does not give the poses that training kept"
run predict whole stack.h5 --amortised -o encoder.h5
h5diff -q encoder.h5 whole/kept.h5 rotation && fail "--amortised does not ask the encoder"
h5dump -d loss -w 1 encoder.h5 | awk '/^ *\([0-9]+\):/ { v = $2 + 0; if (n++ == 0) first = v; if (v != first) other = 1 }
    END { exit n < 300 || !other }' || fail "the encoder says the same of every image"

# a run that has not come to its end answers with what its checkpoint holds, not by the encoder
mkdir mid
cp -r whole/checkpoints whole/config.yaml mid
run predict mid stack.h5
grep -q 'has not come to its end' err || fail "nothing is said of a run that was stopped"
for set in rotation shift z; do h5diff -q mid/predictions.h5 whole/kept.h5 $set || fail "$set of a stopped run is not the checkpoint's"; done
refused 2 'a file of the stack itself' predict whole stack.h5 -o stack.h5
run simulate --atoms atoms.pdb -n 8 -D 32 --apix 3.3 --snr-db 10 --seed 4 -o coarse.h5
refused 1 'of another size' predict whole coarse.h5

# a run that ends frozen has no conformations, but a loss for each image
mkdir frozen
cp whole/start.h5 frozen
run train stack.h5 -o frozen "${settings[@]}" --set train.epochs=1 --set train.freeze_epochs=5
run predict frozen stack.h5
h5dump -d z -w 1 frozen/predictions.h5 | awk '/^ *\([0-9,]+\):/ && $2 + 0 != 0 { bad = 1 } END { exit bad }' || fail "z of a frozen run is not 0"
run select frozen stack.h5 --best 50 -o half.txt
[ "$(wc -l <half.txt)" -eq 160 ] || fail "the better half of a frozen run has $(wc -l <half.txt) images"
run predict frozen few.h5 -o few-out.h5
run evaluate frozen --truth few.h5 --predictions few-out.h5 --per-image 0 --json few.json
jq -en --slurpfile m few.json '$m[0].rot < 1' >/dev/null || fail "other images of a frozen run: $(jq -c '[.rot, .trans_corrected]' few.json)"

if [ -z "${HET_SHORT:-}" ]; then # minutes under a sanitizer
# stopped after each of the first cycles, and after the new poses were found, it goes on to the same numbers
run train stack.h5 -o timed "${settings[@]}" --set train.epochs=0.02
for ((i = 0; i < 2; i++)); do ends_with 75 train stack.h5 -o timed "${settings[@]}" --max-hours 1e-9; done
run train stack.h5 -o timed "${settings[@]}" --set train.epochs=2.3
grep -q 'poses searched anew' err || fail "the run that goes on does not search poses anew"
run train stack.h5 -o timed "${settings[@]}"
grep -q 'poses searched anew' err && fail "poses are searched anew a second time"
for file in $last kept.h5; do h5diff -q whole/$file timed/$file || fail "$file of the interrupted run differs"; done

# conformations that are none are no frames
run simulate --atoms atoms.pdb -n 320 -D 32 --apix 3 --snr-db 0 --shift 1 --seed 5 -o one.h5
run train one.h5 -o one "${settings[@]}" --set train.epochs=2.1
grep -q 'frames: all conformations lie in one' err || fail "noise was given frames of its own: $(cat err)"
fi

if [ -z "${HET_SHORT:-}" ]; then
# the start's poses are as fine as the images allow, not as its radius (8 of 15 Fourier pixels) does
run simulate --atoms atoms.pdb -n 320 -D 32 --apix 3 --snr-db 10 --shift 1 --seed 6 -o rigid.h5
for rounds in 6 0; do
    run train rigid.h5 -o fine$rounds "${settings[@]}" --set init.fine_rounds=$rounds --set train.epochs=0.1
    run predict fine$rounds rigid.h5
    run evaluate fine$rounds --truth rigid.h5 --per-image 0 --json fine$rounds.json
done
jq -en --slurpfile fine fine6.json --slurpfile rough fine0.json '$fine[0].rot < 0.5 * $rough[0].rot and $fine[0].trans_corrected < 0.5 * $rough[0].trans_corrected' >/dev/null ||
    fail "poses made finer: $(jq -c '[.rot, .trans_corrected]' fine6.json), and before: $(jq -c '[.rot, .trans_corrected]' fine0.json)"

# the two states are apart before the first step, by the linear model alone, and lie in one frame; two ranks find the same to the bit
for components in 4 0; do
    run train stack.h5 -o linear$components "${settings[@]}" --set init.components=$components --set train.freeze_epochs=0 --set train.epochs=0.1
    run predict linear$components stack.h5
    run evaluate linear$components --truth stack.h5 --per-image 0 --json linear$components.json
done
jq -en --slurpfile m linear4.json '$m[0].rot < 0.01' >/dev/null || fail "frames of the linear model: Rot $(jq -c .rot linear4.json)"
ranks 2 train stack.h5 -o linear-pair "${settings[@]}" --set init.components=4 --set train.freeze_epochs=0 --set train.epochs=0.1
grep -q 'poses searched anew in [0-9]* groups of conformations' err || fail "lost poses are not searched in groups of conformations: $(cat err)"
for set in rotation shift z; do h5diff -q linear4/start.h5 linear-pair/start.h5 $set || fail "$set of the start differs on two ranks"; done
jq -en --slurpfile with linear4.json --slurpfile without linear0.json '$with[0].err < 0.02 and $without[0].err > 0.3' >/dev/null ||
    fail "first conformations: Err $(jq -c .err linear4.json), of random ones $(jq -c .err linear0.json)"
fi

# images that training has not seen: placed in its conformations, on two ranks as on one
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,40 -n 40 -D 32 --apix 3 --snr-db 10 --shift 1 --seed 9 -o new.h5
run predict whole new.h5 -o new-out.h5
run evaluate whole --truth new.h5 --predictions new-out.h5 --per-image 0 --json new.json
jq -en --slurpfile m new.json '$m[0].rot < 0.2 and $m[0].trans_corrected < 0.1' >/dev/null || fail "new images: $(jq -c '[.rot, .trans_corrected]' new.json)"
ranks 2 predict whole new.h5 -o new-pair.h5
[ $CODE -eq 0 ] || fail "exit code $CODE on two ranks"
h5diff -q -d 1e-4 new-out.h5 new-pair.h5 rotation || fail "two ranks place images elsewhere"

# where no two starts agree, the program says so
run simulate --atoms atoms.pdb -n 240 -D 32 --apix 3 --snr-db -30 --shift 1 --seed 3 -o noise.h5
run train noise.h5 -o lost "${settings[@]}" --set init.search_rounds=3 --set init.rounds=1 \
    --set train.epochs=0.1 --starts 4
grep -q 'no two agree yet: further ones take 240 images and 6 rounds' err || fail "no more effort for noisy images: $(cat err)"
grep -q 'no two of 4 random starts agree.*probably wrong' err || fail "the program does not say that it failed: $(cat err)"

if [ -z "${HET_SHORT:-}" ]; then
# two ranks find the same poses
ranks 2 train stack.h5 -o pair "${settings[@]}"
[ $CODE -eq 0 ] || fail "exit code $CODE on two ranks"
h5diff -q -d 1e-3 whole/start.h5 pair/start.h5 rotation || fail "two ranks start from other poses"
right pair
fi

# refinement begins with what training kept
run train stack.h5 -o whole "${settings[@]}" --refine --set refine.rounds=1 --set refine.epochs=1
grep -q 'the poses kept in training' err || fail "refinement does not begin with the kept poses"
right whole

# what cannot be
refused 2 'at least 200 images.*init.method=none' train few.h5 -o few "${settings[@]}"

# a signal during the start ends it soon (cli_stages.sh: and it goes on)
"$HETACUMN" train noise.h5 -o early "${settings[@]}" --set init.search_rounds=3 --starts 1000 >out 2>err &
wait_for 'the start' grep -qs '"running"' early/state.json
kill -TERM $!
code=0
wait $! || code=$?
[ $code -eq 75 ] || fail "exit code $code after SIGTERM in the start"
grep -q 'warning: stopped before the training began: finished pieces' err || fail "a stop in the start is not explained: $(cat err)"
[ ! -e early/start.h5 ] || fail "poses of a start that was stopped"

# without a checkpoint, poses found before are used, unless they are of other settings or cut short
for name in again other cut; do mkdir $name && cp whole/start.h5 $name; done
run train stack.h5 -o again "${settings[@]}" --set train.epochs=0.1 --set decoder.layers=3
grep -q 'poses are in again/start.h5 already' err || fail "the start is not used again: $(cat err)"
run train stack.h5 -o other "${settings[@]}" --set train.epochs=0.1 --set train.seed=9
grep -q 'random start 2' err || fail "the start of another seed is used: $(cat err)"
head -c 3000 whole/start.h5 >cut/start.h5
run train stack.h5 -o cut "${settings[@]}" --set train.epochs=0.1
h5diff -q cut/start.h5 whole/start.h5 || fail "a cut start was not found anew"
