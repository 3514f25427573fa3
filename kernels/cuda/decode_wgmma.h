#pragma once
/** What the forward and the backward by wgmma have in common (decode_wgmma.cu): the ring of weights, turns, layers. */
#include "decode_job.h"

#ifdef __CUDACC__
#include "warpgroup.h"
#else
#include <warpgroup_host.h>
#endif

enum { COLUMNS = 256, GROUPS = 2, GROUP = 128, GROUP_ROWS = 64, THREADS = (GROUPS + 1) * GROUP };
enum { STEP_BYTES = 16 * COLUMNS * 2, STAGE_BYTES = 2 * STEP_BYTES, STAGES = 12, TURN = 8, LAYER_STAGES = COLUMNS / 32 };
enum { BARRIERS = 2 * STAGES + GROUPS, RING_BYTES = STAGES * STAGE_BYTES + 8 * BARRIERS }; /* of shared memory */
enum { LANE_MASKS = 4 }; /* words of a lane's bits of a layer */
static_assert((int)GROUPS * GROUP_ROWS == (int)HET_DECODE_ROWS, "groups share a tile");
static_assert((int)TURN < (int)STAGES, "a turn is shorter than the ring");

/* ---- stages and turns ----------------------------------------------------------------------------------------------- */

/* Of a tile: of the forward; of what the backward has beside these, at the end products of 128 cosines and sines each. */
__host__ __device__ static inline int stages_of(int frequencies, int layers)
{
    return frequencies / 16 + (layers - 1) * LAYER_STAGES;
}

