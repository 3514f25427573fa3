/* Races that the double shows in a build with the thread sanitizer (races.h): each kernel here is in want of an order and has a
 * twin that has it. The one must be reported, the other must not. */
#include <stdio.h>

#include "mma.h"
#include "races.h"

namespace wmma = nvcuda::wmma;

enum { WARP_SIZE = 32, BLOCK = 128, GRID = 8, SIZE = 1 << 14, LD = 24 };

/* Each place once; places of all kernels, in whichever memory. */
extern "C" const char *__tsan_default_options(void)
{
    return "exitcode=0:suppress_equal_addresses=0";
}

static int reports;
/* By whichever thread is in the race: not to be watched itself. */
extern "C" HET_UNWATCHED void __tsan_on_report(void *)
{
    reports++;
}

static cudaStream_t stream;
static float *numbers, *others; /* of the device */

/* ---- within a block ------------------------------------------------------------------------------------------------- */

/* What the block's thread of the other end wrote; and then again. */
template <bool BEFORE, bool AFTER> __global__ void exchange(float *y)
{
    __shared__ float part[BLOCK];
    for (int turn = 0; turn < 3; turn++) {
        part[threadIdx.x] = (float)turn;
        if (BEFORE) __syncthreads();
        y[blockIdx.x * BLOCK + threadIdx.x] = part[BLOCK - 1 - threadIdx.x];
        if (AFTER) __syncthreads();
    }
}

/* A warp's lanes among themselves. */
template <bool BEFORE, bool AFTER> __global__ void exchange_lanes(float *y)
{
    HET_SHARED(shared);
    float *part = (float *)shared;
    const unsigned first = threadIdx.x / WARP_SIZE * WARP_SIZE;
    for (int turn = 0; turn < 3; turn++) {
        part[threadIdx.x] = (float)turn;
        if (BEFORE) __syncwarp();
        y[blockIdx.x * BLOCK + threadIdx.x] = part[first + WARP_SIZE - 1 - threadIdx.x % WARP_SIZE];
        if (AFTER) __syncwarp();
    }
}

/* A barrier of the warp where other warps' numbers are read. */
template <bool ALL> __global__ void exchange_warps(float *y)
{
    HET_SHARED(shared);
    float *part = (float *)shared;
    part[threadIdx.x] = 1.0f;
    __syncwarp();
    if (ALL) __syncthreads();
    y[blockIdx.x * BLOCK + threadIdx.x] = part[(threadIdx.x + WARP_SIZE) % BLOCK];
}

/* A square of sums that a lane reads where others put it, and the next square in its place. */
template <bool BEFORE, bool AFTER> __global__ void pass_squares(float *y)
{
    alignas(32) __shared__ float stage[16 * LD];
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> square;
    float sum = 0.0f;
    for (int turn = 0; turn < 3; turn++) {
        wmma::fill_fragment(square, (float)turn);
        wmma::store_matrix_sync(stage, square, LD, wmma::mem_row_major);
        if (BEFORE) __syncwarp();
        for (int r = 0; r < 16; r++) sum += stage[r * LD + threadIdx.x % 16];
        if (AFTER) __syncwarp();
    }
    y[blockIdx.x * WARP_SIZE + threadIdx.x] = sum;
}

/* A square of bf16 that lanes fill number by number. */
template <bool BEFORE> __global__ void load_square(float *y)
{
    alignas(32) __shared__ __nv_bfloat16 square[256];
    for (int i = (int)threadIdx.x; i < 256; i += WARP_SIZE) square[i].bits = 0x3F80;
    if (BEFORE) __syncwarp();
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left;
    wmma::load_matrix_sync(left, square, 16);
    y[blockIdx.x * WARP_SIZE + threadIdx.x] = left.row[0][0];
}

/* Launched without MEET: threads that write one number of the block's. */
template <bool OWN> __global__ void write_apart(float *y)
{
    y[blockIdx.x * BLOCK + (OWN ? threadIdx.x : threadIdx.x / 2)] = (float)threadIdx.x;
}

/* ---- between blocks ------------------------------------------------------------------------------------------------- */

/* Blocks so many apart from each other write one number. */
template <bool OWN, int APART> __global__ void write_both(float *y)
{
    if (threadIdx.x == blockIdx.x) y[OWN ? blockIdx.x : blockIdx.x % APART] = 1.0f;
}

template <bool OWN> __global__ void read_next(float *y, const float *x)
{
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
    y[i] = 2.0f * (OWN ? x[i] : y[(i + BLOCK) % (GRID * BLOCK)]);
}

