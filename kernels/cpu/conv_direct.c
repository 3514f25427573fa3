#include "conv_parts.h"

/* Convolutions by oneDNN's own primitives. Activations stay NHWC. Weights come as (out_c, kernel, kernel,
   in_c) fp32 and are reordered, and converted where the precision is bf16, into the layout the primitive asks
   for, at every call: they change with every step. The weight gradient is made in the primitive's layout and
   reordered with a sum onto dw. */

static het_status new_layouts(het_direct *d)
{
    const het_conv_shape *s = &d->shape;
    const dnnl_data_type_t act = d->set.dev->precision == HET_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t x = {s->spec.batch, s->spec.in_c, s->spec.in_h, s->spec.in_w};
    const dnnl_dims_t y = {s->spec.batch, s->spec.out_c, s->out_h, s->out_w};
    const dnnl_dims_t w = {s->spec.out_c, s->spec.in_c, s->y.count, s->x.count};
    const dnnl_dims_t w_strides = {s->w_row, 1, s->spec.kernel * s->spec.in_c, s->spec.in_c};
    het_status status;
    HET_TRY(het_onednn_check(dnnl_memory_desc_init_by_tag(&d->x_md, 4, x, act, dnnl_nhwc), "input"));
    HET_TRY(het_onednn_check(dnnl_memory_desc_init_by_tag(&d->y_md, 4, y, act, dnnl_nhwc), "output"));
    HET_TRY(
        het_onednn_check(dnnl_memory_desc_init_by_strides(&d->w_md, 4, w, dnnl_f32, w_strides), "weights"));
    HET_TRY(het_steps_memory(&d->set, &d->x, &d->x_md, 0));
    HET_TRY(het_steps_memory(&d->set, &d->y, &d->y_md, 0));
    HET_TRY(het_steps_memory(&d->set, &d->w, &d->w_md, 0));
done:
    return status;
}

/* Weights of the primitive's own layout, and the reorder that loads them. */
static het_status new_loaded(het_direct *d, het_step *load, het_step *product)
{
    dnnl_memory_t own;
    het_status status;
    HET_TRY(het_steps_memory(&d->set, &own, het_step_layout(product, dnnl_query_weights_md), 1));
    HET_TRY(het_steps_reorder(&d->set, load, d->w, own, 0));
    het_step_bind(product, DNNL_ARG_WEIGHTS, own);
done:
    return status;
}

static het_status new_forward(het_direct *d, const dnnl_memory_desc_t *any, const dnnl_dims_t stride,
                              const dnnl_dims_t low, const dnnl_dims_t high)
{
    dnnl_convolution_desc_t desc;
    het_status status;
    HET_TRY(het_onednn_check(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training,
                                                                dnnl_convolution_direct, &d->x_md, any, NULL,
                                                                &d->y_md, stride, low, high),
                             "forward"));
    HET_TRY(het_steps_product(&d->set, &d->forward, &desc, 0));
    HET_TRY(new_loaded(d, &d->forward_load, &d->forward));
    het_step_bind(&d->forward, DNNL_ARG_SRC, d->x);
    het_step_bind(&d->forward, DNNL_ARG_DST, d->y);
done:
    return status;
}

static het_status new_data(het_direct *d, const dnnl_memory_desc_t *any, const dnnl_dims_t stride,
                           const dnnl_dims_t low, const dnnl_dims_t high)
{
    dnnl_convolution_desc_t desc;
    het_status status;
    HET_TRY(het_onednn_check(dnnl_convolution_backward_data_desc_init(
                                 &desc, dnnl_convolution_direct, &d->x_md, any, &d->y_md, stride, low, high),
                             "data gradient"));
    HET_TRY(het_steps_product(&d->set, &d->data, &desc, 0));
    HET_TRY(new_loaded(d, &d->data_load, &d->data));
    het_step_bind(&d->data, DNNL_ARG_DIFF_DST, d->y);
    het_step_bind(&d->data, DNNL_ARG_DIFF_SRC, d->x);
done:
    return status;
}

static het_status new_weights(het_direct *d, const dnnl_dims_t stride, const dnnl_dims_t low,
                              const dnnl_dims_t high)
{
    dnnl_convolution_desc_t desc;
    dnnl_memory_desc_t any;
    dnnl_memory_t own;
    het_status status;
    HET_TRY(het_onednn_check(
        dnnl_memory_desc_init_by_tag(&any, 4, d->w_md.dims, dnnl_f32, dnnl_format_tag_any), "weights"));
    HET_TRY(
        het_onednn_check(dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &d->x_md,
                                                                     &any, NULL, &d->y_md, stride, low, high),
                         "weight gradient"));
    HET_TRY(het_steps_product(&d->set, &d->weights, &desc, 0));
    HET_TRY(het_steps_memory(&d->set, &own, het_step_layout(&d->weights, dnnl_query_diff_weights_md), 1));
    HET_TRY(het_steps_reorder(&d->set, &d->weights_add, own, d->w, 1));
    het_step_bind(&d->weights, DNNL_ARG_SRC, d->x);
    het_step_bind(&d->weights, DNNL_ARG_DIFF_DST, d->y);
    het_step_bind(&d->weights, DNNL_ARG_DIFF_WEIGHTS, own);
done:
    return status;
}

het_status het_direct_new(het_direct *d, het_device *dev, const het_conv_shape *shape, int products)
{
    const dnnl_dims_t stride = {shape->spec.stride, shape->spec.stride};
    const dnnl_dims_t low = {shape->y.pad_low, shape->x.pad_low},
                      high = {shape->y.pad_high, shape->x.pad_high};
    dnnl_memory_desc_t any;
    het_status status;
    *d = (het_direct){.set.dev = dev, .shape = *shape};
    HET_TRY(new_layouts(d));
    HET_TRY(het_onednn_check(
        dnnl_memory_desc_init_by_tag(&any, 4, d->w_md.dims, d->x_md.data_type, dnnl_format_tag_any),
        "weights"));
    if (products & HET_CONV_FORWARD) HET_TRY(new_forward(d, &any, stride, low, high));
    if (products & HET_CONV_DATA) HET_TRY(new_data(d, &any, stride, low, high));
    if (products & HET_CONV_WEIGHTS) HET_TRY(new_weights(d, stride, low, high));
    HET_TRY(het_steps_finish(&d->set));
done:
    return status;
}

void het_direct_free(het_direct *direct)
{
    het_steps_free(&direct->set);
}

static void point(const het_direct *d, const void *x, const void *y, const float *w)
{
    het_memory_point(d->x, x);
    het_memory_point(d->y, y);
    het_memory_point(d->w, w + d->shape.w_offset);
}

void het_direct_forward(het_direct *d, void *y, const void *x, const float *w)
{
    point(d, x, y, w);
    het_step_run(&d->set, &d->forward_load);
    het_step_run(&d->set, &d->forward);
}

void het_direct_data(het_direct *d, void *dx, const void *dy, const float *w)
{
    point(d, dx, dy, w);
    het_step_run(&d->set, &d->data_load);
    het_step_run(&d->set, &d->data);
}

void het_direct_weights(het_direct *d, float *dw, const void *dy, const void *x)
{
    point(d, x, dy, dw);
    het_step_run(&d->set, &d->weights);
    het_step_run(&d->set, &d->weights_add);
}
