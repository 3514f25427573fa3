# Every job script of slurm/ to its end on a Slurm of the test's own, by sbatch and by slurm/submit; what submit refuses.
. "$(dirname "$0")/support.sh"
. "$TESTS/cluster.sh"
SLURM=$(cd "$TESTS/../slurm" && pwd)
cluster_up 2 4

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 96 -D 16 --seed 5 -o stack.h5
short=(stack.h5 "${TINY[@]}" --set train.epochs=1 --set run.log_steps=4)
long=(stack.h5 "${TINY[@]}" --set train.epochs=20 --set run.log_steps=8)

real=$HETACUMN
# The program, which notes what each rank is given.
cat >recorder <<EOF
#!/bin/sh
echo "rank \${PMIX_RANK:-none} \$SLURMD_NODENAME GPUs \$CUDA_VISIBLE_DEVICES threads \$OMP_NUM_THREADS" >>"$WORK/ranks-\$SLURM_JOB_ID"
exec $real "\$@"
EOF
chmod +x recorder
export HETACUMN=$WORK/recorder

# finished RUN STEP: the run is at its end.
finished()
{
    [ -s "$1/checkpoints/step-$2.h5" ] || fail "$1 did not come to its end: $(ls "$1/checkpoints"); $(tail -n 10 ./*.log)"
}

cp -r "$SLURM" "my scripts"
submit --cpus-per-task=1 "my scripts/gpu.sbatch" "${short[@]}" -o gpu
gpu=$JOB
"$SLURM/submit" --gpus 2 --threads 1 --job-name two node "${short[@]}" -o node >out 2>err || fail "submit node"
node=$(squeue -h -t all --name=two -o %i)
"$SLURM/submit" -N 2 -g 1 -c 1 -l mpirun -J many nodes "${short[@]}" -o nodes >out 2>err || fail "submit nodes"
nodes=$(squeue -h -t all --name=many -o %i)
done_well "$gpu" 180
done_well "$node" 180
done_well "$nodes" 180
for folder in gpu node nodes; do finished $folder 36; done
# saw JOB LINE..: what the ranks of the job were given
saw()
{
    local file=ranks-$1
    shift
    diff <(printf '%s\n' "$@") <(sort "$file") >out || fail "$file: $(cat "$file")"
}
saw "$gpu" 'rank 0 n0 GPUs 0 threads 1'
saw "$node" 'rank 0 n0 GPUs 1,2 threads 1' 'rank 1 n0 GPUs 1,2 threads 1'
saw "$nodes" 'rank 0 n0 GPUs 3 threads 1' 'rank 1 n1 GPUs 0 threads 1'
! grep -q 'one rank for each GPU' ./*.log || fail "the GPUs are used: $(grep 'GPU' ./*.log)"

# Several seeds. One task is stopped: it is queued again, and no other.
HETACUMN_RESULTS=yes "$SLURM/submit" -c 1 --array 1-2 seeds "${long[@]}" -o seeds >out 2>err || fail "submit seeds"
array=$(cut -d ' ' -f 4 out)
wait_for 180 "a report of seed 2" test -s seeds/seed-2/log.jsonl
scancel -b -s USR1 "${array}_2"
done_well "$array" 180
grep -q 'queued again to go on' "hetacumn-${array}_2.log" || fail "task 2 was not queued again: $(cat "hetacumn-${array}_2.log")"
[ "$(cat seeds/*/starts.txt | wc -l)" -eq 3 ] || fail "more starts than one task's: $(cat seeds/*/starts.txt)"
for seed in 1 2; do
    finished seeds/seed-$seed 720
    # what a user finds in the morning
    [ -s seeds/seed-$seed/report/report.html ] && [ "$(grep -c @ seeds/seed-$seed/poses.star)" -eq 96 ] ||
        fail "no poses or report of seed $seed: $(cat "hetacumn-${array}_$seed.log")"
    grep -q "seed: $seed\$" seeds/seed-$seed/config.yaml || fail "seed $seed: $(cat seeds/seed-$seed/config.yaml)"
done
! cmp -s seeds/seed-1/checkpoints/step-720.h5 seeds/seed-2/checkpoints/step-720.h5 || fail "both seeds give the same"

# The scaling study, by an installed program that finds itself. Three ranks do not fit: that is said, and the table has the others.
cmake --install "$(dirname "$real")" --prefix "$WORK/prefix" >out 2>err || fail "cmake --install"
unset HETACUMN
prefix/share/hetacumn/slurm/submit -N 2 -r 1 -c 1 -a 1-3 scaling "${short[@]}" -o scaling >out 2>err || fail "submit scaling"
array=$(cut -d ' ' -f 4 out)
wait_for 180 "the end of job $array" over "$array"
grep -q '3 ranks do not fit into a job of 2' "hetacumn-${array}_3.log" || fail "$(cat "hetacumn-${array}_3.log")"
[ "$(wc -l <scaling/scaling.txt)" -eq 3 ] || fail "the table: $(cat scaling/scaling.txt); $(tail -n 10 ./*.log)"
head -n 2 scaling/scaling.txt | tr -s ' \n' ' ' | grep -Eq '^ranks images/s speed-up efficiency 1 [0-9.]+ 1.00 100% ' ||
    fail "the table: $(cat scaling/scaling.txt)"
