#include "conv.h"

#include "../../src/arena.h"
#include "context.h"

/* Convolutions by oneDNN.
 *
 * Activations stay NHWC. Weights come as (out_c, kernel, kernel, in_c) fp32 and are reordered, and converted to bf16
 * where that is the precision, into the layout each primitive asks for: at every forward for the forward pass, at every
 * backward for the data gradient. The weight gradient is made in the primitive's layout and reordered with a sum onto dw.
 *
 * Taps that only ever meet padding are cut off: a 3x3 kernel on a 1x1 image is its centre, on a 2x2 image with stride 2
 * its lower right 2x2. The cut kernel is a strided view into w, and the weights it leaves out are neither read nor
 * converted; their gradient is zero. At box 32 that is 8/9 of the last stage, which holds most of the weights. */

enum { ARGS_MAX = 5 };

/* One primitive and the arguments it always runs with; handles of caller's memory are set at each call. */
typedef struct task {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[ARGS_MAX];
    int count;
} task;

struct het_conv {
    het_device *dev;
    int64_t offset;                /* of the cut kernel's first tap in w and dw */
    dnnl_memory_desc_t x_md, y_md; /* NHWC activations */
    dnnl_memory_desc_t w_md;       /* view into w or dw: fp32, (out_c, in_c, taps, taps) strided as ohwi */
    dnnl_memory_t x, y, w;         /* caller's memory: x or dx, y or dy, w or dw */
    dnnl_memory_t forward_w, data_w, weights_w; /* own, in the primitives' layouts */
    dnnl_memory_t scratch;
    task forward_load, forward, data_load, data, weights, weights_add;
    size_t scratch_size;
    void *buffer[4];
    int buffers;
};

static het_status checked(dnnl_status_t result, const char *what)
{
    if (result == dnnl_success) return HET_OK;
    if (result == dnnl_out_of_memory) return het_fail(HET_E_MEMORY, "no memory for a convolution (%s)", what);
    return het_fail(HET_E_DEVICE, "oneDNN refused a convolution (%s, status %d)", what, (int)result);
}

/* Memory of a layout, on a buffer of our own. */
static het_status owned_memory(het_conv *conv, dnnl_memory_t *memory, const dnnl_memory_desc_t *md)
{
    void *buffer = het_alloc(dnnl_memory_desc_get_size(md));
    if (buffer == NULL) return het_fail(HET_E_MEMORY, "no memory for the weights of a convolution");
    conv->buffer[conv->buffers++] = buffer;
    return checked(dnnl_memory_create(memory, md, het_cpu_context_of(conv->dev)->engine, buffer), "memory");
}

static void add_argument(task *t, int name, dnnl_memory_t memory)
{
    t->args[t->count++] = (dnnl_exec_arg_t){name, memory};
}

/* Attributes of every primitive: scratch memory is ours, so that nothing is allocated when it runs. */
static het_status new_attributes(dnnl_primitive_attr_t *attr)
{
    het_status status = checked(dnnl_primitive_attr_create(attr), "attributes");
    if (status != HET_OK) return status;
    return checked(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user), "attributes");
}

/* Finish a primitive from its descriptor; the descriptor is consumed. */
static het_status finish(het_conv *conv, task *t, dnnl_primitive_desc_t pd)
{
    const size_t scratch = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
    if (scratch > conv->scratch_size) conv->scratch_size = scratch;
    const het_status status = checked(dnnl_primitive_create(&t->primitive, pd), "primitive");
    dnnl_primitive_desc_destroy(pd);
    return status;
}

/* A convolution primitive of any direction; its weights' layout goes to md. */
static het_status new_product(het_conv *conv, task *t, const dnnl_convolution_desc_t *desc, dnnl_query_t weights,
                              dnnl_memory_desc_t *md)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    het_status status;
    HET_TRY(new_attributes(&attr));
    HET_TRY(checked(dnnl_primitive_desc_create(&pd, desc, attr, het_cpu_context_of(conv->dev)->engine, NULL),
                    "descriptor"));
    *md = *dnnl_primitive_desc_query_md(pd, weights, 0);
    status = finish(conv, t, pd);
done:
    dnnl_primitive_attr_destroy(attr);
    return status;
}

