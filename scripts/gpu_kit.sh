#!/usr/bin/env bash
# A folder to carry to a machine that has a GPU and CUDA's libraries, but not the packages of the build: the relocatable archive,
# the tests of operations, bench_step and the tools that tests/gpu.sh needs.
#   scripts/gpu_kit.sh DIR [BUILD]    BUILD (build/release) has the plugin (scripts/setup.sh finds or fetches nvcc)
# There:
#   DIR/check                     tests/gpu.sh; HET_GPU_QUICK=1 without compute-sanitizer
#   DIR/compare --device cuda     bench/compare beside PyTorch; see bench/pytorch/compare.py --help. Where time is short, in three calls:
#                                 --skip-timing; --skip-agreement --variant fair winners both launches fused layers;
#                                 --skip-agreement --variant compile
# CUDA's libraries are found by the machine's loader, in /usr/local/cuda, or beside python3's torch.
set -euo pipefail
kit=${1:?usage: scripts/gpu_kit.sh DIR [BUILD]}
build=$(cd "${2:-$(dirname "$0")/../build/release}" && pwd)
[[ $kit == /* ]] || kit=$PWD/$kit
cd "$(dirname "$0")/.."
[ -e "$build/hetacumn_cuda.so" ] || { echo "gpu_kit: $build has no hetacumn_cuda.so: build with nvcc first (scripts/setup.sh)" >&2; exit 1; }
[ ! -e "$kit" ] || { echo "gpu_kit: $kit is there already" >&2; exit 1; }

packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
cpack --config "$build/CPackConfig.cmake" -B "$packed" >/dev/null
mkdir -p "$kit"
tar -xzf "$packed"/hetacumn-*.tar.gz -C "$kit" --strip-components=1

# libraries_of TO PROGRAM..: what they are linked with, but the C library and what is there.
libraries_of()
{
    local to=$1
    shift
    mkdir -p "$to"
    ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        while read -r file; do
            case $(basename "$file") in
            libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | ld-linux*) ;;
            libresolv.so.* | libmvec.so.* | libutil.so.* | libnsl.so.* | libanl.so.*) ;; # the C library's own, too
            *) [ -e "$to/$(basename "$file")" ] || cp -L "$file" "$to/" ;;
            esac
        done
}

mkdir -p "$kit/bin/tests/cuda_host" "$kit/tests" "$kit/bench" "$kit/tools/bin"
programs=("$build"/tests/test_ops_* "$build/tests/test_decode" "$build/tests/cuda_host/cuda_graph" "$build/bench/bench_step")
cp "$build"/tests/test_ops_* "$build/tests/test_decode" "$kit/bin/tests/"
cp "$build/tests/cuda_host/cuda_graph" "$kit/bin/tests/cuda_host/"
cp "$build/bench/bench_step" "$kit/bin/"
libraries_of "$kit/lib/hetacumn" "${programs[@]}"
cp tests/gpu.sh "$kit/tests/"
cp -r bench/compare bench/pytorch "$kit/bench/"

# Tools with libraries of their own, which nothing else is to find.
tools=(jq h5diff)
for tool in "${tools[@]}"; do
    cp "$(command -v $tool)" "$kit/tools/bin/"
    printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH=$here/lib exec "$here/bin/%s" "$@"\n' $tool >"$kit/tools/$tool"
    chmod +x "$kit/tools/$tool"
done
libraries_of "$kit/tools/lib" "$kit"/tools/bin/*

# The oldest C library that will do.
find "$kit" -type f -print0 | xargs -0 grep -aoh 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1 | cut -d _ -f 2 >"$kit/glibc"

cat >"$kit/paths" <<'P'
# Sourced by check and compare: where CUDA's libraries are, those of the kit first.
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
glibc=$(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2)
if [ "$(printf '%s\n' "$(cat "$kit/glibc")" "$glibc" | sort -V | head -n 1)" != "$(cat "$kit/glibc")" ]; then
    echo "gpu_kit: this machine has glibc $glibc, and the kit needs $(cat "$kit/glibc"): build it on an older system, or run a newer one in a container" >&2
    exit 77
fi
cuda=$(python3 -c 'import glob, os, torch
print(":".join(glob.glob(os.path.join(os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "*", "lib"))))' 2>/dev/null || true)
libraries=$kit/lib/hetacumn:/usr/local/cuda/lib64:$cuda:${LD_LIBRARY_PATH:-}
P
cat >"$kit/check" <<'P'
#!/usr/bin/env bash
. "$(dirname "$0")/paths"
export PATH=$kit/bin:$kit/tools:/usr/local/cuda/bin:$PATH
LD_LIBRARY_PATH=$libraries exec "$kit/tests/gpu.sh" "$kit/bin"
P
cat >"$kit/compare" <<'P'
#!/usr/bin/env bash
. "$(dirname "$0")/paths"
# A step of its own: Python is not to find the kit's libraries.
export HET_KIT_LIBRARIES=$libraries HET_PLUGIN_PATH=${HET_PLUGIN_PATH:-$kit/lib/hetacumn} HET_BENCH_STEP=$kit/bin/step
exec "$kit/bench/compare" "$@"
P
printf '#!/bin/sh\nLD_LIBRARY_PATH=$HET_KIT_LIBRARIES exec "$(dirname "$0")/bench_step" "$@"\n' >"$kit/bin/step"
chmod +x "$kit/check" "$kit/compare" "$kit/bin/step"
echo "gpu_kit: $kit, $(du -sm "$kit" | cut -f1) MiB"
