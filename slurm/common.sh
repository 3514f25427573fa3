# Sourced by the job scripts of this folder (docs/cluster.md). Variables that may be set when the job is submitted:
#   HETACUMN          the program; else the one that this folder belongs to, else that in PATH
#   HETACUMN_LAUNCH   srun or mpirun (srun)
#   HETACUMN_MPI      what srun --mpi is given (pmix)
#   HETACUMN_MARGIN   seconds before the job's time is up at which training stops with a checkpoint (180)
#   HETACUMN_STARTS   starts of one job at most (200)
#   HETACUMN_IDLE     starts in a row without a new checkpoint at most (3)
#   HETACUMN_RESULTS  no: nothing is made of a finished training (yes: poses, RUN/report)
folder=$(dirname "${BASH_SOURCE[0]}")
program=${HETACUMN:-hetacumn}
for place in "$folder/../../../bin/hetacumn" "$folder/../build/release/hetacumn"; do # installed, or in the sources
    [ -z "${HETACUMN:-}" ] && [ -x "$place" ] && program=$place && break
done
# An array's task has a name of its own: its number may be that of the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
ranks=${SLURM_NTASKS:-$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE))}
nodes=$SLURM_JOB_NUM_NODES
threads=${SLURM_CPUS_PER_TASK:-1}
start=$((${SLURM_RESTART_COUNT:-0} + 1))

say()
{
    echo "$(date '+%F %T') job $job: $*"
}

# run_of ARGUMENTS: the folder that train is given with -o; as train does, the last one counts.
run_of()
{
    local run=
    while [ $# -gt 0 ]; do
        case $1 in
        -o | --output) run=${2:-} ;;
        -o?*) run=${1#-o} ;;
        --output=*) run=${1#--output=} ;;
        esac
        shift
    done
    echo "$run"
}

# stack_of ARGUMENTS: the stack that train is given: what is neither an option nor the value of one.
stack_of()
{
    while [ $# -gt 0 ]; do
        case $1 in
        -o | --output | --config | --set | --max-hours | --device | --method | --memory | --starts | --prometheus) shift ;;
        -*) ;;
        *) echo "$1" && return ;;
        esac
        shift
    done
}

# seconds_of [DAYS-][[HOURS:]MINUTES:]SECONDS: what squeue says is left, in seconds; nothing for UNLIMITED and other words.
seconds_of()
{
    local days=0 time=$1 part sum=0
    [[ $time =~ ^([0-9]+-)?([0-9]+:){0,2}[0-9]+$ ]] || return 0
    if [[ $time == *-* ]]; then days=${time%%-*} time=${time#*-}; fi
    for part in ${time//:/ }; do sum=$((60 * sum + 10#$part)); done
    echo $((86400 * 10#$days + sum))
}

# When this start of the job ends, in seconds of the epoch; nothing when it has no end. Newer Slurm says it in the environment.
end_of_job()
{
    local left
    if [ -n "${SLURM_JOB_END_TIME:-}" ]; then
        echo "$SLURM_JOB_END_TIME"
        return
    fi
    left=$(seconds_of "$(squeue -h -j "$job" -o %L)")
    [ -z "$left" ] || echo $(($(date +%s) + left))
}

# hours_to END: how long training may last: to the margin before END, and at least three quarters of the time.
hours_to()
{
    awk -v left=$(($1 - $(date +%s))) -v margin="${HETACUMN_MARGIN:-180}" 'BEGIN {
        if (margin > left / 4) margin = left / 4
        printf "%.6f", (left > margin ? left - margin : 0.01) / 3600
    }'
}

# A word for how far the run has got: it changes with every finished file (checkpoints, the start), and with every piece of one (which
# is only written when there is more of it).
progress_of()
{
    find "$1" -name '*.h5' \( -path '*/stages/*' -printf '%P %s %T@\n' -o -printf '%P %s\n' \) 2>/dev/null | sort | cksum | cut -d ' ' -f 1
}

# note_start RUN: a line for this start in RUN/starts.txt. How many starts of this job in a row, this one included, began where
# this one begins, is then in `idle`.
note_start()
{
    local mark
    mark=$(progress_of "$1")
    idle=1
    mkdir -p "$1" && printf '%s job %s start %d on %s, %d ranks of %d threads, files %s\n' "$(date '+%F %T')" "$job" $start \
        "$SLURM_JOB_NODELIST" "$ranks" "$threads" "$mark" >>"$1/starts.txt" || return 0 # train says why it cannot be
    idle=$(tac "$1/starts.txt" | awk -v job="$job" -v mark="$mark" '$4 != job || $NF != mark { exit } { n++ } END { print n + 0 }')
}

# launch ARGUMENTS: the program on all ranks, as a background process with the id in `launcher`. A rank that stops with exit
# code 75 a moment before the others must not have them killed, so --kill-on-bad-exit is no; a lost one ends all by --wait.
launch()
{
    export OMP_NUM_THREADS=$threads
    case ${HETACUMN_LAUNCH:-srun} in
    srun)
        srun --mpi="${HETACUMN_MPI:-pmix}" --nodes="$nodes" --ntasks="$ranks" --cpus-per-task="$threads" --kill-on-bad-exit=0 --wait=30 \
            "$program" "$@" &
        ;;
    mpirun) # bound to cores, a rank among few has one core for all its threads; without keepalives a node may vanish unnoticed
        export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-4}"
        export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-1}"
        export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-3}"
        local mpirun=$folder/../../../bin/mpirun # the archive's own, if there is one
        [ -x "$mpirun" ] || mpirun=mpirun
        "$mpirun" --bind-to none -np "$ranks" "$program" "$@" &
        ;;
    *)
        say "HETACUMN_LAUNCH=$HETACUMN_LAUNCH: it must be srun or mpirun"
        return 2
        ;;
    esac
    launcher=$!
}

