/* The coordinate network with all layers of a tile in one kernel, on tensor cores (nvcuda::wmma: bf16 in, fp32 sums).
 *
 * A block takes a tile of 128 rows and has one warp for each 32 columns of the width: 128 or 256 threads. A warp computes
 * its columns of all rows, 8 x 2 squares of 16 x 16 sums in its registers, and so reads each weight once: straight from L2, one
 * step of k ahead; weights lie there as a warp's lanes hold them, a square in one access. Activations of the tile stay in shared memory, in one
 * place: a layer's inputs are read by all before any output is written over them. Between two layers there are two
 * barriers and nothing else. Where a number of a square lies in it is the hardware's secret; a warp asks for it once, by
 * loading a square that counts.
 *
 *  forward    features -> h_0 .. h_top -> slice; nothing but the slice is written
 *  backward   the same again, keeping relu masks as bits in shared memory and writing x, h_l; then dh in registers,
 *             dz_l = dh where relu let through, over the activations;  dh = [dh +] dz_l W_l^T adds onto what the registers
 *             hold;  at the bottom dx W_0^T to the phases, of which sums over an image's rows alone are written.
 * Weights' gradients, in^T dz_l over all rows of a chunk, are products of long k and small result: cuBLASLt's. The sums
 * over a tile's rows - biases, W_out - are joined tile by tile, those of one image (dbias, phases) slot by slot, in one
 * order: no atomics, the same bits in every run. Tile t and the chunk's image i share slot t + i, as one of them grows
 * from each stretch of rows to the next.
 *
 * Precision is that of the CPU's bf16 tiles: x, W_l, h_l (the residual sum's, too) and dz_l are rounded, sums, dh, biases
 * and W_out are fp32; biases' gradients are sums of the rounded dz_l. Phases are fp32 in turns, reduced axis by axis.
 *
 * Computed, not measured, for 192 frequencies, width 256, 4 layers (the defaults): forward 590 kFLOP a row, 75 MFLOP and 590 KB
 * of weights from L2 a tile: 128 FLOP a byte, or 3.5 TB/s of L2 at 450 TFLOP/s. Backward 1.2 MFLOP a row here and
 * 0.6 in cuBLASLt; writes 4.4 KB a row, which cuBLASLt reads once. Shared memory: 101 KiB forward, 134 KiB backward: one block
 * on an SM at width 256, two at 128. For whoever has a GPU: epilogues store single bf16 numbers, pairs would take half the
 * time; 64 rows a tile would leave room for two blocks, one computing while the other makes features. */
#include "decode.h"

#include <cuda_bf16.h>
#include <mma.h>

#include "members.h"

namespace wmma = nvcuda::wmma;

typedef het_decode_row row;
typedef het_decode_chunk chunk;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> left_square;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> right_square;
typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum_square;

enum { ROWS = HET_DECODE_ROWS, HIGH = ROWS / 16, LANE = 8, SQUARE = 256 };
enum { STAGE = 20 }; /* numbers from row to row of a square of sums in shared memory: other banks */
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
            __sincosf(6.283185307f * phase, &sine, &cosine);
            het_store(t.act, r * ld + n, cosine);
            het_store(t.act, r * ld + f + n, at.sign * sine);
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

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* slice = h W_out + b_out, its imaginary part folded: a thread for each row and part, 8 columns at a time. */
template <int WIDTH> __device__ static inline void write_slice(const job &q, const tile &t)
{
    const float *w = output_at<WIDTH>(q);
    for (int i = (int)threadIdx.x; i < 2 * ROWS; i += WIDTH) {
        const int r = i % ROWS, part = i / ROWS;
        const int64_t at = (int64_t)t.index * ROWS + r;
        float sum = w[2 * WIDTH + part];
        for (int j = 0; j < WIDTH; j += 8) {
            const uint4 h = *(const uint4 *)(t.act + r * (WIDTH + 8) + j);
            const uint32_t pairs[4] = {h.x, h.y, h.z, h.w};
            HET_UNROLL for (int n = 0; n < 4; n++)
            {
                sum += __uint_as_float(pairs[n] << 16) * w[2 * (j + 2 * n) + part];
                sum += __uint_as_float(pairs[n] & 0xFFFF0000u) * w[2 * (j + 2 * n + 1) + part];
            }
        }
        if (at < q.count) q.slice[2 * at + part] = part == 0 ? sum : t.rows[r].sign * sum;
    }
}

