#!/bin/sh
# simulate and fsc as a user runs them. usage: cli_simulate.sh HETACUMN
set -eu
hetacumn=$1
data=$(dirname "$0")/../data
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

fail() { echo "cli_simulate: $*" >&2; exit 1; }
# refuses CODE TEXT ARGUMENTS: the command ends with that code, one line that holds TEXT, and leaves no file
refuses()
{
    code=$1 text=$2
    shift 2
    status=0
    "$hetacumn" simulate "$@" -o "$folder/no.h5" 2> "$folder/message" > /dev/null || status=$?
    [ $status -eq "$code" ] || fail "exit code $status instead of $code for: $*"
    grep -q -- "$text" "$folder/message" || fail "no \"$text\" in: $(cat "$folder/message")"
    [ "$(wc -l < "$folder/message")" -eq 1 ] || fail "more than one line: $(cat "$folder/message")"
    [ -z "$(ls "$folder" | grep '^no' || true)" ] || fail "left files behind: $(ls "$folder")"
}

common="-n 20 -D 32 --apix 6 --snr-db 0 --shift 2"
"$hetacumn" simulate --help | grep -q -- --snr-db || fail "no help"
"$hetacumn" simulate --atoms "$data/groel_1oel.pdb.gz" --rotate chain:A/193-273 \
    --about chain:A/192@C,chain:A/192@CA --angles 0,90 $common --ctf "$data/ctf_10028.star" \
    --write-maps "$folder/maps" -o "$folder/s.h5" 2> "$folder/message"
grep -q "20 images of 32 x 32 pixels of 6 A, 2 conformations" "$folder/message" || fail "$(cat "$folder/message")"
[ -s "$folder/s.h5" ] && [ -s "$folder/maps/class0.mrc" ] && [ -s "$folder/maps/class1.mrc" ] || fail "missing files"
"$hetacumn" simulate --volumes "$folder/maps/class0.mrc,$folder/maps/class1.mrc" -n 7 -D 24 --apix 8 --snr-db inf --f16 \
    -o "$folder/v.h5" 2> "$folder/message"
grep -q "7 images of 24 x 24 pixels of 8 A, 2 conformations" "$folder/message" || fail "$(cat "$folder/message")"

"$hetacumn" fsc "$folder/maps/class0.mrc" "$folder/maps/class0.mrc" --json "$folder/fsc.json" > "$folder/table"
grep -q "FSC = 0.500 at 2.000 pixels, 12.000 A (never crossed" "$folder/table" || fail "$(cat "$folder/table")"
grep -q '"apix": 6' "$folder/fsc.json" || fail "no JSON"
"$hetacumn" fsc "$folder/maps/class0.mrc" "$folder/maps/class1.mrc" | grep -q "FSC = 0.500 at [3-9]" || fail "turned map"

refuses 2 "either --volumes or --atoms" $common
refuses 2 "must be even" --atoms "$data/groel_1oel.pdb.gz" -n 1 -D 31 --apix 6 --snr-db 0
refuses 2 "snr-db" --atoms "$data/groel_1oel.pdb.gz" -n 1 -D 32 --apix 6
refuses 2 "names no atom" --atoms "$data/groel_1oel.pdb.gz" --rotate chain:Z --about com --angles 0 $common
refuses 2 "go together" --atoms "$data/groel_1oel.pdb.gz" --rotate chain:A $common
refuses 2 "degrees" --atoms "$data/groel_1oel.pdb.gz" --rotate chain:A/193-273 --about com --angles 0,x $common
refuses 2 "between 1 and 1" --atoms "$data/groel_1oel.pdb.gz" --models 2-3 $common
refuses 1 "No such file" --atoms nowhere.pdb $common
refuses 1 "No such file" --volumes nowhere.mrc $common
refuses 1 "No such file" --atoms "$data/groel_1oel.pdb.gz" --ctf nowhere.star $common
refuses 1 "use a box of at least" --atoms "$data/80s_6zu5.cif.gz" $common
