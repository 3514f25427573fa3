# The relocatable archive, unpacked where nothing is but the C library: simulate, train on two ranks by its own mpirun, and
# info give what the build gives, and a library that is taken out of it is missed.
. "$(dirname "$0")/support.sh"
cpack --config "$(dirname "$HETACUMN")/CPackConfig.cmake" -B "$WORK/packed" >out 2>err || fail "cpack"
archive=$(echo packed/hetacumn-*-linux-*.tar.gz)
[ "$(stat -c %s "$archive")" -lt $((64 << 20)) ] || fail "$archive is larger than 64 MiB"
mkdir -p root/elsewhere root/{proc,sys,dev,tmp,bin}
tar -xzf "$archive" -C root/elsewhere --strip-components=1 || fail "unpack"
[ -s root/elsewhere/share/doc/hetacumn/LICENSE ] && [ -x root/elsewhere/share/hetacumn/slurm/submit ] || fail "files are missing"

# What the documentation says of the C library is what the files ask for.
needs=$(find root/elsewhere/bin root/elsewhere/lib -type f -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_2[.0-9]*' | sort -uV |
        tail -n 1)
grep -q "glibc ${needs#GLIBC_} or newer" "$TESTS/../docs/cluster.md" || fail "docs/cluster.md does not say that glibc ${needs#GLIBC_} is needed"

# No library is asked for that is neither there nor the machine's own.
own='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|mvec)|lib(ibverbs|rdmacm|efa|cuda.*|cu[a-z]+|nccl|nv.*))\.so'
find root/elsewhere/bin root/elsewhere/lib -type f -exec objdump -p {} + 2>/dev/null | awk '$1 == "NEEDED" { print $2 }' | sort -u |
    grep -vE "$own" >needed
[ "$(wc -l <needed)" -gt 20 ] || fail "the libraries' names cannot be read"
while read -r library; do
    [ -e "root/elsewhere/lib/hetacumn/$library" ] || fail "$library is not in the archive"
done <needed

# The root: the C library as the program's interpreter finds it, one command, and the kernel's folders.
loader=$(objdump -s -j .interp "$HETACUMN" >/dev/null && readelf -l "$HETACUMN" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
mkdir -p "root$(dirname "$loader")" && cp "$loader" "root$loader"
for library in c m dl rt pthread resolv util mvec; do
    file=$(ls /lib/*-linux-gnu/lib$library.so.[0-9] /lib64/lib$library.so.[0-9] 2>/dev/null | head -n 1)
    [ -z "$file" ] || { mkdir -p "root$(dirname "$file")" && cp "$file" "root$file"; }
done
space=(unshare -m)
[ "$(id -u)" -eq 0 ] || space=(unshare -rm)
cp "$(type -P false)" root/bin/
mounts='for folder in proc sys dev; do mount --rbind /$folder root/$folder || exit; done'
"${space[@]}" bash -c "$mounts" 2>err || {
    echo "skipped: $(tail -n 1 err); the libraries' names were checked, nothing was run in a root of its own"
    exit 77
}

# inside PROGRAM ARGUMENTS: a program of the archive in that root, in the folder / of it; the exit code is in CODE.
inside()
{
    CODE=0
    timeout -k 5 120 "${space[@]}" bash -c "$mounts"'; exec chroot root "/elsewhere/bin/$0" "$@"' "$@" >out 2>err || CODE=$?
}

make_atoms atoms.pdb
cp atoms.pdb root/
inside hetacumn --version
[ $CODE -eq 0 ] && grep -q 'Open MPI' out || fail "--version"
simulate=(simulate --atoms atoms.pdb -n 64 -D 16 --apix 6 --snr-db 5 --seed 3 -o stack.h5)
run "${simulate[@]}"
inside hetacumn "${simulate[@]}"
[ $CODE -eq 0 ] && cmp stack.h5 root/stack.h5 || fail "the archive's stack is not that of the build"
train=(train stack.h5 -o run "${TINY[@]}" --set train.epochs=2)
ranks 2 "${train[@]}"
[ $CODE -eq 0 ] || fail "the build on two ranks"
inside mpirun --oversubscribe --bind-to none -np 2 /elsewhere/bin/hetacumn "${train[@]}"
[ $CODE -eq 0 ] || fail "the archive on two ranks"
grep -q 'in 2 shard' err || fail "they were not two ranks"
last=$(cd run && ls checkpoints/step-*.h5 | tail -n 1)
h5diff "run/$last" "root/run/$last" >out 2>&1 || fail "the archive's parameters are not those of the build"
inside hetacumn info run
[ $CODE -eq 0 ] || fail "info"

# The test can fail: each of these is missed.
for missing in lib/hetacumn/libfftw3f.so.3 lib/hetacumn/openmpi/mca_pml_ob1.so; do
    mv "root/elsewhere/$missing" kept
    inside mpirun --oversubscribe -np 2 /elsewhere/bin/hetacumn info stack.h5
    [ $CODE -ne 0 ] || fail "$missing is not in the archive and nobody misses it"
    mv kept "root/elsewhere/$missing"
done
