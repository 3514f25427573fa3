# Many stacks as one: a list trains as one file does, to the bit; every command takes it; what does not fit, is missing or
# changes underneath is said; a million images take no longer to begin with than a thousand.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
simulate=(simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5)
settings=("${TINY[@]}" --set run.log_steps=4 --set train.epochs=2 --set train.freeze_epochs=1)

# words N: as little-endian 32-bit numbers
words()
{
    local n
    for n; do
        printf "\\x$(printf %02x $((n & 255)))\\x$(printf %02x $((n >> 8 & 255)))\\x$(printf %02x $((n >> 16 & 255)))\\x$(printf %02x $((n >> 24 & 255)))"
    done
}

# the images as one file, and the same ones in three
run "${simulate[@]}" -n 96 -D 16 --seed 5 -o made.h5
h5dump -d /images -b LE -o pixels made.h5 >/dev/null
{ words 16 16 96 2; head -c 48 /dev/zero; words 1 2 3; head -c 132 /dev/zero; printf 'MAP \x44\x44\0\0'; head -c 808 /dev/zero; cat pixels; } >all.mrcs
import=(import all.mrcs --apix 6 --no-ctf --sign + --shift 1)
run "${import[@]}" -o whole.h5
mkdir parts
for range in '0 40' '41 41' '42 95'; do
    seq $range >index
    run "${import[@]}" --index index -o "parts/${range%% *}.h5"
done
printf '# three parts\n0.h5\n\n41.h5\n  %s\n' "$PWD/parts/42.h5" >parts/list.txt
run info parts/list.txt
grep -q 'files        3' out || fail "info does not count the files"
grep -q 'images       96 of 16' out || fail "info does not count the images"
run train whole.h5 -o whole "${settings[@]}"
run train parts/list.txt -o parted "${settings[@]}"
h5diff -q whole/checkpoints/step-72.h5 parted/checkpoints/step-72.h5 || fail "a list trains otherwise than one file"
jq -cS 'del(.images_per_second, .seconds)' whole/log.jsonl >a.txt
jq -cS 'del(.images_per_second, .seconds)' parted/log.jsonl >b.txt
diff a.txt b.txt >differences || fail "the logs differ: $(head -n 4 differences)"
run train whole.h5 -o parted "${settings[@]}" --set train.epochs=2.3 # and is the same stack
ranks 2 train whole.h5 -o whole2 "${settings[@]}" --set train.epochs=0.7
[ $CODE -eq 0 ] || fail "exit code $CODE"
ranks 2 train parts/list.txt -o parted2 "${settings[@]}" --set train.epochs=0.7
[ $CODE -eq 0 ] || fail "exit code $CODE"
h5diff -q whole2/checkpoints/step-27.h5 parted2/checkpoints/step-27.h5 || fail "two ranks train otherwise on a list"

# predict and evaluate
run "${simulate[@]}" -n 40 -D 16 --seed 6 -o second.h5
printf 'made.h5\nsecond.h5\n' >truth.txt
ranks 2 predict whole truth.txt -o poses.star
[ $CODE -eq 0 ] || fail "exit code $CODE"
run evaluate whole --truth truth.txt
grep -q '^136 images' out || fail "evaluate does not take a list"

# what does not fit, on one rank and on two: one line, no hang
run "${simulate[@]}" -n 40 -D 20 --seed 6 -o other.h5
printf 'made.h5\nother.h5\n' >mixed.txt
printf 'made.h5\nabsent.h5\n' >gap.txt
: >empty.txt
refused 1 'mixed.txt: other.h5: box 20 at 6 A differs from box 16 at 6 A in made.h5' train mixed.txt -o bad "${settings[@]}"
refused 1 'gap.txt: absent.h5: .*No such file' train gap.txt -o bad "${settings[@]}"
refused 1 'empty.txt: this list names no stack' info empty.txt
refused 1 'nowhere.txt: cannot open it: No such file' train nowhere.txt -o bad
ranks 2 train gap.txt -o bad "${settings[@]}"
[ $CODE -eq 1 ] || fail "exit code $CODE for a missing file on two ranks"
says_once 'absent.h5'
[ ! -e bad ] || fail "a refused command left the run's folder"

# a file that changes while two ranks train: both leave, and the run says why
cp second.h5 third.h5
printf 'made.h5\nthird.h5\n' >moving.txt
mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" train moving.txt -o moving "${settings[@]}" --set train.epochs=100000 >out 2>err &
pid=$!
wait_for "a report of moving" test -s moving/log.jsonl
printf 'more' >>third.h5
code=0
wait $pid || code=$?
[ $code -eq 1 ] || fail "exit code $code after a file was changed"
says_once 'third.h5: the file was changed'
run status moving
grep -q '^moving: failed: third.h5: the file was changed' out || fail "status does not say why it failed"

# a million images from 500 files: as for one file, only headers are read before the first step
run "${simulate[@]}" -n 2000 -D 32 --seed 5 -o small.h5
for ((i = 0; i < 500; i++)); do echo small.h5; done >million.txt
started=$(date +%s)
run train million.txt -o million "${settings[@]}" --set run.log_steps=1 --set train.batch=64 --set train.epochs=0.0003
took=$(($(date +%s) - started))
grep -q '1000000 images of box 32' err || fail "not a million images"
echo "four steps on a million images: $took s"
[ $took -le 150 ] || fail "$took s for four steps on a million images"
echo passed
