# Ranks that are killed or stopped, and a stack that is cut while it is read: everything ends in time with one clear message,
# nothing is left behind, and the same command goes on to the result of a run that nothing happened to.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 256 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 4 -o stack.h5
settings=("${TINY[@]}" --set train.epochs=4 --set run.log_steps=20 --set run.checkpoint_steps=20 --set run.watchdog=4)
last=checkpoints/step-384.h5
ranks 2 train stack.h5 -o whole "${settings[@]}"
[ $CODE -eq 0 ] || fail "exit code $CODE"

# begin RUN: train on two ranks; returns when there is a checkpoint. mpirun is MPIRUN, the ranks are RANK[0] and RANK[1].
begin()
{
    local i pid
    rm -rf "$1"
    RANK=()
    mpirun --oversubscribe --bind-to none -np 2 "$HETACUMN" train stack.h5 -o "$1" "${settings[@]}" >out 2>err &
    MPIRUN=$!
    for ((i = 0; i < 1200; i++)); do
        compgen -G "$1/checkpoints/step-*.h5" >/dev/null && break
        sleep 0.05
    done
    for pid in $(pgrep -P $MPIRUN); do
        for ((i = 0; i < 2; i++)); do grep -qzx "OMPI_COMM_WORLD_RANK=$i" /proc/$pid/environ && RANK[i]=$pid; done
    done 2>/dev/null
    [ ${#RANK[@]} -eq 2 ]
}

# A process that is there, and no zombie that nobody has asked for yet.
lives()
{
    [ -e /proc/$1/stat ] && ! grep -q ') Z ' /proc/$1/stat 2>/dev/null
}

# ended SECONDS: mpirun and both ranks are gone within this time; the exit code is in CODE.
ended()
{
    local i pid
    CODE=0
    for ((i = 0; i < $1 * 20; i++)); do
        lives $MPIRUN || lives ${RANK[0]} || lives ${RANK[1]} || break
        sleep 0.05
    done
    for pid in $MPIRUN "${RANK[@]}"; do
        lives $pid || continue
        kill -s KILL $MPIRUN "${RANK[@]}"
        fail "process $pid of ($MPIRUN: ${RANK[*]}) was still there after $1 seconds"
    done
    wait $MPIRUN || CODE=$?
}

# goes_on RUN: the same command comes to the result of the whole run.
goes_on()
{
    ranks 2 train stack.h5 -o "$1" "${settings[@]}"
    [ $CODE -eq 0 ] || fail "$1 did not go on: exit code $CODE"
    grep -q 'going on from' err || fail "$1 began anew"
    grep -q 'damaged' err && fail "a checkpoint of $1 was damaged"
    h5diff -q whole/$last "$1/$last" || fail "$1 came to another result"
}

# strike RUN COMMAND..: run until there is a checkpoint, then the command; again, where the run was over before.
strike()
{
    local folder=$1 try
    shift
    for ((try = 0; try < 5; try++)); do
        begin "$folder" && "$@" 2>/dev/null && [ ! -e "$folder/$last" ] && return
        wait $MPIRUN
    done
    fail "the run was over before: $*"
}

signal_rank()
{
    kill -s "$1" ${RANK[$2]}
}

# Killed: mpirun notices and ends the rest within two seconds; its code is the signal's, the words are ours.
for rank in 0 1; do
    strike killed signal_rank KILL $rank
    ended 30
    [ $CODE -eq 137 ] || fail "exit code $CODE after SIGKILL to rank $rank"
    says_once "rank $rank of 2 .* is lost: its process has ended; last heard in step [0-9]+, .*; rank $((1 - rank)) is in step"
done
goes_on killed

# Stopped: nobody but we notice.
for rank in 0 1; do
    strike stopped signal_rank STOP $rank
    ended 30
    [ $CODE -eq 74 ] || fail "exit code $CODE after SIGSTOP to rank $rank"
    says_once "rank $rank of 2 .* is lost: no sign of life for 4\.[0-9] s, .*; last heard in step [0-9]+, .*; rank $((1 - rank)) is in step"
done
goes_on stopped

# The stack becomes shorter: an error of the input, which trying again does not mend.
cp stack.h5 good.h5
strike cut truncate -s 20000 stack.h5
ended 30
cp good.h5 stack.h5
[ $CODE -eq 1 ] || fail "exit code $CODE after the stack was cut"
says_once 'stack.h5: the file was changed'
goes_on cut
echo passed
