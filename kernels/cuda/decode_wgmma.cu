/* The forward of decode_fused.cu on an H100's own way of products, wgmma (sm_90a): 64 rows by 256 columns at a time, weights from shared
 * memory, where the older mma.sync reaches 62 % of the tensor cores' rate at most.
 *
 * A block has two groups of four warps, each with 64 rows of a tile, and a warp that fetches weights: stages of 32 k, of which a ring
 * in shared memory holds twelve. A group keeps all of its rows in registers: sums of a layer are, packed, the next layer's inputs, lane by
 * lane, and features are computed where the first layer wants them, while it multiplies. So nothing but weights is in shared memory,
 * groups meet nowhere, and the residual is at hand. Groups take turns at the tensor cores, TURN stages each, so that one multiplies while
 * the other adds biases and writes. Blocks take tile after tile; the ring does not stop between them.
 *
 * Who waits for whom, by mbarriers: `full` of a slot for its bytes, `empty` of a slot for all eight warps that have read it (after
 * wgmma.wait_group), `turn` of a group for the four warps of the other one. A turn is shorter than the ring, or the groups would wait
 * for each other through it.
 *
 * Precision and order of roundings are the fused kernels'; sums within a product are ordered as the tensor core does it.
 *
 * Computed, not measured, for the default network: 72 products of 64 x 256 x 16 a group and tile, 18,400 cycles of the tensor cores for
 * both; 590 KB of weights a tile, at 24 bytes a cycle of L2 for each multiprocessor 24,900 cycles. (decode_fused.cu: about 45,000.) */
#include <stdlib.h>

#include "decode_job.h"
#include "members.h"

#ifdef __CUDACC__
#include "warpgroup.h"
#else
#include <warpgroup_host.h>
#endif

enum { COLUMNS = 256, GROUPS = 2, GROUP = 128, GROUP_ROWS = 64, THREADS = (GROUPS + 1) * GROUP };
enum { STEP_BYTES = 16 * COLUMNS * 2, STAGE_BYTES = 2 * STEP_BYTES, STAGES = 12, TURN = 8, LAYER_STAGES = COLUMNS / 32 };
enum { BARRIERS = 2 * STAGES + GROUPS, SHARED_BYTES = STAGES * STAGE_BYTES + 8 * BARRIERS };
static_assert((int)GROUPS * GROUP_ROWS == (int)HET_DECODE_ROWS, "groups share a tile");
static_assert((int)TURN < (int)STAGES, "a turn is shorter than the ring");

/* ---- stages and turns ----------------------------------------------------------------------------------------------- */

/* Of a tile. */
__host__ __device__ static inline int stages_of(int frequencies, int layers)
{
    return frequencies / 16 + (layers - 1) * LAYER_STAGES;
}

/* The next stage of the ring; `parity` is that of its slot's present phase. */
typedef struct ring {
    uint32_t stages, full, empty; /* addresses in shared memory */
    uint32_t slot, parity;
} ring;

__device__ static inline ring ring_at(const char *shared)
{
    ring r;
    r.stages = het_shared_at(shared);
    r.full = r.stages + STAGES * STAGE_BYTES;
    r.empty = r.full + 8 * STAGES;
    r.slot = r.parity = 0;
    return r;
}

__device__ static inline void go_on(ring *r)
{
    if (++r->slot < STAGES) return;
    r->slot = 0;
    r->parity ^= 1;
}

/* The cluster takes tiles side by side, from this one on; its blocks take one each, beyond the end for nothing. */
__device__ static inline int64_t first_tile(void)
{
    return (int64_t)blockIdx.x - het_cluster_rank();
}

/* One warp: the weights of all layers, again for each tile; a share of each stage, for all blocks of the cluster. */
__device__ static inline void fetch_weights(const job &q, ring r)
{
    const int stages = stages_of(q.frequencies, q.layers);
    const uint32_t share = STAGE_BYTES / HET_CLUSTER, mine = het_cluster_rank() * share;
    for (int64_t tile = first_tile(); tile < q.tiles; tile += gridDim.x)
        for (int n = 0; n < stages; n++) {
            const uint32_t full = r.full + 8 * r.slot;
            het_mbarrier_wait(r.empty + 8 * r.slot, r.parity ^ 1); /* at first that of the phase before: the slot is empty */
            het_mbarrier_expect(full, STAGE_BYTES);
            het_copy_everywhere(r.stages + r.slot * STAGE_BYTES + mine, (const char *)q.forward + (int64_t)n * STAGE_BYTES + mine, share, full);
            go_on(&r);
        }
}

/* Turns at the tensor cores: the group's own mbarrier and the other's. */
typedef struct turns {
    uint32_t mine, others, parity;
} turns;

