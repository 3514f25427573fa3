#pragma once
/** What the forward and the backward of a tile have in common (decode_fused.cu): shared memory, products on tensor cores,
 *  features and layers. */
#include "decode_job.h"

#include <cuda_bf16.h>
#include <mma.h>

namespace wmma = nvcuda::wmma;

typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left_square;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> right_square;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_square;

enum { ROWS = HET_DECODE_ROWS, LANE = 8, SQUARE = 256 };
enum { PARTS = 2, PART = ROWS / PARTS, HIGH = PART / 16 }; /* a warp takes the rows of a part: its sums are HIGH squares high */
enum { MASKS = 2 * HIGH * LANE / 32 };                     /* words of a lane's bits of a layer */
enum { STAGE_ROW = 40, STAGE = 8 * STAGE_ROW }; /* of a warp: 32 numbers each of eight lanes, in other banks */
enum { PIECES = sizeof(right_square::x) / 16 }; /* of 16 bytes, in a lane's part of a square of weights */
static_assert((int)sum_square::num_elements == (int)LANE, "a lane holds 8 of the 256 numbers of a square");

/* The warp's sums. */
typedef struct sums {
    sum_square of[HIGH][2];
} sums;

/* Where number e of a lane lies in a square of sums: as in the PTX ISA's mma.m16n8k16, two of which make a square. Numbers e and e + 1
   are neighbours for even e. wmma does not promise it; het_cuda_fused_fits asks. */
__device__ static inline int row_of(int e)
{
    return (int)threadIdx.x % 32 / 4 + e / 2 % 2 * 8;
}

__device__ static inline int column_of(int e)
{
    return (int)threadIdx.x % 4 * 2 + e % 2 + e / 4 * 8;
}

/* Two neighbours in one access; `at` is even. */
__device__ static inline float2 load_pair(const het_narrow *from, int at)
{
    return split(*(const uint32_t *)(from + at));
}

__device__ static inline void store_pair(het_narrow *to, int at, float first, float second)
{
    const float pair[2] = {first, second};
    *(uint32_t *)(to + at) = het_pack(pair);
}

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
    at.stage = at.mask + (back ? layers * ROWS / 8 * width : 0);
    at.bytes = at.stage + (back ? PARTS * width / 32 * STAGE * 4 : 0);
    return at;
}

typedef struct tile {
    het_narrow *act; /* features, then activations, then dz: rows of 2F + 8 and H + 8, whose squares' rows lie in other banks */
    const row *rows;
    float2 *g;       /* gradient of (out_re, out_im) */
    uint32_t *mask;  /* (layers, MASKS, threads): bit 8 (2 i + j) + e of the lane's number e of square i, j */
    float *stage;    /* the warp's, STAGE numbers */
    int index, slot_row; /* index of the tile; numbers of a slot */
    int first_row, first_column; /* of the warp */
    bool one;        /* all rows are of one image */
} tile;

