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

# A range of angles is the list it stands for; a morph goes from the first model to the last, and the truth says how far.
adk=(--atoms "$data/adk_1ake_4ake.pdb.gz")
small=(-n 6 -D 16 --apix 8 --snr-db inf)
same_maps() { for map in "$1"/*.mrc; do cmp -s "$map" "$2/${map##*/}" || fail "$map differs from $2"; done; }
run simulate "${groel[@]}" --rotate chain:A/193-273 --about $bond --angles 0,30,60,90 "${small[@]}" --write-maps list -o list.h5
run simulate "${groel[@]}" --rotate chain:A/193-273 --about $bond --angles 0:90:4 "${small[@]}" --write-maps range -o range.h5
[ -s range/class3.mrc ] || fail "0:90:4 made $(ls range)"
same_maps list range
run simulate "${adk[@]}" --models 1-2 "${small[@]}" --write-maps ends -o ends.h5
run simulate "${adk[@]}" --morph 3 "${small[@]}" --write-maps morph -o morph.h5
err_says "3 conformations"
cp ends/class1.mrc ends/class2.mrc && cp morph/class1.mrc ends/class1.mrc && same_maps ends morph
for end in 0 2; do ! cmp -s morph/class1.mrc morph/class$end.mrc || fail "the middle of the morph is its end $end"; done
[ "$(h5dump -y -w 0 -d /truth/z morph.h5 | grep -Eo '0(, [0-9.]+)+')" = "0, 0.5, 1, 0, 0.5, 1" ] || fail "$(h5dump -d /truth/z morph.h5)"
zcat "$data/adk_1ake_4ake.pdb.gz" | awk '/^MODEL/ { m++ } m == 2 && /CA  MET A   1/ { sub("CA ", "CB ") } { print }' >other.pdb
zcat "$data/adk_1ake_4ake.pdb.gz" | awk '/^MODEL/ { m++ } !(m == 2 && /CA  MET A   1/)' >fewer.pdb
refused 1 "atom 2 is A/1@CA in the first model and A/1@CB in the last" simulate --atoms other.pdb --morph 3 "${common[@]}"
refused 1 "first model has 1656 atoms, the last 1655" simulate --atoms fewer.pdb --morph 3 "${common[@]}"
refused 2 "needs two models" simulate "${groel[@]}" --morph 3 "${common[@]}"
refused 2 "from 2 to 1000" simulate "${adk[@]}" --morph 1 "${common[@]}"
refused 2 "do not go with it" simulate "${groel[@]}" --morph 3 --rotate chain:A/193-273 --about $bond --angles 0 "${common[@]}"
refused 2 "need --atoms" simulate --volumes maps/class0.mrc --morph 3 "${common[@]}"
refused 2 "a count from 2" simulate "${groel[@]}" --rotate chain:A/193-273 --about $bond --angles 0:90:1 "${common[@]}"

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
