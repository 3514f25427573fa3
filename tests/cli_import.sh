#!/bin/bash
# import and info on the command line: good files, and one line for each kind of bad one.   $1: the hetacumn binary
set -u
program=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
failures=0

fail() {
    echo "FAILED: $*"
    cat out err 2>/dev/null
    failures=$((failures + 1))
}

# accept WORDS ARGUMENTS...: exit code 0 and WORDS in what is printed
accept() {
    local words=$1
    shift
    "$program" "$@" >out 2>err || fail "$* must be accepted"
    grep -qF -- "$words" out err || fail "$*: expected '$words'"
}

# refuse CODE WORDS ARGUMENTS...: that exit code, one error line with WORDS, and no output, whole or partial
refuse() {
    local code=$1 words=$2
    shift 2
    rm -f x.h5
    "$program" "$@" >out 2>err
    local got=$?
    [ $got -eq "$code" ] || fail "$*: exit code $got, expected $code"
    [ "$(grep -c 'error:' err)" -eq 1 ] || fail "$*: expected one error line"
    grep -F 'error:' err | grep -qF -- "$words" || fail "$*: expected '$words'"
    [ -e x.h5 ] || [ -e x.h5.tmp ] && fail "$*: left an output file"
}

int32() {
    printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $(($1 >> 8 & 255)))\\x$(printf %02x $(($1 >> 16 & 255)))"
    printf "\\x$(printf %02x $(($1 >> 24 & 255)))"
}

zeros() { head -c "$1" /dev/zero; }

# header NX NY NZ MODE: no pixel size
header() {
    int32 "$1"; int32 "$2"; int32 "$3"; int32 "$4"; zeros 48; int32 1; int32 2; int32 3
    zeros 132; printf 'MAP \x44\x44\0\0'; zeros 808
}

# disc SIDE: one image of bytes, 40 in a disc of radius SIDE/4 about the centre pixel, 0 outside
disc() {
    local x y
    for ((y = -($1 / 2); y < $1 - $1 / 2; y++)); do
        for ((x = -($1 / 2); x < $1 - $1 / 2; x++)); do
            if ((16 * (x * x + y * y) < $1 * $1)); then printf '\x28'; else printf '\0'; fi
        done
    done
}

disc 16 >disc16
{ header 16 16 3 0; cat disc16 disc16 disc16; } >good.mrcs
{ header 16 14 3 0; zeros 672; } >flat.mrcs
{ header 15 15 2 0; disc 15; disc 15; } >odd.mrcs
head -c 1500 good.mrcs >cut.mrcs
{ header 16 16 1 4; zeros 2048; } >complex.mrcs
{ header 4 4 1 2; printf '\0\0\xc0\x7f'; zeros 60; } >nan.mrcs
: >empty.mrcs
yes 'this is a text' | head -c 2000 >text.mrc
mkdir job

optics='data_optics
loop_
_rlnOpticsGroup
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnImagePixelSize'
columns='data_particles
loop_
_rlnImageName
_rlnOpticsGroup
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_rlnAngleRot
_rlnAngleTilt
_rlnAnglePsi
_rlnOriginXAngst
_rlnOriginYAngst'
row='15000 14000 30 10 20 30 3 -6'
printf '%s\n' "$optics" '1 300 2.7 0.1 3.0' "$columns" "1@good.mrcs 1 $row" "3@good.mrcs 1 $row" "2@good.mrcs 1 $row" >job/p.star
sed 's/^3@good.mrcs/4@good.mrcs/' job/p.star >range.star
sed 's/_rlnDefocusU/_rlnDefocusX/' job/p.star >column.star
sed 's/^3@good.mrcs 1/3@good.mrcs 2/; s/^1 300.*/&\n2 300 2.7 0.1 3.5/' job/p.star >groups.star
sed 's/good.mrcs/absent.mrcs/' job/p.star >absent.star
sed 's/_rlnOriginXAngst/_rlnOther/; s/_rlnAngleRot/_rlnOther2/' job/p.star >poses.star
printf 'data_job\n_rlnJobTypeLabel relion.import\n' >job.star
printf '\x93NUMPY' >a.cs
printf '2\n0\n' >index.txt
printf '2\n0\n' | gzip >index.txt.gz
printf '1\n-1\n' >negative.txt
printf '1\n0\n1\n' >twice.txt
printf '1\n3\n' >beyond.txt

