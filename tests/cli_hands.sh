# Two states that differ much: the start's one map holds them in opposite hands; its linear model, or training, puts both into one.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,90 -n 600 -D 32 --apix 3 --snr-db 10 --shift 1 --seed 1 \
    -o stack.h5
train=(train stack.h5 "${TINY[@]}" --set decoder.width=64 --set decoder.frequencies=64 --set decoder.layers=3 --set train.batch=16
       --set train.rate_decoder=1e-3 --set ablation.cpp=false --set init.method=search --set init.search_images=300
       --set init.rounds=4 --set train.epochs=30)

# without one frame for all, evaluate tells that the hands differ
run "${train[@]}" -o apart --set init.components=0 --set init.join_epoch=0
mkdir joined && cp apart/start.h5 joined
run predict apart stack.h5
run evaluate apart --truth stack.h5 --per-image 0
grep -q 'classes 0 and 1 have opposite hands' err || fail "the states should have opposite hands here: $(cat out)"

# joined RUN: the states lie in one frame.
joined()
{
    run predict "$1" stack.h5
    run evaluate "$1" --truth stack.h5 --per-image 0
    grep -q 'opposite hands' err && fail "$1: the states still have opposite hands"
    jq -e '.rot < 0.05 and .err < 0.1 and ([.class_rot[]] | max) < 0.05' "$1/metrics.json" >/dev/null ||
        fail "$1: $(jq -c '[.rot, .err, .class_rot]' "$1/metrics.json")"
}

run "${train[@]}" -o joined --set init.components=0 --set init.join_epoch=18
grep -q 'frames: .* had the other hand, and were mirrored' err || fail "no hand was changed: $(cat err)"
joined joined

# before the first step
run "${train[@]}" -o first --set init.join_epoch=0 --set train.epochs=0.1 --set train.freeze_epochs=0
grep -q 'frames: .* had the other hand, and were mirrored' err || fail "no hand was changed in the start: $(cat err)"
joined first
echo passed
