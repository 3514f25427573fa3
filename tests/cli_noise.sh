# What recorded images have and clean ones have not: noise that is not white, which import finds and whitens, and pictures of nothing, which
# are found out and left out of maps.
. "$(dirname "$0")/support.sh"

# coloured.mrcs, other.mrcs: 200 images each, a particle in noise that is smoothed, the second's more; white.mrcs: not at all
python3 - <<'END'
import random
import struct

D, N = 32, 200


def write(name, smooth, seed):
    rng = random.Random(seed)
    data = bytearray()
    for _ in range(N):
        noise = [[rng.gauss(0, 1) for _ in range(D + 1)] for _ in range(D + 1)]
        for y in range(D):
            for x in range(D):
                v = noise[y][x] + smooth * (noise[y + 1][x] + noise[y][x + 1] + noise[y + 1][x + 1])
                v += 2.0 * ((x - 16) ** 2 + (y - 16) ** 2 < 30)
                data += struct.pack('<f', v)
    header = struct.pack('<4i', D, D, N, 2) + bytes(48) + struct.pack('<3i', 1, 2, 3) + bytes(132) + b'MAP DD\0\0' + bytes(808)
    with open(name, 'wb') as f:
        f.write(header + data)


write('coloured.mrcs', 0.7, 1)
write('other.mrcs', 0.4, 2)
write('white.mrcs', 0.0, 3)
END
run import coloured.mrcs --apix 3 --no-ctf -o coloured.h5
grep -q 'noise: not of the same power' err || fail 'coloured noise is not seen'
run info coloured.h5
# the powers of the noise at the lowest and the highest frequencies are (1 + 3 0.7)^2 = 9.6 and 0.3^2 = 0.09 or less, of 2.47 on average
awk '/noise +whitened/ { sub(/,/, "", $6); found = $6 > 0.4 && $6 < 0.6 && $NF > 1.5 } END { exit !found }' out || fail "info does not say how images were whitened: $(cat out)"
run import white.mrcs --apix 3 --no-ctf -o white.h5
grep -q 'noise: white' err || fail 'white noise is not seen'
run import coloured.mrcs --apix 3 --no-ctf --whiten no -o plain.h5
run info plain.h5
! grep -q whitened out || fail '--whiten no whitens'
ranks 2 import coloured.mrcs --apix 3 --no-ctf -o two.h5
[ $CODE -eq 0 ] || fail "exit code $CODE"
cmp -s coloured.h5 two.h5 || fail 'two ranks whiten in another way'

# stacks to be trained together are whitened alike
run import other.mrcs --apix 3 --no-ctf -o other.h5
printf 'coloured.h5\nother.h5\n' >list.txt
refused 1 'whitened in another way than that of .*coloured.h5: import both with --whiten' info list.txt
run import other.mrcs --apix 3 --no-ctf --whiten coloured.h5 -o other.h5
run info list.txt
refused 2 'its box is 32, not 16' import other.mrcs --apix 3 --no-ctf -D 16 --whiten coloured.h5 -o small.h5
refused 1 'nowhere.h5' import other.mrcs --apix 3 --no-ctf --whiten nowhere.h5 -o small.h5

# of a quarter of the images, which hold nothing, nearly all are found out, no particle is lost, and poses are right
make_atoms atoms.pdb
run simulate --atoms atoms.pdb -n 400 -D 32 --apix 3 --snr-db 3 --shift 1 --seed 3 --colour 6 --junk 25 -o stack.h5
run info stack.h5
grep -q 'noise  *whitened' out || fail 'simulate does not whiten coloured noise'
run train stack.h5 -o run "${TINY[@]}" --set init.method=search --set init.radius=8 --set init.search_images=400 --set init.search_rounds=20 \
    --set init.rounds=2 --set init.epochs=0 --set init.fine_rounds=0 --set init.components=0 --set train.epochs=0.1 --set train.freeze_epochs=0
grep -q 'start: .* are likelier no particles' err || fail "nothing is said of pictures of nothing: $(cat err)"
run predict run stack.h5
run evaluate run --truth stack.h5 --per-image 0 --json metrics.json
jq -e '.images + .junk.images == 400 and .junk.images > 60 and .junk.found >= 0.9 * .junk.images and .junk.particles <= 4 and .rot < 0.2' metrics.json >/dev/null ||
    fail "$(jq -c '[.images, .junk, .rot]' metrics.json)"
run select run stack.h5 --particles -o particles.txt
[ "$(wc -l <particles.txt)" -eq "$(jq '400 - .junk.found - .junk.particles' metrics.json)" ] || fail "--particles takes $(wc -l <particles.txt) images"
run predict run stack.h5 --amortised -o encoder.h5
cp encoder.h5 run/predictions.h5
refused 1 'does not say which images are particles' select run stack.h5 --particles -o x.txt
refused 2 'it must be 1 or more' simulate --atoms atoms.pdb -n 4 -D 16 --apix 6 --snr-db 3 --colour 0.5 -o x.h5
refused 2 'below 100' simulate --atoms atoms.pdb -n 4 -D 16 --apix 6 --snr-db 3 --junk 100 -o x.h5
echo passed
