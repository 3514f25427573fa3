#include <string.h>

#include "../../src/arena.h"
#include "bf16.h"
#include "conv_parts.h"

/* Convolutions as matrix products. With M = images * out_h * out_w and K = useful taps * in_c:
 *
 *     y (M,O) = X (M,K) W^T      X: a row holds the window of one output pixel, zero where it lies on padding
 *     dX (M,K) = dy (M,O) W      then dx = sum over the windows that hold the pixel
 *     dW (O,K) += dy^T (O,M) X
 *
 * W is (O,K) as stored: no reorder, and dW is summed where it belongs. The batch goes in chunks of images, so
 * that X is small enough to stay in cache; chunks are summed in order. */

enum { CHUNK_ROWS = 1024 }; /* rows of X from which a product is efficient */

static size_t act_size(const het_columns *c)
{
    return (size_t)het_dtype_size(c->set.dev->precision);
}

/* A matrix (rows, columns) with an element stride between rows; transposed: the transpose of that memory. */
static het_status matrix(het_columns *c, dnnl_memory_t *memory, dnnl_memory_desc_t *md, int64_t rows,
                         int64_t columns, int64_t stride, int transposed, dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {transposed ? columns : rows, transposed ? rows : columns};
    const dnnl_dims_t strides = {transposed ? 1 : stride, transposed ? stride : 1};
    het_status status;
    HET_TRY(het_onednn_check(dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides), "matrix"));
    HET_TRY(het_steps_memory(&c->set, memory, md, 0));
done:
    return status;
}

/* One product c = a b (or c += a b) of three matrices. */
static het_status new_product(het_columns *c, het_step *step, const dnnl_memory_desc_t md[3], dnnl_memory_t a,
                              dnnl_memory_t b, dnnl_memory_t result, int add)
{
    dnnl_matmul_desc_t desc;
    het_status status;
    HET_TRY(het_onednn_check(dnnl_matmul_desc_init(&desc, &md[0], &md[1], NULL, &md[2]), "product"));
    HET_TRY(het_steps_product(&c->set, step, &desc, add));
    het_step_bind(step, DNNL_ARG_SRC, a);
    het_step_bind(step, DNNL_ARG_WEIGHTS, b);
    het_step_bind(step, DNNL_ARG_DST, result);
done:
    return status;
}

static het_status new_products(het_columns *c, int products)
{
    const dnnl_data_type_t act = c->set.dev->precision == HET_BF16 ? dnnl_bf16 : dnnl_f32;
    const int64_t m = c->chunk * c->shape.out_h * c->shape.out_w, o = c->shape.spec.out_c, k = c->k;
    const int64_t w_row = c->pack ? k : c->shape.w_row;
    dnnl_memory_desc_t md[3];
    het_status status = HET_OK;
    if (products & HET_CONV_FORWARD) {
        HET_TRY(matrix(c, &c->a_x, &md[0], m, k, k, 0, act));
        HET_TRY(matrix(c, &c->w_t, &md[1], o, k, w_row, 1, act));
        HET_TRY(matrix(c, &c->y, &md[2], m, o, o, 0, act));
        HET_TRY(new_product(c, &c->forward, md, c->a_x, c->w_t, c->y, 0));
    }
    if (products & HET_CONV_DATA) {
        HET_TRY(matrix(c, &c->a_y, &md[0], m, o, o, 0, act));
        HET_TRY(matrix(c, &c->w, &md[1], o, k, w_row, 0, act));
        HET_TRY(matrix(c, &c->dx, &md[2], m, k, k, 0, c->in_place ? act : dnnl_f32));
        HET_TRY(new_product(c, &c->data, md, c->a_y, c->w, c->dx, 0));
    }
    if (products & HET_CONV_WEIGHTS) {
        HET_TRY(matrix(c, &c->a_dy_t, &md[0], m, o, o, 1, act));
        HET_TRY(matrix(c, &c->b_x, &md[1], m, k / c->runs, k, 0, act));
        HET_TRY(matrix(c, &c->dw, &md[2], o, k / c->runs, c->shape.w_row, 0, dnnl_f32));
        HET_TRY(new_product(c, &c->weights, md, c->a_dy_t, c->b_x, c->dw, 1));
    }
done:
    return status;
}