/* The same of kernels with barriers, in whose shared memory blocks follow each other. */
template <bool OWN> __global__ void add_blocks(float *y)
{
    __shared__ float part[BLOCK];
    part[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0) y[OWN ? blockIdx.x : 0] += part[BLOCK - 1];
}

/* ---- cases ---------------------------------------------------------------------------------------------------------- */

/* What one launch wrote the next may read, and so may a copy. */
static void launch_in_turn(void)
{
    float first;
    for (int i = 0; i < 3; i++) {
        HET_KERNEL_RUN(read_next<true>, GRID, BLOCK, stream, others, (const float *)numbers);
        HET_KERNEL_RUN_MEET((exchange<true, true>), GRID, BLOCK, stream, numbers);
        HET_KERNEL_RUN(read_next<true>, GRID, BLOCK, stream, numbers, (const float *)others);
        cudaMemcpyAsync(&first, numbers + BLOCK, sizeof first, cudaMemcpyDeviceToHost, stream);
        cudaMemsetAsync(others, 0, SIZE * sizeof *others, stream);
    }
}

#define MEET(block, ...) [] { HET_KERNEL_RUN_MEET((__VA_ARGS__), GRID, block, stream, numbers); }
#define SHARED(...) [] { HET_KERNEL_RUN_SHARED((__VA_ARGS__), GRID, BLOCK, BLOCK * 4, stream, numbers); }
#define APART(...) [] { HET_KERNEL_RUN((__VA_ARGS__), GRID, BLOCK, stream, numbers); }
#define READ(...) [] { HET_KERNEL_RUN((__VA_ARGS__), GRID, BLOCK, stream, numbers, (const float *)others); }

static const struct {
    const char *name;
    int races;
    void (*run)(void);
} cases[] = {
    {"warps, a barrier before and after", 0, MEET(BLOCK, exchange<true, true>)},
    {"warps, read before the barrier", 1, MEET(BLOCK, exchange<false, true>)},
    {"warps, written again before the barrier", 1, MEET(BLOCK, exchange<true, false>)},
    {"lanes, a barrier before and after", 0, SHARED(exchange_lanes<true, true>)},
    {"lanes, read before the barrier", 1, SHARED(exchange_lanes<false, true>)},
    {"lanes, written again before the barrier", 1, SHARED(exchange_lanes<true, false>)},
    {"warps, a barrier of the block", 0, SHARED(exchange_warps<true>)},
    {"warps, only one of the warp", 1, SHARED(exchange_warps<false>)},
    {"squares, a barrier before and after", 0, MEET(WARP_SIZE, pass_squares<true, true>)},
    {"squares, read before the barrier", 1, MEET(WARP_SIZE, pass_squares<false, true>)},
    {"squares, stored again before the barrier", 1, MEET(WARP_SIZE, pass_squares<true, false>)},
    {"a square, loaded after the barrier", 0, MEET(WARP_SIZE, load_square<true>)},
    {"a square, loaded before it is whole", 1, MEET(WARP_SIZE, load_square<false>)},
    {"threads without barriers, each its own number", 0, APART(write_apart<true>)},
    {"threads without barriers, two a number", 1, APART(write_apart<false>)},
    {"blocks, each its own number", 0, APART(write_both<true, 1>)},
    {"blocks that write the same number", 1, APART(write_both<false, 1>)},
    {"every second block writes the same number", 1, APART(write_both<false, 2>)},
    {"every fourth block writes the same number", 1, APART(write_both<false, 4>)},
    {"blocks that read what none writes", 0, READ(read_next<true>)},
    {"blocks that read what others write", 1, READ(read_next<false>)},
    {"blocks with barriers, each its own sum", 0, MEET(BLOCK, add_blocks<true>)},
    {"blocks with barriers, one sum", 1, MEET(BLOCK, add_blocks<false>)},
    {"launches after each other", 0, launch_in_turn},
};

int main(void)
{
    int wrong = 0;
    if (cudaStreamCreateWithFlags(&stream, 0) != cudaSuccess ||
        cudaMalloc((void **)&numbers, SIZE * sizeof *numbers) != cudaSuccess ||
        cudaMalloc((void **)&others, SIZE * sizeof *others) != cudaSuccess)
        return 1;
    for (const auto &each : cases) {
        reports = 0;
        each.run();
        wrong += (reports > 0) != each.races;
        printf("%-48s %4d reports%s\n", each.name, reports, (reports > 0) != each.races ? ": WRONG" : "");
    }
    return wrong > 0;
}
