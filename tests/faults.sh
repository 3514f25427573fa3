# Sourced by tests/cli_faults*.sh after support.sh: a training on two ranks that something happens to, and what has to hold
# afterwards. `whole` is the run that nothing happened to.
make_atoms atoms.pdb
run simulate --atoms atoms.pdb --rotate chain:B --about com --angles 0,60 -n 256 -D 16 --apix 6 --snr-db 3 --shift 0.5 \
    --seed 4 -o stack.h5
settings=("${TINY[@]}" --set train.epochs=4 --set run.log_steps=20 --set run.checkpoint_steps=20 --set run.watchdog=4)
last=checkpoints/step-384.h5
ranks 2 train stack.h5 -o whole "${settings[@]}"
[ $CODE -eq 0 ] || fail "exit code $CODE"

# What begins two ranks: a command.
launch=(mpirun --oversubscribe --bind-to none -np 2)

# begin RUN: train on two ranks; returns when there is a checkpoint. mpirun is MPIRUN, the ranks are RANK[0] and RANK[1].
begin()
{
    local i pid
    rm -rf "$1"
    RANK=()
    "${launch[@]}" "$HETACUMN" train stack.h5 -o "$1" "${settings[@]}" >out 2>err &
    MPIRUN=$!
    for ((i = 0; i < 1200; i++)); do
        compgen -G "$1/checkpoints/step-*.h5" >/dev/null && break
        sleep 0.05
    done
    for pid in $(pgrep -f "train stack.h5 -o $1 "); do
        [ "$(readlink /proc/$pid/cwd)" = "$WORK" ] || continue
        for ((i = 0; i < 2; i++)); do grep -qzx "OMPI_COMM_WORLD_RANK=$i" /proc/$pid/environ && RANK[i]=$pid; done
    done 2>/dev/null
    [ ${#RANK[@]} -eq 2 ]
}

# A process that is there, and no zombie that nobody has asked for yet.
lives()
{
    [ -e /proc/$1/stat ] && ! grep -q ') Z ' /proc/$1/stat 2>/dev/null
}

# gone PROCESS..: within 30 seconds.
gone()
{
    local i pid
    for ((i = 0; i < 600; i++)); do
        for pid in "$@"; do lives $pid && break; done
        lives $pid || return 0
        sleep 0.05
    done
    kill -s KILL $MPIRUN "${RANK[@]}"
    fail "process $pid of ($MPIRUN: ${RANK[*]}) was still there after 30 seconds"
}

# ended: mpirun and both ranks are gone in time; the exit code is in CODE.
ended()
{
    CODE=0
    gone $MPIRUN "${RANK[@]}"
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
