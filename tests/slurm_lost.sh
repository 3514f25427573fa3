# Ranks under srun, which is not mpirun: where one of them is killed or stopped, the others say so and end with exit code 74, and srun
# ends what is left of the job.
. "$(dirname "$0")/support.sh"
. "$TESTS/cluster.sh"
SLURM=$(cd "$TESTS/../slurm" && pwd)
cluster_up 4 2

make_atoms atoms.pdb
run simulate --atoms atoms.pdb -n 64 -D 16 --apix 6 --snr-db 3 --shift 0.5 --seed 3 -o stack.h5
export HETACUMN HETACUMN_STARTS=1 # not queued again
job=("$SLURM/cpu.sbatch" stack.h5 "${TINY[@]}" --set train.epochs=1e6 --set train.shards=2 --set run.log_steps=8 --set run.watchdog=5)

# rank_of FOLDER RANK: its process, of the training in that folder.
rank_of()
{
    local pid
    for pid in $(cluster_processes); do
        [ "$(stat -c %N "/proc/$pid/exe" 2>/dev/null | grep -c hetacumn)" -eq 1 ] || continue # not its srun or script
        grep -qzx "PMIX_RANK=$2" "/proc/$pid/environ" && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- " -o $1 " && echo "$pid"
    done
}

# lose FOLDER NODES SIGNAL: a job on two nodes, of which rank 1 gets the signal in the midst of training.
lose()
{
    submit -w "$2" --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 "${job[@]}" -o "$1"
    wait_for 180 "steps of $1" has_line "$1"
    lost=$(rank_of "$1" 1)
    [ "$(wc -w <<<"$lost")" -eq 1 ] || fail "rank 1 of $1: processes '$lost'"
    kill -s "$3" "$lost"
}

has_line()
{
    [ -s "$1/log.jsonl" ]
}

# ended FOLDER JOB PATTERN CODES: with words that match, once, and one of these exit codes.
ended()
{
    local log=hetacumn-$2.log
    wait_for 180 "the end of $1" over "$2"
    [ "$(grep -Ec "error: .*$3" "$log")" -eq 1 ] || fail "not one line '$3' of $1: $(cat "$log")"
    grep -Eq "train ended with exit code ($4)\$" "$log" || fail "$1: $(cat "$log")"
    grep -q 'not queued again' "$log" || fail "$1: $(cat "$log")"
}

lose stopped n0,n1 STOP
stopped=$JOB process=$lost
lose killed n2,n3 KILL
killed=$JOB
ended killed "$killed" 'rank 1 of 2 .* is lost' '74|137'
ended stopped "$stopped" 'rank 1 of 2 .* is lost: no sign of life for 5' '74|137'
[ ! -e "/proc/$process" ] || fail "the stopped rank is still there"
grep -h 'is lost\|train ended' "hetacumn-$killed.log" "hetacumn-$stopped.log"
echo passed
