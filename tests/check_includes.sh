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

# One line "FILE KIND NAME" for every #include; KIND is " or <.
includes()
{
    find src kernels \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -exec \
        sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(["<])([^">]+)[">].*/\1 \2/; T; F; p' {} + | paste -d ' ' - -
}

# The rules: which layer a file belongs to, what each layer may include besides itself, and where system headers belong.
rules='
function layer_of(path)
{
    if (path ~ /^kernels\/cuda\//) return "cuda"
    if (path ~ /^kernels\//) return "kernels"
    if (path ~ /^src\/(mpi|data|nn|physics|cli)\//) { split(path, part, "/"); return part[2] }
    if (path ~ /^src\/(model|train|run|survey|start|first_volume|refine|given|latents|searched|frames|join|watch|observe|kept|reconstruct|progress)/) return "core"
    return path ~ /^src\// ? "foundation" : "outside"
}
function resolve(file, name,    path)
{
    path = file
    sub(/[^\/]*$/, "", path)
    path = path name
    while (sub(/[^\/]+\/\.\.\//, "", path)) {}
    return path
}
function exists(path,    line, found)
{
    if (!(path in known)) { found = (getline line < path) >= 0; close(path); known[path] = found }
    return known[path]
}
BEGIN {
    allowed["foundation"] = " "
    allowed["kernels"] = allowed["mpi"] = " foundation "
    allowed["cuda"] = allowed["physics"] = allowed["nn"] = " foundation kernels "
    allowed["data"] = " foundation mpi "
    allowed["core"] = " foundation kernels mpi data physics nn "
    allowed["cli"] = " foundation kernels mpi data physics nn core "
}
$2 == "<" && $3 == "mpi.h" && $1 !~ /^src\/mpi\// && $1 !~ /^src\/data\/h5[^\/]*$/ { print $1 ": <mpi.h> belongs to src/mpi and src/data/h5*" }
$2 == "<" && $3 == "hdf5.h" && $1 !~ /^src\/data\// { print $1 ": <hdf5.h> belongs to src/data" }
$2 == "<" && $3 ~ /^(cuda|cublas|cudnn|cufft|curand|nccl|nvml)/ && $1 !~ /^kernels\/cuda\// { print $1 ": <" $3 "> belongs to kernels/cuda" }
$2 == "\"" {
    target = resolve($1, $3)
    if (!exists(target)) target = "src/" $3
    if (!exists(target)) { print $1 ": \"" $3 "\" is no file of this project"; next }
    from = layer_of($1)
    to = layer_of(target)
    if (from == "data" && target == "kernels/ops.h") next # rows that travel between layers are declared beside the operations
    if (from != to && index(allowed[from], " " to " ") == 0) print $1 ": " from " may not include " to " (" target ")"
}'

found=$(includes | awk "$rules")
[ -z "$found" ] || breach "$found"
count=$(includes | wc -l)
[ "$count" -gt 300 ] || breach "only $count includes found: is this the root of the project?"

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

[ $breaches -eq 0 ] && echo "$count includes keep the rules"
[ $breaches -eq 0 ]
