# Ranks that are killed or stopped, and a stack that is cut while it is read: everything ends in time with one clear message,
# nothing is left behind, and the same command goes on to the result of a run that nothing happened to.
. "$(dirname "$0")/support.sh"
. "$TESTS/faults.sh"

signal_rank()
{
    kill -s "$1" ${RANK[$2]}
}

# Killed: mpirun notices and ends the rest within two seconds; its code is the signal's, the words are ours.
for rank in 0 1; do
    strike killed signal_rank KILL $rank
    ended
    [ $CODE -eq 137 ] || fail "exit code $CODE after SIGKILL to rank $rank"
    says_once "rank $rank of 2 .* is lost: its process has ended; last heard in step [0-9]+, .*; rank $((1 - rank)) is in step"
done
goes_on killed

# Stopped: nobody but we notice.
for rank in 0 1; do
    strike stopped signal_rank STOP $rank
    ended
    [ $CODE -eq 74 ] || fail "exit code $CODE after SIGSTOP to rank $rank"
    says_once "rank $rank of 2 .* is lost: no sign of life for 4\.[0-9] s, .*; last heard in step [0-9]+, .*; rank $((1 - rank)) is in step"
done
goes_on stopped

# The stack becomes shorter: an error of the input, which trying again does not mend.
cp stack.h5 good.h5
strike cut truncate -s 20000 stack.h5
ended
cp good.h5 stack.h5
[ $CODE -eq 1 ] || fail "exit code $CODE after the stack was cut"
says_once 'stack.h5: the file (was changed|has become shorter)'
goes_on cut
echo passed
