# The whole method on a small set, end to end, against what it has to reach. Ten minutes to an hour of one core; run by
# `./test.sh --long`. Images, training and thresholds stand at the top.
SET=(80S-bimodal -D 32 -n 3000 --snr-db 10 --shift 0.1 --apix 12 --seed 1) # the demo's images
CONFIG=demo/demo.yaml
TRAINING=(--set train.seed=1)
declare -A MOST=([rot]=0.1 [trans_raw]=0.1 [err]=0.05) # median |R - R'A|_F^2 (0.1: 13 degrees), px^2, share of the images
MOST_RES=3                                             # px, FSC = 0.5 with the true map, of both states

. "$(dirname "$0")/support.sh"

# step ARGUMENTS: the program, however long it takes.
step() { "$HETACUMN" "$@" >>out 2>>err || fail "exit code $?: hetacumn $*"; }

HETACUMN=$HETACUMN "$TESTS/../bench/datasets/make.sh" "${SET[@]}" -o set >out 2>err || fail "the set was not made"
step train set/stack.h5 -o run --config "$TESTS/../$CONFIG" "${TRAINING[@]}"
step predict run set/stack.h5
step evaluate run --truth set/stack.h5 --maps set/truth/class0.mrc,set/truth/class1.mrc --json metrics.json
tail -n 25 out
for key in "${!MOST[@]}"; do
    jq -e ".$key <= ${MOST[$key]}" metrics.json >/dev/null || fail "$key is $(jq ".$key" metrics.json), ${MOST[$key]} at most"
done
jq -e ".res | all(. != null and . <= $MOST_RES)" metrics.json >/dev/null || fail "Res is $(jq -c .res metrics.json), $MOST_RES at most"
echo passed