__host__ __device__ static inline int stages_back(int frequencies, int layers)
{
    return (layers - 1 + (frequencies + 127) / 128) * LAYER_STAGES;
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

/* One warp: the weights of so many stages, again for each tile; a share of each stage, for all blocks of the cluster. */
__device__ static inline void fetch_weights(const job &q, ring r, int stages)
{
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

/* The slot before that of the ring has been read. */
__device__ static inline void leave_former(const ring *r)
{
    het_mbarrier_arrive_everywhere(r->empty + 8 * (r->slot == 0 ? STAGES - 1 : r->slot - 1));
}

/* A stage: once its weights are there, two steps are begun; then those of the stage before, where there is one, are over. */
__device__ static inline void multiply_stage(float sums[128], const uint32_t first[4], const uint32_t second[4], ring *r, bool follows, int add)
{
    const uint32_t weights = r->stages + r->slot * STAGE_BYTES;
    het_mbarrier_wait(r->full + 8 * r->slot, r->parity);
    het_warpgroup_fence();
    het_warpgroup_multiply(sums, first, weights, add);
    het_warpgroup_multiply(sums, second, weights + STEP_BYTES, 1);
    het_warpgroup_commit();
    if (follows) {
        het_warpgroup_wait_former();
        leave_former(r);
    }
    go_on(r);
}

/* The stage given last is over. */
__device__ static inline void end_stages(float sums[128], const ring *r)
{
    het_warpgroup_wait(sums);
    leave_former(r);
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

/* Four lanes with the same rows have two columns of every eight each, a word; here of four times eight columns. To each all columns of one of
   the four. */
__device__ static inline uint4 turn_words(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    const bool odd = threadIdx.x % 2 == 1, upper = threadIdx.x % 4 >= 2;
    const uint32_t first = het_exchange(odd ? a : b, 1), second = het_exchange(odd ? c : d, 1);
    const uint32_t w[4] = {odd ? first : a, odd ? b : first, odd ? second : c, odd ? d : second};
    const uint32_t third = het_exchange(upper ? w[0] : w[2], 2), fourth = het_exchange(upper ? w[1] : w[3], 2);
    return {upper ? third : w[0], upper ? fourth : w[1], upper ? w[2] : third, upper ? w[3] : fourth};
}

/* 32 columns from `column` on of the lane's rows to memory, by way of two steps' words. */
__device__ static inline void put_rows(het_narrow *to, int64_t first, int columns, int column, const uint32_t a[4], const uint32_t b[4])
{
    HET_UNROLL for (int j = 0; j < 2; j++)
    {
        const uint4 eight = turn_words(a[j], a[2 + j], b[j], b[2 + j]);
        uint4 *place = (uint4 *)(to + (first + 8 * j) * columns + column + 4 * lane_column());
#ifdef __CUDA_ARCH__ /* the compiler (13.0) would store some of them word by word */
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(place), "r"(eight.x), "r"(eight.y), "r"(eight.z), "r"(eight.w) : "memory");
#else
        *place = eight;
#endif
    }
}

/* The first layer's sums: a stage is cosines and sines of the same 16 frequencies, computed while the one before is multiplied. KEEP: x,
   of rows from `first` on, is written. */
template <bool KEEP>
__device__ static inline void first_layer(float sums[128], const job &q, const row at[2], int64_t first, ring *r, turns *t)
{
    const int stages = q.frequencies / 16; /* even */
    uint32_t cosines[4], sines[4], next_cosines[4], next_sines[4];
    features_of(cosines, sines, q, at, 0);
    for (int s = 0; s < stages; s += 2) {
        if (s % TURN == 0) take_turn(t);
        multiply_stage(sums, cosines, sines, r, s > 0, s > 0);
        features_of(next_cosines, next_sines, q, at, 16 * s + 16);
        if (KEEP) put_rows(q.x, first, 2 * q.frequencies, 16 * s, cosines, next_cosines);
        if (KEEP) put_rows(q.x, first, 2 * q.frequencies, q.frequencies + 16 * s, sines, next_sines);
        multiply_stage(sums, next_cosines, next_sines, r, true, 1);
        if (s % TURN == TURN - 2 || s + 2 == stages) het_mbarrier_arrive(t->others);
        if (s + 2 < stages) features_of(cosines, sines, q, at, 16 * s + 32);
    }
    end_stages(sums, r);
}

/* sums = [sums +] h times the weights of the next stages */
__device__ static inline void multiply_layer(float sums[128], const uint32_t h[64], ring *r, turns *t, int add)
{
    take_turn(t);
    HET_UNROLL for (int s = 0; s < LAYER_STAGES; s++) multiply_stage(sums, h + 8 * s, h + 8 * s + 4, r, s > 0, s > 0 ? 1 : add);
    het_mbarrier_arrive(t->others);
    end_stages(sums, r);
}

/* h = [h +] relu(sum + bias), a bias for each of the lane's rows. KEEP: bit n of the lane's masks is whether its number n was let through. */
template <bool KEEP>
__device__ static inline void next_inputs(uint32_t h[64], const float sums[128], const float *bias, const float *bias_below, bool residual,
                                          uint32_t masks[LANE_MASKS])
{
    HET_UNROLL for (int i = 0; i < 32; i++)
    {
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const int at = 2 * i + j;
            const float2 b = *(const float2 *)((j == 0 ? bias : bias_below) + 8 * i + lane_column());
            const float2 before = residual ? split(h[at]) : make_float2(0.0f, 0.0f);
            const float v = sums[2 * at] + b.x, w = sums[2 * at + 1] + b.y, pair[2] = {before.x + relu(v), before.y + relu(w)};
            h[at] = het_pack(pair);
            if (KEEP && at % 16 == 0) masks[at / 16] = 0;
            if (KEEP && v > 0.0f) masks[at / 16] |= 1u << 2 * (at % 16);
            if (KEEP && w > 0.0f) masks[at / 16] |= 2u << 2 * (at % 16);
        }
    }
}

/* The bias of layer l > 0. */
__device__ static inline const float *bias_of(const job &q, int l)
{
    return q.params + 2 * q.frequencies * COLUMNS + l * (COLUMNS * COLUMNS + COLUMNS) - COLUMNS;
}

/* The two columns' numbers, (re, im) each, of W_out from column 8 i on. */
__device__ static inline float4 output_weights(const job &q, int i)
{
    return *(const float4 *)(output_at<COLUMNS>(q) + 2 * (8 * i + lane_column()));
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

/* Shared memory of the backward, which has more: masks. */
static inline int wgmma_shared(int layers)
{
    return RING_BYTES + layers * LANE_MASKS * GROUPS * GROUP * 4;
}

/* One for a multiprocessor, or a tile, in whole clusters. */
static inline unsigned wgmma_blocks(const het_cuda *c, int64_t tiles)
{
    return (unsigned)(HET_CLUSTER * het_least(het_tiles(tiles, HET_CLUSTER), c->processors / HET_CLUSTER));
}

/* The lane's first row of a tile of the cluster. */
__device__ static inline int64_t first_row(int64_t tile)
{
    return (tile + het_cluster_rank()) * HET_DECODE_ROWS + (int)threadIdx.x / 32 * 16 + (int)threadIdx.x % 32 / 4;
}

/* A block: makes barriers, then one warp fetches the weights of so many stages, and two groups do the rest. */
template <class Rest> __device__ static inline void run_block(const job &q, char *shared, int stages, const Rest &run_group)
{
    const int group = (int)threadIdx.x / GROUP;
    const ring r = ring_at(shared);
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
        if (threadIdx.x < GROUPS * GROUP + 32) fetch_weights(q, r, stages);
    } else {
        het_more_registers<240>();
        run_group(r, turns{turn_of_first + 8 * group, turn_of_first + 8 * (1 - group), group == 0 ? 1u : 0u}); /* the first group begins */
    }
    het_cluster_meet(); /* the other block's arrivals and copies come here */
}