het_status het_columns_new(het_columns *c, het_device *dev, const het_conv_shape *shape, int products)
{
    const het_conv_spec *s = &shape->spec;
    const int64_t pixels = shape->out_h * shape->out_w;
    het_status status;
    *c = (het_columns){.set.dev = dev, .shape = *shape, .k = shape->y.count * shape->x.count * s->in_c};
    for (c->chunk = 1; s->batch % c->chunk != 0 || c->chunk * pixels < CHUNK_ROWS; c->chunk++)
        if (c->chunk == s->batch) break;
    c->runs = shape->x.count == s->kernel || shape->y.count == 1 ? 1 : shape->y.count;
    c->in_place = (pixels == 1 && shape->y.count == s->in_h && shape->x.count == s->in_w) ||
                  (s->kernel == 1 && s->stride == 1 && s->pad == 0);
    c->pack = dev->precision == HET_BF16 || c->runs > 1;
    HET_TRY(new_products(c, products));
    HET_TRY(het_steps_finish(&c->set));
    if (!c->in_place) c->columns = het_alloc((size_t)(c->chunk * pixels * c->k) * sizeof(float));
    if (c->pack) c->packed = het_alloc((size_t)(s->out_c * c->k) * act_size(c));
    if ((c->columns == NULL && !c->in_place) || (c->packed == NULL && c->pack))
        status = het_fail(HET_E_MEMORY, "no memory for a convolution of %lld channels", (long long)s->in_c);
done:
    return status;
}

void het_columns_free(het_columns *c)
{
    het_steps_free(&c->set);
    het_release(c->columns);
    het_release(c->packed);
    c->columns = c->packed = NULL;
}

HET_CLONES
static void convert(het_bf16 *restrict to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = het_bf16_from_f32(from[i]);
}

/* The useful weights as a matrix of the device's precision. Borrowed. The forward makes the copy and the
   backward that follows finds it. */
static const void *load_weights(het_columns *c, const float *w, int fresh)
{
    const het_conv_shape *s = &c->shape;
    const int64_t run = c->k / c->runs;
    if (!c->pack) return w + s->w_offset;
    if (fresh) return c->packed;
#pragma omp parallel for num_threads(c->set.dev->threads) schedule(static)
    for (int64_t o = 0; o < s->spec.out_c; o++)
        for (int64_t r = 0; r < c->runs; r++) {
            const float *from = w + s->w_offset + o * s->w_row + r * s->spec.kernel * s->spec.in_c;
            const int64_t at = o * c->k + r * run;
            if (c->set.dev->precision == HET_BF16)
                convert((het_bf16 *)c->packed + at, from, run);
            else
                memcpy((float *)c->packed + at, from, (size_t)run * sizeof *from);
        }
    return c->packed;
}

/* One row of X: the window of output pixel (oy, ox). */
static void gather_window(const het_columns *c, char *row, const char *image, int64_t oy, int64_t ox)
{
    const het_conv_shape *s = &c->shape;
    const size_t pixel = (size_t)s->spec.in_c * act_size(c);
    const int64_t x0 = ox * s->spec.stride - s->x.pad_low;
    const int64_t low = x0 < 0 ? -x0 : 0, room = s->spec.in_w - x0;
    const int64_t end = room < s->x.count ? room : s->x.count;
    for (int64_t ky = 0; ky < s->y.count; ky++, row += (size_t)s->x.count * pixel) {
        const int64_t y = oy * s->spec.stride - s->y.pad_low + ky;
        if (y < 0 || y >= s->spec.in_h || low >= end) {
            memset(row, 0, (size_t)s->x.count * pixel);
            continue;
        }
        if (low > 0) memset(row, 0, (size_t)low * pixel);
        memcpy(row + (size_t)low * pixel, image + (size_t)(y * s->spec.in_w + x0 + low) * pixel,
               (size_t)(end - low) * pixel);
        if (end < s->x.count) memset(row + (size_t)end * pixel, 0, (size_t)(s->x.count - end) * pixel);
    }
}

/* X of a chunk. Borrowed. */
static const void *gather(het_columns *c, const char *x)
{
    const het_conv_shape *s = &c->shape;
    const int64_t rows = c->chunk * s->out_h;
    const size_t size = act_size(c), image = (size_t)(s->spec.in_h * s->spec.in_w * s->spec.in_c) * size;
    if (c->in_place) return x;
#pragma omp parallel for num_threads(c->set.dev->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t ox = 0; ox < s->out_w; ox++)
            gather_window(c, (char *)c->columns + (size_t)((r * s->out_w + ox) * c->k) * size,
                          x + (size_t)(r / s->out_h) * image, r % s->out_h, ox);
    return c->columns;
}

/* dx (n) = sum of the rows, in fp32 */
static HET_INLINE void sum_body(void *restrict dx, const float *const *row, int rows, int64_t n, int bf16)
{
    enum { BLOCK = 64 };
    float sum[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t count = n - at < BLOCK ? n - at : BLOCK;
        for (int64_t i = 0; i < count; i++) sum[i] = 0.0f;
        for (int j = 0; j < rows; j++)
            for (int64_t i = 0; i < count; i++) sum[i] += row[j][at + i];
        for (int64_t i = 0; i < count; i++) het_act_store(dx, at + i, sum[i], bf16);
    }
}

