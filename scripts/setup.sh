#!/usr/bin/env bash
# Make sure that this Debian 12 machine has what the build, the tests and the demo need. Quiet when all is there.
set -euo pipefail

# Linking to libdnnl-dev and libcyaml-dev takes ocl-icd-opencl-dev and libyaml-dev, on which they do not depend.
packages=(gcc g++ libc6-dev cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-openmpi-dev hdf5-tools
          libfftw3-dev libdnnl-dev ocl-icd-opencl-dev libcyaml-dev libyaml-dev libjansson-dev zlib1g-dev
          libxxhash-dev libcmocka-dev jq slurm-wlm munge
          python3 python3-numpy python3-pip unzip)

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian machine; install what Debian 12 calls: ${packages[*]}" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    exec "$(dirname "$0")/cuda.sh"
fi

apt=(apt-get)
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "setup: packages are missing, and this user may not install them; run: sudo apt-get install -y ${missing[*]}" >&2
        exit 1
    fi
    apt=(sudo -n apt-get)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if ! { "${apt[@]}" -q update && "${apt[@]}" -q install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "setup: the packages could not be installed; run: ${apt[*]} install -y ${missing[*]}" >&2
    exit 1
fi
"$(dirname "$0")/cuda.sh"