/* to = from, or to += from. */
static het_status new_reorder(het_conv *conv, task *t, dnnl_memory_t from, dnnl_memory_t to, int add)
{
    const dnnl_engine_t engine = het_cpu_context_of(conv->dev)->engine;
    const dnnl_memory_desc_t *from_md, *to_md;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t sum = NULL;
    dnnl_primitive_desc_t pd = NULL;
    het_status status;
    HET_TRY(new_attributes(&attr));
    if (add) {
        HET_TRY(checked(dnnl_post_ops_create(&sum), "sum"));
        HET_TRY(checked(dnnl_post_ops_append_sum(sum, 1.0f), "sum"));
        HET_TRY(checked(dnnl_primitive_attr_set_post_ops(attr, sum), "sum"));
    }
    HET_TRY(checked(dnnl_memory_get_memory_desc(from, &from_md), "layout"));
    HET_TRY(checked(dnnl_memory_get_memory_desc(to, &to_md), "layout"));
    HET_TRY(checked(dnnl_reorder_primitive_desc_create(&pd, from_md, engine, to_md, engine, attr), "reorder"));
    HET_TRY(finish(conv, t, pd));
    add_argument(t, DNNL_ARG_FROM, from);
    add_argument(t, DNNL_ARG_TO, to);
done:
    dnnl_post_ops_destroy(sum);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

/* The cut kernel along one axis: `count` taps from `first`, of which output 0 meets `pad_low` on padding. */
typedef struct cut {
    int64_t first, count, pad_low, pad_high;
} cut;

static cut cut_taps(int64_t in, int64_t out, const het_conv_spec *s)
{
    const int64_t reach = (out - 1) * s->stride; /* where the last output's window starts, from the first's */
    cut c;
    c.first = s->pad > reach ? s->pad - reach : 0;
    const int64_t last = in - 1 + s->pad < s->kernel - 1 ? in - 1 + s->pad : s->kernel - 1;
    c.count = last - c.first + 1;
    c.pad_low = s->pad - c.first;
    c.pad_high = reach + c.count - in - c.pad_low;
    return c;
}

static het_status new_layouts(het_conv *conv, const het_conv_spec *s, int64_t out_h, int64_t out_w, cut ch, cut cw)
{
    const dnnl_data_type_t act = conv->dev->precision == HET_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_engine_t engine = het_cpu_context_of(conv->dev)->engine;
    const dnnl_dims_t x = {s->batch, s->in_c, s->in_h, s->in_w}, y = {s->batch, s->out_c, out_h, out_w};
    const dnnl_dims_t w = {s->out_c, s->in_c, ch.count, cw.count};
    const dnnl_dims_t w_strides = {s->kernel * s->kernel * s->in_c, 1, s->kernel * s->in_c, s->in_c};
    het_status status;
    HET_TRY(checked(dnnl_memory_desc_init_by_tag(&conv->x_md, 4, x, act, dnnl_nhwc), "input"));
    HET_TRY(checked(dnnl_memory_desc_init_by_tag(&conv->y_md, 4, y, act, dnnl_nhwc), "output"));
    HET_TRY(checked(dnnl_memory_desc_init_by_strides(&conv->w_md, 4, w, dnnl_f32, w_strides), "weights"));
    HET_TRY(checked(dnnl_memory_create(&conv->x, &conv->x_md, engine, DNNL_MEMORY_NONE), "input"));
    HET_TRY(checked(dnnl_memory_create(&conv->y, &conv->y_md, engine, DNNL_MEMORY_NONE), "output"));
    HET_TRY(checked(dnnl_memory_create(&conv->w, &conv->w_md, engine, DNNL_MEMORY_NONE), "weights"));
    conv->offset = (ch.first * s->kernel + cw.first) * s->in_c;
done:
    return status;
}

static het_status new_products(het_conv *conv, const het_conv_spec *s, cut ch, cut cw)
{
    const dnnl_dims_t stride = {s->stride, s->stride};
    const dnnl_dims_t low = {ch.pad_low, cw.pad_low}, high = {ch.pad_high, cw.pad_high};
    const dnnl_alg_kind_t direct = dnnl_convolution_direct;
    dnnl_memory_desc_t any, any_f32, md;
    dnnl_convolution_desc_t desc;
    het_status status;
    HET_TRY(checked(dnnl_memory_desc_init_by_tag(&any, 4, conv->w_md.dims, conv->x_md.data_type, dnnl_format_tag_any),
                    "weights"));
    HET_TRY(checked(dnnl_memory_desc_init_by_tag(&any_f32, 4, conv->w_md.dims, dnnl_f32, dnnl_format_tag_any),
                    "weights"));

    HET_TRY(checked(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, direct, &conv->x_md, &any, NULL,
                                                       &conv->y_md, stride, low, high), "forward"));
    HET_TRY(new_product(conv, &conv->forward, &desc, dnnl_query_weights_md, &md));
    HET_TRY(owned_memory(conv, &conv->forward_w, &md));

    HET_TRY(checked(dnnl_convolution_backward_data_desc_init(&desc, direct, &conv->x_md, &any, &conv->y_md, stride, low,
                                                             high), "data gradient"));
    HET_TRY(new_product(conv, &conv->data, &desc, dnnl_query_weights_md, &md));
    HET_TRY(owned_memory(conv, &conv->data_w, &md));

    HET_TRY(checked(dnnl_convolution_backward_weights_desc_init(&desc, direct, &conv->x_md, &any_f32, NULL,
                                                                &conv->y_md, stride, low, high), "weight gradient"));
    HET_TRY(new_product(conv, &conv->weights, &desc, dnnl_query_diff_weights_md, &md));
    HET_TRY(owned_memory(conv, &conv->weights_w, &md));
done:
    return status;
}

