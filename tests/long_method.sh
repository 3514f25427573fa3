# The whole method on a small set, end to end, against what it has to reach; then parts of it switched off, which has to show.
# Ten to thirty minutes of one core; run by `./test.sh --long`. Images, training and thresholds stand at the top.
SET=(80S-bimodal -D 32 -n 3000 --snr-db 0 --shift 2 --apix 12 --seed 1) # the demo's images
CONFIG=demo/demo.yaml
TRAINING=(--set train.seed=1 --set train.epochs=40) # twice the demo's: the encoder takes longer than the poses
# median |R - R'A|_F^2 (0.01: 4 degrees), px^2, share of the images; FSC = 0.5 of the worse map, px; Rot of the encoder's own answers
declare -A MOST=([rot]=0.01 [trans_corrected]=0.05 [err]=0.02 [res]=3 [encoder]=1)

. "$(dirname "$0")/support.sh"

# step ARGUMENTS: the program, however long it takes.
step() { "$HETACUMN" "$@" >>out 2>>err || fail "exit code $?: hetacumn $*"; }

# missed RUN ARGUMENTS..: train, measure, and print what is beyond its threshold.
missed()
{
    local run=$1
    shift
    step train set/stack.h5 -o "$run" --config "$TESTS/../$CONFIG" "${TRAINING[@]}" "$@"
    step predict "$run" set/stack.h5
    step evaluate "$run" --truth set/stack.h5 --maps set/truth/class0.mrc,set/truth/class1.mrc --per-image 0 --json "$run.json"
    step predict "$run" set/stack.h5 --amortised -o "$run/encoder.h5"
    step evaluate "$run" --truth set/stack.h5 --amortised --predictions "$run/encoder.h5" --per-image 0 --json "$run.encoder.json"
    jq -n --slurpfile m "$run.json" --slurpfile e "$run.encoder.json" \
        '$m[0] | {rot, trans_corrected, err, res: (.res | map(. // 99) | max), encoder: $e[0].rot}' >"$run.short.json"
    echo "$run: $(jq -c . "$run.short.json")" >&2
    for key in "${!MOST[@]}"; do
        jq -e ".$key <= ${MOST[$key]}" "$run.short.json" >/dev/null || echo "$key"
    done
}

HETACUMN=$HETACUMN "$TESTS/../bench/datasets/make.sh" "${SET[@]}" -o set >out 2>err || fail "the set was not made"
found=$(missed whole)
[ -z "$found" ] || fail "beyond the threshold: $found"
found=$(missed broken --set ablation.cpp=false --set init.components=0 --set init.join_epoch=0) # no second task, frames as one map left them
[[ $found == *rot* && $found == *encoder* ]] || fail "without the second task and one frame only this is missed: $found"
found=$(missed blind --set ablation.cpp=false --set init.components=0 --set init.rate_z=0) # conformations as they were drawn
[[ $found == *err* ]] || fail "without learned conformations only this is missed: $found"
echo passed