__device__ static inline void take_turn(turns *t)
{
    het_mbarrier_wait(t->mine, t->parity);
    t->parity ^= 1;
}

/* ---- products ------------------------------------------------------------------------------------------------------- */

/* A stage: once its weights are there, two steps are begun. */
__device__ static inline void multiply_stage(float sums[128], const uint32_t first[4], const uint32_t second[4], const ring *r, int add)
{
    const uint32_t weights = r->stages + r->slot * STAGE_BYTES;
    het_mbarrier_wait(r->full + 8 * r->slot, r->parity);
    het_warpgroup_fence();
    het_warpgroup_multiply(sums, first, weights, add);
    het_warpgroup_multiply(sums, second, weights + STEP_BYTES, 1);
    het_warpgroup_commit();
}

/* The slot before that of the ring has been read. */
__device__ static inline void leave_former(const ring *r)
{
    het_mbarrier_arrive_everywhere(r->empty + 8 * (r->slot == 0 ? STAGES - 1 : r->slot - 1));
}

/* ---- layers --------------------------------------------------------------------------------------------------------- */

/* A lane's rows are `row` and 8 below, its columns in each 16 `column`, + 1, + 8, + 9; the four words of two numbers for a step of 16 lie
   as (column, row) (column, row + 8) (column + 8, row) (column + 8, row + 8), sums of 16 columns likewise. */
__device__ static inline int lane_column(void)
{
    return (int)threadIdx.x % 4 * 2;
}

/* Those beyond the end repeat the last one, and count for nothing. */
__device__ static inline row row_at(const job &q, int64_t at)
{
    return q.rows[at < q.count ? at : q.count - 1];
}

/* cos(phase), s sin(phase) of 16 frequencies from n on */
__device__ static inline void features_of(uint32_t cosines[4], uint32_t sines[4], const job &q, const row at[2], int n)
{
    const int f = q.frequencies;
    HET_UNROLL for (int i = 0; i < 4; i++)
    {
        const row &mine = at[i % 2];
        const float *to = q.turns + (int64_t)mine.slot * 3 * f + n + lane_column() + i / 2 * 8;
        const float2 across = *(const float2 *)to, up = *(const float2 *)(to + f), plane = *(const float2 *)(to + 2 * f);
        float cosine[2], sine[2];
        feature(mine, across.x, up.x, plane.x, &cosine[0], &sine[0]);
        feature(mine, across.y, up.y, plane.y, &cosine[1], &sine[1]);
        cosines[i] = het_pack(cosine);
        sines[i] = het_pack(sine);
    }
}

/* The first layer's sums: a stage is cosines and sines of the same 16 frequencies, computed while the one before is multiplied. */
__device__ static inline void first_layer(float sums[128], const job &q, const row at[2], ring *r, turns *t)
{
    const int stages = q.frequencies / 16; /* even */
    uint32_t cosines[4], sines[4], next_cosines[4], next_sines[4];
    features_of(cosines, sines, q, at, 0);
    for (int s = 0; s < stages; s += 2) {
        if (s % TURN == 0) take_turn(t);
        multiply_stage(sums, cosines, sines, r, s > 0);
        if (s > 0) {
            het_warpgroup_wait_former();
            leave_former(r);
        }
        go_on(r);
        features_of(next_cosines, next_sines, q, at, 16 * s + 16);
        multiply_stage(sums, next_cosines, next_sines, r, 1);
        het_warpgroup_wait_former();
        leave_former(r);
        go_on(r);
        if (s % TURN == TURN - 2 || s + 2 == stages) het_mbarrier_arrive(t->others);
        if (s + 2 < stages) features_of(cosines, sines, q, at, 16 * s + 32);
    }
    het_warpgroup_wait(sums);
    leave_former(r);
}

__device__ static inline void hidden_layer(float sums[128], const uint32_t h[64], ring *r, turns *t)
{
    take_turn(t);
    HET_UNROLL for (int s = 0; s < LAYER_STAGES; s++)
    {
        multiply_stage(sums, h + 8 * s, h + 8 * s + 4, r, s > 0);
        if (s > 0) {
            het_warpgroup_wait_former();
            leave_former(r);
        }
        go_on(r);
    }
    het_mbarrier_arrive(t->others);
    het_warpgroup_wait(sums);
    leave_former(r);
}

/* h = [h +] relu(sum + bias), a bias for each of the lane's rows */
__device__ static inline void next_inputs(uint32_t h[64], const float sums[128], const float *bias, const float *bias_below, bool residual)
{
    HET_UNROLL for (int i = 0; i < 32; i++)
    {
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const int at = 2 * i + j;
            const float2 b = *(const float2 *)((j == 0 ? bias : bias_below) + 8 * i + lane_column());
            const float2 before = residual ? split(h[at]) : make_float2(0.0f, 0.0f);
            const float pair[2] = {before.x + relu(sums[2 * at] + b.x), before.y + relu(sums[2 * at + 1] + b.y)};
            h[at] = het_pack(pair);
        }
    }
}

