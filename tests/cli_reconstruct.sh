# reconstruct: clusters part the images, ranks agree, and bad wishes are refused with nothing written.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 120 -D 16 --apix 6 --snr-db 3 --shift 0.5 --seed 2 -o stack.h5
run train stack.h5 -o run "${TINY[@]}" --set train.epochs=1 --set train.freeze_epochs=0
run predict run stack.h5 -o poses.star

# of FILE: how many images went into each map
images_of()
{
    sed -nE 's/.*vol_([0-9]+)\.mrc: ([0-9]+) images.*/\2/p' err
}

run reconstruct run stack.h5 --kmeans 3 -o clusters
[ "$(ls clusters | wc -l)" -eq 12 ] || fail "three clusters did not give twelve files"
[ "$(images_of | awk '{ n += $1 } END { print n }')" -eq 120 ] || fail "the clusters do not part the images"
counts=$(images_of | paste -sd' ')
for k in 0 1 2; do
    run select run stack.h5 --kmeans 3 --clusters $k -o list.txt
    [ "$(wc -l <list.txt)" = "$(cut -d' ' -f$((k + 1)) <<<"$counts")" ] || fail "cluster $k is not that of select"
    run reconstruct run stack.h5 --kmeans 3 --clusters $k -o one
    cmp -s one/vol_000.mrc clusters/vol_00$k.mrc || fail "cluster $k alone has another map"
done
[ "$(wc -l <one/vol_000_fsc.tsv)" -eq 9 ] || fail "the FSC has not a line for each shell"

run reconstruct stack.h5 --classes -o classes
[ "$(images_of | paste -sd' ')" = "60 60" ] || fail "the classes are not the stack's"
run reconstruct stack.h5 -o own
ranks 3 reconstruct stack.h5 -o three
[ "$CODE" -eq 0 ] || fail "three ranks: exit code $CODE"
run fsc own/vol_000.mrc three/vol_000.mrc --json fsc.json
grep -A8 '"curve"' fsc.json | tail -n +3 | awk '/[0-9]/ && $1 + 0 < 0.99999 { bad = 1 } END { exit bad }' || fail "three ranks have another map"

refused 2 'need RUN' reconstruct stack.h5 --best 50 -o x
refused 2 'without RUN' reconstruct run stack.h5 --classes -o x
refused 2 'needs -o DIR' reconstruct stack.h5
refused 2 'takes stack.h5' reconstruct -o x
refused 1 'predictions.h5' reconstruct nowhere stack.h5 -o x
run simulate --atoms atoms.pdb -n 50 -D 16 --apix 6 --snr-db 3 -o other.h5
refused 1 'in the same order' reconstruct run other.h5 -o x
refused 1 'none of the 120 images' reconstruct run stack.h5 --pc 1 --from 1e9 -o x
cp own/vol_000.mrc blind.mrcs # its sections as images
run import blind.mrcs --apix 6 --no-ctf --sign + -o blind.h5
refused 1 'no poses of its own' reconstruct blind.h5 -o x
[ ! -e x ] || fail "what was refused left a folder"
refused 1 'too few images' reconstruct run stack.h5 --best 0.5 -o few
# a cluster that conditions leave empty takes no other's map away
run reconstruct run stack.h5 --kmeans 3 --pc 1 --from 0 -o some
[ "$(ls some/*_fsc.tsv | wc -l)" -ge 1 ] && [ "$(($(ls some/*_fsc.tsv | wc -l) + $(grep -c 'is left out' err)))" -eq 3 ] || fail "not three maps made or left out"
echo passed