# Whatever signal came, the ranks get USR1: TERM would make mpirun kill them a second later.
stop()
{
    signalled=1
    [ -z "$launcher" ] || kill -s USR1 "$launcher" 2>/dev/null
}

# Wait for the launcher; its exit code is in `ended`. A trapped signal ends `wait` early with a code of its own.
await()
{
    local code
    while :; do
        signalled=
        wait "$launcher"
        code=$?
        [ $code -eq 127 ] && [ -n "$ended" ] && return
        ended=$code
        [ $code -gt 128 ] && [ -n "$signalled" ] || return 0
    done
}

# Put the job into the queue again, unless somebody cancelled it (it is then COMPLETING before its time is up) or it has done so
# too often.
requeue()
{
    local state try
    state=$(squeue -h -j "$job" -o %T)
    if [[ $state == COMPLETING || $state == CANCELLED ]] && { [ -z "$end" ] || [ "$(date +%s)" -lt "$end" ]; }; then
        say "cancelled: not queued again; the same command goes on"
        return
    fi
    if [ $start -ge "${HETACUMN_STARTS:-200}" ]; then
        say "start $start of ${HETACUMN_STARTS:-200} (HETACUMN_STARTS): not queued again; the same command goes on"
        return
    fi
    for try in 1 2 3; do # Slurm's controller may be away for a moment
        [ $try -eq 1 ] || sleep 10
        if scontrol requeue "$job"; then
            say "queued again to go on"
            exit 0
        fi
    done
    say "it cannot be queued again; the same command goes on"
}

# train ARGUMENTS: hetacumn train until it is done or the job's time is up; then the job is queued again. Sets `ended`, or
# leaves the script when the job is queued again or must not be.
train()
{
    local run before end hours idle=1
    run=$(run_of "$@")
    before=$(progress_of "$run")
    end=$(end_of_job)
    hours=${end:+$(hours_to "$end")}
    ended='' signalled='' launcher=''
    trap stop USR1 TERM
    [ -z "$run" ] || note_start "$run"
    if [ $idle -gt "${HETACUMN_IDLE:-3}" ]; then
        say "$run got no further in $((idle - 1)) starts (HETACUMN_IDLE): given up"
        exit 1
    fi
    say "start $start on $SLURM_JOB_NODELIST, $ranks ranks of $threads threads${hours:+, training for up to $hours hours}"
    if [ "${SLURM_GPUS_ON_NODE:-0}" -gt 0 ] && [ $((SLURM_GPUS_ON_NODE * SLURM_JOB_NUM_NODES)) -ne "${SLURM_NTASKS:-$ranks}" ]; then
        say "$ranks ranks for $SLURM_GPUS_ON_NODE GPUs on each node: one rank for each GPU is best (--ntasks-per-node)"
    fi
    launch train ${hours:+--max-hours "$hours"} "$@" || exit
    [ -z "$signalled" ] || stop # it came before there was a launcher
    await
    [ "$ended" -eq 0 ] && return 0
    say "train ended with exit code $ended"
    if [ "$ended" -gt 2 ]; then # stopped early (75), or a rank, its node or the network was lost (74, above 128)
        [ "$(progress_of "$run")" != "$before" ] && idle=0
        if [ $idle -ge "${HETACUMN_IDLE:-3}" ]; then
            say "$run got no further in $idle starts (HETACUMN_IDLE): not queued again"
        else
            requeue
        fi
    fi
    exit "$ended"
}

# results DEVICE ARGUMENTS: of a training with these arguments that is done: poses of all images for RELION, and a page with maps and
# figures. On one rank; what fails here is said, and does not make the training fail. Where the time is up the job is queued again.
results()
{
    local device=$1 run stack command
    shift
    [ "${HETACUMN_RESULTS:-yes}" != no ] || return 0
    run=$(run_of "$@")
    stack=$(stack_of "$@")
    ranks=1 nodes=1
    for command in predict select analyze; do
        ended='' signalled=''
        case $command in
        predict) launch predict "$run" "$stack" --device "$device" ;;
        select) launch select "$run" "$stack" -o "$run/poses.star" ;;
        analyze) launch analyze "$run" --device "$device" ;;
        esac
        await
        [ "$ended" -ne 0 ] || continue
        [ "$ended" -le 128 ] || requeue
        say "$command ended with exit code $ended; the training is done all the same"
        [ $command = select ] || return 0 # without a STAR file, whose source may be elsewhere, there may still be a page
    done
    say "maps and figures are in $run/report/report.html"
}