# what must work
accept 'kept as they are' import good.mrcs --apix 2.5 -o a.h5
accept '3 of 16 x 16 pixels, float32' info a.h5
accept '2.5 A' info a.h5
accept 'multiplied by -1' import job/p.star -o b.h5
accept 'first image from row 0' info b.h5
accept 'defocus 14500 to 14500 A; the first: 300 kV, Cs 2.70 mm' info b.h5
accept 'none' info b.h5
accept 'kept as they are (--sign)' import job/p.star --sign + -o b.h5
accept 'multiplied by -1 (--sign)' import job/p.star --sign - -o b.h5
accept '6 A per pixel' import job/p.star -D 8 --f16 -o c.h5
accept '3 of 8 x 8 pixels, float16' info c.h5
accept 'poses as truth' import job/p.star --poses --recenter -o d.h5
accept 'stored (rotations' info d.h5
accept 'recentred' info d.h5
moved() { h5dump -d /source/shift "$1" | grep -q "(0,0): $2" || fail "$1: /source/shift is not $2"; }
moved d.h5 '-1, 2' # t = -origin, 3 A per pixel
accept '6 A per pixel' import job/p.star -D 8 --recenter -o d.h5
moved d.h5 '-0.5, 1'
accept '2 images of 16' import job/p.star --index index.txt -o e.h5
accept '2 images of 16' import job/p.star --index index.txt.gz -o e.h5
accept 'no CTF' import job/p.star --no-ctf --shift 2 -o e.h5
accept 'up to 2 pixels' info e.h5
accept '2 images of 14' import odd.mrcs --apix 1 -D 14 -o f.h5
accept 'usage: hetacumn import' import --help
accept 'a stack of images' info good.mrcs
accept '3 rows of 10 columns' info job/p.star
# the poses of a cryoSPARC dataset and the same in RELION's angles (worked out by hand); its job's files in two, joined by uid
python3 - <<'EOF'
import math
import struct
turns = [(0, 0, 0.5), (0, 0.7, 0), tuple(2 * math.pi / 3 / math.sqrt(3) * k for k in (-1, 1, 1))]
angles = [(0.5, 0, 0), (0, 0.7, 0), (math.pi / 2, math.pi / 2, 0)]
ctf = (300.0, 2.7, 0.1, 15000.0, 14000.0, 0.5, 0.0)
names = ["accel_kv", "cs_mm", "amp_contrast", "df1_A", "df2_A", "df_angle_rad", "phase_shift_rad"]
def save(path, fields, rows):
    header = "{'descr': %r, 'fortran_order': False, 'shape': (%d,), }" % (fields, len(rows))
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"".join(rows))
save("job/p.cs", [("uid", "<u8"), ("alignments3D/shift", "<f4", (2,)), ("alignments3D/pose", "<f4", (3,)), ("alignments3D/psize_A", "<f4")],
     [struct.pack("<Q6f", 7 + i, 1, -2, *turns[i], 3.0) for i in range(3)])
save("job/passthrough.cs", [("uid", "<u8"), ("blob/path", "|S9"), ("blob/idx", "<u4"), ("blob/psize_A", "<f4")] + [("ctf/" + n, "<f4") for n in names],
     [struct.pack("<Q9sI8f", 7 + i, b"good.mrcs", i, 3.0, *ctf) for i in (2, 0, 1)])
with open("job/c.star", "w") as file:
    file.write("data_\nloop_\n" + "".join("_rln%s\n" % n for n in (
        "ImageName", "AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst", "Voltage", "SphericalAberration", "AmplitudeContrast",
        "DefocusU", "DefocusV", "DefocusAngle", "PhaseShift", "ImagePixelSize")))
    for i in range(3):
        file.write(" ".join(["%d@good.mrcs" % (i + 1), *["%.9f" % math.degrees(a) for a in angles[i]], "3 -6 300 2.7 0.1 15000 14000",
                             "%.9f 0 3" % math.degrees(0.5)]) + "\n")
