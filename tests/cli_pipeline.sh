# From atoms to measures with a tiny network: every command once, and what each leaves behind.
. "$(dirname "$0")/support.sh"

# numbers FILE FILTER: jq's FILTER yields at least one number, and nothing but finite numbers.
numbers()
{
    jq -e "[$2] | length > 0 and all(type == \"number\" and (isinfinite or isnan | not))" "$1" >/dev/null ||
        fail "$1: $2 is not all finite numbers: $(jq -c "[$2]" "$1" 2>&1)"
}

# info FILE WORDS: `info` succeeds and its text holds the words.
info()
{
    run info "$1"
    grep -qi -- "$2" out || fail "info $1 does not say '$2'"
}

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 160 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 2 --write-maps truth -o stack.h5
info stack.h5 160
info truth/class0.mrc 16
info truth/class1.mrc 16

run train stack.h5 -o run "${TINY[@]}" --set train.epochs=2 --set train.freeze_epochs=1 --set run.log_steps=5
info run 16
info run/checkpoints/step-120.h5 120
numbers run/log.jsonl .image_loss
numbers run/log.jsonl .pose_loss
numbers run/log.jsonl .rotation_spread
numbers run/log.jsonl .images_per_second
numbers run/log.jsonl .snr_db

run predict run stack.h5
[ -s run/predictions.h5 ] || fail "no run/predictions.h5"
info run/predictions.h5 160
run predict run stack.h5 -o other.h5
h5diff -q run/predictions.h5 other.h5 || fail "two predictions of the same stack differ"
run predict run stack.h5 -o poses.star
[ "$(grep -c '@' poses.star)" -eq 160 ] || fail "poses.star has not one line per image"
info poses.star 160

run volume run --z 0,0 -o at
run volume run --pc 1 --points 3 -o path
run volume run --class-modes --truth stack.h5 -o modes
run volume run --kmeans 2 -D 32 -o means
for folder in at path modes means; do
    [ -s $folder/z.txt ] || fail "no $folder/z.txt"
    for map in $folder/*.mrc; do info "$map" "$([ $folder = means ] && echo 32 || echo 16)"; done
done
[ "$(ls path/*.mrc | wc -l)" -eq 3 ] || fail "the traversal has not 3 maps"
[ "$(ls modes/*.mrc | wc -l)" -eq 2 ] || fail "two classes have not 2 maps"

# figures DIR NAMES: DIR holds NAME.tsv with numbers below its names, and NAME.svg, for each name.
figures()
{
    local folder=$1 name
    shift
    for name in "$@"; do
        [ "$(wc -l <"$folder/$name.tsv")" -gt 1 ] || fail "no numbers in $folder/$name.tsv"
        tail -n 1 "$folder/$name.svg" | grep -q '</svg>' || fail "$folder/$name.svg is not whole"
    done
}

run plot run
figures run/plots training latent
[ "$(wc -l <run/plots/latent.tsv)" -eq 161 ] || fail "latent.tsv has not a line per image"
refused 1 'nowhere' plot nowhere

run evaluate run --truth stack.h5 --maps truth/class0.mrc,truth/class1.mrc --per-image 5 --plots figures --json metrics.json
figures figures training latent rotation fsc
[ "$(wc -l <figures/images.tsv)" -eq 11 ] || fail "images.tsv has not 5 images of each class"
for key in image_area_mean image_area_median image_res_mean image_res_median; do numbers metrics.json ".$key"; done
jq -e 'has("frames_deg")' metrics.json >/dev/null || fail "no frames_deg" # null where the classes' own hands differ, as they may here
for key in res_own res_fitted class_rot_own class_trans_own class_image_area class_image_res image_fsc; do
    numbers metrics.json ".$key[]"
done
jq -e '.image_count == 10 and (.image_fsc | length == 8)' metrics.json >/dev/null || fail "not 10 images by their own maps"
grep -q Rot out || fail "no table"
for key in rot rot_mean_deg trans_raw trans_corrected err entanglement hand; do numbers metrics.json ".$key"; done
jq -e 'has("corr")' metrics.json >/dev/null || fail "no corr" # null for two classes
numbers metrics.json '.res[]'
jq -e '(.res | length == 2) and .rot >= 0 and .rot <= 8 and .err >= 0 and .err <= 0.5 and .images == 160' metrics.json \
    >/dev/null || fail "measures out of range"

modes=(modes/*.mrc)
run fsc "${modes[0]}" truth/class0.mrc --json fsc.json
numbers fsc.json '.curve[]'
run fsc truth/class0.mrc truth/class0.mrc --json same.json
jq -e '.fsc05.crossed == false and (.curve | all(. > 0.999))' same.json >/dev/null || fail "FSC of a map with itself is not 1"
echo passed
