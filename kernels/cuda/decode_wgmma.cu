/* The coordinate network as in decode_fused.cu on an H100's own way of products, wgmma (sm_90a): 64 rows by 256 columns at a time, weights from
 * shared memory, where the older mma.sync reaches 62 % of the tensor cores' rate at most. Here the forward, and packing; decode_wgmma_back.cu has
 * the backward.
 *
 * A block has two groups of four warps, each with 64 rows of a tile, and a warp that fetches weights: stages of 32 k, of which a ring
 * in shared memory holds twelve. A group keeps all of its rows in registers: sums of a layer are, packed, the next layer's inputs, lane by
 * lane, and features are computed where the first layer wants them, while it multiplies. So nothing but weights (and the backward's masks) is in
 * shared memory, groups meet nowhere, and the residual is at hand. Groups take turns at the tensor cores, TURN stages each, so that one multiplies
 * while the other adds biases and writes. Blocks take tile after tile; the ring does not stop between them. Two blocks make a cluster, each of
 * which fetches half of every stage for both.
 *
 * Who waits for whom, by mbarriers: `full` of a slot for its bytes, `empty` of a slot for all sixteen warps of the cluster that have read it
 * (after wgmma.wait_group), `turn` of a group for the four warps of the other one. A turn is shorter than the ring, or the groups would wait
 * for each other through it.
 *
 * Precision and order of roundings are those of decode_fused.cu; sums within a product are ordered as the tensor core does it.
 *
 * Computed, not measured, for the default network: 72 products of 64 x 256 x 16 a group and tile, 18,400 cycles of the tensor cores for
 * both; 590 KB of weights, half of them from L2 for each block, at 24 bytes a cycle of L2 for each multiprocessor 12,300 cycles; counted in the
 * PTX 65,000 instructions of warps. (decode_fused.cu: 29,700 cycles, 92,000 instructions, and nothing goes on beside anything.) */
#include "decode_wgmma.h"

#include <stdlib.h>

#include "members.h"

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* slice = h W_out + b_out, its imaginary part folded: of a row four lanes have a part each, which they add up. */
__device__ static inline void put_slice(const job &q, const uint32_t h[64], const row at[2], int64_t first)
{
    const float *b = output_at<COLUMNS>(q) + 2 * COLUMNS;
    float2 sum[2] = {make_float2(0.0f, 0.0f), make_float2(0.0f, 0.0f)};
    HET_UNROLL for (int i = 0; i < 32; i++)
    {
        const float4 weights = output_weights(q, i);
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const float2 pair = split(h[2 * i + j]);
            sum[j].x += pair.x * weights.x + pair.y * weights.z;
            sum[j].y += pair.x * weights.y + pair.y * weights.w;
        }
    }
    HET_UNROLL for (int j = 0; j < 2; j++)
    {
        HET_UNROLL for (int apart = 1; apart < 4; apart *= 2)
        {
            sum[j].x += het_exchange(sum[j].x, apart);
            sum[j].y += het_exchange(sum[j].y, apart);
        }
        const int64_t mine = first + 8 * j;
        const float2 whole = make_float2(sum[j].x + b[0], at[j].sign * (sum[j].y + b[1]));
        if ((int)threadIdx.x % 4 == j && mine < q.count) ((float2 *)q.slice)[mine] = whole;
    }
}

/* A group: its rows of each of the block's tiles. */
__device__ static inline void run_forward(const job &q, ring r, turns t)
{
    float sums[128];
    uint32_t h[64];
    for (int64_t tile = first_tile(); tile < q.tiles; tile += gridDim.x) {
        const int64_t first = first_row(tile);
        const row at[2] = {row_at(q, first), row_at(q, first + 8)};
        const float *images = q.bias;
        first_layer<false>(sums, q, at, first, &r, &t);
        next_inputs<false>(h, sums, images + (int64_t)at[0].image * COLUMNS, images + (int64_t)at[1].image * COLUMNS, false, NULL);
        for (int l = 1; l < q.layers; l++) {
            multiply_layer(sums, h, &r, &t, 0);
            next_inputs<false>(h, sums, bias_of(q, l), bias_of(q, l), !q.plain, NULL);
        }
        put_slice(q, h, at, first);
    }
}

/* Grid (as many blocks as the GPU has multiprocessors, or tiles, in whole clusters). */
__global__ void HET_CLUSTERS __launch_bounds__(THREADS, 1) wgmma_forward(job q)
{
    HET_SHARED(shared);
    if (HET_WARPGROUPS)
        run_block(q, shared, stages_of(q.frequencies, q.layers), [&](ring r, turns t) { run_forward(q, r, t); });
}

/* ---- around it ------------------------------------------------------------------------------------------------------ */

/* Number (k, n) of a step. Steps of the forward: of the first layer 16 cosines, then the 16 sines of the same frequencies, 16 inputs after 16 of
   the others; of the backward, from the last layer down, 16 outputs after 16, and inputs side by side, of the first layer in the end
   128 cosines and the 128 sines of the same frequencies at a time. */
