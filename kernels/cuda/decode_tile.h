#pragma once
/** What the forward and the backward of a tile have in common (decode_fused.cu): shared memory, products on tensor cores,
 *  features and layers. */
#include "decode.h"

#include <cuda_bf16.h>
#include <mma.h>

namespace wmma = nvcuda::wmma;

typedef het_decode_row row;
typedef het_decode_chunk chunk;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left_square;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> right_square;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_square;

enum { ROWS = HET_DECODE_ROWS, HIGH = ROWS / 16, LANE = 8, SQUARE = 256 };
enum { STAGE = 24 }; /* numbers from row to row of a square of sums in shared memory: other banks, and whole 32 bytes */
enum { PIECES = sizeof(right_square::x) / 16 }; /* of 16 bytes, in a lane's part of a square of weights */
static_assert((int)sum_square::num_elements == (int)LANE, "a lane holds 8 of the 256 numbers of a square");

/* The warp's sums, and where the lane's numbers lie in a square. */
typedef struct sums {
    sum_square of[HIGH][2];
    int place[LANE]; /* 16 row + column */
} sums;

/* What a kernel needs. */
typedef struct job {
    const row *rows;
    int64_t count, tiles, points;
    const float *turns, *bias, *params;
    const uint4 *forward, *backward; /* weights in squares */
    int frequencies, layers, plain;
    float *slice; /* of the forward; the rest is of the backward */
    const float *dslice;
    het_narrow *x, *h[HET_DECODE_LAYERS_MAX], *dz[HET_DECODE_LAYERS_MAX];
    float *out_sums, *bias_sums, *slots; /* (tiles, H+1, 2), (layers - 1, tiles, H), (slots, 2F + H) */
} job;

/* ---- shared memory -------------------------------------------------------------------------------------------------- */

/* Offsets in bytes. */
typedef struct layout {
    int rows, g, mask, stage, bytes;
} layout;

__host__ __device__ static inline layout layout_of(int width, int frequencies, int layers, int back)
{
    layout at;
    const int most = 2 * frequencies > width ? 2 * frequencies : width;
    at.rows = ROWS * (most + 8) * 2;
    at.g = at.rows + ROWS * (int)sizeof(row);
    at.mask = at.g + (back ? ROWS * 8 : 0);
    at.stage = at.mask + (back ? layers * 2 * HIGH * width : 0);
    at.bytes = at.stage + (back ? width / 32 * 2 * 16 * STAGE * 4 : 0);
    return at;
}

typedef struct tile {
    het_narrow *act; /* features, then activations, then dz: rows of 2F + 8 and H + 8, whose squares' rows lie in other banks */
    const row *rows;
    float2 *g;       /* gradient of (out_re, out_im) */
    uint32_t *mask;  /* (layers, 4, threads): bit 8 (2 i + j) + e of the lane's number e of square i, j */
    float *stage;    /* the warp's: two squares of sums */
    int index, slot_row; /* index of the tile; numbers of a slot */
} tile;

/* The rows of the tile; those beyond the end repeat the last image at the origin, and count for nothing. */
__device__ static inline void take_rows(const job &q, row *to, float2 *g)
{
    const int threads = (int)blockDim.x;
    for (int r = (int)threadIdx.x; r < ROWS; r += threads) {
        const int64_t at = (int64_t)blockIdx.x * ROWS + r;
        row mine = q.rows[at < q.count ? at : q.count - 1];
        if (at >= q.count) {
            mine.kx = mine.ky = 0;
            mine.sign = 0.0f;
        }
        to[r] = mine;
        if (g == NULL) continue;
        const float *d = q.dslice + 2 * (mine.image * q.points + mine.point);
        g[r] = at < q.count ? make_float2(d[0], d[1] * mine.sign) : make_float2(0.0f, 0.0f);
    }
}

__device__ static inline tile tile_of(const job &q, char *shared, int width, int back)
{
    const layout at = layout_of(width, q.frequencies, q.layers, back);
    tile t;
    t.act = (het_narrow *)shared;
    t.rows = (const row *)(shared + at.rows);
    t.g = (float2 *)(shared + at.g);
    t.mask = (uint32_t *)(shared + at.mask);
    t.stage = (float *)(shared + at.stage) + (int)threadIdx.x / 32 * 2 * 16 * STAGE;
    t.index = (int)blockIdx.x;
    t.slot_row = 2 * q.frequencies + width;
    take_rows(q, (row *)(shared + at.rows), back ? t.g : NULL);
    return t;
}

