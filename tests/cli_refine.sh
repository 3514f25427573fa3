# train --refine: what it writes, that it says so when it is done, that it can be stopped, and who uses its results.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 10 --shift 0.5 -n 96 -D 16 --seed 5 --write-maps maps -o stack.h5
run simulate --atoms atoms.pdb --apix 6 --snr-db 10 --shift 0.5 -n 96 -D 16 --seed 6 -o other.h5
train=(train stack.h5 -o run "${TINY[@]}" --set train.epochs=4 --set refine.rounds=1 --set refine.epochs=2)

# after the training, and again: nothing to do
run "${train[@]}"
[ ! -e run/refined ] || fail "refined without being asked"
run predict run stack.h5 -o amortised.h5
cp -r run ranks
run "${train[@]}" --refine
for what in "the encoder's poses" 'poses, round 1' 'volumes, round 1' 'at the last volumes' 'are in run/refined'; do
    grep -q "refine: .*$what" err || fail "refinement does not say: $what"
done
cp err one
losses=$(sed -nE 's/.*refine: .*poses.*image loss ([0-9.]+).*/\1/p' err)
echo "$losses" | awk 'NR > 1 && $1 > last { bad = 1 } { last = $1 } END { exit bad || NR != 3 }' || fail "losses rise: $losses"
for file in config.yaml checkpoints/step-144.h5 predictions.h5; do
    [ -s run/refined/$file ] || fail "no run/refined/$file: $(ls run/refined run/refined/checkpoints)"
done
run status run
grep -q 'refinement   done' out || fail "status does not know of the refinement"
cp run/refined/predictions.h5 before.h5
run "${train[@]}" --refine
grep -q 'run/refined is done already' err || fail "does not say that it is done"
cmp -s run/refined/predictions.h5 before.h5 || fail "it was done again"

# its results are used unless refused
run predict run stack.h5
grep -q 'refined results' err || fail "predict does not use them"
h5diff -q run/predictions.h5 run/refined/predictions.h5 || fail "predict does not take the refined poses"
run predict run stack.h5 --amortised -o again.h5
h5diff -q again.h5 amortised.h5 || fail "--amortised is not what it was before the refinement"
run predict run other.h5 -o other_out.h5
[ "$(h5dump -H -d /loss other_out.h5 | grep -c 'SIMPLE { ( 96 )')" -eq 1 ] || fail "no answers for another stack"
! h5diff -q other_out.h5 run/refined/predictions.h5 || fail "another stack of as many images was taken for the run's own"
run volume run --z 0,0 -o refined
run volume run --z 0,0 -o plain --amortised
! cmp -s refined/vol_000.mrc plain/vol_000.mrc || fail "volumes were not refined"
run evaluate run --truth stack.h5 --maps maps/class0.mrc
grep -q 'refined results' err || fail "evaluate does not use them"

# more training makes them old
run "${train[@]}" --set train.epochs=5
run volume run --z 0,0 -o newer
! grep -q 'refined results' err || fail "volume uses results of an older checkpoint"

# stopped: exit code 75, nothing half done is taken for done; the same command does it
code=0
"$HETACUMN" "${train[@]}" --set train.epochs=5 --refine --set refine.epochs=100000 >out 2>err &
pid=$!
for i in $(seq 300); do
    grep -q 'poses, round 1' err && break
    sleep 0.1
done
kill -TERM $pid
wait $pid || code=$?
[ $code -eq 75 ] || fail "exit code $code after SIGTERM"
[ ! -e run/refined/checkpoints/step-180.h5 ] || fail "a checkpoint of a refinement that was stopped"
run "${train[@]}" --set train.epochs=5 --refine
grep -q 'are in run/refined' err || fail "not done after the stop"

# on two ranks: the same poses before the volumes change, nearly the same in the end
loss_of()
{
    sed -nE "s/.*refine: $1.*image loss ([0-9.]+).*/\1/p" "$2"
}
ranks 2 "${train[@]/#run/ranks}" --refine
[ $CODE -eq 0 ] || fail "exit code $CODE on two ranks"
for what in 'poses, round 1' 'poses at the last volumes'; do
    echo "$(loss_of "$what" one) $(loss_of "$what" err)" |
        awk '{ exit NF != 2 || $1 - $2 > 0.02 * $1 || $2 - $1 > 0.02 * $1 }' || fail "two ranks have other losses: $what, $(loss_of "$what" one), $(loss_of "$what" err)"
done

# conformations that training learned image by image, from random ones, go on learning, and tell two states apart better; or stay
size=(-n 320 -D 32 --apix 3)
[ -z "${HET_SHORT:-}" ] || size=(-n 200 -D 16 --apix 6) # minutes under a sanitizer
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,50 "${size[@]}" --snr-db 10 --shift 1 --seed 3 -o two.h5
train=(train two.h5 -o learned "${TINY[@]}" --set decoder.width=64 --set decoder.frequencies=48 --set ablation.cpp=false
       --set init.method=search --set init.search_images=300 --set init.radius=8 --set init.rounds=4 --set init.components=0 --set init.epochs=2
       --set train.epochs=15 --set train.freeze_epochs=2 --set refine.rounds=1 --set refine.epochs=2)
run "${train[@]}"
cp -r learned kept
cp -r learned pair
run "${train[@]}" --refine
! h5diff -q learned/refined/predictions.h5 learned/kept.h5 z || fail "conformations do not learn"
if [ -n "${HET_SHORT:-}" ]; then
    echo passed
    exit
fi
run "${train[@]/#learned/kept}" --refine --set refine.learn_z=false
h5diff -q kept/refined/predictions.h5 kept/kept.h5 z || fail "refine.learn_z=false changes conformations"
for name in learned kept; do
    run predict $name two.h5
    run evaluate $name --truth two.h5 --per-image 0 --json $name.json
done
jq -en --slurpfile a learned.json --slurpfile b kept.json '$a[0].err < $b[0].err and $a[0].rot < 0.1' >/dev/null ||
    fail "learning did not help: $(jq -c '[.err, .rot]' learned.json kept.json)"
ranks 2 "${train[@]/#learned/pair}" --refine
[ $CODE -eq 0 ] || fail "exit code $CODE on two ranks"
# sums round otherwise on two ranks, and learning carries that far in a few images: not in one number of a hundred
others=$(h5diff -r -d 0.02 learned/refined/predictions.h5 pair/refined/predictions.h5 z | grep -c '^\[')
[ "$others" -le 6 ] || fail "two ranks learn other conformations: $others of 640 numbers differ"
echo passed