HET_CLONES
static void sum_rows(void *dx, const float *const *row, int rows, int64_t n, int bf16)
{
    if (bf16)
        sum_body(dx, row, rows, n, 1);
    else
        sum_body(dx, row, rows, n, 0);
}

/* Output coordinate whose window meets input coordinate i with tap t; -1: none. */
static int64_t window_of(int64_t i, int64_t t, const het_taps *taps, int64_t stride, int64_t out)
{
    const int64_t reach = i + taps->pad_low - t;
    return reach >= 0 && reach % stride == 0 && reach / stride < out ? reach / stride : -1;
}

/* dx of a chunk from dX: each pixel sums the windows that hold it. */
static void scatter(het_columns *c, char *dx)
{
    const het_conv_shape *s = &c->shape;
    const int bf16 = c->set.dev->precision == HET_BF16;
    const int64_t pixels = s->spec.in_h * s->spec.in_w, in_c = s->spec.in_c;
#pragma omp parallel for num_threads(c->set.dev->threads) schedule(static)
    for (int64_t i = 0; i < c->chunk * pixels; i++) {
        const int64_t image = i / pixels, iy = i % pixels / s->spec.in_w, ix = i % s->spec.in_w;
        const float *row[HET_CONV_KERNEL_MAX * HET_CONV_KERNEL_MAX];
        int rows = 0;
        for (int64_t ky = 0; ky < s->y.count; ky++) {
            const int64_t oy = window_of(iy, ky, &s->y, s->spec.stride, s->out_h);
            for (int64_t kx = 0; oy >= 0 && kx < s->x.count; kx++) {
                const int64_t ox = window_of(ix, kx, &s->x, s->spec.stride, s->out_w);
                if (ox < 0) continue;
                const int64_t window = (image * s->out_h + oy) * s->out_w + ox;
                row[rows++] = (const float *)c->columns + window * c->k + (ky * s->x.count + kx) * in_c;
            }
        }
        sum_rows(dx + (size_t)(i * in_c) * act_size(c), row, rows, in_c, bf16);
    }
}

/* Bytes of one chunk of the input (x, dx) and of the output (y, dy). */
static size_t in_bytes(const het_columns *c)
{
    return (size_t)(c->chunk * c->shape.spec.in_h * c->shape.spec.in_w * c->shape.spec.in_c) * act_size(c);
}

static size_t out_bytes(const het_columns *c)
{
    return (size_t)(c->chunk * c->shape.out_h * c->shape.out_w * c->shape.spec.out_c) * act_size(c);
}

void het_columns_forward(het_columns *c, void *y, const void *x, const float *w)
{
    het_memory_point(c->w_t, load_weights(c, w, 0));
    for (int64_t i = 0; i < c->shape.spec.batch / c->chunk; i++) {
        het_memory_point(c->a_x, gather(c, (const char *)x + (size_t)i * in_bytes(c)));
        het_memory_point(c->y, (char *)y + (size_t)i * out_bytes(c));
        het_step_run(&c->set, &c->forward);
    }
}

void het_columns_data(het_columns *c, void *dx, const void *dy, const float *w)
{
    het_memory_point(c->w, load_weights(c, w, c->forward.primitive != NULL));
    for (int64_t i = 0; i < c->shape.spec.batch / c->chunk; i++) {
        char *dx_chunk = (char *)dx + (size_t)i * in_bytes(c);
        het_memory_point(c->a_y, (const char *)dy + (size_t)i * out_bytes(c));
        het_memory_point(c->dx, c->in_place ? dx_chunk : c->columns);
        het_step_run(&c->set, &c->data);
        if (!c->in_place) scatter(c, dx_chunk);
    }
}

void het_columns_weights(het_columns *c, float *dw, const void *dy, const void *x)
{
    const int64_t run = c->k / c->runs, stride = c->shape.spec.kernel * c->shape.spec.in_c;
    for (int64_t i = 0; i < c->shape.spec.batch / c->chunk; i++) {
        const char *columns = gather(c, (const char *)x + (size_t)i * in_bytes(c));
        het_memory_point(c->a_dy_t, (const char *)dy + (size_t)i * out_bytes(c));
        for (int64_t r = 0; r < c->runs; r++) {
            het_memory_point(c->b_x, columns + (size_t)(r * run) * act_size(c));
            het_memory_point(c->dw, dw + c->shape.w_offset + r * stride);
            het_step_run(&c->set, &c->weights);
        }
    }
}
