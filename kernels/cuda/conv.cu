/* Convolutions, as far as cuDNN (cudnn.h) is not there or declines, by columns: every output pixel's window becomes a row, and a matrix product does the rest.
 *      y  = columns(x) w^T          rows: output pixels, (kernel, kernel, in_c) numbers each
 *      dx = windows(dy) w'^T        rows: input pixels, (kernel, kernel, out_c): dy where a tap reached the pixel, else 0
 *      dw = dy^T columns(x)         fp32 sums in both precisions, as ops.h wants
 * All three have one order of summation and need no library but that of products. Rows of columns are padded to a multiple
 * of 8 numbers, which tensor cores want; a 1x1 kernel of such a width needs no columns at all. Large layers go in chunks
 * of rows so that columns stay below columns_most bytes. */
#include "act.h"
#include "cudnn.h"
#include "members.h"
#include "product.h"

enum { UNIT = 8, WIDE = 8, HIGH = 32 }; /* a thread makes UNIT numbers of a row of columns, a block WIDE times as many of HIGH rows */

/* Columns of one side: `rows_*` pixels see `from_*` pixels of `channels`. Under tap t of pixel p lies the pixel
   (p step + way (t - pad)) / divide, where that is a whole number: forward step = stride, divide = way = 1; backward, the
   output pixel whose tap lay on this one, step = 1, divide = stride, way = -1. */
typedef struct gather_shape {
    int rows_h, rows_w, from_h, from_w, channels, kernel, pad, step, divide, way;
    int row; /* numbers in a row, padded to whole UNITs */
} gather_shape;

struct het_conv {
    het_cuda *cuda;
    het_conv_spec spec;
    int64_t out_h, out_w;
    gather_shape forward, backward;
    void *w, *w_turned; /* activations' type: (out_c, row of forward), (in_c, row of backward) */
    float *dw;       /* (out_c, row of forward) where rows are padded, else NULL */
    het_cudnn_conv *library; /* NULL: it has no part in this one */
};

/* The pixel at (y, x) / divide, or -1: there is none. */
__device__ static inline int pixel_at(const gather_shape &s, int y, int x)
{
    if (y < 0 || x < 0) return -1;
    if (s.divide > 1) {
        if (y % s.divide != 0 || x % s.divide != 0) return -1;
        y /= s.divide;
        x /= s.divide;
    }
    return y < s.from_h && x < s.from_w ? y * s.from_w + x : -1;
}

/* Columns of `rows` rows. Row 0 is pixel `pixel` of image `image`. Number j of a row: tap j / channels, channel j % channels. */
template <class T> __global__ void gather(void *columns, const void *images, gather_shape s, int64_t image, int pixel, int64_t rows)
{
    enum { WORDS = UNIT * sizeof(T) / sizeof(uint4) };
    const int64_t r = (int64_t)blockIdx.x * HIGH + threadIdx.y;
    const int j = UNIT * (int)(blockIdx.y * WIDE + threadIdx.x);
    if (r >= rows || j >= s.row) return;
    const uint32_t pixels = (uint32_t)(s.rows_h * s.rows_w), ahead = (uint32_t)(pixel + r), past = ahead / pixels;
    const int at = (int)(ahead - past * pixels), py = at / s.rows_w, px = at - py * s.rows_w;
    const int tap = j / s.channels, left = px * s.step - s.way * s.pad;
    int c = j - tap * s.channels, ky = tap / s.kernel, kx = tap - ky * s.kernel;
    int y = py * s.step + s.way * (ky - s.pad), x = left + s.way * kx;
    const T *from = (const T *)images + (image + past) * s.from_h * s.from_w * s.channels;
    uint4 *to = (uint4 *)((T *)columns + r * s.row + j);
    alignas(16) T unit[UNIT];
    if (s.channels % UNIT == 0) { /* all under one tap */
        const int under = ky < s.kernel ? pixel_at(s, y, x) : -1;
        const uint4 *all = (const uint4 *)(from + (int64_t)under * s.channels + c);
        HET_UNROLL for (int i = 0; i < WORDS; i++) to[i] = under < 0 ? uint4() : all[i];
        return;
    }
    HET_UNROLL for (int i = 0; i < UNIT; i++)
    {
        const int under = ky < s.kernel ? pixel_at(s, y, x) : -1;
        unit[i] = under < 0 ? T() : from[(int64_t)under * s.channels + c];
        if (++c < s.channels) continue;
        c = 0;
        x += s.way;
        if (++kx < s.kernel) continue;
        kx = 0;
        ky++;
        x = left;
        y += s.way;
    }
    HET_UNROLL for (int i = 0; i < WORDS; i++) to[i] = ((const uint4 *)unit)[i];
}