/* Grid (tiles), a block of WIDTH threads. */
template <int WIDTH> __global__ void __launch_bounds__(WIDTH, 256 / WIDTH) fused_forward(job q)
{
    HET_SHARED(shared);
    const tile t = tile_of(q, shared, WIDTH, 0);
    sums s;
    find_places(&s, shared);
    run_layers<WIDTH>(&s, q, t, false);
    write_slice<WIDTH>(q, t);
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* Over the tile's rows, thread j: of column j of h times g, and of g itself. */
template <int WIDTH> __device__ static inline void sum_output(const job &q, const tile &t)
{
    const int j = (int)threadIdx.x;
    float re = 0.0f, im = 0.0f, own = 0.0f;
    for (int r = 0; r < ROWS; r++) {
        const float v = het_load(t.act, r * (WIDTH + 8) + j);
        re += v * t.g[r].x;
        im += v * t.g[r].y;
        own += j == 0 ? t.g[r].x : t.g[r].y;
    }
    float *to = q.out_sums + 2 * (int64_t)t.index * (WIDTH + 1);
    to[2 * j] = re;
    to[2 * j + 1] = im;
    if (j < 2) to[2 * WIDTH + j] = own;
}

/* dh = g W_out^T */
template <int WIDTH> __device__ static inline void start_back(sums *s, const job &q, const tile &t)
{
    const float *w = output_at<WIDTH>(q);
    const int first = (int)threadIdx.x / 32 * 32;
    HET_UNROLL for (int e = 0; e < LANE; e++)
    {
        const int r = s->place[e] / 16, c = first + s->place[e] % 16;
        HET_UNROLL for (int j = 0; j < 2; j++)
        {
            const float re = w[2 * (c + 16 * j)], im = w[2 * (c + 16 * j) + 1];
            HET_UNROLL for (int i = 0; i < HIGH; i++)
                s->of[i][j].x[e] = t.g[16 * i + r].x * re + t.g[16 * i + r].y * im;
        }
    }
}

/* dz = dh where the layer's relu let through, into the tile */
template <int WIDTH> __device__ static inline void mask_sums(const sums *s, const tile &t, int layer)
{
    const int first = (int)threadIdx.x / 32 * 32;
    uint32_t mask[4];
    HET_UNROLL for (int i = 0; i < 4; i++) mask[i] = t.mask[(4 * layer + i) * WIDTH + (int)threadIdx.x];
    HET_UNROLL for (int e = 0; e < LANE; e++)
    {
        const int r = s->place[e] / 16, c = first + s->place[e] % 16;
        HET_UNROLL for (int i = 0; i < HIGH; i++)
            HET_UNROLL for (int j = 0; j < 2; j++)
            {
                const int bit = 8 * (2 * i + j) + e;
                const bool open = (mask[bit / 32] >> (bit % 32) & 1u) != 0;
                het_store(t.act, (16 * i + r) * (WIDTH + 8) + c + 16 * j, open ? s->of[i][j].x[e] : 0.0f);
            }
    }
}

/* Over the tile's rows, thread j: of column j of dz. In the first layer image by image. */
template <int WIDTH> __device__ static inline void sum_bias(const job &q, const tile &t, int layer)
{
    const int j = (int)threadIdx.x;
    float *slots = q.slots + (int64_t)t.index * t.slot_row + 2 * q.frequencies + j, sum = 0.0f;
    int slot = t.rows[0].slot;
    for (int r = 0; r < ROWS; r++) {
        if (layer == 0 && t.rows[r].slot != slot) {
            slots[(int64_t)slot * t.slot_row] = sum;
            sum = 0.0f;
            slot = t.rows[r].slot;
        }
        sum += het_load(t.act, r * (WIDTH + 8) + j);
    }
    if (layer == 0) slots[(int64_t)slot * t.slot_row] = sum;
    else q.bias_sums[((layer - 1) * q.tiles + t.index) * WIDTH + j] = sum;
}

/* kx and ky times the phase's gradient, s (cos d(s sin) - s sin dcos), over the rows of 16 frequencies of the tile. Lane: a
   frequency, and kx or ky. */
__device__ static inline void sum_phases(const sums *s, const job &q, const tile &t, int unit)
{
    const int f = q.frequencies, lane = (int)threadIdx.x % 32, n = 16 * unit + lane % 16, axis = lane / 16;
    const het_narrow *x = q.x + (int64_t)t.index * ROWS * 2 * f + n;
    float *dcos = t.stage, *dsin = t.stage + 16 * STAGE, sum = 0.0f;
    float *slots = q.slots + (int64_t)t.index * t.slot_row + axis * f + n;
    int slot = t.rows[0].slot;
    HET_UNROLL for (int i = 0; i < HIGH; i++)
    {
        wmma::store_matrix_sync(dcos, s->of[i][0], STAGE, wmma::mem_row_major);
        wmma::store_matrix_sync(dsin, s->of[i][1], STAGE, wmma::mem_row_major);
        __syncwarp();
        for (int r = 0; r < 16; r++) {
            const row at = t.rows[16 * i + r];
            const int64_t here = (int64_t)(16 * i + r) * 2 * f;
            if (at.slot != slot) {
                slots[(int64_t)slot * t.slot_row] = sum;
                sum = 0.0f;
                slot = at.slot;
            }
            const float slope = het_load(x, here) * dsin[r * STAGE + lane % 16] -
                                het_load(x, here + f) * dcos[r * STAGE + lane % 16];
            sum += at.sign * (float)(axis == 0 ? at.kx : at.ky) * slope;
        }
        __syncwarp();
    }
    slots[(int64_t)slot * t.slot_row] = sum;
}

template <int WIDTH> __global__ void __launch_bounds__(WIDTH, 256 / WIDTH) fused_backward(job q)
{
    HET_SHARED(shared);
    const tile t = tile_of(q, shared, WIDTH, 1);
    const int warp = (int)threadIdx.x / 32, units = q.frequencies / 16, columns = WIDTH / 16;
    sums s;
    find_places(&s, shared);
    run_layers<WIDTH>(&s, q, t, true);
    sum_output<WIDTH>(q, t);
    start_back<WIDTH>(&s, q, t);
    for (int l = q.layers - 1; l >= 0; l--) {
        __syncthreads();
        mask_sums<WIDTH>(&s, t, l);
        __syncthreads();
        copy_out(q.dz[l], t, WIDTH);
        sum_bias<WIDTH>(q, t, l);
        if (l == 0) break;
        const int square = (2 * units + (l - 1) * columns) * columns + 2 * warp;
        if (q.plain) clear(&s);
        multiply(&s, t.act, WIDTH + 8, q.backward, square, square + 1, columns, columns);
    }
    for (int unit = warp; unit < units; unit += WIDTH / 32) {
        clear(&s);
        multiply(&s, t.act, WIDTH + 8, q.backward, unit, units + unit, 2 * units, columns);
        sum_phases(&s, q, t, unit);
    }
}

/* ---- around them ---------------------------------------------------------------------------------------------------- */

/* u_j = freq . R[j,:]/D, and that of the third row times kz: in turns, whole ones gone. */
__global__ void fill_turns(float *turns, chunk c, const float *freq, const float *rot, const float *kz, int64_t box, int64_t f)
{
    HET_FOR(i, c.images * 3 * f)
    {
        const int64_t axis = i / f % 3, n = i % f;
        const int32_t image = het_decode_image_of(c, c.first_image + i / (3 * f));
        double u = 0.0;
        for (int d = 0; d < 3; d++) u += (double)freq[3 * n + d] * rot[9 * image + 3 * axis + d];
        u /= (double)box;
        if (axis == 2) u *= kz == NULL ? 0.0 : (double)kz[image];
        turns[i] = (float)(u - rint(u));
    }
}

/* A matrix with element (k, n) at w[k down + n across], in squares of 16 x 16, `columns` from one step of 16 k to the next. Grid
   (squares), one warp each. */
__global__ void pack_squares(uint4 *to, const float *w, int columns, int64_t down, int64_t across)
{
    alignas(32) __shared__ het_narrow square[SQUARE];
    const int64_t k = (int64_t)blockIdx.x / columns * 16, n = (int64_t)blockIdx.x % columns * 16;
    for (int i = (int)threadIdx.x; i < SQUARE; i += 32) het_store(square, i, w[(k + i % 16) * down + (n + i / 16) * across]);
    __syncwarp();
    right_square b;
    wmma::load_matrix_sync(b, (const __nv_bfloat16 *)square, 16);
    for (int i = 0; i < PIECES; i++) to[((int64_t)blockIdx.x * 32 + threadIdx.x) * PIECES + i] = ((const uint4 *)b.x)[i];
}

/* dphase (images, 2, F) = and dbias (B, H) += the sums of each image's slots. */
__global__ void join_slots(float *dphase, float *dbias, const float *slots, chunk c, int64_t f, int64_t width)
{
    const int64_t all = 2 * f + width;
    HET_FOR(i, c.images * all)
    {
        const int64_t slot = i / all, j = i % all;
        int64_t begin, end;
        het_decode_rows_of(c, slot, &begin, &end);
        double sum = 0.0;
        for (int64_t t = begin / ROWS; t <= (end - 1) / ROWS; t++) sum += slots[(t + slot) * all + j];
        if (j < 2 * f) dphase[slot * 2 * f + j] = (float)sum;
        else dbias[het_decode_image_of(c, c.first_image + slot) * width + j - 2 * f] += (float)sum;
    }
}

static int shared_bytes(const het_decode_spec *s, int back)
{
    return layout_of((int)s->width, (int)s->frequencies, (int)s->layers, back).bytes;
}

int het_cuda_fused_fits(het_cuda *c, const het_decode_spec *s)
{
    int device = 0, most = 0;
    if (!c->narrow || (s->width != 128 && s->width != 256) || s->frequencies > 1024) return 0;
    HET_CUDA(c, cudaGetDevice(&device));
    HET_CUDA(c, cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return shared_bytes(s, 1) <= most;
}

/* Kernels get more than 48 KiB of shared memory only when that is asked for. */
template <int WIDTH> static void ask_shared(het_cuda *c, const het_decode_spec *s)
{
    HET_CUDA(c, cudaFuncSetAttribute(fused_forward<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(s, 0)));
    HET_CUDA(c, cudaFuncSetAttribute(fused_backward<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(s, 1)));
}

int het_cuda_fused_allocate(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t tiles = het_tiles(d->capacity, ROWS), f2 = 2 * s->frequencies, four = sizeof(float);
    const int64_t squares = (f2 + (s->layers - 1) * s->width) * s->width / SQUARE, square = 32 * PIECES * sizeof(uint4);
    const int64_t sums_of_tile = 2 * (s->width + 1) + (s->layers - 1) * s->width;
    d->forward = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(squares * square));
    d->backward = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(squares * square));
    d->turns = (float *)het_cuda_alloc(d->cuda, (size_t)(HET_DECODE_IMAGES * 3 * s->frequencies * four));
    d->slots = (float *)het_cuda_alloc(d->cuda, (size_t)((tiles + HET_DECODE_IMAGES) * (f2 + s->width) * four));
    d->partial = (float *)het_cuda_alloc(d->cuda, (size_t)(tiles * sums_of_tile * four));
    return d->forward != NULL && d->backward != NULL && d->turns != NULL && d->slots != NULL && d->partial != NULL;
}

