/* The backward of decode_fused.cu by wgmma (decode_wgmma.h, decode_wgmma.cu): the same network again, of which x, h_l and relu masks are kept,
 * then dh in the registers of sums, dz_l in those of inputs.
 *
 * dh = [dh +] dz_l W_l^T adds onto the sums where they are. dx = dz_0 W_0^T comes by 128 cosines and the 128 sines of the same frequencies, so
 * that a lane has both of each. What the warp's 16 rows sum up to - a part, here - leaves its lanes by halves: eight lanes with the same columns
 * exchange half of theirs, a quarter, an eighth. No warp waits for another one; parts are joined as those of the fused kernels.
 *
 * Computed, not measured, for the default network, a tile: 152 products of a group, 8 of them for columns that 192 frequencies leave empty, or
 * 38,900 cycles of the tensor cores; from L2 0.6 MB of weights for each block of a cluster, to and from it 0.7 MB: 54,000 cycles at 24 bytes a cycle; counted in the PTX 172,000 instructions of warps. (decode_fused.cu: 59,400 cycles, 1.9 MB, 205,000.) */
#include "decode_wgmma.h"

/* The lane's masks of a layer, at the end of the block's shared memory. */
__device__ static inline uint32_t *masks_at(char *shared, int layer, int word)
{
    return (uint32_t *)(void *)(shared + RING_BYTES) + (layer * LANE_MASKS + word) * GROUPS * GROUP + (int)threadIdx.x;
}

__device__ static inline void keep_masks(char *shared, int layer, const uint32_t masks[LANE_MASKS])
{
    HET_UNROLL for (int w = 0; w < LANE_MASKS; w++) *masks_at(shared, layer, w) = masks[w];
}

/* Of 2 N numbers those are exchanged that the lane `apart` is to have, and N are left. */
template <int N> __device__ static inline void halve(float *v, int apart)
{
    const bool upper = ((int)threadIdx.x & apart) != 0;
    HET_UNROLL for (int i = 0; i < N; i++)
    {
        const float mine = upper ? v[N + i] : v[i];
        v[i] = mine + het_exchange(upper ? v[i] : v[N + i], apart);
    }
}

/* Of 16 numbers of a lane, n of columns 8 (n / 2) + column + n mod 2: sums over the eight lanes with the same columns. To each lane its two, of
   columns 8 (lane / 4) + column on. */
__device__ static inline float2 sum_lanes(float v[16])
{
    halve<8>(v, 16);
    halve<4>(v, 8);
    halve<2>(v, 4);
    return make_float2(v[0], v[1]);
}

/* A layer's inputs, or dz, to memory. */
__device__ static inline void put_inputs(het_narrow *to, int64_t first, const uint32_t h[64])
{
    HET_UNROLL for (int s = 0; s < COLUMNS / 32; s++) put_rows(to, first, COLUMNS, 32 * s, h + 8 * s, h + 8 * s + 4);
}

/* Over the part's rows of h times g, (H, 2), and of g itself. */
__device__ static inline void put_output_sums(const job &q, const uint32_t h[64], const float2 g[2], int64_t part)
{
    const int lane = (int)threadIdx.x % 32;
    float2 *to = (float2 *)q.out_sums + part * (COLUMNS + 1);
    HET_UNROLL for (int c = 0; c < COLUMNS / 64; c++)
    {
        float re[16], im[16];
        HET_UNROLL for (int i = 0; i < 8; i++)
        {
            const float2 upper = split(h[16 * c + 2 * i]), below = split(h[16 * c + 2 * i + 1]);
            re[2 * i] = upper.x * g[0].x + below.x * g[1].x;
            re[2 * i + 1] = upper.y * g[0].x + below.y * g[1].x;
            im[2 * i] = upper.x * g[0].y + below.x * g[1].y;
            im[2 * i + 1] = upper.y * g[0].y + below.y * g[1].y;
        }
        const float2 real = sum_lanes(re), imaginary = sum_lanes(im);
        float2 *its = to + 64 * c + lane / 4 * 8 + lane_column();
        its[0] = make_float2(real.x, imaginary.x);
        its[1] = make_float2(real.y, imaginary.y);
    }
    float2 own = make_float2(g[0].x + g[1].x, g[0].y + g[1].y);
    HET_UNROLL for (int apart = 4; apart < 32; apart *= 2)
    {
        own.x += het_exchange(own.x, apart);
        own.y += het_exchange(own.y, apart);
    }
    if (lane == 0) to[COLUMNS] = own;
}

