# A job that is stopped, queued again and goes on, under a Slurm of the test's own: the result is that of a run that was never
# stopped, bit for bit.
. "$(dirname "$0")/support.sh"
. "$TESTS/cluster.sh"
SLURM=$(cd "$TESTS/../slurm" && pwd)
cluster_up 5 2

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 256 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 3 -o stack.h5
# 5 epochs of 32 steps, two pose steps each.
settings=("${TINY[@]}" --set train.shards=2 --set train.epochs=5 --set train.freeze_epochs=1 --set run.log_steps=8
          --set run.checkpoint_steps=16 --set run.watchdog=300)
last=checkpoints/step-480.h5
job=("$SLURM/cpu.sbatch" stack.h5 "${settings[@]}")

# The program. Where the file $PAUSE says RUN LINES, rank 0 pauses when the run's log has so many lines, says so in $PAUSE.at, and
# goes on when the file is gone or a signal comes: then no run is over before the signal, however fast the machine.
cat >pausing <<EOF
#!/bin/bash
[ "\$PMIX_RANK" = 0 ] && [ -s "\$PAUSE" ] || exec $HETACUMN "\$@"
read -r run lines <"\$PAUSE"
$HETACUMN "\$@" &
trap 'kill -s USR1 \$!; kill -s CONT \$!; rm -f "\$PAUSE"' USR1 TERM
while [ -s "\$PAUSE" ] && kill -0 \$! && ! [ "\$(cat "\$run/log.jsonl" 2>/dev/null | wc -l)" -ge "\$lines" ]; do sleep 0.02; done
kill -s STOP \$!
touch "\$PAUSE.at"
while [ -s "\$PAUSE" ]; do sleep 0.05; done
kill -s CONT \$!
while kill -0 \$!; do # a signal ends wait early
    wait \$!
    code=\$?
done
exit \$code
EOF
chmod +x pausing
real=$HETACUMN
export HETACUMN=$WORK/pausing

# pause FILE RUN LINES: from now on. paused FILE: wait until it does.
pause()
{
    rm -f "$1.at"
    echo "$2 $3" >"$1"
}

paused()
{
    wait_for 180 "the pause of $1" test -e "$1.at"
}

same_as_whole()
{
    [ -s "$1/$last" ] || fail "$1 did not come to its end: $(ls "$1/checkpoints"); $(tail -n 10 ./*.log)"
    h5diff -q whole/$last "$1/$last" || fail "the last checkpoint of $1 is not that of the whole run"
    jq -cS 'del(.images_per_second, .seconds)' "$1/log.jsonl" >log.txt
    diff whole.txt log.txt >differences || fail "log.jsonl of $1 differs: $(head -n 4 differences)"
}

HETACUMN=$real ranks 2 train stack.h5 -o whole "${settings[@]}"
[ $CODE -eq 0 ] || fail "exit code $CODE"
jq -cS 'del(.images_per_second, .seconds)' whole/log.jsonl >whole.txt

# A program that always stops early and never gets further is not queued for ever. It waits in the queue beside what follows.
# Its ranks do not end at once, which must not get the later one killed.
printf '#!/bin/sh\n[ "$PMIX_RANK" = 0 ] || sleep 1\nexit 75\n' >idler
chmod +x idler
HETACUMN=$WORK/idler HETACUMN_IDLE=2 submit -w n1 --ntasks-per-node=2 --cpus-per-task=1 "$SLURM/cpu.sbatch" stack.h5 -o nowhere/idle
idler=$JOB

# A node dies. srun ends the job's other rank after half a minute.
pause node-at node 5
PAUSE=node-at submit --exclude=n0,n1 --nodes=2 --cpus-per-task=1 "${job[@]}" -o node
node=$JOB
paused node-at
kill_node n3
rm node-at

# Two rounds of signal, checkpoint, queue, going on. The signal is the one that Slurm sends before the time is up.
SECONDS=0
pause twice-at twice 3
PAUSE=twice-at submit -w n0 --ntasks-per-node=2 --cpus-per-task=1 --time=60 "${job[@]}" -o twice
paused twice-at
scancel -b -s USR1 "$JOB"
wait_for 180 "the end of the pause" test ! -e twice-at
pause twice-at twice 10
paused twice-at
scancel -b -s USR1 "$JOB"
done_well "$JOB" 180
echo "two rounds of signal and going on: $SECONDS s"
same_as_whole twice
grep -q 'training for up to 0.9[45]' "hetacumn-$JOB.log" || fail "the time that Slurm leaves is not used"
[ "$(grep -c "job $JOB start [123] on n. 2 ranks of 1 threads" <(tr -d , <twice/starts.txt))" -eq 3 ] ||
    fail "starts.txt: $(cat twice/starts.txt)"

# Preempted by another partition, mpirun over two nodes: Slurm sends USR1, and later TERM.
pause preempted-at preempted 3
PAUSE=preempted-at HETACUMN_LAUNCH=mpirun submit -w n0,n1 --nodes=2 --cpus-per-task=2 "${job[@]}" -o preempted
paused preempted-at
sbatch -Q --partition=urgent -w n0,n1 --exclusive --output=urgent.log --wrap 'echo done'
wait_for 180 "start 2" started "$JOB" 2
done_well "$JOB" 180
same_as_whole preempted
[ "$(cat urgent.log)" = done ] || fail "the urgent job: $(cat urgent.log)"

# Time running out, as newer Slurm tells it; and no more starts than wanted.
SLURM_JOB_END_TIME=$(date +%s) HETACUMN_STARTS=2 submit -w n0 --ntasks-per-node=2 --cpus-per-task=1 "${job[@]}" -o timed
wait_for 180 "the end of job $JOB" over "$JOB"
grep -q "start 2 of 2 (HETACUMN_STARTS): not queued again" "hetacumn-$JOB.log" || fail "the second start was not the last"

# Cancelled by its user: a checkpoint, and not queued again. Then the same command in another job.
pause timed-at timed 2
PAUSE=timed-at submit -w n0 --ntasks-per-node=2 --cpus-per-task=1 "${job[@]}" -o timed
paused timed-at
scancel "$JOB"
wait_for 180 "the end of job $JOB" over "$JOB"
state_is "$JOB" CANCELLED || fail "$(squeue -t all -j "$JOB")"
grep -q 'cancelled: not queued again; the same command goes on' "hetacumn-$JOB.log" || fail "nothing said about the cancelled job"
submit -w n0 --ntasks-per-node=2 --cpus-per-task=1 "${job[@]}" -o timed
done_well "$JOB" 180
same_as_whole timed

# The job that lost a node is queued, and goes on with the nodes that are left when Slurm has given the node up (after
# SlurmdTimeout; here it is told).
wait_for 180 "the job that lost a node" grep -qs 'queued again' "hetacumn-$node.log"
wait_for 180 "its time in the queue" may_start "$node"
scontrol update nodename=n3 state=down reason=dead
done_well "$node" 180
same_as_whole node
tail -n 1 node/starts.txt | grep -q 'n\[2,4\]' || fail "starts.txt: $(cat node/starts.txt)"

[ "$(grep -c 'train ended with exit code 75' "hetacumn-$idler.log")" -eq 2 ] || fail "$(cat "hetacumn-$idler.log")"
over "$idler" || fail "$(squeue)"
grep -q 'got no further in 2 starts (HETACUMN_IDLE): not queued again' "hetacumn-$idler.log" || fail "$(cat "hetacumn-$idler.log")"
echo passed