/* slice = h W_out + b_out, its imaginary part folded: of a row four lanes have a part each, which they add up. */
__device__ static inline void put_slice(const job &q, const uint32_t h[64], const row at[2], int64_t first)
{
    const float *w = output_at<COLUMNS>(q);
    float2 sum[2] = {make_float2(0.0f, 0.0f), make_float2(0.0f, 0.0f)};
    HET_UNROLL for (int i = 0; i < 32; i++)
    {
        const float4 weights = *(const float4 *)(w + 2 * (8 * i + lane_column()));
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const float2 pair = split(h[2 * i + j]);
            sum[j].x += pair.x * weights.x + pair.y * weights.z;
            sum[j].y += pair.x * weights.y + pair.y * weights.w;
        }
    }
    HET_UNROLL for (int j = 0; j < 2; j++)
    {
        const int64_t mine = first + 8 * j;
        const float2 whole = make_float2(het_sum_of_four(sum[j].x) + w[2 * COLUMNS], at[j].sign * (het_sum_of_four(sum[j].y) + w[2 * COLUMNS + 1]));
        if ((int)threadIdx.x % 4 == j && mine < q.count) ((float2 *)q.slice)[mine] = whole;
    }
}

/* A group: its rows of each of the block's tiles. */
__device__ static inline void run_tiles(const job &q, ring r, turns t)
{
    float sums[128];
    uint32_t h[64];
    for (int64_t tile = first_tile(); tile < q.tiles; tile += gridDim.x) {
        const int64_t first = (tile + het_cluster_rank()) * HET_DECODE_ROWS + (int)threadIdx.x / 32 * 16 + (int)threadIdx.x % 32 / 4;
        const row at[2] = {row_at(q, first), row_at(q, first + 8)};
        first_layer(sums, q, at, &r, &t);
        next_inputs(h, sums, q.bias + (int64_t)at[0].image * COLUMNS, q.bias + (int64_t)at[1].image * COLUMNS, false);
        for (int l = 1; l < q.layers; l++) {
            const float *bias = q.params + 2 * q.frequencies * COLUMNS + l * (COLUMNS * COLUMNS + COLUMNS) - COLUMNS;
            hidden_layer(sums, h, &r, &t);
            next_inputs(h, sums, bias, bias, !q.plain);
        }
        put_slice(q, h, at, first);
    }
}

__device__ static inline void run_block(const job &q, char *shared)
{
    const int group = (int)threadIdx.x / GROUP;
    ring r = ring_at(shared);
    const uint32_t turn_of_first = r.empty + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (uint32_t s = 0; s < STAGES; s++) {
            het_mbarrier_make(r.full + 8 * s, 1);
            het_mbarrier_make(r.empty + 8 * s, HET_CLUSTER * GROUPS * GROUP / 32);
        }
        for (uint32_t g = 0; g < GROUPS; g++) het_mbarrier_make(turn_of_first + 8 * g, GROUP / 32);
        het_mbarriers_made();
    }
    het_cluster_meet();
    if (group == GROUPS) {
        het_fewer_registers<24>();
        if (threadIdx.x < GROUPS * GROUP + 32) fetch_weights(q, r);
    } else {
        het_more_registers<240>();
        run_tiles(q, r, turns{turn_of_first + 8 * group, turn_of_first + 8 * (1 - group), group == 0 ? 1u : 0u}); /* the first group begins */
    }
    het_cluster_meet(); /* the other block's arrivals and copies come here */
}

/* Grid (as many blocks as the GPU has multiprocessors, or tiles, in whole clusters). */
__global__ void HET_CLUSTERS __launch_bounds__(THREADS, 1) wgmma_forward(job q)
{
    HET_SHARED(shared);
    if (HET_WARPGROUPS) run_block(q, shared);
}

/* ---- around it ------------------------------------------------------------------------------------------------------ */

/* The stages' steps of 16 k by 256 columns, in squares of 8 by 8 (warpgroup.h): of the first layer 16 cosines, then the 16 sines of the same
   frequencies; of the others 16 inputs after 16. A thread takes 8 k of a column. */