void het_cuda_fused_load(het_decode *d)
{
    const int64_t width = d->spec.width, square = 32 * PIECES;
    int64_t at = 0;
    for (int64_t l = 0; l < d->spec.layers; l++) {
        const int64_t inputs = het_decode_inputs(&d->spec, l), squares = inputs * width / SQUARE;
        const float *w = d->params + het_decode_layer_at(&d->spec, l);
        HET_LAUNCH_MEET(d->cuda, pack_squares, (unsigned)squares, 32, d->forward + at, w, (int)width / 16, width, (int64_t)1);
        HET_LAUNCH_MEET(d->cuda, pack_squares, (unsigned)squares, 32, d->backward + at, w, (int)inputs / 16, (int64_t)1, width);
        at += squares * square;
    }
}

/* Rows and phases of the chunk, and what its kernel needs of the plan. */
static job prepare(het_decode *d, const chunk *k, const float *rot, const float *bias, const float *kz)
{
    const het_decode_spec *s = &d->spec;
    job q = job();
    het_cuda_decode_rows(d, k, rot, kz);
    HET_LAUNCH(d->cuda, fill_turns, het_blocks(k->images * 3 * s->frequencies), HET_BLOCK, d->turns, *k, d->freq, rot, kz, s->box,
               s->frequencies);
    q.rows = d->rows;
    q.count = k->rows;
    q.tiles = het_tiles(k->rows, ROWS);
    q.points = k->points;
    q.turns = d->turns;
    q.bias = bias;
    q.params = d->params;
    q.forward = d->forward;
    q.backward = d->backward;
    q.frequencies = (int)s->frequencies;
    q.layers = (int)s->layers;
    q.plain = s->plain;
    if (s->width == 128) ask_shared<128>(d->cuda, s);
    else ask_shared<256>(d->cuda, s);
    return q;
}

