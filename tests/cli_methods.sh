# The methods that this one is compared with: what they imply, that they go on bit for bit, on ranks, and are
# used.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,40 -n 200 -D 16 --apix 6 --snr-db 10 \
    --shift 1 --seed 3 -o stack.h5
run simulate --atoms atoms.pdb -n 60 -D 16 --apix 6 --snr-db 10 --shift 1 --seed 4 -o other.h5
small=(--set encoder.width=16 --set encoder.head=32 --set decoder.width=32 --set decoder.frequencies=16
       --set z_dim=2 --set train.batch=8 --set train.threads=1 --set train.precision=fp32
       --set run.log_steps=7)
# 4 epochs of 25 steps of task one alone: the last checkpoint is step 100.
settings=("${small[@]}" --set train.epochs=4 --set train.freeze_epochs=2 --set train.march_start=5)
search=("${settings[@]}" --method cryodrgn2 --set search.every=1.5 --set search.pretrain=400)
last=checkpoints/step-100.h5

# same RUN OTHER [OPTIONS OF h5diff]: their last checkpoints agree
same()
{
    for file in $last $(cd "$1" && ls kept.h5 2>/dev/null); do
        h5diff -q "${@:3}" "$1/$file" "$2/$file" || fail "$file of $1 and $2 differ"
    done
}

# pieces RUN OPTIONS: stopped again and again, the run comes to its end. The first start gets 0.4 ms, which no machine finishes in;
# every further one three times as much, so that a slow machine comes to the end too.
pieces()
{
    local folder=$1 code=75
    shift
    for ((i = 0; i < 15 && code == 75; i++)); do
        code=0
        timeout -k 5 60 "$HETACUMN" train stack.h5 -o "$folder" "$@" --max-hours "$(awk -v n=$i 'BEGIN { print 1e-7 * 3 ^ n }')" >out 2>err || code=$?
    done
    [ $code -eq 0 ] || fail "exit code $code in pieces"
    [ $i -gt 1 ] || fail "the run was never stopped"
}

# ---- cryofire: two networks and nothing else
run train stack.h5 -o fire "${settings[@]}" --method cryofire
grep -q 'start:' err && fail "cryofire has a start"
grep -q '^  method: cryofire' fire/config.yaml || fail "the method is not in config.yaml"
grep -q '^  cpp: false' fire/config.yaml || fail "cryofire has a second task"
for file in start.h5 kept.h5; do [ ! -e fire/$file ] || fail "cryofire has $file"; done
jq -e '.pose_loss == 0' fire/log.jsonl >/dev/null || fail "cryofire has a pose loss"
pieces fire2 "${settings[@]}" --set train.method=cryofire
same fire fire2
run predict fire stack.h5
run evaluate fire --truth stack.h5 --per-image 0

# ---- cryodrgn2: poses by search
run train stack.h5 -o drgn "${search[@]}"
[ "$(grep -c 'search: poses to' err)" -eq 4 ] || fail "not three searches and a last one"
pieces drgn2 "${search[@]}"
same drgn drgn2
rm drgn2/kept.h5 # as where the run ended before it was written
run train stack.h5 -o drgn2 "${search[@]}"
same drgn drgn2
run predict drgn stack.h5
h5diff -q drgn/predictions.h5 drgn/kept.h5 || fail "predict does not give what training kept"
run evaluate drgn --truth stack.h5 --per-image 0
run volume drgn --kmeans 2 -o maps
run predict drgn other.h5 -o other-pred.h5
h5dump -d rotation -y -w 9 other-pred.h5 | grep -q '[1-9]' || fail "no poses for another stack"
refused 2 'cryodrgn2.*search' predict drgn other.h5 --amortised -o none.h5
ranks 2 train stack.h5 -o pair "${search[@]}"
[ $CODE -eq 0 ] || fail "exit code $CODE on two ranks"
[ -s pair/kept.h5 ] || fail "two ranks keep nothing"
run train stack.h5 -o drgn "${search[@]}" --refine --set refine.rounds=1 --set refine.epochs=1
grep -q 'the poses kept in training' err || fail "refinement does not begin with the kept poses"
run predict drgn other.h5 -o other-refined.h5

# a signal during a search: nothing of it is kept, and the run goes on to the same end
"$HETACUMN" train stack.h5 -o signalled "${search[@]}" >out 2>err &
pid=$!
for ((i = 0; i < 1200; i++)); do grep -q 'shifts up to' err && break; sleep 0.05; done
kill -s USR1 $pid
code=0
wait $pid || code=$?
[ $code -eq 75 ] || [ $code -eq 0 ] || fail "exit code $code after SIGUSR1"
run train stack.h5 -o signalled "${search[@]}"
same drgn signalled

# what cannot be
refused 2 'init.method = search does not go with train.method=cryofire.*none' train stack.h5 -o no \
    --method cryofire --set init.method=search
refused 2 'train.mirror = true does not go with train.method=cryodrgn2' train stack.h5 -o no \
    --method cryodrgn2 --set train.mirror=true
refused 2 'hetacumn\|cryofire\|cryodrgn2' train stack.h5 -o no --method cryodragon
refused 2 'other settings:.*train.method' train stack.h5 -o fire "${settings[@]}" --set init.method=none
echo passed
