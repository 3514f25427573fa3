# A start and a refinement that are stopped or killed go on with their finished pieces, and end in the same bits: killed after the first
# random starts; stopped in the midst of the search of all poses, while poses are made finer, in the midst of the decoder's first steps, of the search in mid-training, of that before refinement, of its
# rounds; stopped again and again because the time is up.
. "$(dirname "$0")/support.sh"

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db -20 --shift 0.1 -n 1100 -D 16 --seed 5 -o stack.h5
# Noise, in which no two of the starts agree: all are made. 1100 images are three chunks of the search, and three pieces of later ones.
settings=("${TINY[@]}" --set init.method=search --set init.radius=4 --set init.fine_rounds=2 --set init.search_images=150 --set init.search_rounds=2
          --set init.images=300 --set init.rounds=2 --set init.starts=4 --set init.epochs=2 --set train.epochs=0.1 --set init.join_epoch=0.05
          --set train.freeze_epochs=0 --set refine.rounds=2 --set refine.epochs=0.2)
launch=()
pid=
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null; rm -rf "$WORK"' EXIT

# whole FOLDER ARGUMENTS: without an interruption.
whole()
{
    local folder=$1 code=0
    shift
    timeout -k 5 300 "${launch[@]}" "$HETACUMN" train stack.h5 -o "$folder" "${settings[@]}" "$@" >out 2>err || code=$?
    [ $code -eq 0 ] || fail "exit code $code of $folder"
}

# leaves FOLDER PIECE: it is there, and if it is a search of poses, some but not all of them are.
leaves()
{
    local found file=$1/stages/$2.h5
    [ -e "$file" ] || file=$1/refined/stages/$2.h5
    [ -e "$file" ] || return
    [ "$2" != poses ] && [ "$2" != search ] && return
    found=$(h5dump -A 0 -d found -w 1 "$file" | awk '/^ *\([0-9]+\):/ { n += $2 } END { print n + 0 }')
    [ "$found" -gt 0 ] && [ "$found" -lt 1100 ]
}

# interrupt FOLDER SIGNAL WHEN PIECE ARGUMENTS: the program, which gets the signal when the file WHEN is there, or is in what it says, and
# must leave the piece. Where the signal came too late or too early for that, again, and a little later.
interrupt()
{
    local folder=$1 signal=$2 when=$3 piece=$4 try code
    shift 4
    rm -rf before
    [ ! -e "$folder" ] || cp -r "$folder" before
    for ((try = 0; try < 30; try++)); do
        code=0
        : >err # words of the run before are not this one's
        "${launch[@]}" "$HETACUMN" train stack.h5 -o "$folder" "${settings[@]}" "$@" >out 2>err &
        pid=$!
        while kill -0 $pid 2>/dev/null && ! [ -e "$folder/$when" ] && ! grep -qs "$when" err; do sleep 0.005; done
        sleep "$(awk -v n=$try 'BEGIN { print n < 20 ? 0.02 * n : 0.4 * 1.4 ^ (n - 20) }')"
        kill -s "$signal" $pid 2>/dev/null
        wait $pid 2>/dev/null || code=$?
        pid=
        if [ "$signal" = KILL ] && [ $code -gt 128 ] && leaves "$folder" "$piece"; then return; fi
        # ranks of a killed run may still be there, and hold the folder
        if [ $code -eq 75 ] && ! grep -q 'while it waited' err && leaves "$folder" "$piece"; then return; fi
        # 138: USR1 before the program notes signals
        [ $code -eq 0 ] || [ $code -eq 75 ] || [ $code -eq 138 ] || [ "$signal" = KILL ] || fail "exit code $code after SIG$signal in $folder"
        rm -rf "$folder"
        [ ! -e before ] || cp -r before "$folder"
    done
    fail "no $piece after SIG$signal, $try times"
}

# goes_on PIECE|PIECE..: what was said last has the words for one of them: before a stop is seen another piece may be done.
goes_on()
{
    grep -Eq "going on from [a-z0-9/]*stages/($1)\\.h5" err || fail "it does not go on from $1"
}