/* dh = g W_out^T */
__device__ static inline void start_back(float sums[128], const job &q, const float2 g[2])
{
    HET_UNROLL for (int i = 0; i < 32; i++)
    {
        const float4 w = output_weights(q, i);
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            sums[4 * i + 2 * j] = g[j].x * w.x + g[j].y * w.y;
            sums[4 * i + 2 * j + 1] = g[j].x * w.z + g[j].y * w.w;
        }
    }
}

/* dz = dh where the layer's relu let through */
__device__ static inline void mask_sums(uint32_t dz[64], const float sums[128], char *shared, int layer)
{
    HET_UNROLL for (int w = 0; w < LANE_MASKS; w++)
    {
        const uint32_t open = *masks_at(shared, layer, w);
        HET_UNROLL for (int i = 0; i < 16; i++)
        {
            const int at = 16 * w + i;
            const float pair[2] = {(open >> 2 * i & 1u) != 0 ? sums[2 * at] : 0.0f, (open >> 2 * i & 2u) != 0 ? sums[2 * at + 1] : 0.0f};
            dz[at] = het_pack(pair);
        }
    }
}

/* Over the part's rows of dz, or those of them that count: 256 numbers. */
__device__ static inline void put_bias_sums(float *to, const uint32_t dz[64], bool counts, bool below_counts)
{
    const int lane = (int)threadIdx.x % 32;
    HET_UNROLL for (int c = 0; c < COLUMNS / 64; c++)
    {
        float v[16];
        HET_UNROLL for (int i = 0; i < 8; i++)
        {
            const float2 upper = split(dz[16 * c + 2 * i]), below = split(dz[16 * c + 2 * i + 1]);
            v[2 * i] = (counts ? upper.x : 0.0f) + (below_counts ? below.x : 0.0f);
            v[2 * i + 1] = (counts ? upper.y : 0.0f) + (below_counts ? below.y : 0.0f);
        }
        *(float2 *)(to + 64 * c + lane / 4 * 8 + lane_column()) = sum_lanes(v);
    }
}

/* sums: of 128 frequencies from n on dcos, then dsin; over dcos the phase's gradient, s (cos d(s sin) - s sin dcos). */
__device__ static inline void slopes(float sums[128], const job &q, const row at[2], int64_t first, int n)
{
    const int f = q.frequencies;
    HET_UNROLL for (int i = 0; i < 16; i++)
    {
        if (n + 8 * i >= f) break;
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const uint32_t *x = (const uint32_t *)(q.x + (first + 8 * j) * 2 * f + n + 8 * i + lane_column());
            const float2 cosine = split(x[0]), sine = split(x[f / 2]);
            float *dcos = sums + 4 * i + 2 * j;
            dcos[0] = at[j].sign * (cosine.x * dcos[64] - sine.x * dcos[0]);
            dcos[1] = at[j].sign * (cosine.y * dcos[65] - sine.y * dcos[1]);
        }
    }
}

/* Over the part's rows of one image, whose k these are (0 of other rows), of k times these. */
__device__ static inline void put_phase_sums(float *to, const float sums[128], float k, float k_below, int columns)
{
    const int lane = (int)threadIdx.x % 32;
    HET_UNROLL for (int c = 0; c < 2; c++)
    {
        if (64 * c >= columns) break;
        float v[16];
        HET_UNROLL for (int i = 0; i < 16; i++)
        {
            const float *slope = sums + 32 * c + 4 * (i / 2) + i % 2;
            v[i] = k * slope[0] + k_below * slope[2];
        }
        const float2 sum = sum_lanes(v);
        if (64 * c + lane / 4 * 8 < columns) *(float2 *)(to + 64 * c + lane / 4 * 8 + lane_column()) = sum;
    }
}