__device__ static inline void find_places(sums *s, char *shared)
{
    float *square = (float *)shared;
    for (int i = (int)threadIdx.x; i < SQUARE; i += (int)blockDim.x) square[i] = (float)i;
    __syncthreads();
    sum_square counted;
    wmma::load_matrix_sync(counted, square, 16, wmma::mem_row_major);
    HET_UNROLL for (int e = 0; e < LANE; e++) s->place[e] = (int)counted.x[e];
    __syncthreads();
}

/* ---- products ------------------------------------------------------------------------------------------------------- */

__device__ static inline void clear(sums *s)
{
    HET_UNROLL for (int i = 0; i < HIGH; i++)
        HET_UNROLL for (int j = 0; j < 2; j++) wmma::fill_fragment(s->of[i][j], 0.0f);
}

/* A square of the tile. The compiler (13.0) does not see that wmma::load_matrix_sync of bf16 reads shared memory, and has
   each lane fetch its numbers one by one; told, it has the warp fetch the square. */
__device__ static inline void load_left(left_square *a, const het_narrow *from, int ld)
{
#ifdef __CUDACC__
    uint32_t *to = (uint32_t *)a->x;
    asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(from)), "r"(ld)
                 : "memory");
#else
    wmma::load_matrix_sync(*a, (const __nv_bfloat16 *)from, (unsigned)ld);
#endif
}

/* Squares lie one after the other, in each the lanes' parts. */
__device__ static inline void load_right(right_square *b, const uint4 *weights, int square)
{
    const uint4 *from = weights + (square * 32 + (int)threadIdx.x % 32) * PIECES;
    HET_UNROLL for (int i = 0; i < PIECES; i++) ((uint4 *)b->x)[i] = from[i];
}

__device__ static inline void add_step(sums *s, const het_narrow *a, int ld, const right_square *b)
{
    HET_UNROLL for (int i = 0; i < HIGH; i++)
    {
        left_square left;
        load_left(&left, a + 16 * i * ld, ld);
        HET_UNROLL for (int j = 0; j < 2; j++) wmma::mma_sync(s->of[i][j], left, b[j], s->of[i][j]);
    }
}

/* s += a (ROWS, 16 steps) times two columns of squares of weights, the first squares of which are given, `stride` squares from one
   step of 16 k to the next. steps is even. */
__device__ static inline void multiply(sums *s, const het_narrow *a, int ld, const uint4 *weights, int first, int second,
                                       int stride, int steps)
{
    right_square even[2], odd[2];
    load_right(&even[0], weights, first);
    load_right(&even[1], weights, second);
    for (int k = 0; k < steps; k += 2) {
        load_right(&odd[0], weights, first + (k + 1) * stride);
        load_right(&odd[1], weights, second + (k + 1) * stride);
        add_step(s, a + 16 * k, ld, even);
        if (k + 2 < steps) {
            load_right(&even[0], weights, first + (k + 2) * stride);
            load_right(&even[1], weights, second + (k + 2) * stride);
        }
        add_step(s, a + 16 * k + 16, ld, odd);
    }
}

/* ---- features and layers -------------------------------------------------------------------------------------------- */

/* Whole turns gone, before sums lose digits. */
__device__ static inline float fraction(float k, float turns)
{
    return fmaf(k, turns, -rintf(k * turns));
}