# all_of RANKS
all_of()
{
    local a=whole$1 b=stopped$1
    whole $a
    last=checkpoints/$(ls -v $a/checkpoints | tail -n 1)
    [ ! -e $a/stages ] || fail "pieces stay: $(ls $a/stages)"
    interrupt $b KILL stages/random-1.h5 random-1
    interrupt $b USR1 stages/random-3.h5 random-3
    goes_on "random-1|random-3|volume"
    interrupt $b USR1 stages/volume.h5 poses
    goes_on "random-3|volume"
    interrupt $b USR1 'finer poses, round 1' fine
    goes_on poses
    interrupt $b USR1 'start: the decoder before' decoder
    goes_on fine
    grep -q 'finished pieces of the start are kept' err || fail "the stop is not explained"
    h5diff -q $a/start.h5 $b/start.h5 || fail "the start differs"
    # in the midst of the search in mid-training; two ranks have half of the images each: one piece
    if [ "$1" -eq 1 ]; then
        interrupt $b USR1 'start: the decoder after' search
        whole $b
        goes_on search
    else
        whole $b
        goes_on decoder
    fi
    [ ! -e $b/stages ] || fail "pieces stay: $(ls $b/stages)"
    for file in kept.h5 $last; do h5diff -q $a/$file $b/$file || fail "$file differs on $1 rank(s)"; done
    whole $a --refine
    if [ "$1" -eq 1 ]; then
        interrupt $b USR1 'searching the poses' search --refine
        "$HETACUMN" status $b >out
        grep -Eq 'refinement +not done, round 1 of 2: lost poses: poses and conformations, [0-9]+ % of 1100 images are left' out ||
            fail "status does not say how far the search is"
        interrupt $b USR1 'refine: lost poses' round --refine
        goes_on search
    fi
    interrupt $b USR1 'refine: poses, round 2' round --refine
    grep -q 'its finished pieces are kept' err || fail "the stop is not explained"
    whole $b --refine
    goes_on "round|search"
    [ ! -e $b/refined/stages ] || fail "pieces stay: $(ls $b/refined/stages)"
    for file in predictions.h5 $last; do
        h5diff -q $a/refined/$file $b/refined/$file || fail "refined/$file differs on $1 rank(s)"
    done
}

# timed: --max-hours stops as a signal does. However little time there is, every start of the program does one piece: a round, what follows
# the last round, a chunk of the search. Two random starts have two rounds, the other two four, the volume has two.
timed()
{
    local hours=1e-9 i code
    for ((i = 0; i < 50; i++)); do
        leaves timed poses && break
        ends_with 75 train stack.h5 -o timed "${settings[@]}" --max-hours $hours
    done
    [ $i -eq $((2 * 3 + 2 * 5 + 3 + 1)) ] || fail "$i pieces"
    for piece in random-1-rounds random-4-rounds volume-rounds; do leaves timed $piece || fail "no $piece"; done
    whole timed
    goes_on poses
    for ((i = 0; i < 60; i++)); do
        code=0
        timeout -k 5 300 "$HETACUMN" train stack.h5 -o timed "${settings[@]}" --refine --max-hours $hours >out 2>err || code=$?
        [ $code -ne 0 ] || break
        [ $code -eq 75 ] || fail "exit code $code where the time was up"
        grep -q 'its finished pieces are kept' err || fail "the stop is not explained"
        hours=$(awk -v n=$i 'BEGIN { print 0.0002 * 1.7 ^ n }')
    done
    [ $code -eq 0 ] && [ $i -gt 0 ] || fail "refined after $i starts: exit code $code"
    for file in start.h5 $last refined/predictions.h5 refined/$last; do
        h5diff -q whole1/$file timed/$file || fail "$file differs where the time was up"
    done
}

all_of 1
timed
launch=(mpirun --oversubscribe --bind-to none -np 2)
all_of 2

# pieces of other settings are not used, nor is a damaged one
launch=()
interrupt other KILL stages/random-1.h5 random-1
whole other --set train.seed=9
! grep -q 'going on from' err || fail "a piece of another seed is used"
interrupt cut KILL stages/random-1.h5 random-1
head -c 3000 cut/stages/random-1.h5 >random && mv random cut/stages/random-1.h5
whole cut
grep -q 'warning: .*random-1.h5.*done again' err || fail "nothing is said of a damaged piece"
h5diff -q whole1/start.h5 cut/start.h5 || fail "a damaged piece changed the start"
echo passed
