#!/usr/bin/env bash
# Make one of the standard sets: particle images with their truth, and the true map of every state.
#   bench/datasets/make.sh SET [-D 32|64|128] [-n 3000] [--snr-db X] [--shift PX] [--angle DEG] [--apix A] [--seed 1] -o DIR
# makes DIR/stack.h5 and DIR/truth/class0.mrc .. . A set that is there already, made the same way, is left as it is. The program is
# build/release/hetacumn, or $HETACUMN.
#
#   SET           states  what                                                           box    A per pixel at 32, 64, 128
#   80S-bimodal   2       80S ribosome (6ZU5), the small subunit turned by --angle       483 A  15.08  7.54  3.77
#   1D-motion     10      GroEL 120-273 (1OEL), residues after 192 turned by 9 .. 90     192 A  6      3     1.5
#   AdK           98      adenylate kinase, closed (1AKE) to open (4AKE) on a line       160 A  5      2.5   1.25
#   IgG-1D        46      antibody (1HZH), one Fab turned about its hinge by 0 .. 180    384 A  12     6     3
#
# The defaults at 32, 64 and 128 pixels: shifts up to 2, 4 and 8 px along x and y (the paper's 8 px of 128: a sixteenth of the
# box); SNR 0, -5 and -10 dB (the paper's at 128; a smaller image of as many dB is harder); 80S turned by 30, 15 and 9
# degrees. CTFs are rows of EMPIAR-10028, orientations uniform. The class of an image is the number of its state, in order.
# Many states at 128 pixels take memory: some 9 GiB for AdK, 4 GiB for IgG-1D (eight times what 64 pixels took).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${HETACUMN:-$root/build/release/hetacumn}

refuse() { echo "make.sh: $*; see --help" >&2; exit 2; }

set= D=32 n=3000 snr= shift_px= angle= apix= seed=1 out=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -D | -n | -o | --snr-db | --shift | --angle | --apix | --seed) [ $# -gt 1 ] || refuse "$1 needs a value" ;;&
    -D) D=$2; shift 2 ;;
    -n) n=$2; shift 2 ;;
    -o) out=$2; shift 2 ;;
    --snr-db) snr=$2; shift 2 ;;
    --shift) shift_px=$2; shift 2 ;;
    --angle) angle=$2; shift 2 ;;
    --apix) apix=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    -*) refuse "there is no option $1" ;;
    *) [ -z "$set" ] || refuse "one set at a time"; set=$1; shift ;;
    esac
done
[ -n "$out" ] || refuse "-o DIR is missing"
[ -x "$program" ] || refuse "$program is not there: build it, or set HETACUMN"

case $D in # dB, degrees of the 80S
32) preset=(0 30) ;;
64) preset=(-5 15) ;;
128) preset=(-10 9) ;;
*) refuse "-D $D: the sets are made at 32, 64 and 128 pixels" ;;
esac
data=$root/data
case $set in # the box in 1/100 A, and the states
80S-bimodal)
    box=48256
    states=(--atoms "$data/80s_6zu5.cif.gz" --rotate '!chain:L*' --about com --angles "0,${angle:-${preset[1]}}") ;;
1D-motion)
    box=19200
    states=(--atoms "$data/groel_1oel.pdb.gz" --rotate chain:A/193-273 --about chain:A/192@C,chain:A/192@CA --angles 9:90:10) ;;
AdK)
    box=16000
    states=(--atoms "$data/adk_1ake_4ake.pdb.gz" --morph 98) ;;
IgG-1D)
    box=38400
    states=(--atoms "$data/igg_1hzh.pdb.gz" --rotate chain:L,chain:H/1-230 --about chain:H/230@CA,chain:H/230@C
            --angles 0:180:46) ;;
*) refuse "${set:-no set given}: the sets are 80S-bimodal, 1D-motion, AdK and IgG-1D" ;;
esac
[ -z "$angle" ] || [ "$set" = 80S-bimodal ] || refuse "--angle is for 80S-bimodal"
[ -n "$apix" ] || apix=$((box / D / 100)).$(printf %04d $((box * 100 / D % 10000)))

made="$set ${states[*]:2} -D $D --apix $apix -n $n --snr-db ${snr:-${preset[0]}} --shift ${shift_px:-$((D / 16))} --seed $seed"
if [ -s "$out/stack.h5" ] && [ "$(cat "$out/made" 2>/dev/null)" = "$made" ]; then
    exit 0
fi
mkdir -p "$out"
rm -rf "$out/made" "$out/truth" "$out/stack.h5"
"$program" simulate "${states[@]}" -D "$D" --apix "$apix" -n "$n" --snr-db "${snr:-${preset[0]}}" \
    --shift "${shift_px:-$((D / 16))}" --ctf "$data/ctf_10028.star" --seed "$seed" --write-maps "$out/truth" -o "$out/stack.h5"
echo "$made" >"$out/made"

last=$(($(ls "$out/truth" | wc -l) - 1))
"$program" fsc "$out/truth/class0.mrc" "$out/truth/class$last.mrc" --json "$out/ends.json" >/dev/null
jq -r --arg set "$set, $((last + 1)) states" '.curve | def short: . * 100 | round / 100;
    "\($set): the first and the last agree to FSC \(add / length | short) on average, \(min | short) at least"' "$out/ends.json"
