# A file system that is slow: neither a read nor a checkpoint that takes longer than run.watchdog makes a rank a lost one, and the training
# is the same to the bit.
. "$(dirname "$0")/support.sh"
. "$TESTS/faults.sh"
slow=$(dirname "$HETACUMN")/tests/libslow_files.so
[ -e "$slow" ] || fail "no $slow"

# slowly NAME SETTING..: the training, with files as the settings say, and how long it took in SECONDS
slowly()
{
    local name=$1
    shift
    SECONDS=0
    CODE=0
    timeout -k 5 300 mpirun --oversubscribe --bind-to none -np 2 env LD_PRELOAD="$slow" "$@" "$HETACUMN" train stack.h5 -o "$name" "${settings[@]}" \
        >out 2>err || CODE=$?
    [ $CODE -eq 0 ] || fail "exit code $CODE: $name"
    ! grep -Eq 'error: |lost|last heard' err || fail "a slow file system is taken for a lost rank: $name"
    h5diff -q whole/$last "$name/$last" || fail "$name differs from the run with fast files"
}

# The twentieth read of images, on both ranks, takes twice the limit of the watch (4 s).
slowly read HET_SLOW_READ=20 HET_SLOW_SECONDS=8
[ $SECONDS -ge 8 ] || fail "no read was slow: $SECONDS s"
# The first checkpoint, written in the background.
slowly sync HET_SLOW_SECONDS=6
[ $SECONDS -ge 6 ] || fail "no checkpoint was slow: $SECONDS s"
ls sync/checkpoints/*.tmp 2>/dev/null && fail "a checkpoint was left half written"
echo passed
