#!/usr/bin/env bash
# From a real structure to poses, classes and maps: simulates particle images of the 80S ribosome in two states (PDB 6ZU5,
# the small subunit turned; CTFs of EMPIAR-10028), trains on them, and measures the result against the truth.
#   ./demo.sh [--seed S] [--out DIR]     seed of images and training (1); folder of everything made (demo-out)
#   HET_DEMO_EPOCHS=N                    fewer passes over the images: a quick look that shows no good poses yet
set -euo pipefail
cd "$(dirname "$0")"

seed=1
out=demo-out
while [ $# -gt 0 ]; do
    case $1 in
    --seed) seed=${2:?--seed needs a number}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo: unknown option $1; see --help" >&2; exit 2 ;;
    esac
done

# The data: 32-pixel images of 12 A at 0 dB (as much noise as signal), moved by up to 2 pixels, the small subunit turned by 30
# degrees in every other one.
images=3000 box=32 apix=12 snr=0 shift=2 angles=0,30

# step WORDS COMMAND..: say what is done, do it, say how long it took.
begin=$SECONDS
step()
{
    local words=$1 from=$SECONDS
    shift
    echo "== $words"
    "$@"
    echo "   $((SECONDS - from)) s"
}

build()
{
    cmake --preset release >"$out/build.log" 2>&1 && cmake --build --preset release --target hetacumn >>"$out/build.log" 2>&1 ||
        { tail -n 20 "$out/build.log" >&2; echo "demo: the build failed; see $out/build.log" >&2; exit 1; }
}

# In a function, so that the shell has read all of it before anything starts.
main()
{
    mkdir -p "$out"
    hetacumn=../../bin/hetacumn # installed
    if [ -e CMakeLists.txt ]; then
        step "packages" scripts/setup.sh
        step "build" build
        hetacumn=build/release/hetacumn
    fi
    echo "# seed $seed, $images images, box $box, $apix A, $snr dB, shift $shift, angles $angles" >"$out/settings.new"
    cat demo/demo.yaml >>"$out/settings.new"
    if ! cmp -s "$out/settings.new" "$out/settings"; then # other settings: start anew; the same: go on with what is there
        rm -rf "$out/run" "$out/stack.h5"
    fi
    mv "$out/settings.new" "$out/settings"

    [ -s "$out/stack.h5" ] || step "simulate $images images, two states" \
        "$hetacumn" simulate --atoms data/80s_6zu5.cif.gz --rotate '!chain:L*' --about com --angles "$angles" -n "$images" \
        -D "$box" --apix "$apix" --snr-db "$snr" --shift "$shift" --ctf data/ctf_10028.star --seed "$seed" \
        --write-maps "$out/truth" -o "$out/stack.h5"
    epochs=()
    [ -z "${HET_DEMO_EPOCHS:-}" ] || epochs=(--set "train.epochs=$HET_DEMO_EPOCHS")
    step "train" "$hetacumn" train "$out/stack.h5" -o "$out/run" --config demo/demo.yaml --refine --set "train.seed=$seed" \
        "${epochs[@]}"
    step "predict" "$hetacumn" predict "$out/run" "$out/stack.h5" -o "$out/poses.star"
    step "volumes" "$hetacumn" volume "$out/run" --class-modes --truth "$out/stack.h5" -o "$out/maps"
    step "evaluate" "$hetacumn" evaluate "$out/run" --truth "$out/stack.h5" --maps "$out/truth/class0.mrc,$out/truth/class1.mrc" \
        --json "$out/metrics.json" --plots "$out/figures"
    step "report" "$hetacumn" analyze "$out/run" -o "$out/report" --kmeans 4

    jq -r --arg seconds $((SECONDS - begin)) --arg apix "$apix" '
        def short: if . == null then "-" else (. * 10000 | round / 10000 | tostring) end;
        def angstrom: if . == null then "-" else (. * ($apix | tonumber) * 10 | round / 10 | tostring) + " A" end;
        "",
        "Rot    median |R - R\u0027A|_F^2              \(.rot | short)   (\(.rot_median_deg | short) degrees; target 0.1 or less)",
        "Trans  median |t - t\u0027|^2, px^2           \(.trans_raw | short)   (\(.trans_corrected | short) after one 3D origin)",
        "Err    images in the wrong state        \(.err * 100 | short) %   (target 5 % or less)",
        "FSC    0.5 with the true map, px        \(.res | map(short) | join(", "))   (\(.res | map(angstrom) | join(", ")); floor 2 px)",
        "       0.143                            \(.res143 | map(short) | join(", "))   (\(.res143 | map(angstrom) | join(", ")))",
        "Time   all together                     \($seconds) s"' "$out/metrics.json"
    echo "maps: $out/maps, poses: $out/poses.star, measures: $out/metrics.json, figures: $out/figures, all on one page: $out/report/report.html"
}
main
exit