/* The rows of the tile; those beyond the end repeat the last image at the origin, and count for nothing. */
__device__ static inline void take_rows(const job &q, row *to, float2 *g)
{
    const int threads = (int)blockDim.x;
    for (int r = (int)threadIdx.x; r < ROWS; r += threads) {
        const int64_t at = (int64_t)blockIdx.x * ROWS + r;
        row mine = q.rows[at < q.count ? at : q.count - 1];
        if (at >= q.count) {
            mine.kx = mine.ky = 0.0f;
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
    t.stage = (float *)(shared + at.stage) + (int)threadIdx.x / 32 * STAGE;
    t.index = (int)blockIdx.x;
    t.slot_row = 2 * q.frequencies + width;
    t.first_row = (int)threadIdx.x / width * PART;
    t.first_column = (int)threadIdx.x % width / 32 * 32;
    take_rows(q, (row *)(shared + at.rows), back ? t.g : NULL);
    __syncthreads();
    t.one = t.rows[0].slot == t.rows[ROWS - 1].slot;
    return t;
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

/* s += a (PART, 16 steps) times two columns of squares of weights, the first squares of which are given, `stride` squares from one
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

/* x = [cos(phase), s sin(phase)]: a warp for each row, a lane for two neighbouring frequencies. Four rows at a time, and nothing is stored
   before all of them are known, so that they do not wait for each other. ONE: all rows are of one image. */
template <bool ONE> __device__ static inline void fill_features(const job &q, const tile &t)
{
    enum { TOGETHER = 4 };
    const int f = q.frequencies, ld = 2 * f + 8, warps = (int)blockDim.x / 32;
    for (int n = (int)threadIdx.x % 32 * 2; n < f; n += 64) {
        const float *turns = q.turns + (int64_t)t.rows[0].slot * 3 * f + n;
        float2 across = *(const float2 *)turns, up = *(const float2 *)(turns + f), plane = *(const float2 *)(turns + 2 * f);
        for (int first = (int)threadIdx.x / 32; first < ROWS; first += TOGETHER * warps) {
            float2 cosine[TOGETHER], sine[TOGETHER];
            HET_UNROLL for (int i = 0; i < TOGETHER; i++)
            {
                const row at = t.rows[first + i * warps];
                if (!ONE) {
                    turns = q.turns + (int64_t)at.slot * 3 * f + n;
                    across = *(const float2 *)turns;
                    up = *(const float2 *)(turns + f);
                    plane = *(const float2 *)(turns + 2 * f);
                }
                feature(at, across.x, up.x, plane.x, &cosine[i].x, &sine[i].x);
                feature(at, across.y, up.y, plane.y, &cosine[i].y, &sine[i].y);
            }
            HET_UNROLL for (int i = 0; i < TOGETHER; i++)
            {
                store_pair(t.act, (first + i * warps) * ld + n, cosine[i].x, cosine[i].y);
                store_pair(t.act, (first + i * warps) * ld + f + n, sine[i].x, sine[i].y);
            }
        }
    }
}

/* The tile's rows of `columns` numbers, 8 at a time, to global memory. A thread keeps its place in a row and takes one row in so many:
   from one to the next two addresses change, and nothing else. (Rows that fit in shared memory have fewer places than threads.) */
template <int WIDTH> __device__ static inline void copy_out(het_narrow *to, const tile &t, int columns)
{
    const int pieces = columns / 8, rows = PARTS * WIDTH / pieces, piece = (int)threadIdx.x % pieces, first = (int)threadIdx.x / pieces;
    uint4 *out = (uint4 *)(to + (int64_t)t.index * ROWS * columns) + piece;
    if (first >= rows) return;
    for (int r = 0; r < ROWS; r += rows)
        if (r + first < ROWS) out[(r + first) * pieces] = *(const uint4 *)(t.act + (r + first) * (columns + 8) + 8 * piece);
}

/* h = [h before +] relu(sum + bias), over h before; the bias is the image's in the first layer. APART: the rows' images differ. */
template <int WIDTH, bool APART>
__device__ static inline void activate(const sums *s, const job &q, const tile &t, int layer, bool keep)
{
    const float *bias = layer > 0 ? q.params + 2 * q.frequencies * WIDTH + layer * (WIDTH * WIDTH + WIDTH) - WIDTH
                                  : q.bias + (APART ? 0 : (int64_t)t.rows[0].image * WIDTH);
    const bool residual = layer > 0 && !q.plain;
    uint32_t mask[MASKS] = {0};
    HET_UNROLL for (int e = 0; e < LANE; e += 2)
    {
        const int r = t.first_row + row_of(e), c = t.first_column + column_of(e);
        float2 b[2] = {*(const float2 *)(bias + c), *(const float2 *)(bias + c + 16)};
        HET_UNROLL for (int i = 0; i < HIGH; i++)
        {
            if (APART) {
                const float *of_image = bias + (int64_t)t.rows[16 * i + r].image * WIDTH + c;
                b[0] = *(const float2 *)of_image;
                b[1] = *(const float2 *)(of_image + 16);
            }
            HET_UNROLL for (int j = 0; j < 2; j++)
            {
                const int at = (16 * i + r) * (WIDTH + 8) + c + 16 * j, bit = 8 * (2 * i + j) + e;
                const float v = s->of[i][j].x[e] + b[j].x, w = s->of[i][j].x[e + 1] + b[j].y;
                const float2 before = residual ? load_pair(t.act, at) : make_float2(0.0f, 0.0f);
                store_pair(t.act, at, before.x + relu(v), before.y + relu(w));
                mask[bit / 32] |= ((v > 0.0f ? 1u : 0u) | (w > 0.0f ? 2u : 0u)) << (bit % 32);
            }
        }
    }
    HET_UNROLL for (int i = 0; i < MASKS; i++)
        if (keep) t.mask[(MASKS * layer + i) * PARTS * WIDTH + (int)threadIdx.x] = mask[i];
}

/* Rows to the last hidden activation; x and the others are written out where they are kept. */
template <int WIDTH> __device__ static inline void run_layers(sums *s, const job &q, const tile &t, bool keep)
{
    const int inputs = 2 * q.frequencies, columns = WIDTH / 16;
    int square = t.first_column / 16;
    if (t.one) fill_features<true>(q, t);
    else fill_features<false>(q, t);
    __syncthreads();
    if (keep) copy_out<WIDTH>(q.x, t, inputs);
    for (int l = 0; l < q.layers; l++) {
        const int k = l == 0 ? inputs : WIDTH;
        clear(s);
        multiply(s, t.act + t.first_row * (k + 8), k + 8, q.forward, square, square + 1, columns, k / 16);
        square += k / 16 * columns;
        __syncthreads();
        if (l > 0 || t.one) activate<WIDTH, false>(s, q, t, l, keep);
        else activate<WIDTH, true>(s, q, t, l, keep);
        __syncthreads();
        if (keep && l + 1 < q.layers) copy_out<WIDTH>(q.h[l], t, WIDTH);
    }
}