__global__ void pack_stages(uint4 *to, const float *params, int64_t frequencies, int64_t steps)
{
    HET_FOR(i, steps * 2 * COLUMNS)
    {
        const int64_t step = i / (2 * COLUMNS), k = i / 8 % 2 * 8, n = i / 16 % (COLUMNS / 8) * 8 + i % 8, first = 2 * frequencies / 16;
        const int64_t layer = step < first ? 0 : 1 + (step - first) / (COLUMNS / 16), within = step < first ? step : (step - first) % (COLUMNS / 16);
        const int64_t input = layer > 0 ? 16 * within : 16 * (within / 2) + within % 2 * frequencies;
        const float *w = params + (layer == 0 ? 0 : 2 * frequencies * COLUMNS + (layer - 1) * (COLUMNS * COLUMNS + COLUMNS));
        float eight[8];
        for (int j = 0; j < 8; j++) eight[j] = w[(input + k + j) * COLUMNS + n];
        het_store((het_narrow8 *)to, i, eight);
    }
}

static int64_t steps_of(const het_decode *d)
{
    return 2 * stages_of((int)d->spec.frequencies, (int)d->spec.layers);
}

int het_cuda_wgmma_fits(het_cuda *c, const het_decode_spec *s)
{
    int device = 0, most = 0;
    cudaDeviceProp chip;
    HET_CUDA(c, cudaGetDevice(&device));
    HET_CUDA(c, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    HET_CUDA(c, cudaGetDeviceProperties(&chip, device));
    return c->status == HET_OK && chip.major == 9 && chip.minor == 0 && s->width == COLUMNS && s->frequencies % 32 == 0 &&
           (int)SHARED_BYTES <= most;
}

int het_cuda_wgmma_allocate(het_decode *d)
{
    d->stages = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(steps_of(d) * STEP_BYTES));
    return d->stages != NULL;
}

void het_cuda_wgmma_load(het_decode *d)
{
    const int64_t steps = steps_of(d);
    HET_LAUNCH(d->cuda, pack_stages, het_blocks(steps * 2 * COLUMNS), HET_BLOCK, d->stages, d->params, d->spec.frequencies, steps);
}

void het_cuda_wgmma_forward(het_decode *d, const chunk *k, float *slice, const float *rot, const float *bias, const float *kz)
{
    het_cuda *c = d->cuda;
    job q = het_cuda_fused_prepare(d, k, rot, bias, kz);
    q.slice = slice;
    q.forward = d->stages;
    HET_CUDA(c, cudaFuncSetAttribute(wgmma_forward, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)SHARED_BYTES));
    const int64_t clusters = het_least(het_tiles(q.tiles, HET_CLUSTER), c->processors / HET_CLUSTER);
    HET_LAUNCH_SHARED(c, wgmma_forward, (unsigned)(clusters * HET_CLUSTER), THREADS, SHARED_BYTES, q);
}

/* |a - b| / |b| of n numbers */
static double apart(const float *a, const float *b, int64_t n)
{
    double difference = 0.0, whole = 0.0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        whole += (double)b[i] * b[i];
    }
    return sqrt(difference / whole);
}

int het_cuda_wgmma_agrees(het_decode *d)
{
    enum { IMAGES = 2, POINTS_MOST = 500 }; /* so that a block of a few has several tiles, and there are tiles of two images */
    const double limit = 1e-2;
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t points = het_least(s->max_points, POINTS_MOST), params = het_decode_params_count(s->frequencies, s->width, s->layers);
    const int64_t freq = params, rot = freq + 3 * s->frequencies, bias = rot + 9 * IMAGES, slices = bias + s->width * IMAGES;
    const int64_t each = 2 * IMAGES * points, all = slices + 2 * each;
    float *host = (float *)malloc((size_t)all * sizeof *host), *memory = (float *)het_cuda_alloc(c, (size_t)all * sizeof *memory);
    uint32_t drawn = 1;
    for (int64_t i = 0; host != NULL && i < slices; i++) {
        drawn = drawn * 1664525u + 1013904223u;
        host[i] = ((float)(drawn >> 8) / 8388608.0f - 1.0f) * (i < params ? 0.13f : i < rot ? 8.0f : 0.7f);
    }
    double difference = 0.0;
    if (host != NULL && memory != NULL) {
        het_cuda_upload(c, memory, host, (size_t)slices * sizeof *host);
        het_cuda_decode_load(d, memory, memory + freq);
        for (d->wgmma = 0; d->wgmma < 2; d->wgmma++)
            het_cuda_decode_forward(d, memory + slices + d->wgmma * each, memory + rot, memory + bias, NULL, IMAGES, points);
        het_cuda_download(c, host, memory + slices, (size_t)(2 * each) * sizeof *host);
        difference = apart(host + each, host, each);
    }
    het_cuda_free(c, memory);
    free(host);
    if (difference <= limit) return 1;
    c->host->warn("the decoder does without wgmma: on this GPU its results and those of the other kernel are %.1g apart", difference);
    return 0;
}
