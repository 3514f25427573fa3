# Sourced by tests/slurm_*.sh, after support.sh: a Slurm of the test's own on this machine - munged, slurmctld and as many
# slurmds as it has nodes, on ports of its own - and what tests ask of it. Without what Slurm needs the test is skipped
# (exit code 77).
#
# Unix sockets have short paths, so Slurm's files are in a folder of /tmp; it goes, and all daemons with it, when the test ends.

skip()
{
    echo "SKIP: $*"
    exit 77
}

for need in slurmctld slurmd munged sbatch squeue scontrol; do
    command -v $need >/dev/null || skip "no $need here (Debian: slurm-wlm, munge)"
done
[ "$(id -u)" -eq 0 ] || skip "slurmd and its node need root"
CLUSTER=$(mktemp -d /tmp/slurm.XXXXXX)
trap 'cluster_down; rm -rf "$WORK" "$CLUSTER"' EXIT
trap 'exit 1' INT TERM HUP
export SLURM_CONF=$CLUSTER/slurm.conf
export HETACUMN_RESULTS=no # but where a test is about them

# wait_for SECONDS WHAT COMMAND..: until the command succeeds.
wait_for()
{
    local seconds=$1 what=$2 until
    shift 2
    until=$((SECONDS + seconds))
    while ! "$@"; do
        [ $SECONDS -lt $until ] || fail "waited $seconds s for $what; $(squeue 2>&1); $(tail -n 10 ./*.log 2>/dev/null)"
        sleep 0.1
    done
}

# A port on which nobody listens, and COUNT - 1 after it.
free_ports()
{
    local count=$1 first port
    while :; do
        first=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
        for ((port = first; port < first + count; port++)); do
            (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        done
        echo $first
        return
    done
}

# cluster_up NODES CPUS [LINES]: NODES nodes n0, n1, .. of CPUS cores and four pretended GPUs each; LINES are added to
# slurm.conf. A partition `all` is the default, and `urgent` takes its nodes from it.
cluster_up()
{
    local nodes=$1 cpus=$2 host port i
    host=$(hostname -s)
    port=$(free_ports $((nodes + 1)))
    mkdir "$CLUSTER/state"
    (umask 077 && head -c 1024 /dev/urandom >"$CLUSTER/munge.key")
    # Names of memory that MPI's ranks share come from the job's number: another Slurm on this machine must not have the same.
    # Requeued jobs wait until their credentials have expired. Any device can pretend to be a GPU: nobody opens it.
    cat >"$SLURM_CONF" <<EOF
ClusterName=test
FirstJobId=$(((RANDOM * 32768 + RANDOM) % 60000000 + 1))
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$CLUSTER/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool.%n
TmpFS=$CLUSTER/tmp.%n
SlurmctldPidFile=$CLUSTER/slurmctld.pid
SlurmdPidFile=$CLUSTER/slurmd.%n.pid
SlurmctldLogFile=$CLUSTER/slurmctld.log
SlurmdLogFile=$CLUSTER/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=20
ReturnToService=2
SlurmdTimeout=300
MessageTimeout=30
SwitchType=switch/none
SlurmdParameters=config_overrides
GresTypes=gpu
$(for ((i = 0; i < nodes; i++)); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1 + i))" \
            "CPUs=$cpus CoresPerSocket=$cpus RealMemory=100 Gres=gpu:4"
    done)
PartitionName=all Nodes=ALL Default=YES MaxTime=UNLIMITED PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=UNLIMITED PriorityTier=2
${3:-}
EOF
    echo 'CgroupPlugin=cgroup/v1' >"$CLUSTER/cgroup.conf" # asked for no controller it needs none, whatever this machine has
    for i in null zero full random; do echo "Name=gpu File=/dev/$i"; done >"$CLUSTER/gres.conf"
    munged --force --key-file="$CLUSTER/munge.key" --socket="$CLUSTER/munge.sock" --pid-file="$CLUSTER/munged.pid" \
        --log-file="$CLUSTER/munged.log" --seed-file="$CLUSTER/munge.seed" || fail "munged"
    slurmctld -c || fail "slurmctld: $(tail "$CLUSTER/slurmctld.log")"
    for ((i = 0; i < nodes; i++)); do
        mkdir "$CLUSTER/spool.n$i" "$CLUSTER/tmp.n$i"
        slurmd -N n$i || fail "slurmd: $(tail "$CLUSTER/slurmd.n$i.log")"
    done
    wait_for 180 "$nodes nodes" nodes_are $nodes idle
}

# nodes_are COUNT STATE
nodes_are()
{
    [ "$(sinfo -h -p all -t "$2" -o %D)" = "$1" ]
}

# Everything that the test started under Slurm has SLURM_CONF in its environment, and so has the test itself.
cluster_processes()
{
    grep -lzsx "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ | cut -d / -f 3 | grep -vx -e $$ -e $BASHPID
}

# The daemons, and what they started; a slurmd that a test killed left its jobs behind.
cluster_down()
{
    local try
    for ((try = 0; try < 100; try++)); do
        kill -KILL $(cluster_processes) 2>/dev/null || return 0
        sleep 0.1
    done
}

# may_start JOB: nothing but the nodes keeps it from that. Requeued jobs wait for some seconds.
may_start()
{
    [ "$(date +%s)" -gt "$(date -d "$(scontrol show job "$1" | sed -n 's/.*EligibleTime=\([^ ]*\).*/\1/p')" +%s)" ]
}

# kill_node NAME: its daemon and all that runs on it.
kill_node()
{
    kill -KILL "$(cat "$CLUSTER/slurmd.$1.pid")" $(grep -lzsx "SLURMD_NODENAME=$1" $(printf '/proc/%s/environ ' $(cluster_processes)) |
        cut -d / -f 3)
}

# submit ARGUMENTS: sbatch; the job's number is in JOB.
submit()
{
    sbatch --parsable "$@" >out 2>err || fail "sbatch $*"
    JOB=$(cat out)
}

# state_is JOB STATE, such as PENDING, RUNNING, COMPLETED, FAILED
state_is()
{
    [ "$(squeue -h -j "$1" -t all -o %T)" = "$2" ]
}

# started JOB TIMES: the job has started for the TIMES-th time.
started()
{
    scontrol show job "$1" >job.txt
    ! grep -q 'JobState=PENDING' job.txt && grep -q "Restarts=$(($2 - 1)) " job.txt
}

# over JOB: every task of the job has ended.
over()
{
    ! squeue -h -j "$1" -t all -o %T | grep -Evq 'COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL'
}

# done_well JOB SECONDS: the job ends by then, and well.
done_well()
{
    wait_for "$2" "the end of job $1" over "$1"
    ! squeue -h -j "$1" -t all -o %T | grep -vq COMPLETED || fail "$(squeue -j "$1" -t all); $(tail -n 10 ./*.log)"
}