/* w (out_c, taps, in_c) in the activations' type, rows padded */
template <class T> __global__ void convert_weights(void *to, const float *w, int64_t out_c, int64_t k, int64_t row)
{
    HET_FOR(i, out_c * row)
    {
        const int64_t o = i / row, j = i % row;
        het_store((T *)to, i, j < k ? w[o * k + j] : 0.0f);
    }
}

/* The same, turned to (in_c, taps, out_c), rows padded */
template <class T> __global__ void turn_weights(void *turned, const float *w, int out_c, int taps, int in_c, int row)
{
    HET_FOR(i, (int64_t)in_c * row)
    {
        const int64_t c = i / row, j = i % row, tap = j / out_c, o = j % out_c;
        het_store((T *)turned, i, tap < taps ? w[(o * taps + tap) * in_c + c] : 0.0f);
    }
}

__global__ void add_weights(float *dw, const float *padded, int64_t out_c, int64_t k, int64_t row)
{
    HET_FOR(i, out_c * k) dw[i] += padded[i / k * row + i % k];
}

static int padded_row(int64_t n)
{
    return (int)((n + UNIT - 1) / UNIT * UNIT);
}

static size_t element(const het_cuda *c)
{
    return c->narrow ? 2 : 4;
}

/* Rows of columns at a time. */
static int64_t chunk_of(const het_conv *c, const gather_shape *s)
{
    const int64_t most = c->cuda->columns_most / (s->row * (int64_t)element(c->cuda));
    return het_least(c->spec.batch * s->rows_h * s->rows_w, most < 1 ? 1 : most);
}

static size_t scratch_of(const het_conv *c, const gather_shape *s)
{
    return (size_t)(chunk_of(c, s) * s->row) * element(c->cuda);
}

static het_status check(const het_cuda *c, const het_conv_spec *s)
{
    const int64_t most = 1 << 15;
    if (s->batch < 1 || s->in_h < 1 || s->in_w < 1 || s->in_c < 1 || s->out_c < 1 || s->stride < 1 || s->pad < 0 ||
        s->kernel < 1 || s->kernel > 11 || s->pad >= s->kernel || s->kernel > s->in_h + 2 * s->pad ||
        s->kernel > s->in_w + 2 * s->pad || s->in_h > most || s->in_w > most || s->in_c > most || s->out_c > most)
        return c->host->fail(HET_E_SHAPE,
                             "convolution of %lld x %lld pixels with kernel %lld, pad %lld: the kernel must fit the "
                             "image, the pad the kernel, and the kernel be at most 11",
                             (long long)s->in_h, (long long)s->in_w, (long long)s->kernel, (long long)s->pad);
    return HET_OK;
}

het_status het_cuda_conv_new(het_device *dev, het_conv **conv, const het_conv_spec *s)
{
    het_status status = HET_OK;
    het_cuda *cuda = het_cuda_of(dev);
    *conv = NULL;
    status = check(cuda, s);
    if (status != HET_OK) return status;
    het_conv *c = new het_conv();
    c->cuda = cuda;
    c->spec = *s;
    c->out_h = (s->in_h + 2 * s->pad - s->kernel) / s->stride + 1;
    c->out_w = (s->in_w + 2 * s->pad - s->kernel) / s->stride + 1;
    const int taps = (int)(s->kernel * s->kernel), kernel = (int)s->kernel, stride = (int)s->stride, pad = (int)s->pad;
    c->forward = {(int)c->out_h, (int)c->out_w, (int)s->in_h, (int)s->in_w, (int)s->in_c, kernel, pad, stride, 1, 1,
                  padded_row(taps * s->in_c)};
    c->backward = {(int)s->in_h, (int)s->in_w, (int)c->out_h, (int)c->out_w, (int)s->out_c, kernel, pad, 1, stride, -1,
                   padded_row(taps * s->out_c)};
    const size_t forward = scratch_of(c, &c->forward), backward = scratch_of(c, &c->backward);
    size_t library = 0;
    c->w = het_cuda_alloc(cuda, (size_t)(s->out_c * c->forward.row) * element(cuda));
    c->w_turned = het_cuda_alloc(cuda, (size_t)(s->in_c * c->backward.row) * element(cuda));
    const int padded = c->forward.row != taps * s->in_c;
    if (padded) c->dw = (float *)het_cuda_alloc(cuda, (size_t)(s->out_c * c->forward.row) * sizeof(float));
    if (!padded || !cuda->narrow) c->library = het_cudnn_conv_new(cuda, s, c->out_h, c->out_w, &library);
    status = het_cuda_reserve(cuda, &cuda->scratch, library > forward ? library : forward);
    if (status == HET_OK) status = het_cuda_reserve(cuda, &cuda->scratch, backward);
    if (status == HET_OK) status = het_cuda_long_reserve(cuda, s->out_c, c->forward.row);
    if (status == HET_OK && (c->w == NULL || c->w_turned == NULL || (padded && c->dw == NULL)))
        status = cuda->host->fail(HET_E_MEMORY, "no memory on the GPU for a convolution");
    if (status == HET_OK) *conv = c;
    else het_cuda_conv_free(c);
    return status;
}

