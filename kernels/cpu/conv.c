#include "conv.h"

#include "../../src/arena.h"
#include "conv_parts.h"

struct het_conv {
    het_device *dev;
    int by_columns; /* HET_CONV_* products made by columns; the others directly */
    het_direct direct;
    het_columns columns;
};

static het_taps useful_taps(int64_t in, int64_t out, const het_conv_spec *s)
{
    const int64_t reach = (out - 1) * s->stride; /* of the last output's window, from the first's */
    const int64_t last = in - 1 + s->pad < s->kernel - 1 ? in - 1 + s->pad : s->kernel - 1;
    het_taps t = {.first = s->pad > reach ? s->pad - reach : 0};
    t.count = last - t.first + 1;
    t.pad_low = s->pad - t.first;
    t.pad_high = reach + t.count - in - t.pad_low;
    return t;
}

/* The faster way for each product, from bench/conv.c on a Sapphire Rapids core (oneDNN 2.6.3; ratio of times,
   direct to columns): up to 2x2 outputs columns win everywhere (fp32 1.0-8x, bf16 2-40x), because direct
   kernels work on padding there and stall on short rows. In bf16, AMX weight gradients transpose both
   operands per row of pixels: columns win up to 4x4 outputs (3.5x) and with stride 2 (up to 20x); so do data
   gradients with stride 2 (2x). One input channel in bf16 (the stem) has a direct weight gradient at 1/10 of
   the speed. Elsewhere direct kernels win by not gathering. */
static int choose_columns(const het_conv_shape *s, het_dtype precision)
{
    const int64_t pixels = s->out_h * s->out_w;
    int products = 0;
    if (pixels <= 4) return HET_CONV_ALL;
    if (precision != HET_BF16) return 0;
    if (s->spec.stride > 1 && s->spec.in_c > 1) products |= HET_CONV_DATA;
    if (s->spec.stride > 1 || pixels <= 16 || s->spec.in_c == 1) products |= HET_CONV_WEIGHTS;
    return products;
}

static het_status shape_of(het_conv_shape *shape, const het_conv_spec *s)
{
    if (s->batch < 1 || s->in_h < 1 || s->in_w < 1 || s->in_c < 1 || s->out_c < 1 || s->stride < 1 ||
        s->pad < 0 || s->kernel < 1 || s->kernel > HET_CONV_KERNEL_MAX || s->pad >= s->kernel ||
        s->kernel > s->in_h + 2 * s->pad || s->kernel > s->in_w + 2 * s->pad)
        return het_fail(HET_E_SHAPE,
                        "convolution of %lld x %lld pixels with kernel %lld, pad %lld: the kernel must "
                        "fit the image, the pad the kernel, and the kernel be at most %d",
                        (long long)s->in_h, (long long)s->in_w, (long long)s->kernel, (long long)s->pad,
                        HET_CONV_KERNEL_MAX);
    *shape = (het_conv_shape){.spec = *s, .w_row = s->kernel * s->kernel * s->in_c};
    shape->out_h = (s->in_h + 2 * s->pad - s->kernel) / s->stride + 1;
    shape->out_w = (s->in_w + 2 * s->pad - s->kernel) / s->stride + 1;
    shape->y = useful_taps(s->in_h, shape->out_h, s);
    shape->x = useful_taps(s->in_w, shape->out_w, s);
    shape->w_offset = (shape->y.first * s->kernel + shape->x.first) * s->in_c;
    return HET_OK;
}

het_status het_cpu_conv_new(het_device *dev, het_conv **conv, const het_conv_spec *spec)
{
    het_conv_shape shape;
    het_status status;
    *conv = NULL;
    het_conv *c = het_alloc(sizeof *c);
    if (c == NULL) return het_fail(HET_E_MEMORY, "no memory for a convolution");
    het_cpu_set_threads(dev);
    HET_TRY(shape_of(&shape, spec));
    c->dev = dev;
    c->by_columns = choose_columns(&shape, dev->precision);
    if (c->by_columns != 0) HET_TRY(het_columns_new(&c->columns, dev, &shape, c->by_columns));
    if (c->by_columns != HET_CONV_ALL)
        HET_TRY(het_direct_new(&c->direct, dev, &shape, HET_CONV_ALL & ~c->by_columns));
    *conv = c;
    c = NULL;
done:
    het_cpu_conv_free(c);
    return status;
}

void het_cpu_conv_free(het_conv *conv)
{
    if (conv == NULL) return;
    het_direct_free(&conv->direct);
    het_columns_free(&conv->columns);
    het_release(conv);
}

void het_cpu_conv_forward(het_conv *conv, void *y, const void *x, const float *w)
{
    het_cpu_set_threads(conv->dev);
    if (conv->by_columns & HET_CONV_FORWARD)
        het_columns_forward(&conv->columns, y, x, w);
    else
        het_direct_forward(&conv->direct, y, x, w);
}

void het_cpu_conv_backward(het_conv *conv, void *dx, float *dw, const void *dy, const void *x, const float *w)
{
    het_cpu_set_threads(conv->dev);
    if (dx != NULL && (conv->by_columns & HET_CONV_DATA))
        het_columns_data(&conv->columns, dx, dy, w);
    else if (dx != NULL)
        het_direct_data(&conv->direct, dx, dy, w);
    if (conv->by_columns & HET_CONV_WEIGHTS)
        het_columns_weights(&conv->columns, dw, dy, x);
    else
        het_direct_weights(&conv->direct, dw, dy, x);
}
