#!/usr/bin/env bash
# Make sure that there is a CUDA 13 compiler to build the plugin with. Quiet when there is one: on the PATH, in $CUDA_HOME, in
# /usr/local/cuda, or from before in the cache, ${XDG_CACHE_HOME:-~/.cache}/hetacumn/cuda-13.0. Otherwise NVIDIA's packages on
# PyPI are unpacked there: 101 MB to load, 250 MB on disk. No GPU, driver or library is needed to build; cuBLAS is
# loaded at run time.
set -euo pipefail
packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hetacumn/cuda-13.0

command -v nvcc >/dev/null && exit 0
for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda "$cache"; do
    [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ] && exit 0
done
case $(uname -m) in
x86_64) platform=manylinux2014_x86_64 ;;
*) echo "cuda: no compiler for this processor is installed by this script; the plugin is not built" && exit 0 ;;
esac
if ! python3 -m pip --version >/dev/null 2>&1 || ! command -v unzip >/dev/null; then
    echo "cuda: python3-pip and unzip are needed to get a CUDA compiler; the plugin is not built"
    exit 0
fi

echo "cuda: getting a CUDA 13.0 compiler (101 MB) into $cache"
mkdir -p "$(dirname "$cache")"
work=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! python3 -m pip download -q --no-deps --only-binary=:all: --platform "$platform" --platform manylinux_2_17_x86_64 \
    --platform manylinux2010_x86_64 --platform manylinux_2_12_x86_64 -d "$work" "${packages[@]}" >"$work/log" 2>&1; then
    tail -n 3 "$work/log" >&2
    echo "cuda: the compiler could not be loaded; the plugin is not built" >&2
    exit 0
fi
for wheel in "$work"/*.whl; do unzip -q -o "$wheel" -d "$work/unpacked"; done
chmod +x "$work"/unpacked/nvidia/cu13/bin/* "$work"/unpacked/nvidia/cu13/nvvm/bin/* 2>/dev/null || true
rm -rf "$cache"
mv "$work/unpacked/nvidia/cu13" "$cache"
"$cache/bin/nvcc" --version | grep -q 'release 13.0' || { echo "cuda: the compiler does not run" >&2; exit 1; }