void het_cuda_conv_free(het_conv *conv)
{
    if (conv == NULL) return;
    het_cuda_free(conv->cuda, conv->w);
    het_cuda_free(conv->cuda, conv->w_turned);
    het_cuda_free(conv->cuda, conv->dw);
    het_cudnn_conv_free(conv->library);
    delete conv;
}

static const char *at(const het_conv *c, const void *base, int64_t elements)
{
    return (const char *)base + (size_t)elements * element(c->cuda);
}

/* The columns of `rows` pixels from pixel `first` on: in scratch, or x itself where it is its own columns. */
static const void *columns_of(het_conv *c, const gather_shape *s, const void *x, int64_t first, int64_t rows)
{
    if (s->kernel == 1 && s->step == 1 && s->divide == 1 && s->row == s->channels) return at(c, x, first * s->row);
    const int64_t pixels = (int64_t)s->rows_h * s->rows_w;
    const dim3 grid(het_tiles(rows, HIGH), het_tiles(s->row, UNIT * WIDE)), block(WIDE, HIGH);
    HET_LAUNCH_ACT(c->cuda, gather, grid, block, c->cuda->scratch.memory, x, *s, first / pixels, (int)(first % pixels), rows);
    return c->cuda->scratch.memory;
}

/* out (pixels, channels) = columns of `from` times weights^T */
static void multiply(het_conv *c, const gather_shape *s, void *out, const void *from, const void *weights, int64_t channels)
{
    const int64_t all = c->spec.batch * s->rows_h * s->rows_w, chunk = chunk_of(c, s);
    for (int64_t first = 0; first < all; first += chunk) {
        const int64_t rows = het_least(all - first, chunk);
        const void *columns = columns_of(c, s, from, first, rows);
        const het_product p = {rows, channels, s->row, 0, 1, c->cuda->narrow, c->cuda->narrow, 0.0f, 0, 1};
        het_cuda_product(c->cuda, &p, (void *)at(c, out, first * channels), columns, weights);
    }
}

/* dw += dy^T columns(x) */
static void add_gradient(het_conv *c, float *dw, const void *dy, const void *x)
{
    const gather_shape *s = &c->forward;
    const int64_t all = c->spec.batch * s->rows_h * s->rows_w, chunk = chunk_of(c, s), out_c = c->spec.out_c;
    if (c->dw != NULL) HET_CUDA(c->cuda, cudaMemsetAsync(c->dw, 0, (size_t)(out_c * s->row) * sizeof(float), c->cuda->stream));
    for (int64_t first = 0; first < all; first += chunk) {
        const int64_t rows = het_least(all - first, chunk);
        const void *columns = columns_of(c, s, x, first, rows);
        het_cuda_long_product(c->cuda, c->dw != NULL ? c->dw : dw, at(c, dy, first * out_c), columns, out_c, s->row, rows);
    }
    const int64_t k = c->spec.kernel * c->spec.kernel * c->spec.in_c;
    if (c->dw != NULL)
        HET_LAUNCH(c->cuda, add_weights, het_blocks(out_c * k), HET_BLOCK, dw, c->dw, out_c, k, (int64_t)s->row);
}

void het_cuda_conv_forward(het_conv *c, void *y, const void *x, const float *w)
{
    const het_conv_spec *s = &c->spec;
    const int64_t k = s->kernel * s->kernel * s->in_c, row = c->forward.row;
    HET_LAUNCH_ACT(c->cuda, convert_weights, het_blocks(s->out_c * row), HET_BLOCK, c->w, w, s->out_c, k, row);
    if (het_cudnn_forward(c->library, y, x, c->cuda->narrow ? c->w : w)) return;
    multiply(c, &c->forward, y, x, c->w, s->out_c);
}

void het_cuda_conv_backward(het_conv *c, void *dx, float *dw, const void *dy, const void *x, const float *w)
{
    const het_conv_spec *s = &c->spec;
    const int taps = (int)(s->kernel * s->kernel), row = c->backward.row;
    if (!het_cudnn_backward_filter(c->library, dw, dy, x)) add_gradient(c, dw, dy, x);
    /* c->w: converted by conv_forward */
    if (dx == NULL || het_cudnn_backward_data(c->library, dx, dy, c->cuda->narrow ? c->w : w)) return;
    HET_LAUNCH_ACT(c->cuda, turn_weights, het_blocks(s->in_c * row), HET_BLOCK, c->w_turned, w, (int)s->out_c, taps,
                   (int)s->in_c, row);
    multiply(c, &c->backward, dx, dy, c->w_turned, s->in_c);
}