/* Which memory each primitive reads and writes. */
static het_status bind_arguments(het_conv *conv)
{
    const dnnl_dims_t scratch_dims = {(dnnl_dim_t)conv->scratch_size};
    dnnl_memory_desc_t scratch_md;
    het_status status;
    add_argument(&conv->forward, DNNL_ARG_SRC, conv->x);
    add_argument(&conv->forward, DNNL_ARG_WEIGHTS, conv->forward_w);
    add_argument(&conv->forward, DNNL_ARG_DST, conv->y);
    add_argument(&conv->data, DNNL_ARG_DIFF_DST, conv->y);
    add_argument(&conv->data, DNNL_ARG_WEIGHTS, conv->data_w);
    add_argument(&conv->data, DNNL_ARG_DIFF_SRC, conv->x);
    add_argument(&conv->weights, DNNL_ARG_SRC, conv->x);
    add_argument(&conv->weights, DNNL_ARG_DIFF_DST, conv->y);
    add_argument(&conv->weights, DNNL_ARG_DIFF_WEIGHTS, conv->weights_w);
    if (conv->scratch_size == 0) return HET_OK;
    HET_TRY(checked(dnnl_memory_desc_init_by_tag(&scratch_md, 1, scratch_dims, dnnl_u8, dnnl_a), "scratch"));
    HET_TRY(owned_memory(conv, &conv->scratch, &scratch_md));
    task *all[] = {&conv->forward_load, &conv->forward, &conv->data_load,
                   &conv->data,         &conv->weights, &conv->weights_add};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) add_argument(all[i], DNNL_ARG_SCRATCHPAD, conv->scratch);
done:
    return status;
}

het_status het_cpu_conv_new(het_device *dev, het_conv **conv, const het_conv_spec *s)
{
    const int64_t out_h = (s->in_h + 2 * s->pad - s->kernel) / s->stride + 1;
    const int64_t out_w = (s->in_w + 2 * s->pad - s->kernel) / s->stride + 1;
    het_status status = HET_OK;
    *conv = NULL;
    if (s->batch < 1 || s->in_c < 1 || s->out_c < 1 || s->kernel > s->in_h + 2 * s->pad ||
        s->kernel > s->in_w + 2 * s->pad)
        return het_fail(HET_E_SHAPE, "convolution of %lld x %lld pixels with a %lld x %lld kernel: too small",
                        (long long)s->in_h, (long long)s->in_w, (long long)s->kernel, (long long)s->kernel);
    het_conv *c = het_alloc(sizeof *c);
    if (c == NULL) return het_fail(HET_E_MEMORY, "no memory for a convolution");
    c->dev = dev;
    const cut ch = cut_taps(s->in_h, out_h, s), cw = cut_taps(s->in_w, out_w, s);
    het_cpu_set_threads(dev);
    HET_TRY(new_layouts(c, s, out_h, out_w, ch, cw));
    HET_TRY(new_products(c, s, ch, cw));
    HET_TRY(new_reorder(c, &c->forward_load, c->w, c->forward_w, 0));
    HET_TRY(new_reorder(c, &c->data_load, c->w, c->data_w, 0));
    HET_TRY(new_reorder(c, &c->weights_add, c->weights_w, c->w, 1));
    HET_TRY(bind_arguments(c));
    *conv = c;
    c = NULL;
done:
    het_cpu_conv_free(c);
    return status;
}

void het_cpu_conv_free(het_conv *conv)
{
    if (conv == NULL) return;
    const task *all[] = {&conv->forward_load, &conv->forward, &conv->data_load,
                         &conv->data,         &conv->weights, &conv->weights_add};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dnnl_primitive_destroy(all[i]->primitive);
    dnnl_memory_t memory[] = {conv->x, conv->y, conv->w, conv->forward_w, conv->data_w, conv->weights_w, conv->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) dnnl_memory_destroy(memory[i]);
    for (int i = 0; i < conv->buffers; i++) het_release(conv->buffer[i]);
    het_release(conv);
}

/* What oneDNN executes was checked when it was planned: a failure here is the program's own. */
static void run(const het_conv *conv, const task *t)
{
    HET_ASSERT(dnnl_primitive_execute(t->primitive, het_cpu_context_of(conv->dev)->stream, t->count, t->args) ==
               dnnl_success);
}

/* oneDNN's arguments are not const-qualified, though it only writes its outputs. */
static void point(const het_conv *conv, const void *x, const void *y, const float *w)
{
    het_cpu_set_threads(conv->dev);
    HET_ASSERT(dnnl_memory_set_data_handle(conv->x, (void *)x) == dnnl_success);
    HET_ASSERT(dnnl_memory_set_data_handle(conv->y, (void *)y) == dnnl_success);
    HET_ASSERT(dnnl_memory_set_data_handle(conv->w, (void *)(w + conv->offset)) == dnnl_success);
}

void het_cpu_conv_forward(het_conv *conv, void *y, const void *x, const float *w)
{
    point(conv, x, y, w);
    run(conv, &conv->forward_load);
    run(conv, &conv->forward);
}

void het_cpu_conv_backward(het_conv *conv, void *dx, float *dw, const void *dy, const void *x, const float *w)
{
    if (dx != NULL) {
        point(conv, dx, dy, w);
        run(conv, &conv->data_load);
        run(conv, &conv->data);
    }
    point(conv, x, dy, dw);
    run(conv, &conv->weights);
    run(conv, &conv->weights_add);
}
