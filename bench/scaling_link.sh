#!/usr/bin/env bash
# Training over links of a known rate, to check scaling_model.py: hosts are network namespaces (tests/hosts.sh; needs root), their
# links veth pairs that tc's token bucket slows down. For each rate bench_allreduce measures the network, scaling.py the training.
#   scaling_link.sh BUILD STACK RESULTS RATE..      RATE in Mbit/s both ways, or "free"; the first should be free
#       RESULTS.jsonl is added to, and RESULTS-NETWORK-N.json written; then the comparison is printed. RANKS=2,4, ROUNDS=1, BATCH=16
#       and CYCLES=2 from the environment.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TESTS=$here/../tests

if [ "$1" = --on ]; then # N COMMAND..: what scaling.py starts each training with, in the hosts of the script that runs it
    kept=$HOSTS
    . "$TESTS/hosts.sh"
    HOSTS=$kept
    shift
    on_hosts "$@"
fi

build=$1 stack=$2 results=$3
shift 3
WORK=$(mktemp -d)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
. "$TESTS/hosts.sh"
ranks=${RANKS:-2,4}
hosts_up "${ranks##*,}" || { echo "no hosts can be simulated here"; exit 77; }

networks=()
for rate in "$@"; do
    name=${rate}-veth
    if [ "$rate" != free ]; then
        name=${rate}-Mbit/s
        for ((i = 0; i < ${ranks##*,}; i++)); do
            # The bucket holds what the clock's ticks ask for, the queue what TCP keeps on its way.
            tc -n $HOSTS$i qdisc replace dev eth0 root tbf rate "${rate}mbit" burst $((rate * 1000))b limit 4mb || exit 1
        done
    fi
    layouts=
    for n in ${ranks//,/ }; do
        layouts+=${layouts:+,}${n}x1
        file=$results-${name//\//p}-$n.json
        "$here/scaling_link.sh" --on "$n" "$build/bench/bench_allreduce" >"$file" || exit 1
        networks+=("$name=$file")
    done
    "$here/scaling.py" "$build/hetacumn" "$stack" -o "$results.jsonl" --network "$name" --layouts "$layouts" \
        --strong "${BATCH:-16}" --rounds "${ROUNDS:-1}" --cycles "${CYCLES:-2}" \
        --launch "$here/scaling_link.sh --on {ranks}" || exit 1
done
"$here/scaling_model.py" check "$results.jsonl" "${networks[@]}"
hosts_down
rm -rf "$WORK"
