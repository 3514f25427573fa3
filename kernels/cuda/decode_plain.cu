/* The coordinate network layer by layer: products by cuBLASLt, everything between them in kernels of their own. Serves any
 * shape and precision, and is what the fused kernels (decode_fused.cu) are compared with.
 *
 * The images of a chunk of rows have their phase tables made first. The backward repeats the forward of its chunk and then
 * goes down:
 *      dz_l = dh where relu let through;   dW_l += in^T dz_l;   din = dz_l W_l^T;   dh = din [+ dh]
 * and at the bottom from dx to the phases' gradients, which are summed over an image's points and taken to drot. */
#include "decode.h"
#include "product.h"

enum { WIDE = 32, HIGH = 8, SLICES_MAX = 128, SLICE_ROWS_MIN = 64 };

typedef het_decode_row row;
typedef het_decode_chunk chunk;

/* ---- forward -------------------------------------------------------------------------------------------------------- */

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
    const int64_t table = box / 2 * f, right = (int)at.kx, down = (int)fabsf(at.ky);
    const float *t = tables + at.slot * 4 * table + n;
    const float cx = t[right * f], sx = t[table + right * f], cy = t[2 * table + down * f];
    const float sy = at.ky < 0.0f ? -t[3 * table + down * f] : t[3 * table + down * f];
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
        a += at.kx * slope;
        b += at.ky * slope;
    }
    a = add_rows(a);
    b = add_rows(b);
    if (threadIdx.y != 0 || n >= f) return;
    dphase[2 * blockIdx.x * f + n] = a;
    dphase[(2 * blockIdx.x + 1) * f + n] = b;
}

/* ---- a chunk -------------------------------------------------------------------------------------------------------- */

#define TAKE(pointer, type, bytes) \
    complete &= ((pointer) = (type *)het_cuda_alloc(d->cuda, (size_t)(bytes))) != NULL

int het_cuda_plain_allocate(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t rows = d->capacity, four = sizeof(float);
    int complete = 1;
    TAKE(d->tables, float, HET_DECODE_IMAGES * 4 * (s->box / 2) * s->frequencies * four);
    TAKE(d->z, float, rows * s->width * four);
    TAKE(d->dh, float, rows * s->width * four);
    TAKE(d->dx, float, rows * 2 * s->frequencies * four);
    TAKE(d->out, float, rows * 2 * four);
    TAKE(d->partial, float, SLICES_MAX * 2 * (s->width + 1) * four);
    for (int64_t l = 0; l < s->layers; l++) TAKE(d->mask[l], uint8_t, rows * s->width);
    return complete;
}

#undef TAKE

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
        const het_product p = {k->rows, width, het_decode_inputs(s, l), 0, 0, c->narrow, 0, 0.0f, 0, 1};
        het_cuda_product(c, &p, d->z, in, weights_at(d, l));
        const float *b = l == 0 ? bias : d->params + het_decode_layer_at(s, l) + width * width;
        const row *rows = l == 0 ? d->rows : NULL;
        const void *before = l == 0 || s->plain ? NULL : in;
        HET_LAUNCH_ACT(c, activate, row_grid(k, width), block, d->h[l], keep ? d->mask[l] : NULL, d->z, b, rows, before,
                       k->rows, width);
    }
}

void het_cuda_plain_forward(het_decode *d, const chunk *k, float *slice, const float *rot, const float *bias, const float *kz)
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
            het_cuda_join(c, dparams + het_decode_layer_at(s, l) + width * width, d->partial, slices.x, width);
        } else {
            HET_LAUNCH_MEET(c, image_bias_sums, dim3((unsigned)k->images, het_tiles(width, WIDE)), block, dbias, d->dh,
                            d->mask[0], *k, width);
        }
        het_cuda_decode_weights(d, k, dparams, l, d->dz[0]);
        const het_product to_inputs = {k->rows, in, width, 0, 1, c->narrow, 0, l > 0 && !s->plain ? 1.0f : 0.0f, 0, 1};
        het_cuda_product(c, &to_inputs, l == 0 ? d->dx : d->dh, d->dz[0], weights_at(d, l));
    }
}

void het_cuda_plain_backward(het_decode *d, const chunk *k, float *dparams, float *drot, float *dbias, const float *dslice,
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
    het_cuda_join(c, dparams + last, d->partial, slices_of(k), 2 * (width + 1));
    run_back(d, k, dparams, dbias);
    HET_LAUNCH_ACT_MEET(c, phase_sums, dim3((unsigned)k->images, het_tiles(f, WIDE)), block, d->dphase, d->dx, d->x, d->rows, *k,
                        f);
    het_cuda_decode_rotations(d, k, drot);
}