EOF
accept 'poses as truth' import job/p.cs job/passthrough.cs --poses -o g.h5
accept 'first image from row 0' info g.h5
accept 'poses as truth' import job/c.star --poses -o h.h5
for set in images ctf truth/rotation truth/shift; do h5diff -q -d 2e-7 g.h5 h.h5 /$set || fail "/$set of job/p.cs is not that of job/c.star"; done
accept '2 images of 16' import job/p.cs job/passthrough.cs --index index.txt --recenter -o g.h5
accept '3 rows of 4 columns' info job/p.cs
accept 'names no images' info job/p.cs
ls ./*.tmp >/dev/null 2>&1 && fail 'temporary files are left'

# two ranks write the same stack
if command -v mpirun >/dev/null; then
    accept '' import job/p.star --poses -o one.h5
    mpirun --oversubscribe -n 2 "$program" import job/p.star --poses -o two.h5 >out 2>err || fail 'import on two ranks'
    "$program" info one.h5 2>/dev/null | sed 1d >one.txt
    "$program" info two.h5 2>/dev/null | sed 1d >two.txt
    cmp -s one.txt two.txt || fail 'two ranks wrote another stack than one'
fi

# what must be refused
refuse 1 'nothing.star: cannot open' import nothing.star -o x.h5
refuse 1 'nothing.mrcs: cannot open' import nothing.mrcs --apix 1 -o x.h5
refuse 1 'folder' import job --apix 1 -o x.h5
refuse 1 'empty.mrcs: no MRC' import empty.mrcs --apix 1 -o x.h5
refuse 1 'text.mrc: this is no MRC' import text.mrc --apix 1 -o x.h5
refuse 1 'cut off' import cut.mrcs --apix 1 -o x.h5
refuse 1 'mode 4' import complex.mrcs --apix 1 -o x.h5
refuse 1 'NaN' import nan.mrcs --apix 1 -o x.h5
refuse 1 'only square' import flat.mrcs --apix 1 -o x.h5
refuse 1 'give -D 14 or less' import odd.mrcs --apix 1 -o x.h5
refuse 1 'box of 18' import good.mrcs --apix 1 -D 18 -o x.h5
refuse 1 'give --apix' import good.mrcs -o x.h5
refuse 1 'line 22 (particle 1): image 4' import range.star -o x.h5
refuse 1 '_rlnDefocusU' import column.star -o x.h5
refuse 1 'optics groups 1 (3 A per pixel) and 2 (3.5)' import groups.star -o x.h5
refuse 1 "image file 'absent.mrcs' is not there" import absent.star -o x.h5
refuse 1 '_rlnAngleRot' import poses.star --poses -o x.h5
refuse 1 '_rlnOriginXAngst' import poses.star --recenter -o x.h5
refuse 1 'lists no particle images' import job.star -o x.h5
refuse 1 'no cryoSPARC dataset' import a.cs -o x.h5
refuse 1 'no column ctf/df1_A: give the job' import job/p.cs -o x.h5
refuse 2 'is the input itself' import job/p.cs job/passthrough.cs -o job/passthrough.cs
refuse 2 'or the .cs files of a job' import job/p.cs good.mrcs -o x.h5
refuse 1 'line 2: image -1' import job/p.star --index negative.txt -o x.h5
refuse 1 'line 3: image 1 stands twice' import job/p.star --index twice.txt -o x.h5
refuse 1 'line 2: image 3 is outside' import job/p.star --index beyond.txt -o x.h5
refuse 1 'nofolder' import job/p.star -o nofolder/x.h5
refuse 1 'not of a run' info job
refuse 1 'nothing.h5' info nothing.h5
refuse 2 'is the input itself' import good.mrcs --apix 1 -o good.mrcs
refuse 2 'must be even' import good.mrcs --apix 1 -D 7 -o x.h5
refuse 2 '-o stack.h5' import good.mrcs --apix 1
refuse 2 'unknown option' import good.mrcs --colour red -o x.h5
refuse 2 'none of auto' import good.mrcs --sign up -o x.h5
refuse 2 '--apix' import good.mrcs --apix -3 -o x.h5
refuse 2 'needs a value' import good.mrcs -o
refuse 2 'one input file' import -o x.h5

# an older output stays when the new one fails
cp a.h5 keep.h5
"$program" import range.star -o keep.h5 >/dev/null 2>&1
cmp -s a.h5 keep.h5 || fail 'a failed import changed the older output'

[ $failures -eq 0 ] && echo 'cli_import: all as expected'
exit $((failures > 0))