/* From sums and masks of the layers down to the phases. */
__device__ static inline void go_back(float sums[128], uint32_t h[64], const job &q, char *shared, const row at[2], int64_t first, int64_t part,
                                      ring *r, turns *t)
{
    const int f = q.frequencies, slot_row = 2 * f + COLUMNS, begin = row_at(q, 16 * part).slot, end = row_at(q, 16 * part + 15).slot;
    for (int l = q.layers - 1; l >= 0; l--) {
        mask_sums(h, sums, shared, l);
        put_inputs(q.dz[l], first, h);
        if (l > 0) {
            put_bias_sums(q.bias_sums + ((l - 1) * q.parts + part) * COLUMNS, h, true, true);
            multiply_layer(sums, h, r, t, !q.plain);
        }
    }
    for (int slot = begin; slot <= end; slot++)
        put_bias_sums(q.slots + (part + slot) * slot_row + 2 * f, h, at[0].slot == slot, at[1].slot == slot);
    for (int n = 0; n < f; n += 128) {
        multiply_layer(sums, h, r, t, 0);
        slopes(sums, q, at, first, n);
        for (int slot = begin; slot <= end; slot++) {
            const float counts = at[0].slot == slot ? 1.0f : 0.0f, below = at[1].slot == slot ? 1.0f : 0.0f;
            float *to = q.slots + (part + slot) * slot_row + n;
            put_phase_sums(to, sums, counts * at[0].kx, below * at[1].kx, f - n);
            put_phase_sums(to + f, sums, counts * at[0].ky, below * at[1].ky, f - n);
        }
    }
}

/* The gradient of (out_re, out_im) of a row; 0 of those beyond the end. */
__device__ static inline float2 output_gradient(const job &q, const row &of, int64_t at)
{
    const float *d = q.dslice + 2 * (of.image * q.points + of.point);
    return at < q.count ? make_float2(d[0], d[1] * of.sign) : make_float2(0.0f, 0.0f);
}

/* A group: its rows of each of the block's tiles. */
__device__ static inline void run_backward(const job &q, char *shared, ring r, turns t)
{
    float sums[128];
    uint32_t h[64], masks[LANE_MASKS];
    for (int64_t tile = first_tile(); tile < q.tiles; tile += gridDim.x) {
        const int64_t first = first_row(tile), part = first / 16;
        const row at[2] = {row_at(q, first), row_at(q, first + 8)};
        first_layer<true>(sums, q, at, first, &r, &t);
        next_inputs<true>(h, sums, q.bias + (int64_t)at[0].image * COLUMNS, q.bias + (int64_t)at[1].image * COLUMNS, false, masks);
        keep_masks(shared, 0, masks);
        for (int l = 1; l < q.layers; l++) {
            put_inputs(q.h[l - 1], first, h);
            multiply_layer(sums, h, &r, &t, 0);
            next_inputs<true>(h, sums, bias_of(q, l), bias_of(q, l), !q.plain, masks);
            keep_masks(shared, l, masks);
        }
        const float2 g[2] = {output_gradient(q, at[0], first), output_gradient(q, at[1], first + 8)};
        put_output_sums(q, h, g, part);
        het_warpgroup_wait(sums); /* nothing goes on; the compiler (13.0) would not see it, and have products wait for each other */
        start_back(sums, q, g);
        __syncwarp(); /* x, of which lanes read what others wrote */
        go_back(sums, h, q, shared, at, first, part, &r, &t);
    }
}

/* Grid as that of the forward. */
__global__ void HET_CLUSTERS __launch_bounds__(THREADS, 1) wgmma_backward(job q)
{
    HET_SHARED(shared);
    if (HET_WARPGROUPS)
        run_block(q, shared, stages_of(q.frequencies, q.layers) + stages_back(q.frequencies, q.layers),
                  [&](ring r, turns t) { run_backward(q, shared, r, t); });
}

void het_cuda_wgmma_backward(het_cuda *c, const job &q)
{
    const int bytes = wgmma_shared(q.layers);
    HET_CUDA(c, cudaFuncSetAttribute(wgmma_backward, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    HET_LAUNCH_SHARED(c, wgmma_backward, wgmma_blocks(c, q.tiles), THREADS, bytes, q);
}
