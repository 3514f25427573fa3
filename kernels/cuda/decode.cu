/* The coordinate network layer by layer: products by cuBLASLt, everything between them in kernels of their own. The plan,
 * too, and what it shares with the fused kernels (decode_fused.cu).
 *
 * Rows - points of listed images, in order - go through all layers in chunks (rows_most); the images of a chunk have
 * their phase tables made first. The backward repeats the forward of its chunk and then goes down:
 *      dz_l = dh where relu let through;   dW_l += in^T dz_l;   din = dz_l W_l^T;   dh = din [+ dh]
 * and at the bottom from dx to the phases' gradients, which are summed over an image's points and taken to drot. Features,
 * hidden activations, weights and dz enter products in the device's precision, all else is fp32, as on the CPU.
 * Sums over rows go by slices that are joined in order: no atomics, the same bits in every run. */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

#include "members.h"
#include "product.h"

enum { WIDE = 32, HIGH = 8, SLICES_MAX = 128, SLICE_ROWS_MIN = 64 };
enum { IMAGES_MAX = HET_DECODE_IMAGES };

typedef het_decode_row row;
typedef het_decode_chunk chunk;

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* +1 or -1 by the half-space of q, 0 at the origin */
__device__ static inline float fold_sign(const float *rot, float kx, float ky, float kz)
{
    for (int d = 2; d >= 0; d--) {
        const float q = kx * rot[d] + ky * rot[3 + d] + kz * rot[6 + d];
        if (q != 0.0f) return q > 0.0f ? 1.0f : -1.0f;
    }
    return 0.0f;
}

__global__ void fill_rows(row *rows, chunk c, const float *rot, const float *kz)
{
    HET_FOR(r, c.rows)
    {
        const int64_t listed = (c.first + r) / c.points, point = (c.first + r) % c.points;
        const int32_t image = het_decode_image_of(c, listed);
        const int32_t kx = c.kxy[2 * point], ky = c.kxy[2 * point + 1];
        const float sign = fold_sign(rot + 9 * image, (float)kx, (float)ky, kz == NULL ? 0.0f : kz[image]);
        rows[r] = {image, (int32_t)(listed - c.first_image), (int32_t)point, (int16_t)kx, (int16_t)ky, sign};
    }
}

/* cos, sin of 2 pi (k u_j + offset), u_j = freq . R[j,:]/D: in turns, double until whole turns are gone. */
__global__ void fill_tables(float *tables, chunk c, const float *freq, const float *rot, const float *kz, int64_t box,
                            int64_t f, int64_t reach)
{
    const int64_t per_axis = (reach + 1) * f, table = box / 2 * f;
    HET_FOR(i, c.images * 2 * per_axis)
    {
        const int64_t slot = i / (2 * per_axis), axis = i / per_axis % 2, k = i % per_axis / f, n = i % f;
        const int32_t image = het_decode_image_of(c, c.first_image + slot);
        const float *r = rot + 9 * image;
        double turns = 0.0, plane = 0.0;
        for (int d = 0; d < 3; d++) {
            turns += (double)freq[3 * n + d] * r[3 * axis + d];
            plane += (double)freq[3 * n + d] * r[6 + d];
        }
        turns = turns / (double)box * (double)k;
        if (axis == 0 && kz != NULL) turns += plane / (double)box * kz[image];
        float sine, cosine;
        sincospif(2.0f * (float)(turns - rint(turns)), &sine, &cosine);
        float *to = tables + (slot * 4 + 2 * axis) * table + k * f + n;
        to[0] = cosine;
        to[table] = sine;
    }
}

/* x = [cos(phase), s sin(phase)]; grid (row tiles, frequency tiles) */
template <class T>
__global__ void features(void *x, const row *rows, const float *tables, int64_t count, int64_t box, int64_t f)
{
    const int64_t r = (int64_t)blockIdx.x * HIGH + threadIdx.y, n = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    if (r >= count || n >= f) return;
    const row at = rows[r];
    const int64_t table = box / 2 * f, down = at.ky < 0 ? -at.ky : at.ky;
    const float *t = tables + at.slot * 4 * table + n;
    const float cx = t[at.kx * f], sx = t[table + at.kx * f], cy = t[2 * table + down * f];
    const float sy = at.ky < 0 ? -t[3 * table + down * f] : t[3 * table + down * f];
    het_store((T *)x, r * 2 * f + n, cx * cy - sx * sy);
    het_store((T *)x, r * 2 * f + f + n, at.sign * (sx * cy + cx * sy));
}

