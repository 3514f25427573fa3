#!/usr/bin/env bash
# Who may include whom (docs/ARCHITECTURE.md), and what may not stand in the sources at all. Prints every breach.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
breaches=0

breach()
{
    echo "$*"
    breaches=$((breaches + 1))
}

# The layer of a source file, from its path.
layer_of()
{
    case $1 in
    kernels/cuda/*) echo cuda ;;
    kernels/*) echo kernels ;;
    src/mpi/* | src/data/* | src/nn/* | src/physics/* | src/cli/*) echo "$1" | cut -d/ -f2 ;;
    src/model* | src/train* | src/run* | src/survey*) echo core ;;
    src/*) echo foundation ;;
    *) echo outside ;;
    esac
}

# The layers that a layer may include, besides itself.
declare -A allowed=(
    [foundation]=""
    [kernels]="foundation"
    [cuda]="foundation kernels"
    [physics]="foundation kernels"
    [nn]="foundation kernels"
    [mpi]="foundation"
    [data]="foundation mpi"
    [core]="foundation kernels mpi data physics nn"
    [cli]="foundation kernels mpi data physics nn core"
)

# Shapes and rows that travel between layers are declared beside the operations; files hold them too.
exception()
{
    [ "$1" = data ] && [ "$2" = kernels/ops.h ]
}

check_include()
{
    local file=$1 name=$2 target from to
    target=$(realpath -m --relative-to=. "$(dirname "$file")/$name")
    [ -f "$target" ] || target=src/$name
    [ -f "$target" ] || { breach "$file: \"$name\" is no file of this project"; return; }
    from=$(layer_of "$file")
    to=$(layer_of "$target")
    [ "$from" = "$to" ] && return
    case " ${allowed[$from]} " in *" $to "*) return ;; esac
    exception "$from" "$target" || breach "$file: $from may not include $to ($target)"
}

check_system()
{
    case $2 in
    mpi.h) [[ $1 == src/mpi/* || $1 == src/data/h5*.[ch] ]] || breach "$1: <mpi.h> belongs to src/mpi and src/data/h5*" ;;
    hdf5.h) [[ $1 == src/data/* ]] || breach "$1: <hdf5.h> belongs to src/data" ;;
    cuda* | cublas* | cudnn* | cufft* | curand* | nccl* | nvml*)
        [[ $1 == kernels/cuda/* ]] || breach "$1: <$2> belongs to kernels/cuda" ;;
    assert.h) ! grep -qE '(^|[^_[:alnum:]])assert\(' "$1" || breach "$1: assert() goes in release builds: use HET_ASSERT" ;;
    esac
}

files=0
while read -r file; do
    files=$((files + 1))
    while read -r kind name; do
        if [ "$kind" = '"' ]; then check_include "$file" "$name"; else check_system "$file" "$name"; fi
    done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(["<])([^">]+)[">].*/\1 \2/p' "$file")
done < <(find src kernels -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
[ $files -gt 50 ] || breach "only $files source files found: is this the root of the project?"

# forbidden PATTERN WHY FILES...: no line of the files matches outside comments.
forbidden()
{
    local pattern=$1 why=$2 hits
    shift 2
    hits=$(grep -rnE --include='*.[ch]' --include='*.cu' --include=CMakeLists.txt --include=CMakePresets.json -- "$pattern" "$@" |
           grep -vE ':[0-9]+:[[:space:]]*(/\*|\*|//|#[^a-z])')
    [ -z "$hits" ] || breach "$why:
$hits"
}

word='(^|[^_[:alnum:]])'
forbidden "${word}s?rand(om|48)?\(" "random numbers come from src/rng.h" src kernels
forbidden "(-ffast-math|-Ofast)" "no -ffast-math" src kernels tests CMakeLists.txt CMakePresets.json
forbidden "${word}(_exit|exit|quick_exit)\(" "only main() ends the process" src kernels
forbidden "${word}assert\(" "assert() goes in release builds: use HET_ASSERT" src kernels
forbidden "${word}het_comm_abort\(" "only main() ends all ranks" src/data src/nn src/physics kernels $(ls src/*.c src/cli/cmd_*.c)
forbidden "${word}abort\(" "programmers' errors end in HET_ASSERT" src/mpi src/data src/nn src/physics src/cli kernels

[ $breaches -eq 0 ] && echo "$files files keep the rules"
[ $breaches -eq 0 ]
