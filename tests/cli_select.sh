# select: clusters and ranges part the images, conditions are joined, what is written can be imported again, and bad wishes are refused.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 120 -D 16 --apix 6 --snr-db 3 --shift 0.5 --seed 2 -o stack.h5
run train stack.h5 -o run "${TINY[@]}" --set train.epochs=1 --set train.freeze_epochs=0
run predict run stack.h5 -o poses.star
run plot run

# union FILES: all images once
union()
{
    sort -n "$@" | cmp -s - <(seq 0 119) || fail "$* do not part the images"
}

for k in 0 1 2; do run select run stack.h5 --kmeans 3 --clusters $k -o cluster$k.txt; done
union cluster0.txt cluster1.txt cluster2.txt
run select run stack.h5 --kmeans 3 --clusters 2,0 -o two.txt
sort -n cluster0.txt cluster2.txt | cmp -s - two.txt || fail "clusters 2,0 are not 0 and 2"
# the map of a cluster is of one of its images
run volume run --kmeans 3 -o means
column=$(head -n 1 run/plots/latent.tsv | tr '\t' '\n' | grep -n '^z1$' | cut -d: -f1)
for k in 0 1 2; do
    z=$(sed -n $((k + 1))p means/z.txt | cut -d' ' -f1)
    awk -v c="$column" -v z="$z" 'NR == FNR { wanted[$1]; next } $1 in wanted && sqrt(($c - z) ^ 2) < 1e-5 { found = 1 } END { exit !found }' \
        cluster$k.txt run/plots/latent.tsv || fail "the map of cluster $k is of no image of it"
done

run select run stack.h5 --pc 1 --to 0 -o low.txt
run select run stack.h5 --pc 1 --from 0 -o high.txt
union low.txt high.txt
column=$(head -n 1 run/plots/latent.tsv | tr '\t' '\n' | grep -n '^pc1$' | cut -d: -f1)
awk -v c="$column" 'NR > 1 && $c > 0 { print $1 }' run/plots/latent.tsv | cmp -s - high.txt || fail "component 1 is not that of latent.tsv"

run select run stack.h5 --best 25 -o best.txt
[ "$(wc -l <best.txt)" -eq 30 ] || fail "the best quarter has $(wc -l <best.txt) images"
run select run stack.h5 --pc 1 --from 0 --kmeans 3 --clusters 2 -o both.txt
comm -12 <(sort high.txt) <(sort cluster2.txt) | sort -n | cmp -s - both.txt || fail "two conditions are not both met"

# a STAR file: the rows of poses.star, in order
run select run stack.h5 --kmeans 3 --clusters 1 -o cluster1.star
grep @ cluster1.star >rows
awk 'NR == FNR { wanted[$1 + 1]; next } /@/ { n++; if (n in wanted) print }' cluster1.txt poses.star | cmp -s - rows || fail "cluster1.star is not of poses.star's rows"
grep -q '^data_optics' cluster1.star || fail "no table of optics"

refused 2 'needs --clusters' select run stack.h5 --kmeans 3 -o x.txt
refused 2 'needs --kmeans' select run stack.h5 --clusters 1 -o x.txt
refused 2 'numbers from 0 to 2' select run stack.h5 --kmeans 3 --clusters 3 -o x.txt
refused 2 'from A or --to B' select run stack.h5 --pc 1 -o x.txt
refused 2 'there are 2 components' select run stack.h5 --pc 3 --to 1 -o x.txt
refused 2 'ends in .star or .txt' select run stack.h5 -o x.h5
refused 2 'above 0' select run stack.h5 --best 0 -o x.txt
refused 2 'unknown option' select run stack.h5 --worst 3 -o x.txt
refused 1 'none of the 120 images' select run stack.h5 --pc 1 --from 1e9 -o x.txt
refused 1 'does not say which poses are confirmed' select run stack.h5 --confirmed -o x.txt
run simulate --atoms atoms.pdb -n 50 -D 16 --apix 6 --snr-db 3 -o other.h5
refused 1 'give the stack that was predicted' select run other.h5 --best 50 -o x.star
refused 1 'predictions.h5' select nowhere stack.h5 --best 50 -o x.txt
[ ! -e x.txt ] && [ ! -e x.star ] || fail "what was refused left a file"
echo passed
