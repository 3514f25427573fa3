#!/bin/bash
# simulate and fsc as a user runs them.
. "$(dirname "$0")/support.sh"

data=$TESTS/../data
groel=(--atoms "$data/groel_1oel.pdb.gz")
common=(-n 20 -D 32 --apix 6 --snr-db 0 --shift 2 -o no.h5)
bond=chain:A/192@C,chain:A/192@CA

# out_says and err_says PATTERN: what the last command printed.
out_says() { grep -Eq -- "$1" out || fail "stdout lacks '$1'"; }
err_says() { grep -Eq -- "$1" err || fail "stderr lacks '$1'"; }
# nothing_left: a refused command leaves neither the stack nor a part of it.
nothing_left() { [ -z "$(find . -name 'no.h5*')" ] || fail "left behind: $(ls)"; }

run simulate --help
out_says "--snr-db"
run simulate "${groel[@]}" --rotate chain:A/193-273 --about $bond --angles 0,90 "${common[@]}" --ctf "$data/ctf_10028.star" \
    --write-maps maps -o s.h5
err_says "20 images of 32 x 32 pixels of 6 A, 2 conformations"
[ -s s.h5 ] && [ -s maps/class0.mrc ] && [ -s maps/class1.mrc ] || fail "files are missing: $(ls . maps)"
run simulate --volumes maps/class0.mrc,maps/class1.mrc -n 7 -D 24 --apix 8 --snr-db inf --f16 -o v.h5
err_says "7 images of 24 x 24 pixels of 8 A, 2 conformations"

run fsc maps/class0.mrc maps/class0.mrc --json fsc.json
out_says "FSC = 0.500 at 2.000 pixels, 12.000 A \(never crossed"
[ "$(jq -r '[.box, .apix, (.curve | length), .fsc05.pixels, .fsc05.crossed] | @csv' fsc.json)" = "32,6,16,2,false" ] ||
    fail "fsc.json: $(cat fsc.json)"
run fsc maps/class0.mrc maps/class1.mrc
out_says "FSC = 0.500 at 12.3" # the arm has turned by 90 degrees
refused 1 "ctf_10028.star" fsc maps/class0.mrc "$data/ctf_10028.star"
refused 2 "two maps" fsc maps/class0.mrc

# One seed gives one stack, whatever the number of ranks.
ranks 2 simulate --volumes maps/class0.mrc,maps/class1.mrc -n 7 -D 24 --apix 8 --snr-db inf --f16 -o w.h5
[ $CODE -eq 0 ] || fail "two ranks: exit code $CODE"
if command -v h5diff >/dev/null; then h5diff v.h5 w.h5 || fail "two ranks give other images than one"; fi

refused 2 "either --volumes or --atoms" simulate "${common[@]}"
refused 2 "must be even" simulate "${groel[@]}" "${common[@]}" -D 31
refused 2 "snr-db" simulate "${groel[@]}" -n 1 -D 32 --apix 6 -o no.h5
refused 2 "names no atom" simulate "${groel[@]}" --rotate chain:Z --about com --angles 0 "${common[@]}"
refused 2 "go together" simulate "${groel[@]}" --rotate chain:A "${common[@]}"
refused 2 "degrees" simulate "${groel[@]}" --rotate chain:A/193-273 --about com --angles 0,x "${common[@]}"
refused 2 "must be com or two atoms" simulate "${groel[@]}" --rotate chain:A/193-273 --about chain:A/192@C --angles 0 "${common[@]}"
refused 2 "between 1 and 1" simulate "${groel[@]}" --models 2-3 "${common[@]}"
refused 1 "No such file" simulate --atoms nowhere.pdb "${common[@]}"
refused 1 "No such file" simulate --volumes nowhere.mrc "${common[@]}"
refused 1 "No such file" simulate "${groel[@]}" --ctf nowhere.star "${common[@]}"
refused 1 "use a box of at least" simulate --atoms "$data/80s_6zu5.cif.gz" "${common[@]}"
refused 1 "cannot create" simulate "${groel[@]}" "${common[@]}" -o nowhere/no.h5
nothing_left