awk 'NR == 2 { one = $2 } NR == 3 { gain = $2 / one; exit !($1 == 2 && $3 - gain < 0.01 && gain - $3 < 0.01) }' scaling/scaling.txt ||
    fail "the table: $(cat scaling/scaling.txt)"
cat hetacumn-"$array"_[12].log | grep -q '^ranks  images/s' || fail "no table in the logs"

# submit: the script it would hand over, with and without options
"$SLURM/submit" --dry-run cpu stack.h5 -o run >script 2>err || fail "--dry-run"
diff <(grep '^#SBATCH' script) <(grep '^#SBATCH' "$SLURM/cpu.sbatch") >out || fail "--dry-run without options changes options"
[ "$(tail -n 1 script)" = "$(tail -n 1 "$SLURM/cpu.sbatch")" ] || fail "--dry-run: $(cat script)"
"$SLURM/submit" -n -A lab -p gpu -q high -J mine -t 1-12 -N 3 -g a100:8 -c 4 --launch mpirun -s --constraint=ib nodes stack.h5 \
    -o 'a run' --set train.epochs=3 >script 2>err || fail "--dry-run with options"
for line in '#SBATCH --account=lab' '#SBATCH --partition=gpu' '#SBATCH --qos=high' '#SBATCH --job-name=mine' '#SBATCH --time=1-12' \
    '#SBATCH --nodes=3' '#SBATCH --gres=gpu:a100:8' '#SBATCH --ntasks-per-node=8' '#SBATCH --cpus-per-task=4' \
    '#SBATCH --constraint=ib' '#SBATCH --signal=B:USR1@120' 'export HETACUMN_LAUNCH=mpirun' \
    "set -- 'stack.h5' '-o' 'a run' '--set' 'train.epochs=3'"; do
    [ "$(grep -cxF -- "$line" script)" -eq 1 ] || fail "not one line '$line' in: $(cat script)"
done
[ "$(grep -c '^#SBATCH --nodes' script)" -eq 1 ] || fail "two lines for the nodes: $(cat script)"
bash -n script || fail "the script is none"
"$SLURM/submit" --help >out 2>err && grep -q -- '--dry-run' out || fail "--help"

# refuses PATTERN ARGUMENTS: one line, and exit code 2
refuses()
{
    local pattern=$1 code=0
    shift
    "$SLURM/submit" "$@" >out 2>err || code=$?
    [ $code -eq 2 ] || fail "exit code $code: submit $*"
    [ "$(wc -l <err)" -eq 1 ] && [ ! -s out ] && grep -Eq -- "$pattern" err || fail "not one line '$pattern': submit $*"
}
export HETACUMN=$WORK/recorder
refuses 'which KIND'
refuses 'which KIND' --nodes 2
refuses 'abacus: it must be one of cpu gpu node nodes scaling seeds' abacus stack.h5 -o run
refuses '../cpu: it must be one of' ../cpu stack.h5 -o run
refuses 'needs -o RUN' cpu stack.h5
refuses 'nowhere.h5: there is no such file' cpu nowhere.h5 -o run
refuses 'unrecognized option .--frobnicate' --frobnicate cpu stack.h5 -o run
refuses "requires an argument" --nodes
refuses '--nodes many: it must be a number' --nodes many cpu stack.h5 -o run
refuses '--gpus 0: it must be' --gpus 0 node stack.h5 -o run
refuses '--gpus: a cpu job has none' --gpus 2 cpu stack.h5 -o run
refuses '--nodes 2: node is for one node' --nodes 2 node stack.h5 -o run
refuses '--time soon: it must be a time' --time soon cpu stack.h5 -o run
refuses '--launch rocket: it must be srun or mpirun' --launch rocket cpu stack.h5 -o run
refuses '--array: only for seeds and scaling' --array 1-3 cpu stack.h5 -o run
refuses '--array a: it must be a list' --array a seeds stack.h5 -o run
mkdir bin
for tool in bash dirname readlink getopt; do ln -s "$(command -v $tool)" bin; done
code=0
(export PATH=$WORK/bin && exec "$SLURM/submit" cpu stack.h5 -o run) >out 2>err || code=$?
[ $code -eq 2 ] && grep -q 'no sbatch here' err || fail "exit code $code without sbatch"
echo passed
