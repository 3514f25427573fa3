# What train refuses: one line that says what, where and what to do, within seconds, and nothing broken is left behind.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
simulate=(simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5)
run "${simulate[@]}" -n 96 -D 16 --seed 5 -o stack.h5
train=(train stack.h5 -o run "${TINY[@]}" --set train.epochs=1)

# dry run: says the memory, leaves nothing
run "${train[@]}" --dry-run
grep -Eq 'memory: parameters [0-9.]+, gradients [0-9.]+, optimiser [0-9.]+, workspace [0-9.]+, plans ' err ||
    fail "--dry-run does not say the memory"
[ ! -e run ] || fail "--dry-run left a folder"
run train --keys
grep -q 'train.batch' out || fail "--keys does not list the keys"
run train --help
grep -q -- '--dry-run' out || fail "--help does not list the options"

# the command line and the configuration
refused 2 'train takes one stack' train
refused 2 'needs -o' train stack.h5
refused 2 'unknown option --frobnicate' train stack.h5 -o run --frobnicate
refused 2 '--max-hours .*above 0' "${train[@]}" --max-hours -1
refused 2 'train.bach: there is no such key.*batch' "${train[@]}" --set train.bach=8
refused 2 'train.batch = 0: .*from 1' "${train[@]}" --set train.batch=0
refused 2 'train.epochs = many' "${train[@]}" --set train.epochs=many
refused 2 'section.key=value' "${train[@]}" --set train.epochs
refused 2 'train.batch = 8 is no multiple of train.shards = 3' "${train[@]}" --set train.shards=3
refused 2 'holds 96 images, fewer than train.batch = 128' "${train[@]}" --set train.batch=128
printf 'z_dim: 2\ntrain:\n  bach: 8\n' >unknown.yaml
refused 2 'unknown.yaml line 3: train.bach: there is no such key' "${train[@]}" --config unknown.yaml
printf 'train:\n  rate_encoder: fast\n' >range.yaml
refused 2 'range.yaml line 2: train.rate_encoder = fast: .*from 0 to 1' "${train[@]}" --config range.yaml
printf 'train: [1, 2\n' >broken.yaml
refused 2 'broken.yaml' "${train[@]}" --config broken.yaml
refused 2 'nowhere.yaml' "${train[@]}" --config nowhere.yaml

# the stack
size=$(stat -c %s stack.h5)
refused 1 'nowhere.h5.*No such file' train nowhere.h5 -o run
refused 1 'atoms.pdb.*HDF5' train atoms.pdb -o run
head -c $((size / 2)) stack.h5 >cut.h5
refused 1 'cut.h5.*cut off' train cut.h5 -o run
: >empty.h5
refused 1 'empty.h5' train empty.h5 -o run
offset=$(h5dump -p -H -d /images stack.h5 | awk '$1 == "OFFSET" { print $2 }')
cp stack.h5 nan.h5
printf '\000\000\300\177' | dd of=nan.h5 bs=1 seek=$((offset + 4 * (16 * 16 * 17 + 5))) conv=notrunc 2>/dev/null
refused 1 'nan.h5.*(image|finite)' train nan.h5 -o nan "${TINY[@]}" --set train.epochs=1
refused 1 'atoms.pdb' train stack.h5 -o atoms.pdb "${TINY[@]}"
refused 1 'nowhere/run.*No such file' train stack.h5 -o nowhere/run "${TINY[@]}"
[ ! -e run ] || fail "a refused command left the run's folder"

# going on: what must not change is named
run "${train[@]}"
[ -s run/checkpoints/step-36.h5 ] || fail "no last checkpoint: $(ls run/checkpoints)"
cp -r run saved
refused 2 'other settings: train.batch \(16, was 8\).*new folder' "${train[@]}" --set train.batch=16
refused 2 'decoder.width \(64, was 32\)' "${train[@]}" --set decoder.width=64
refused 2 'decoder.width = 48: it must be a multiple of 32' "${train[@]}" --set decoder.width=48
refused 2 'train.seed \(9, was 1\)' "${train[@]}" --set train.seed=9
run "${simulate[@]}" -n 96 -D 20 --seed 5 -o box20.h5
refused 1 'of box 16, the stack has [0-9]* of box 20' train box20.h5 -o run "${TINY[@]}" --set train.epochs=1
refused 1 'box20.h5 has box 20.*box 16.*-D 16' predict run box20.h5
run "${simulate[@]}" -n 104 -D 16 --seed 5 -o other.h5
refused 1 'trained on 96 images of box 16, the stack has 104 of box 16' train other.h5 -o run "${TINY[@]}" --set train.epochs=1
diff -r run saved >/dev/null || fail "a refused command changed the run"
refused 1 'nowhere' predict nowhere stack.h5
mkdir hollow
cp run/config.yaml hollow
refused 1 'hollow.*no usable checkpoint' predict hollow stack.h5

# A full disk, imitated by a limit on the size of files: the error is said, the old checkpoint stays, no torn file.
code=0
(ulimit -f 4096 && exec timeout -k 5 60 "$HETACUMN" "${train[@]}" --set train.epochs=2) >out 2>err || code=$?
[ $code -eq 1 ] || fail "exit code $code on a full disk"
says_once 'run/checkpoints/step-72.h5.*(space|large|write)'
[ "$(ls run/checkpoints)" = step-36.h5 ] || fail "after a full disk there are: $(ls run/checkpoints)"
cmp -s run/checkpoints/step-36.h5 saved/checkpoints/step-36.h5 || fail "the old checkpoint was changed"
run "${train[@]}" --set train.epochs=2
[ -s run/checkpoints/step-72.h5 ] || fail "the run does not go on after the disk was full"

# Under MPI the message comes once, and no rank waits for ever.
# refused_by_ranks CODE PATTERN ARGUMENTS
refused_by_ranks()
{
    local wanted=$1 pattern=$2
    shift 2
    ranks 3 "$@"
    [ $CODE -eq "$wanted" ] || fail "exit code $CODE where $wanted was expected on 3 ranks: $*"
    says_once "$pattern"
}
refused_by_ranks 2 'unknown option --frobnicate' train stack.h5 --frobnicate
refused_by_ranks 2 'unknown.yaml line 3: train.bach' "${train[@]}" --config unknown.yaml
refused_by_ranks 2 'was 8' "${train[@]}" --set train.epochs=2 --set train.batch=24
refused_by_ranks 1 'nowhere.h5.*No such file' train nowhere.h5 -o ranks
refused_by_ranks 1 'cut.h5.*cut off' train cut.h5 -o ranks
refused_by_ranks 1 'nan.h5.*(image|finite)' train nan.h5 -o nan3 "${TINY[@]}" --set train.batch=24 --set train.epochs=1
refused_by_ranks 1 'atoms.pdb' train stack.h5 -o atoms.pdb "${TINY[@]}" --set train.batch=24
refused_by_ranks 2 'cannot be shared by 3 ranks' train stack.h5 -o ranks "${TINY[@]}"
# The job scripts tell the stack from the values of options: they have to know all options that take one.
run train --help
known=$(sed -n '/^stack_of/,/^}/s/^ *-o | \(.*\)) shift ;;$/\1/p' "$TESTS/../slurm/common.sh" | tr '|' '\n' | tr -d ' ' | sort)
[ "$known" = "$(grep -oE '^ +(-o, )?--[a-z-]+ [A-Z]' out | grep -oE -- '--[a-z-]+' | sort)" ] || fail "slurm/common.sh knows other options: $known"
echo passed
