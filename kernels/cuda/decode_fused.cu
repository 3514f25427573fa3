/* The coordinate network with all layers of a tile in one kernel, on tensor cores (nvcuda::wmma: bf16 in, fp32 sums).
 *
 * A block takes a tile of 128 rows and has one warp for each 64 rows (a part) and 32 columns of the width: 256 or 512 threads. A warp
 * computes 4 x 2 squares of 16 x 16 sums in its registers. Weights come straight from L2, one step of k ahead, and lie there as a warp's lanes
 * hold them, a square in one access; the two parts read the same ones at about the same time, the second from L1. Activations of the tile
 * stay in shared memory, in one place: a layer's inputs are read by all before any output is written over them. Between two layers
 * there are two barriers and nothing else. Where a number of a square of sums lies wmma does not say; it is taken to be where the PTX ISA
 * has it for the instruction beneath, and asked once, when a plan is made, by loading a square that counts.
 *
 *  forward    features -> h_0 .. h_top -> slice; nothing but the slice is written
 *  backward   the same again, keeping relu masks as bits in shared memory and writing x, h_l; then dh in registers,
 *             dz_l = dh where relu let through, over the activations;  dh = [dh +] dz_l W_l^T adds onto what the registers
 *             hold;  at the bottom dx W_0^T to the phases, of which sums over an image's rows alone are written.
 * Weights' gradients, in^T dz_l over all rows of a chunk, are products of long k and small result: cuBLASLt's. The sums
 * over a part's rows - biases, W_out - are joined part by part, those of one image (dbias, phases) slot by slot, in one
 * order: no atomics, the same bits in every run. Part t of all and the chunk's image i share slot t + i, as one of them grows
 * from each stretch of rows to the next.
 *
 * Precision is that of the CPU's bf16 tiles: x, W_l, h_l (the residual sum's, too) and dz_l are rounded, sums, dh, biases
 * and W_out are fp32; biases' gradients are sums of the rounded dz_l. Phases are fp32 in turns.
 *
 * Computed, not measured, for 192 frequencies, width 256, 4 layers (the defaults): forward 590 kFLOP a row, 75 MFLOP and
 * 590 KB of weights from L2 a tile: 128 FLOP a byte, or 3.5 TB/s of L2 at 450 TFLOP/s. Backward 1.2 MFLOP a row here and
 * 0.6 in cuBLASLt; writes 4.4 KB a row, which cuBLASLt reads once. Shared memory: 101 KiB forward, 138 KiB backward; at
 * width 128 with 128 frequencies and 3 layers 69 and 86. Registers let one block on an SM at width 256, two at 128, shared memory of
 * an A100 one in backward.
 * Counted in the PTX (tests/ptx), in a tile of a forward: 9,200 products of 16 x 16 x 16, 25,000 accesses of shared memory, three
 * quarters of them for products, 95,000 instructions of warps in all; of a backward 18,400, 57,000 and 219,000. Tiles of 64 rows
 * would read weights from L2 twice as often, which is near its limit as it is. To try on a GPU: PARTS = 1, half as many warps of
 * twice the registers. */
#include "decode_tile.h"
#include "product.h"

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* slice = h W_out + b_out, its imaginary part folded: four lanes for each row, each takes 8 columns of every 32. Eight lanes, whose
   accesses go at once, have rows four apart, which lie in other banks. */
template <int WIDTH> __device__ static inline void write_slice(const job &q, const tile &t)
{
    const float *w = output_at<WIDTH>(q);
    const int lane = (int)threadIdx.x % 32, mine = lane % 4;
    for (int first = (int)threadIdx.x / 32 * 8; first < ROWS; first += PARTS * WIDTH / 4) {
        const int r = first + lane / 8 + lane / 4 % 2 * 4;
        const int64_t at = (int64_t)t.index * ROWS + r;
        het_narrow *h = t.act + r * (WIDTH + 8);
        float2 even = make_float2(0.0f, 0.0f), odd = even; /* (re, im) of columns */
        for (int j = 8 * mine; j < WIDTH; j += 32) {
            const uint4 eight = *(const uint4 *)(h + j);
            const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
            HET_UNROLL for (int n = 0; n < 4; n++)
            {
                const float4 weights = *(const float4 *)(w + 2 * j + 4 * n);
                const float2 pair = split(pairs[n]);
                even.x += pair.x * weights.x;
                even.y += pair.x * weights.y;
                odd.x += pair.y * weights.z;
                odd.y += pair.y * weights.w;
            }
        }
        /* The row is the four lanes' alone: their sums take its place. */
        __syncwarp();
        ((float2 *)h)[mine] = make_float2(even.x + odd.x, even.y + odd.y);
        __syncwarp();
        if (mine < 2 && at < q.count) {
            const float *of = (const float *)h + mine;
            const float sum = of[0] + of[2] + of[4] + of[6] + w[2 * WIDTH + mine];
            q.slice[2 * at + mine] = mine == 0 ? sum : t.rows[r].sign * sum;
        }
    }
}