__device__ static inline float weight_at(const float *params, int64_t frequencies, int64_t layers, int64_t step, int64_t k, int64_t n)
{
    const int64_t per_layer = COLUMNS / 16, forward = 2 * stages_of((int)frequencies, (int)layers), first = 2 * frequencies / 16;
    const int64_t back = step - forward, block = back / per_layer - (layers - 1); /* of the first layer, from 0 on */
    const float *later = params + 2 * frequencies * COLUMNS;                        /* layers 1 and on, with their biases */
    const int64_t size = COLUMNS * COLUMNS + COLUMNS;
    if (step < first) return params[(16 * (step / 2) + step % 2 * frequencies + k) * COLUMNS + n];
    if (back < 0) return later[(step - first) / per_layer * size + (16 * ((step - first) % per_layer) + k) * COLUMNS + n];
    const int64_t output = 16 * (back % per_layer) + k;
    if (block < 0) return later[-(block + 1) * size + n * COLUMNS + output];
    const int64_t frequency = 128 * block + n % 128;
    return frequency < frequencies ? params[(n / 128 * frequencies + frequency) * COLUMNS + output] : 0.0f;
}

/* In squares of 8 by 8 (warpgroup.h). A thread takes 8 k of a column. */
__global__ void pack_stages(uint4 *to, const float *params, int64_t frequencies, int64_t layers, int64_t steps)
{
    HET_FOR(i, steps * 2 * COLUMNS)
    {
        const int64_t step = i / (2 * COLUMNS), k = i / 8 % 2 * 8, n = i / 16 % (COLUMNS / 8) * 8 + i % 8;
        float eight[8];
        for (int j = 0; j < 8; j++) eight[j] = weight_at(params, frequencies, layers, step, k + j, n);
        het_store((het_narrow8 *)to, i, eight);
    }
}

static int64_t steps_of(const het_decode *d)
{
    const int frequencies = (int)d->spec.frequencies, layers = (int)d->spec.layers;
    return 2 * (stages_of(frequencies, layers) + stages_back(frequencies, layers));
}

int het_cuda_wgmma_fits(const het_cuda *c, const het_decode_spec *s)
{
    return c->capability == 90 && s->width == COLUMNS && s->frequencies % 32 == 0 && wgmma_shared((int)s->layers) <= c->shared_most;
}

int het_cuda_wgmma_allocate(het_decode *d)
{
    d->stages = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(steps_of(d) * STEP_BYTES));
    return d->stages != NULL;
}

void het_cuda_wgmma_load(het_decode *d)
{
    const int64_t steps = steps_of(d);
    HET_LAUNCH(d->cuda, pack_stages, het_blocks(steps * 2 * COLUMNS), HET_BLOCK, d->stages, d->params, d->spec.frequencies, d->spec.layers,
               steps);
}

void het_cuda_wgmma_forward(het_cuda *c, const job &q)
{
    HET_CUDA(c, cudaFuncSetAttribute(wgmma_forward, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)RING_BYTES));
    HET_LAUNCH_SHARED(c, wgmma_forward, wgmma_blocks(c, q.tiles), THREADS, RING_BYTES, q);
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

/* As many images as to give some blocks a second tile. */
static int64_t images_to_ask(const het_decode *d, int64_t points)
{
    return het_least(1 + (d->cuda->processors + 1) * HET_DECODE_ROWS / points, HET_DECODE_IMAGES);
}

int het_cuda_wgmma_agrees(het_decode *d)
{
    const double limit = 5e-2; /* a rounding may open a relu: 3e-2 in gradients at most, as the CPU's modes differ */
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t params = het_decode_params_count(s->frequencies, s->width, s->layers), points = s->max_points;
    const int64_t images = images_to_ask(d, points), sizes[] = {2 * images * points, 9 * images, s->width * images, params};
    const int64_t freq = params, rot = freq + 3 * s->frequencies, bias = rot + 9 * images, given = bias + s->width * images;
    const int64_t answer = sizes[0] + sizes[1] + sizes[2] + sizes[3], all = given + 2 * answer;
    float *host = (float *)malloc((size_t)all * sizeof *host), *memory = (float *)het_cuda_alloc(c, (size_t)all * sizeof *memory);
    uint32_t drawn = 1;
    for (int64_t i = 0; host != NULL && i < given; i++) {
        drawn = drawn * 1664525u + 1013904223u;
        host[i] = ((float)(drawn >> 8) / 8388608.0f - 1.0f) * (i < params ? 0.13f : i < rot ? 8.0f : 0.7f);
    }
    int agree = 0;
    double most = 0.0;
    const int asked = host != NULL && memory != NULL;
    if (asked) {
        het_cuda_upload(c, memory, host, (size_t)given * sizeof *host);
        for (d->wgmma = 0; d->wgmma < 2; d->wgmma++) {
            het_cuda_decode_load(d, memory, memory + freq);
            float *slice = memory + given + d->wgmma * answer, *drot = slice + sizes[0], *dbias = drot + sizes[1], *dparams = dbias + sizes[2];
            het_cuda_decode_forward(d, slice, memory + rot, memory + bias, NULL, images, points);
            het_cuda_decode_backward(d, dparams, drot, dbias, slice, memory + rot, memory + bias, NULL, images, images, points);
        }
        het_cuda_download(c, host, memory + given, (size_t)(2 * answer) * sizeof *host);
        const float *at = host;
        for (int i = 0; i < 4; at += sizes[i++]) {
            const double difference = apart(at + answer, at, sizes[i]);
            agree += difference <= limit; /* NaN is not */
            most = fmax(most, difference);
        }
    }
    het_cuda_free(c, memory);
    free(host);
    if (c->status != HET_OK) c->host->warn("the decoder's kernels by wgmma fail on this GPU: HET_CUDA_DECODE=fused does without them");
    else if (!asked) c->host->warn("the decoder does without wgmma: there is no memory to try whether it agrees with the other kernels");
    else if (agree < 4)
        c->host->warn("the decoder does without wgmma: on this GPU its results and those of the other kernels are %.1g apart", most);
    return agree == 4;
}