/* h = relu(z + bias) [+ before]; the bias is the image's own in the first layer. mask NULL: not wanted. */
template <class T>
__global__ void activate(void *h, uint8_t *mask, const float *z, const float *bias, const row *rows, const void *before,
                         int64_t count, int64_t width)
{
    const int64_t r = (int64_t)blockIdx.x * HIGH + threadIdx.y, j = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    if (r >= count || j >= width) return;
    const int64_t i = r * width + j;
    const float v = z[i] + (rows == NULL ? bias[j] : bias[rows[r].image * width + j]);
    const float relu = v <= 0.0f ? 0.0f : v; /* so that NaN passes */
    het_store((T *)h, i, relu + (before == NULL ? 0.0f : het_load((const T *)before, i)));
    if (mask != NULL) mask[i] = v > 0.0f;
}

/* slice = h W_out + b_out, its imaginary part folded; a block takes 8 rows */
template <class T>
__global__ void output(float *slice, const void *h, const float *w, const row *rows, int64_t count, int64_t width)
{
    __shared__ float part[2][HIGH][WIDE];
    const int64_t r = (int64_t)blockIdx.x * HIGH + threadIdx.y;
    float re = 0.0f, im = 0.0f;
    for (int64_t j = threadIdx.x; r < count && j < width; j += WIDE) {
        const float v = het_load((const T *)h, r * width + j);
        re += v * w[2 * j];
        im += v * w[2 * j + 1];
    }
    part[0][threadIdx.y][threadIdx.x] = re;
    part[1][threadIdx.y][threadIdx.x] = im;
    __syncthreads();
    if (threadIdx.x > 1 || r >= count) return;
    float sum = w[2 * width + threadIdx.x];
    for (int i = 0; i < WIDE; i++) sum += part[threadIdx.x][threadIdx.y][i];
    slice[2 * r + threadIdx.x] = threadIdx.x == 0 ? sum : rows[r].sign * sum;
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* g = the gradient of (out_re, out_im) of each row; dh = g W_out^T. Grid (row tiles, column tiles). */
__global__ void output_backward(float *g, float *dh, const float *dslice, const float *w, const row *rows, int64_t count,
                                int64_t points, int64_t width)
{
    const int64_t r = (int64_t)blockIdx.x * HIGH + threadIdx.y, j = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    if (r >= count || j >= width) return;
    const row at = rows[r];
    const float *d = dslice + 2 * (at.image * points + at.point);
    const float re = d[0], im = d[1] * at.sign;
    if (j == 0) {
        g[2 * r] = re;
        g[2 * r + 1] = im;
    }
    dh[r * width + j] = re * w[2 * j] + im * w[2 * j + 1];
}

/* The block's sum over its rows of threads, valid in row 0. */
__device__ static inline float add_rows(float value)
{
    __shared__ float part[HIGH][WIDE];
    part[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    value = 0.0f;
    for (int i = 0; i < HIGH && threadIdx.y == 0; i++) value += part[i][threadIdx.x];
    __syncthreads();
    return value;
}

/* partial (slices, H+1, 2) of h^T g; row H is that of ones. Grid (slices, column tiles). */
template <class T>
__global__ void output_sums(float *partial, const void *h, const float *g, int64_t count, int64_t width)
{
    const int64_t s = blockIdx.x, j = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    float re = 0.0f, im = 0.0f;
    for (int64_t r = count * s / gridDim.x + threadIdx.y; j <= width && r < count * (s + 1) / gridDim.x; r += HIGH) {
        const float v = j == width ? 1.0f : het_load((const T *)h, r * width + j);
        re += v * g[2 * r];
        im += v * g[2 * r + 1];
    }
    re = add_rows(re);
    im = add_rows(im);
    if (threadIdx.y != 0 || j > width) return;
    partial[2 * (s * (width + 1) + j)] = re;
    partial[2 * (s * (width + 1) + j) + 1] = im;
}

/* to (n) += the sum of partial (slices, n). Grid (column tiles). */
__global__ void join_slices(float *to, const float *partial, int64_t slices, int64_t n)
{
    __shared__ double part[HIGH][WIDE];
    const int64_t j = (int64_t)blockIdx.x * WIDE + threadIdx.x;
    double sum = 0.0;
    for (int64_t s = threadIdx.y; j < n && s < slices; s += HIGH) sum += partial[s * n + j];
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || j >= n) return;
    for (int i = 1; i < HIGH; i++) sum += part[i][threadIdx.x];
    to[j] += (float)sum;
}

template <class T> __global__ void mask_gradient(void *dz, const float *dh, const uint8_t *mask, int64_t n)
{
    HET_FOR(i, n) het_store((T *)dz, i, mask[i] ? dh[i] : 0.0f);
}

/* partial (slices, H) of the masked dh, not rounded. Grid (slices, column tiles). */
__global__ void bias_sums(float *partial, const float *dh, const uint8_t *mask, int64_t count, int64_t width)
{
    const int64_t s = blockIdx.x, j = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    float sum = 0.0f;
    for (int64_t r = count * s / gridDim.x + threadIdx.y; j < width && r < count * (s + 1) / gridDim.x; r += HIGH)
        sum += mask[r * width + j] ? dh[r * width + j] : 0.0f;
    sum = add_rows(sum);
    if (threadIdx.y == 0 && j < width) partial[s * width + j] = sum;
}

/* dbias (B,H) += over each image's rows. Grid (images, column tiles). */
__global__ void image_bias_sums(float *dbias, const float *dh, const uint8_t *mask, chunk c, int64_t width)
{
    const int64_t j = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    int64_t begin, end;
    het_decode_rows_of(c, blockIdx.x, &begin, &end);
    float sum = 0.0f;
    for (int64_t r = begin + threadIdx.y; j < width && r < end; r += HIGH)
        sum += mask[r * width + j] ? dh[r * width + j] : 0.0f;
    sum = add_rows(sum);
    if (threadIdx.y == 0 && j < width) dbias[het_decode_image_of(c, c.first_image + blockIdx.x) * width + j] += sum;
}

/* dphase (images, 2, F) = sum over an image's points of kx and ky times the phase's gradient. Grid (images, frequency
   tiles). */
template <class T>
__global__ void phase_sums(float *dphase, const float *dx, const void *x, const row *rows, chunk c, int64_t f)
{
    const int64_t n = (int64_t)blockIdx.y * WIDE + threadIdx.x;
    int64_t begin, end;
    het_decode_rows_of(c, blockIdx.x, &begin, &end);
    float a = 0.0f, b = 0.0f;
    for (int64_t r = begin + threadIdx.y; n < f && r < end; r += HIGH) {
        const row at = rows[r];
        const float cosine = het_load((const T *)x, r * 2 * f + n), sine = at.sign * het_load((const T *)x, r * 2 * f + f + n);
        const float slope = at.sign * cosine * dx[r * 2 * f + f + n] - sine * dx[r * 2 * f + n];
        a += (float)at.kx * slope;
        b += (float)at.ky * slope;
    }
    a = add_rows(a);
    b = add_rows(b);
    if (threadIdx.y != 0 || n >= f) return;
    dphase[2 * blockIdx.x * f + n] = a;
    dphase[(2 * blockIdx.x + 1) * f + n] = b;
}

/* drot (2,3) += 2 pi/D sum_f (da, db) freq_f, for each image of the chunk */
__global__ void rotation_sums(float *drot, const float *dphase, const float *freq, chunk c, int64_t f, int64_t box)
{
    HET_FOR(i, c.images * 6)
    {
        const int64_t slot = i / 6, axis = i / 3 % 2, d = i % 3;
        double sum = 0.0;
        for (int64_t n = 0; n < f; n++) sum += (double)dphase[(2 * slot + axis) * f + n] * freq[3 * n + d];
        const double scale = 2.0 * 3.14159265358979323846 / (double)box;
        drot[9 * het_decode_image_of(c, c.first_image + slot) + 3 * axis + d] += (float)(scale * sum);
    }
}

template <class T> __global__ void convert(void *to, const float *from, int64_t n)
{
    HET_FOR(i, n) het_store((T *)to, i, from[i]);
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

static het_status check_spec(const het_cuda *c, const het_decode_spec *s)
{
    if (s->frequencies < 16 || s->frequencies % 16 != 0)
        return c->host->fail(HET_E_SHAPE, "decoder: %lld frequencies, must be a multiple of 16", (long long)s->frequencies);
    if (s->width < 32 || s->width % 32 != 0)
        return c->host->fail(HET_E_SHAPE, "decoder: width %lld, must be a multiple of 32", (long long)s->width);
    if (s->layers < 1 || s->layers > HET_DECODE_LAYERS_MAX)
        return c->host->fail(HET_E_SHAPE, "decoder: %lld layers, must be 1 to %d", (long long)s->layers,
                             (int)HET_DECODE_LAYERS_MAX);
    if (s->box < 4 || s->box > 4096 || s->box % 2 != 0 || s->max_points < 1)
        return c->host->fail(HET_E_SHAPE, "decoder: box %lld with %lld points, must be even, 4 to 4096, with at least one",
                             (long long)s->box, (long long)s->max_points);
    for (int64_t i = 0; i < 2 * s->max_points; i++) {
        const int64_t k = s->kxy[i], half = s->box / 2 - 1;
        if (k > half || k < (i % 2 == 0 ? 0 : -half))
            return c->host->fail(HET_E_SHAPE, "decoder: point %lld lies outside the half-plane of box %lld",
                                 (long long)(i / 2), (long long)s->box);
    }
    return HET_OK;
}

#define TAKE(pointer, type, bytes) \
    complete &= ((pointer) = (type *)het_cuda_alloc(d->cuda, (size_t)(bytes))) != NULL

static int allocate_plain(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t rows = d->capacity, four = sizeof(float);
    int complete = 1;
    TAKE(d->tables, float, IMAGES_MAX * 4 * (s->box / 2) * s->frequencies * four);
    TAKE(d->z, float, rows * s->width * four);
    TAKE(d->dh, float, rows * s->width * four);
    TAKE(d->dx, float, rows * 2 * s->frequencies * four);
    TAKE(d->out, float, rows * 2 * four);
    TAKE(d->partial, float, SLICES_MAX * 2 * (s->width + 1) * four);
    for (int64_t l = 0; l < s->layers; l++) TAKE(d->mask[l], uint8_t, rows * s->width);
    return complete;
}

/* All device memory of a plan; 0 where there is not enough. */
static int allocate(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t rows = het_tiles(d->capacity, HET_DECODE_ROWS) * (int64_t)HET_DECODE_ROWS, four = sizeof(float);
    const int64_t element = d->cuda->narrow ? 2 : 4, params = het_decode_params_count(s->frequencies, s->width, s->layers);
    int complete = 1;
    TAKE(d->kxy, int32_t, s->max_points * 2 * (int64_t)sizeof *d->kxy);
    TAKE(d->freq, float, s->frequencies * 3 * four);
    TAKE(d->params, float, params * four);
    if (d->cuda->narrow) TAKE(d->weights, void, params * element);
    TAKE(d->rows, row, rows * (int64_t)sizeof *d->rows);
    TAKE(d->x, void, rows * 2 * s->frequencies * element);
    for (int64_t l = 0; l < s->layers; l++) TAKE(d->h[l], void, rows * s->width * element);
    for (int64_t l = 0; l < (d->fused ? s->layers : 1); l++) TAKE(d->dz[l], void, rows * s->width * element);
    TAKE(d->dphase, float, IMAGES_MAX * 2 * s->frequencies * four);
    return complete && (d->fused ? het_cuda_fused_allocate(d) : allocate_plain(d));
}
#undef TAKE

/* HET_CUDA_DECODE=fused|plain: fused is used, unless told otherwise, where it serves. */
static het_status choose(het_cuda *c, const het_decode_spec *s, int *fused)
{
    const char *text = getenv("HET_CUDA_DECODE");
    const int plain = text != NULL && strcmp(text, "plain") == 0;
    if (text != NULL && !plain && strcmp(text, "fused") != 0)
        return c->host->fail(HET_E_USAGE, "HET_CUDA_DECODE=%s: it must be fused or plain", text);
    *fused = !plain && het_cuda_fused_fits(c, s);
    return HET_OK;
}

het_status het_cuda_decode_new(het_device *dev, het_decode **dec, const het_decode_spec *spec)
{
    het_cuda *c = het_cuda_of(dev);
    *dec = NULL;
    int fused = 0;
    het_status status = check_spec(c, spec);
    if (status == HET_OK) status = choose(c, spec, &fused);
    if (status != HET_OK) return status;
    het_decode *d = new het_decode();
    d->cuda = c;
    d->spec = *spec;
    d->fused = fused;
    d->capacity = het_least(IMAGES_MAX * spec->max_points, c->rows_most);
    if (!allocate(d)) {
        het_cuda_decode_free(d);
        return c->host->fail(HET_E_MEMORY, "decoder: no memory on the GPU");
    }
    het_cuda_upload(c, d->kxy, spec->kxy, (size_t)spec->max_points * 2 * sizeof *spec->kxy);
    d->reach = new int32_t[spec->max_points];
    for (int64_t p = 0, most = 0; p < spec->max_points; p++) {
        for (int i = 0; i < 2; i++) {
            const int64_t k = spec->kxy[2 * p + i], far = k < 0 ? -k : k;
            if (far > most) most = far;
        }
        d->reach[p] = (int32_t)most;
    }
    d->spec.kxy = NULL; /* the caller's */
    *dec = d;
    return HET_OK;
}

void het_cuda_decode_free(het_decode *d)
{
    if (d == NULL) return;
    void *pieces[] = {d->kxy, d->freq, d->params, d->weights, d->rows, d->x, d->partial, d->dphase, d->tables, d->z, d->dh,
                      d->dx, d->out, d->forward, d->backward, d->turns, d->slots};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_cuda_free(d->cuda, pieces[i]);
    for (int l = 0; l < HET_DECODE_LAYERS_MAX; l++) {
        het_cuda_free(d->cuda, d->h[l]);
        het_cuda_free(d->cuda, d->dz[l]);
        het_cuda_free(d->cuda, d->mask[l]);
    }
    delete[] d->reach;
    delete d;
}

void het_cuda_decode_load(het_decode *d, const float *params, const float *freq)
{
    het_cuda *c = d->cuda;
    const int64_t n = het_decode_params_count(d->spec.frequencies, d->spec.width, d->spec.layers);
    HET_LAUNCH(c, convert<float>, het_blocks(n), HET_BLOCK, d->params, params, n);
    if (c->narrow) HET_LAUNCH(c, convert<het_narrow>, het_blocks(n), HET_BLOCK, d->weights, params, n);
    HET_LAUNCH(c, convert<float>, het_blocks(3 * d->spec.frequencies), HET_BLOCK, d->freq, freq, 3 * d->spec.frequencies);
    if (d->fused) het_cuda_fused_load(d);
}

/* ---- chunks --------------------------------------------------------------------------------------------------------- */

static const void *weights_at(const het_decode *d, int64_t layer)
{
    const int64_t at = het_decode_layer_at(&d->spec, layer);
    return d->cuda->narrow ? (const void *)((const het_narrow *)d->weights + at) : d->params + at;
}

static dim3 row_grid(const chunk *k, int64_t columns)
{
    return dim3(het_tiles(k->rows, HIGH), het_tiles(columns, WIDE));
}

/* Parts of a chunk that sums over its rows are made of. */
static unsigned slices_of(const chunk *k)
{
    return (unsigned)het_least((k->rows + SLICE_ROWS_MIN - 1) / SLICE_ROWS_MIN, SLICES_MAX);
}

/* The chunk of `total` rows that begins at row `first`. */
static chunk chunk_at(const het_decode *d, const int32_t *which, int64_t points, int64_t first, int64_t total)
{
    chunk k = {which, d->kxy, points, first, total - first, first / points, 0};
    if (k.rows > d->capacity) k.rows = d->capacity;
    const int64_t images_end = (k.first_image + IMAGES_MAX) * points;
    if (first + k.rows > images_end) k.rows = images_end - first;
    k.images = (first + k.rows - 1) / points - k.first_image + 1;
    return k;
}

/* ---- steps of both ways ---- */

void het_cuda_decode_rows(het_decode *d, const chunk *k, const float *rot, const float *kz)
{
    HET_LAUNCH(d->cuda, fill_rows, het_blocks(k->rows), HET_BLOCK, d->rows, *k, rot, kz);
}

void het_cuda_decode_join(het_cuda *c, float *to, const float *partial, int64_t slices, int64_t n)
{
    HET_LAUNCH_MEET(c, join_slices, het_tiles(n, WIDE), dim3(WIDE, HIGH), to, partial, slices, n);
}

void het_cuda_decode_weights(het_decode *d, const chunk *k, float *dparams, int64_t l, const void *dz)
{
    const het_decode_spec *s = &d->spec;
    const het_product p = {het_decode_inputs(s, l), s->width, k->rows, 1, 0, d->cuda->narrow, 0, 1.0f};
    het_cuda_product(d->cuda, &p, dparams + het_decode_layer_at(s, l), l == 0 ? d->x : d->h[l - 1], dz);
}

void het_cuda_decode_rotations(het_decode *d, const chunk *k, float *drot)
{
    HET_LAUNCH(d->cuda, rotation_sums, het_blocks(k->images * 6), HET_BLOCK, drot, d->dphase, d->freq, *k,
               d->spec.frequencies, d->spec.box);
}

/* ---- layer by layer ---- */

/* Rows to hidden activations; with `keep` the masks that the backward needs. */
static void run_hidden(het_decode *d, const chunk *k, const float *rot, const float *bias, const float *kz, int keep)
{
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t f = s->frequencies, width = s->width, reach = d->reach[k->points - 1];
    const dim3 block(WIDE, HIGH);
    het_cuda_decode_rows(d, k, rot, kz);
    HET_LAUNCH(c, fill_tables, het_blocks(k->images * 2 * (reach + 1) * f), HET_BLOCK, d->tables, *k, d->freq, rot, kz, s->box,
               f, reach);
    HET_LAUNCH_ACT(c, features, row_grid(k, f), block, d->x, d->rows, d->tables, k->rows, s->box, f);
    for (int64_t l = 0; l < s->layers; l++) {
        const void *in = l == 0 ? d->x : d->h[l - 1];
        const het_product p = {k->rows, width, het_decode_inputs(s, l), 0, 0, c->narrow, 0, 0.0f};
        het_cuda_product(c, &p, d->z, in, weights_at(d, l));
        const float *b = l == 0 ? bias : d->params + het_decode_layer_at(s, l) + width * width;
        const row *rows = l == 0 ? d->rows : NULL;
        const void *before = l == 0 || s->plain ? NULL : in;
        HET_LAUNCH_ACT(c, activate, row_grid(k, width), block, d->h[l], keep ? d->mask[l] : NULL, d->z, b, rows, before,
                       k->rows, width);
    }
}

static void plain_forward(het_decode *d, const chunk *k, float *slice, const float *rot, const float *bias, const float *kz)
{
    const int64_t width = d->spec.width, layers = d->spec.layers;
    run_hidden(d, k, rot, bias, kz, 0);
    HET_LAUNCH_ACT_MEET(d->cuda, output, het_tiles(k->rows, HIGH), dim3(WIDE, HIGH), slice, d->h[layers - 1],
                        d->params + het_decode_layer_at(&d->spec, layers), d->rows, k->rows, width);
}

/* From dh of the last layer down to the features: dparams, dbias +=, dx =. */
static void run_back(het_decode *d, const chunk *k, float *dparams, float *dbias)
{
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t width = s->width;
    const dim3 block(WIDE, HIGH), slices(slices_of(k), het_tiles(width, WIDE));
    for (int64_t l = s->layers - 1; l >= 0; l--) {
        const int64_t in = het_decode_inputs(s, l);
        HET_LAUNCH_ACT(c, mask_gradient, het_blocks(k->rows * width), HET_BLOCK, d->dz[0], d->dh, d->mask[l],
                       k->rows * width);
        if (l > 0) {
            HET_LAUNCH_MEET(c, bias_sums, slices, block, d->partial, d->dh, d->mask[l], k->rows, width);
            het_cuda_decode_join(c, dparams + het_decode_layer_at(s, l) + width * width, d->partial, slices.x, width);
        } else {
            HET_LAUNCH_MEET(c, image_bias_sums, dim3((unsigned)k->images, het_tiles(width, WIDE)), block, dbias, d->dh,
                            d->mask[0], *k, width);
        }
        het_cuda_decode_weights(d, k, dparams, l, d->dz[0]);
        const het_product to_inputs = {k->rows, in, width, 0, 1, c->narrow, 0, l > 0 && !s->plain ? 1.0f : 0.0f};
        het_cuda_product(c, &to_inputs, l == 0 ? d->dx : d->dh, d->dz[0], weights_at(d, l));
    }
}

static void plain_backward(het_decode *d, const chunk *k, float *dparams, float *drot, float *dbias, const float *dslice,
                           const float *rot, const float *bias)
{
    het_cuda *c = d->cuda;
    const het_decode_spec *s = &d->spec;
    const int64_t f = s->frequencies, width = s->width, last = het_decode_layer_at(s, s->layers);
    const dim3 block(WIDE, HIGH);
    run_hidden(d, k, rot, bias, NULL, 1);
    HET_LAUNCH(c, output_backward, row_grid(k, width), block, d->out, d->dh, dslice, d->params + last, d->rows, k->rows,
               k->points, width);
    HET_LAUNCH_ACT_MEET(c, output_sums, dim3(slices_of(k), het_tiles(width + 1, WIDE)), block, d->partial, d->h[s->layers - 1],
                        d->out, k->rows, width);
    het_cuda_decode_join(c, dparams + last, d->partial, slices_of(k), 2 * (width + 1));
    run_back(d, k, dparams, dbias);
    HET_LAUNCH_ACT_MEET(c, phase_sums, dim3((unsigned)k->images, het_tiles(f, WIDE)), block, d->dphase, d->dx, d->x, d->rows, *k,
                        f);
    het_cuda_decode_rotations(d, k, drot);
}

/* ---- calls ---- */

void het_cuda_decode_forward(het_decode *d, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                             int64_t p)
{
    for (int64_t first = 0; first < b * p;) {
        const chunk k = chunk_at(d, NULL, p, first, b * p);
        (d->fused ? het_cuda_fused_forward : plain_forward)(d, &k, slice + 2 * first, rot, bias, kz);
        first += k.rows;
    }
}

void het_cuda_decode_backward(het_decode *d, float *dparams, float *drot, float *dbias, const float *dslice,
                              const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p)
{
    het_cuda *c = d->cuda;
    HET_CUDA(c, cudaMemsetAsync(drot, 0, (size_t)(9 * b) * sizeof *drot, c->stream));
    HET_CUDA(c, cudaMemsetAsync(dbias, 0, (size_t)(d->spec.width * b) * sizeof *dbias, c->stream));
    for (int64_t first = 0; first < n * p;) {
        const chunk k = chunk_at(d, which, p, first, n * p);
        (d->fused ? het_cuda_fused_backward : plain_backward)(d, &k, dparams, drot, dbias, dslice, rot, bias);
        first += k.rows;
    }
}