/* Grid (tiles), a block of PARTS x WIDTH threads. */
template <int WIDTH> __global__ void __launch_bounds__(PARTS *WIDTH, 256 / WIDTH) fused_forward(job q)
{
    HET_SHARED(shared);
    const tile t = tile_of(q, shared, WIDTH, 0);
    sums s;
    run_layers<WIDTH>(&s, q, t, false);
    write_slice<WIDTH>(q, t);
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* An index that the compiler is to count up or work out anew, in place of keeping in registers all addresses that come of it. */
#ifdef __CUDACC__
#define HET_COUNT(index) asm volatile("" : "+r"(index)::"memory")
#else
#define HET_COUNT(index)
#endif

/* Sums over rows of a part, of the warp's 32 columns: half of its lanes takes the first four rows of each eight, half the others, and a
   lane two neighbouring columns: all in different banks. The lane's first row and column. */
__device__ static inline int summed_row(const tile &t)
{
    return t.first_row + (int)threadIdx.x % 32 / 16 * 4;
}

__device__ static inline int summed_column(const tile &t)
{
    return t.first_column + (int)threadIdx.x % 16 * 2;
}

/* The whole sum of a lane's own column, from halves of two neighbouring ones, by way of 64 numbers of the stage. */
__device__ static inline float join_halves(float *stage, float2 half)
{
    const int lane = (int)threadIdx.x % 32;
    ((float2 *)stage)[lane] = half;
    __syncwarp();
    return stage[lane] + stage[32 + lane];
}

/* Of h times g, and over all rows of g itself. */
template <int WIDTH> __device__ static inline void sum_output(const job &q, const tile &t)
{
    const int lane = (int)threadIdx.x % 32, first = summed_row(t), column = summed_column(t);
    float2 re = make_float2(0.0f, 0.0f), im = re;
    for (int i = 0; i < PART; i += 8)
        HET_UNROLL for (int r = first + i; r < first + i + 4; r++)
        {
            const float2 h = load_pair(t.act, r * (WIDTH + 8) + column), g = t.g[r];
            re.x += h.x * g.x;
            re.y += h.y * g.x;
            im.x += h.x * g.y;
            im.y += h.y * g.y;
        }
    float2 *to = (float2 *)q.out_sums + (PARTS * (int64_t)t.index + t.first_row / PART) * (WIDTH + 1);
    const float whole = join_halves(t.stage, re);
    to[t.first_column + lane] = make_float2(whole, join_halves(t.stage + 64, im));
    if (t.first_column > 0 || lane > 0) return;
    float2 own = make_float2(0.0f, 0.0f);
    for (int r = t.first_row; r < t.first_row + PART; r++) {
        own.x += t.g[r].x;
        own.y += t.g[r].y;
    }
    to[WIDTH] = own;
}

/* dh = g W_out^T */
template <int WIDTH> __device__ static inline void start_back(sums *s, const job &q, const tile &t)
{
    const float *w = output_at<WIDTH>(q);
    HET_UNROLL for (int e = 0; e < LANE; e++)
    {
        const int r = t.first_row + row_of(e), c = t.first_column + column_of(e);
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
    uint32_t mask[MASKS];
    HET_UNROLL for (int i = 0; i < MASKS; i++) mask[i] = t.mask[(MASKS * layer + i) * PARTS * WIDTH + (int)threadIdx.x];
    HET_UNROLL for (int e = 0; e < LANE; e += 2)
    {
        const int r = t.first_row + row_of(e), c = t.first_column + column_of(e);
        HET_UNROLL for (int i = 0; i < HIGH; i++)
            HET_UNROLL for (int j = 0; j < 2; j++)
            {
                const int bit = 8 * (2 * i + j) + e;
                const uint32_t open = mask[bit / 32] >> (bit % 32);
                store_pair(t.act, (16 * i + r) * (WIDTH + 8) + c + 16 * j, (open & 1u) != 0 ? s->of[i][j].x[e] : 0.0f,
                           (open & 2u) != 0 ? s->of[i][j].x[e + 1] : 0.0f);
            }
    }
}

/* Of dz, over rows of one image, or ALL of the part. */
template <int WIDTH, bool ALL> __device__ static inline float sum_rows(const tile &t, int slot)
{
    const int first = summed_row(t), column = summed_column(t);
    float2 sum = make_float2(0.0f, 0.0f);
    for (int i = 0; i < PART; i += 8)
        HET_UNROLL for (int r = first + i; r < first + i + 4; r++)
        {
            const float2 dz = load_pair(t.act, r * (WIDTH + 8) + column);
            const bool counts = ALL || t.rows[r].slot == slot;
            sum.x += counts ? dz.x : 0.0f;
            sum.y += counts ? dz.y : 0.0f;
        }
    return join_halves(t.stage, sum);
}

/* The same, put where it goes: in the first layer image by image, of which a part mostly has one. */
template <int WIDTH> __device__ static inline void sum_bias(const job &q, const tile &t, int layer)
{
    const int64_t part = PARTS * (int64_t)t.index + t.first_row / PART;
    const int last = t.rows[t.first_row + PART - 1].slot;
    int slot = t.rows[t.first_row].slot, column = t.first_column + (int)threadIdx.x % 32;
    HET_COUNT(column);
    if (layer > 0 || slot == last) {
        const float sum = sum_rows<WIDTH, true>(t, slot);
        if (layer > 0) q.bias_sums[((layer - 1) * q.parts + part) * WIDTH + column] = sum;
        else q.slots[(part + slot) * t.slot_row + 2 * q.frequencies + column] = sum;
        return;
    }
    for (; slot <= last; slot++) {
        q.slots[(part + slot) * t.slot_row + 2 * q.frequencies + column] = sum_rows<WIDTH, false>(t, slot);
        __syncwarp();
    }
}

/* kx and ky times the phase's gradient, s (cos d(s sin) - s sin dcos), over a part's rows of one image, for 16 frequencies. A lane has
   the rows and columns of its numbers; then the 8 lanes with the same columns are added up in order: a lane
   for each frequency, and kx or ky. */
__device__ static inline void sum_phases_of(const sums *s, const job &q, const tile &t, int part, int unit, int slot)
{
    const int f = q.frequencies, lane = (int)threadIdx.x % 32;
    const het_narrow *x = q.x + (int64_t)t.index * ROWS * 2 * f + 16 * unit;
    const row *rows = t.rows + part * PART;
    int here = (part * PART + row_of(0)) * 2 * f + column_of(0);
    float across[4] = {0.0f, 0.0f, 0.0f, 0.0f}, up[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* columns of e = 0, 1, 4, 5 */
    HET_UNROLL for (int i = 0; i < HIGH; i++)
    {
        HET_UNROLL for (int e = 0; e < LANE; e += 2)
        {
            const int column = e / 4 * 2;
            const row at = rows[16 * i + row_of(e)];
            const int feature = here + e / 2 % 2 * 16 * f + e / 4 * 8;
            const float2 cosine = load_pair(x, feature), sine = load_pair(x, feature + f);
            const float sign = at.slot == slot ? at.sign : 0.0f;
            const float slope[2] = {sign * (cosine.x * s->of[i][1].x[e] - sine.x * s->of[i][0].x[e]),
                                    sign * (cosine.y * s->of[i][1].x[e + 1] - sine.y * s->of[i][0].x[e + 1])};
            HET_UNROLL for (int j = 0; j < 2; j++)
            {
                across[column + j] += at.kx * slope[j];
                up[column + j] += at.ky * slope[j];
            }
        }
        here += 32 * f;
        HET_COUNT(here);
    }
    /* Stage: (8 lanes, kx and ky, 16 columns); what it held before has been read */
    __syncwarp();
    float *mine = t.stage + lane / 4 * STAGE_ROW;
    HET_UNROLL for (int j = 0; j < 4; j++)
    {
        mine[column_of(j % 2 + j / 2 * 4)] = across[j];
        mine[16 + column_of(j % 2 + j / 2 * 4)] = up[j];
    }
    __syncwarp();
    float sum = 0.0f;
    HET_UNROLL for (int i = 0; i < 8; i++) sum += t.stage[STAGE_ROW * i + lane];
    q.slots[(PARTS * (int64_t)t.index + part + slot) * t.slot_row + lane / 16 * f + 16 * unit + lane % 16] = sum;
}

/* The same for all images of the part: mostly one or two. */
__device__ static inline void sum_phases(const sums *s, const job &q, const tile &t, int part, int unit)
{
    const row *rows = t.rows + part * PART;
    for (int slot = rows[0].slot; slot <= rows[PART - 1].slot; slot++) sum_phases_of(s, q, t, part, unit, slot);
}

template <int WIDTH> __global__ void __launch_bounds__(PARTS *WIDTH, 256 / WIDTH) fused_backward(job q)
{
    HET_SHARED(shared);
    const tile t = tile_of(q, shared, WIDTH, 1);
    const int warp = (int)threadIdx.x / 32, units = q.frequencies / 16, columns = WIDTH / 16;
    sums s;
    run_layers<WIDTH>(&s, q, t, true);
    sum_output<WIDTH>(q, t);
    start_back<WIDTH>(&s, q, t);
    for (int l = q.layers - 1; l >= 0; l--) {
        __syncthreads();
        mask_sums<WIDTH>(&s, t, l);
        __syncthreads();
        copy_out<WIDTH>(q.dz[l], t, WIDTH);
        sum_bias<WIDTH>(q, t, l);
        if (l == 0) break;
        const int square = (2 * units + (l - 1) * columns) * columns + t.first_column / 16;
        if (q.plain) clear(&s);
        multiply(&s, t.act + t.first_row * (WIDTH + 8), WIDTH + 8, q.backward, square, square + 1, columns, columns);
    }
    for (int i = warp; i < PARTS * units; i += PARTS * WIDTH / 32) {
        const int part = i / units, unit = i % units;
        clear(&s);
        multiply(&s, t.act + part * PART * (WIDTH + 8), WIDTH + 8, q.backward, unit, units + unit, 2 * units, columns);
        sum_phases(&s, q, t, part, unit);
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
__global__ void join_slots(float *dphase, float *dbias, const float *slots, chunk c, int64_t part_rows, int64_t f, int64_t width)
{
    const int64_t all = 2 * f + width;
    HET_FOR(i, c.images * all)
    {
        const int64_t slot = i / all, j = i % all;
        int64_t begin, end;
        het_decode_rows_of(c, slot, &begin, &end);
        double sum = 0.0;
        for (int64_t t = begin / part_rows; t <= (end - 1) / part_rows; t++) sum += slots[(t + slot) * all + j];
        if (j < 2 * f) dphase[slot * 2 * f + j] = (float)sum;
        else dbias[het_decode_image_of(c, c.first_image + slot) * width + j - 2 * f] += (float)sum;
    }
}

static int shared_bytes(const het_decode_spec *s, int back)
{
    return layout_of((int)s->width, (int)s->frequencies, (int)s->layers, back).bytes;
}

/* wrong (32): of each lane, whether its numbers of a square of sums lie elsewhere than at row_of, column_of. One warp. */
__global__ void find_misplaced(int32_t *wrong)
{
    alignas(32) __shared__ float square[SQUARE];
    for (int i = (int)threadIdx.x; i < SQUARE; i += 32) square[i] = (float)i;
    __syncwarp();
    sum_square counted;
    wmma::load_matrix_sync(counted, square, 16, wmma::mem_row_major);
    int32_t misplaced = 0;
    for (int e = 0; e < LANE; e++) misplaced |= counted.x[e] != (float)(16 * row_of(e) + column_of(e));
    wrong[threadIdx.x] = misplaced;
}

static int squares_lie_right(het_cuda *c)
{
    int32_t wrong[32] = {0}, any = 0, *found = (int32_t *)het_cuda_alloc(c, sizeof wrong);
    if (found == NULL) return 0;
    HET_LAUNCH_MEET(c, find_misplaced, 1, 32, found);
    het_cuda_download(c, wrong, found, sizeof wrong);
    het_cuda_free(c, found);
    for (int i = 0; i < 32; i++) any |= wrong[i];
    if (any) c->host->warn("the decoder goes layer by layer: this GPU's squares of sums are not laid out as the fused kernels want them");
    return !any;
}

int het_cuda_fused_fits(het_cuda *c, const het_decode_spec *s)
{
    if (!c->narrow || (s->width != 128 && s->width != 256) || s->frequencies > 1024 || !squares_lie_right(c)) return 0;
    return shared_bytes(s, 1) <= c->shared_most;
}

/* Kernels get more than 48 KiB of shared memory only when that is asked for. */
template <int WIDTH> static void run_forward(het_cuda *c, const job &q, int bytes)
{
    HET_CUDA(c, cudaFuncSetAttribute(fused_forward<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    HET_LAUNCH_SHARED(c, fused_forward<WIDTH>, (unsigned)q.tiles, PARTS * WIDTH, bytes, q);
}

template <int WIDTH> static void run_backward(het_cuda *c, const job &q, int bytes)
{
    HET_CUDA(c, cudaFuncSetAttribute(fused_backward<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    HET_LAUNCH_SHARED(c, fused_backward<WIDTH>, (unsigned)q.tiles, PARTS * WIDTH, bytes, q);
}

/* Rows of a part of a tile: a warp's where wgmma is used. */
static int64_t part_rows(const het_decode *d)
{
    return d->wgmma ? 16 : (int64_t)PART;
}

int het_cuda_fused_allocate(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t parts = het_decode_tiles(d) * ROWS / part_rows(d), f2 = 2 * s->frequencies, four = sizeof(float);
    const int64_t squares = (f2 + (s->layers - 1) * s->width) * s->width / SQUARE, square = 32 * PIECES * sizeof(uint4);
    const int64_t sums_of_part = 2 * (s->width + 1) + (s->layers - 1) * s->width;
    d->forward = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(squares * square));
    d->backward = (uint4 *)het_cuda_alloc(d->cuda, (size_t)(squares * square));
    d->turns = (float *)het_cuda_alloc(d->cuda, (size_t)(HET_DECODE_IMAGES * 3 * s->frequencies * four));
    d->slots = (float *)het_cuda_alloc(d->cuda, (size_t)((parts + HET_DECODE_IMAGES) * (f2 + s->width) * four));
    d->partial = (float *)het_cuda_alloc(d->cuda, (size_t)(parts * sums_of_part * four));
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
    q.forward = d->wgmma ? d->stages : d->forward;
    q.backward = d->backward;
    q.frequencies = (int)s->frequencies;
    q.layers = (int)s->layers;
    q.plain = s->plain;
    return q;
}

void het_cuda_fused_forward(het_decode *d, const chunk *k, float *slice, const float *rot, const float *bias, const float *kz)
{
    job q = prepare(d, k, rot, bias, kz);
    q.slice = slice;
    if (d->wgmma) het_cuda_wgmma_forward(d->cuda, q);
    else (d->spec.width == 128 ? run_forward<128> : run_forward<256>)(d->cuda, q, shared_bytes(&d->spec, 0));
}

void het_cuda_fused_backward(het_decode *d, const chunk *k, float *dparams, float *drot, float *dbias, const float *dslice,
                             const float *rot, const float *bias)
{
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t width = s->width;
    job q = prepare(d, k, rot, bias, NULL);
    q.dslice = dslice;
    q.x = (het_narrow *)d->x;
    for (int64_t l = 0; l < s->layers; l++) {
        q.h[l] = (het_narrow *)d->h[l];
        q.dz[l] = (het_narrow *)d->dz[l];
    }
    const int64_t parts = q.tiles * ROWS / part_rows(d);
    q.parts = d->wgmma ? parts + parts % (2 * ROWS / 16) : parts; /* with wgmma those of a tile that makes the number of tiles even */
    q.out_sums = d->partial;
    q.bias_sums = q.out_sums + q.parts * 2 * (width + 1);
    q.slots = d->slots;
    if (d->wgmma) het_cuda_wgmma_backward(c, q);
    else (width == 128 ? run_backward<128> : run_backward<256>)(c, q, shared_bytes(s, 1));
    het_cuda_join(c, dparams + het_decode_layer_at(s, s->layers), q.out_sums, parts, 2 * (width + 1));
    for (int64_t l = 0; l < s->layers; l++) {
        float *db = dparams + het_decode_layer_at(s, l) + width * width;
        if (l > 0) het_cuda_join(c, db, q.bias_sums + (l - 1) * q.parts * width, parts, width);
        het_cuda_decode_weights(d, k, dparams, l, d->dz[l]);
    }
    HET_LAUNCH(c, join_slots, het_blocks(k->images * (2 * s->frequencies + width)), HET_BLOCK, d->dphase, dbias, d->slots, *k,
               part_rows(d), s->frequencies, width);
    het_cuda_decode_rotations(d, k, drot);
}
