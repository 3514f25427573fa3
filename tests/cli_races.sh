# A short training on the test double of the CUDA runtime under the thread sanitizer, to which the threads of kernels are threads
# (tests/cuda_host/races.h): whatever two of them do to one number without an order ends the run. In bf16, with the fused decoder.
. "$(dirname "$0")/support.sh"
unset HET_TEST_DEVICE
export HET_PLUGIN_PATH=$(dirname "$HETACUMN")/tests/cuda_host HET_CUDA_ROWS=1000 HET_CUDA_COLUMNS=100000 HET_CUDA_CONV=columns HET_CUDA_FFT=sums

make_atoms atoms.pdb
run simulate --atoms atoms.pdb --apix 6 --snr-db 3 --shift 0.5 -n 16 -D 16 --seed 5 -o stack.h5
run train stack.h5 "${TINY[@]}" --set decoder.width=128 --set train.precision=bf16 --set train.pose_steps=1 --set train.epochs=1 --device cuda -o run
echo passed
