# A particle with a symmetry: random starts agree but for its turns, and other conformations confirm poses that are the same view.
. "$(dirname "$0")/support.sh"

# a chain beside the axis, three times
make_atoms chain.pdb
awk '/^ATOM/ && $6 <= 80 { a[n++] = $0 }
     END {
         for (k = 0; k < 3; k++)
             for (i = 0; i < n; i++) {
                 x = substr(a[i], 31, 8) + 14; y = substr(a[i], 39, 8) + 3; z = substr(a[i], 47, 8)
                 c = cos(k * 2.0943951); s = sin(k * 2.0943951)
                 printf "ATOM  %5d  CA  GLY %s%4d    %8.3f%8.3f%8.3f  1.00  0.00           C\n", k * n + i + 1, substr("ABC", k + 1, 1), i + 1, c * x - s * y, s * x + c * y, z
             }
         print "END"
     }' chain.pdb >three.pdb
run simulate --atoms three.pdb -n 400 -D 32 --apix 3 --snr-db 3 --shift 1 --seed 3 -o stack.h5
run train stack.h5 -o run "${TINY[@]}" --set init.method=search --set init.radius=8 --set init.search_images=400 --set init.search_rounds=20 \
    --set init.rounds=2 --set init.epochs=2 --set train.epochs=4 --set train.freeze_epochs=0 --set train.rate_final=1 --set ablation.cpp=false
grep -q "random starts 2 and 1 agree, [0-9]* degrees apart but for the particle's own symmetry: 3 turns\|random starts 1 and 2 agree, .* 3 turns" err ||
    fail "the symmetry is not seen: $(cat err)"
grep -q 'poses of 0.0 % of the images are not confirmed' err || fail "the same views count as other poses: $(cat err)"
! grep -q 'warning' err || fail "there is nothing to warn of: $(cat err)"
run predict run stack.h5
run evaluate run --truth stack.h5 --per-image 0 --json metrics.json
grep -q "but for the particle's own symmetry, 3 turns" err || fail "evaluate does not say why Rot is large: $(cat err)"
echo passed