void het_cuda_fused_forward(het_decode *d, const chunk *k, float *slice, const float *rot, const float *bias, const float *kz)
{
    job q = prepare(d, k, rot, bias, kz);
    const int bytes = shared_bytes(&d->spec, 0);
    q.slice = slice;
    if (d->spec.width == 128) HET_LAUNCH_SHARED(d->cuda, fused_forward<128>, (unsigned)q.tiles, 128, bytes, q);
    else HET_LAUNCH_SHARED(d->cuda, fused_forward<256>, (unsigned)q.tiles, 256, bytes, q);
}

void het_cuda_fused_backward(het_decode *d, const chunk *k, float *dparams, float *drot, float *dbias, const float *dslice,
                             const float *rot, const float *bias)
{
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t width = s->width;
    const int bytes = shared_bytes(s, 1);
    job q = prepare(d, k, rot, bias, NULL);
    q.dslice = dslice;
    q.x = (het_narrow *)d->x;
    for (int64_t l = 0; l < s->layers; l++) {
        q.h[l] = (het_narrow *)d->h[l];
        q.dz[l] = (het_narrow *)d->dz[l];
    }
    q.out_sums = d->partial;
    q.bias_sums = q.out_sums + q.tiles * 2 * (width + 1);
    q.slots = d->slots;
    if (width == 128) HET_LAUNCH_SHARED(c, fused_backward<128>, (unsigned)q.tiles, 128, bytes, q);
    else HET_LAUNCH_SHARED(c, fused_backward<256>, (unsigned)q.tiles, 256, bytes, q);
    het_cuda_decode_join(c, dparams + het_decode_layer_at(s, s->layers), q.out_sums, q.tiles, 2 * (width + 1));
    for (int64_t l = 0; l < s->layers; l++) {
        float *db = dparams + het_decode_layer_at(s, l) + width * width;
        if (l > 0) het_cuda_decode_join(c, db, q.bias_sums + (l - 1) * q.tiles * width, q.tiles, width);
        het_cuda_decode_weights(d, k, dparams, l, d->dz[l]);
    }
    HET_LAUNCH(c, join_slots, het_blocks(k->images * (2 * s->frequencies + width)), HET_BLOCK, d->dphase, dbias, d->slots, *k,
               s->frequencies, width);
    het_cuda_decode_rotations(d, k, drot);
}