/* x = [cos(phase), s sin(phase)]: a warp for each row, a lane for each frequency. */
__device__ static inline void fill_features(const job &q, const tile &t)
{
    const int f = q.frequencies, ld = 2 * f + 8, warps = (int)blockDim.x / 32;
    for (int n = (int)threadIdx.x % 32; n < f; n += 32) {
        float across = 0.0f, up = 0.0f, plane = 0.0f;
        for (int r = (int)threadIdx.x / 32, slot = -1; r < ROWS; r += warps) {
            const row at = t.rows[r];
            if (at.slot != slot) {
                const float *turns = q.turns + (int64_t)at.slot * 3 * f + n;
                across = turns[0];
                up = turns[f];
                plane = turns[2 * f];
                slot = at.slot;
            }
            float phase = fraction((float)at.kx, across) + fraction((float)at.ky, up) + plane, sine, cosine;
            phase -= rintf(phase);
            __sincosf(6.283185307f * fabsf(phase), &sine, &cosine); /* so that it is odd and even to the bit: V(-q) = conj V(q) */
            het_store(t.act, r * ld + n, cosine);
            het_store(t.act, r * ld + f + n, at.sign * copysignf(sine, phase));
        }
    }
}

/* The tile's rows of `columns` numbers, 8 at a time, to global memory. */
__device__ static inline void copy_out(het_narrow *to, const tile &t, int columns)
{
    const int warps = (int)blockDim.x / 32;
    for (int r = (int)threadIdx.x / 32; r < ROWS; r += warps) {
        const uint4 *from = (const uint4 *)(t.act + r * (columns + 8));
        uint4 *out = (uint4 *)(to + ((int64_t)t.index * ROWS + r) * columns);
        for (int i = (int)threadIdx.x % 32; i < columns / 8; i += 32) out[i] = from[i];
    }
}

/* h = [h before +] relu(sum + bias), over h before; the bias is the row's image's in the first layer. */
template <int WIDTH> __device__ static inline void activate(const sums *s, const job &q, const tile &t, int layer, bool keep)
{
    const int first = (int)threadIdx.x / 32 * 32;
    const float *bias = layer == 0 ? q.bias : q.params + 2 * q.frequencies * WIDTH + layer * (WIDTH * WIDTH + WIDTH) - WIDTH;
    const bool residual = layer > 0 && !q.plain;
    uint32_t mask[4] = {0, 0, 0, 0};
    HET_UNROLL for (int e = 0; e < LANE; e++)
    {
        const int r = s->place[e] / 16, c = first + s->place[e] % 16;
        float b[2] = {bias[c], bias[c + 16]};
        HET_UNROLL for (int i = 0; i < HIGH; i++)
        {
            if (layer == 0) {
                const float *of_image = bias + (int64_t)t.rows[16 * i + r].image * WIDTH + c;
                b[0] = of_image[0];
                b[1] = of_image[16];
            }
            HET_UNROLL for (int j = 0; j < 2; j++)
            {
                const int at = (16 * i + r) * (WIDTH + 8) + c + 16 * j, bit = 8 * (2 * i + j) + e;
                const float v = s->of[i][j].x[e] + b[j];
                const float relu = v <= 0.0f ? 0.0f : v; /* so that NaN passes */
                het_store(t.act, at, relu + (residual ? het_load(t.act, at) : 0.0f));
                mask[bit / 32] |= (v > 0.0f ? 1u : 0u) << (bit % 32);
            }
        }
    }
    HET_UNROLL for (int i = 0; i < 4; i++)
        if (keep) t.mask[(4 * layer + i) * WIDTH + (int)threadIdx.x] = mask[i];
}

/* Rows to the last hidden activation; x and the others are written out where they are kept. */
template <int WIDTH> __device__ static inline void run_layers(sums *s, const job &q, const tile &t, bool keep)
{
    const int inputs = 2 * q.frequencies, columns = WIDTH / 16;
    int square = (int)threadIdx.x / 32 * 2;
    fill_features(q, t);
    __syncthreads();
    if (keep) copy_out(q.x, t, inputs);
    for (int l = 0; l < q.layers; l++) {
        const int k = l == 0 ? inputs : WIDTH;
        clear(s);
        multiply(s, t.act, k + 8, q.forward, square, square + 1, columns, k / 16);
        square += k / 16 * columns;
        __syncthreads();
        activate<WIDTH>(s, q, t, l, keep);
        __syncthreads();
        if (keep && l + 1 < q.layers) copy_out(q.h[l], t, WIDTH);
    }
}

/* W_out (H,2), b_out (2) */
template <int WIDTH> __device__ static inline const float *output_at(const job &q)
{
    return q.params + 2 * q.frequencies * WIDTH + (q.layers - 1) * (WIDTH * WIDTH + WIDTH);
}
