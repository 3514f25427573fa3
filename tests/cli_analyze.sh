# analyze: a page that names what is there, pictures that are pictures, one cluster where conformations are frozen.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 60 -D 16 --apix 6 --snr-db 3 --shift 0.5 --seed 2 -o stack.h5
run train stack.h5 -o run "${TINY[@]}" --set train.epochs=1 --set train.freeze_epochs=0
refused 1 'predictions.h5' analyze run
run predict run stack.h5
printf '{"time": 1, "step": 2, "text": "a <b> & c"}\n%.0s' 1 2 >>run/warnings.jsonl
run analyze run --kmeans 3 --points 4

# page FOLDER: every file that the page names is there
page()
{
    local name
    grep -oE '(src|href)="[^"]*"' "$1/report.html" | cut -d'"' -f2 | sort -u >named
    [ "$(wc -l <named)" -gt 5 ] || fail "the page names $(wc -l <named) files"
    while read -r name; do [ -s "$1/$name" ] || fail "$1/report.html names $name, which is not there"; done <named
}
page run/report
[ "$(ls run/report/kmeans/*.png run/report/pc1/*.png | wc -l)" -eq 7 ] || fail "not seven pictures"
[ "$(grep -c '<tr><td>' run/report/report.html)" -eq 3 ] || fail "not three rows of clusters"
[ "$(sed -n 's/^<tr><td>[0-9]*<td>\([0-9]*\).*/\1/p' run/report/report.html | awk '{ n += $1 } END { print n }')" -eq 60 ] || fail "the clusters do not hold all images"
[ "$(grep -c 'a &lt;b> &amp; c' run/report/report.html)" -eq 1 ] || fail "the warning is not there once, with its signs as text"
awk -F'\t' 'NR > 1 { n += $3 } END { exit n != 60 || NR != 649 }' run/report/views.tsv || fail "the views are not those of all images"

# PNG: 48 x 16 pixels of 8 bits, grey, and what another program makes of it
for png in run/report/*/*.png; do
    [ "$(od -An -tx1 -N26 "$png" | tr -d ' \n')" = 89504e470d0a1a0a0000000d4948445200000030000000100800 ] || fail "$png is no such picture"
done
python3 - run/report/kmeans/vol_000.png <<'P' || fail "the picture does not unpack"
import struct, sys, zlib
data, at, pixels = open(sys.argv[1], "rb").read(), 8, b""
while at < len(data):
    size, name = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + size]
    assert zlib.crc32(name + body) == struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0], name
    pixels += body if name == b"IDAT" else b""
    at += 12 + size
rows = zlib.decompress(pixels)
assert name == b"IEND" and len(rows) == 16 * 49 and not any(rows[::49]) and max(rows) == 255
P

run train stack.h5 -o frozen "${TINY[@]}" --set train.epochs=1 --set train.freeze_epochs=9
run predict frozen stack.h5
run analyze frozen -o page
page page
[ "$(ls page/kmeans/*.mrc | wc -l)" -eq 1 ] || fail "a frozen run has more than one cluster"
refused 2 'takes one RUN' analyze
refused 2 'whole number' analyze run --kmeans 0
echo passed
