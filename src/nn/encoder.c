#include "encoder.h"

#include <stdio.h>

#include "../arena.h"

enum { STAGES = 4, BLOCKS = 8, UNITS_MAX = 1 + 3 * BLOCKS };
enum { NORM_CHANNELS = 16 }; /* of group norm: about as good as 32 groups (Wu & He 2018); divides every width */

/* A convolution with its normalisation: y = [relu](norm(x * w)). */
typedef struct unit {
    het_conv *conv;
    het_norm *norm;
    int64_t w, gamma, beta, stats; /* offsets: parameters, statistics segment */
    int64_t out_c, out_h;
    const void *x; /* input of the last forward; borrowed */
    void *c, *y;   /* (B,H,H,C) before and after the normalisation */
    float *mean, *var; /* (G,C) */
} unit;

typedef struct block {
    int first, second, down; /* units; down = -1: identity */
    void *y;                 /* relu(second + skip) */
} block;

typedef struct head {
    int64_t w1, b1, w2, b2, out; /* offsets; width of the output */
    float *hidden, *dhidden, *dout;
} head;

struct het_encoder {
    het_device *dev;
    het_encoder_spec spec;
    unit units[UNITS_MAX];
    int unit_count;
    block blocks[BLOCKS];
    head heads[HET_ENCODER_HEADS];
    int64_t features, stats, stats_offset, largest;
    int64_t stage_offset[STAGES + 1]; /* [s] first parameter of stage s+1; [STAGES] of the heads */
    void *input, *pooled, *grad[3];
    uint8_t *argmax;
    float *feature, *dfeature, *dfeature_part;
};

static int64_t norm_groups(const het_encoder *e)
{
    return e->spec.group_norm ? e->spec.batch : e->spec.groups;
}

static het_status add_unit(het_encoder *e, het_layout *layout, const char *name, int64_t in_h, int64_t in_c,
                           int64_t out_c, int64_t kernel, int64_t stride, int relu, int *index)
{
    het_status status = HET_OK;
    char text[48];
    const int64_t pad = kernel / 2;
    HET_ASSERT(e->unit_count < UNITS_MAX);
    unit *u = &e->units[e->unit_count];
    *index = e->unit_count++;
    u->out_c = out_c;
    u->out_h = (in_h + 2 * pad - kernel) / stride + 1;
    const int64_t hw = u->out_h * u->out_h;
    HET_TRY(e->dev->ops->conv_new(e->dev, &u->conv, &(het_conv_spec){e->spec.batch, in_h, in_h, in_c, out_c, kernel,
                                                                    stride, pad}));
    HET_TRY(e->dev->ops->norm_new(e->dev, &u->norm,
                                  &(het_norm_spec){e->spec.batch, hw, out_c, norm_groups(e), relu,
                                                   e->spec.group_norm ? NORM_CHANNELS : 1}));
    snprintf(text, sizeof text, "%s.conv", name);
    u->w = het_layout_add(layout, text, (int64_t[4]){out_c, kernel, kernel, in_c}, HET_INIT_CONV,
                          out_c * kernel * kernel, 1);
    snprintf(text, sizeof text, "%s.gamma", name);
    u->gamma = het_layout_add(layout, text, (int64_t[4]){out_c}, HET_INIT_ONE, 0, 1);
    snprintf(text, sizeof text, "%s.beta", name);
    u->beta = het_layout_add(layout, text, (int64_t[4]){out_c}, HET_INIT_ZERO, 0, 1);
    u->stats = e->stats;
    e->stats += 2 * out_c;
    if (e->spec.batch * hw * out_c > e->largest) e->largest = e->spec.batch * hw * out_c;
done:
    return status;
}

static het_status add_blocks(het_encoder *e, het_layout *layout, int64_t h, int64_t *h_out)
{
    het_status status = HET_OK;
    int64_t in_c = e->spec.width;
    for (int i = 0; i < BLOCKS; i++) {
        const int64_t out_c = e->spec.width << (i / 2), stride = i % 2 == 0 && i > 0 ? 2 : 1;
        char name[32];
        block *b = &e->blocks[i];
        if (i % 2 == 0) e->stage_offset[i / 2] = layout->total;
        snprintf(name, sizeof name, "encoder.layer%d.%d.a", i / 2 + 1, i % 2);
        HET_TRY(add_unit(e, layout, name, h, in_c, out_c, 3, stride, 1, &b->first));
        const int64_t h_next = e->units[b->first].out_h;
        name[17] = 'b';
        HET_TRY(add_unit(e, layout, name, h_next, out_c, out_c, 3, 1, 0, &b->second));
        b->down = -1;
        name[17] = 'd';
        if (stride != 1 || in_c != out_c)
            HET_TRY(add_unit(e, layout, name, h, in_c, out_c, 1, stride, 0, &b->down));
        h = h_next;
        in_c = out_c;
    }
    e->stage_offset[STAGES] = layout->total;
    *h_out = h;
done:
    return status;
}

static void add_head(het_encoder *e, het_layout *layout, head *h, const char *name, int64_t out, float gain)
{
    char text[48];
    const int64_t hidden = e->spec.head;
    h->out = out;
    snprintf(text, sizeof text, "encoder.%s.w1", name);
    h->w1 = het_layout_add(layout, text, (int64_t[4]){hidden, e->features}, HET_INIT_LINEAR, e->features, 1);
    snprintf(text, sizeof text, "encoder.%s.b1", name);
    h->b1 = het_layout_add(layout, text, (int64_t[4]){hidden}, HET_INIT_LINEAR, e->features, 1);
    snprintf(text, sizeof text, "encoder.%s.w2", name);
    h->w2 = het_layout_add(layout, text, (int64_t[4]){out, hidden}, HET_INIT_LINEAR, hidden, gain);
    snprintf(text, sizeof text, "encoder.%s.b2", name);
    h->b2 = het_layout_add(layout, text, (int64_t[4]){out}, HET_INIT_LINEAR, hidden, gain);
}

het_status het_encoder_new(het_encoder **encoder, het_device *dev, const het_encoder_spec *spec, het_layout *layout)
{
    het_status status = HET_OK;
    int stem;
    het_encoder *e = het_alloc(sizeof *e);
    *encoder = e;
    if (e == NULL) return het_fail(HET_E_MEMORY, "no memory for the encoder");
    e->dev = dev;
    e->spec = *spec;
    HET_TRY(add_unit(e, layout, "encoder.stem", spec->box, 1, spec->width, 7, spec->stem_stride, 1, &stem));
    const int64_t h = spec->stem_pool ? (e->units[stem].out_h + 1) / 2 : e->units[stem].out_h;
    int64_t h_out;
    HET_TRY(add_blocks(e, layout, h, &h_out));
    e->features = (spec->flatten ? h_out * h_out : 1) * spec->width * 8;
    add_head(e, layout, &e->heads[HET_ENCODER_ROTATION], "rotation", 6, 1.0f);
    /* Shifts are a few per cent of the box: start the head near zero rather than at a third of the box. */
    add_head(e, layout, &e->heads[HET_ENCODER_SHIFT], "shift", 2, 0.1f);
    add_head(e, layout, &e->heads[HET_ENCODER_LATENT], "latent", 2 * spec->z_dim, 1.0f);
    e->stats_offset = het_layout_add(layout, "encoder.statistics", (int64_t[4]){e->stats}, HET_INIT_ZERO, 0, 1);
done:
    if (status != HET_OK) {
        het_encoder_free(e);
        *encoder = NULL;
    }
    return status;
}

void het_encoder_free(het_encoder *e)
{
    if (e == NULL) return;
    for (int i = 0; i < e->unit_count; i++) {
        if (e->units[i].conv != NULL) e->dev->ops->conv_free(e->units[i].conv);
        if (e->units[i].norm != NULL) e->dev->ops->norm_free(e->units[i].norm);
    }
    het_release(e);
}

void het_encoder_bind(het_encoder *e, het_workspace *ws)
{
    const int64_t b = e->spec.batch, act = het_dtype_size(e->dev->precision);
    for (int i = 0; i < e->unit_count; i++) {
        unit *u = &e->units[i];
        const size_t bytes = (size_t)(b * u->out_h * u->out_h * u->out_c * act);
        u->c = het_workspace_take(ws, bytes);
        u->y = het_workspace_take(ws, bytes);
        u->mean = het_workspace_take(ws, (size_t)(norm_groups(e) * u->out_c) * sizeof(float));
        u->var = het_workspace_take(ws, (size_t)(norm_groups(e) * u->out_c) * sizeof(float));
    }
    for (int i = 0; i < BLOCKS; i++) {
        const unit *u = &e->units[e->blocks[i].second];
        e->blocks[i].y = het_workspace_take(ws, (size_t)(b * u->out_h * u->out_h * u->out_c * act));
    }
    for (int i = 0; i < HET_ENCODER_HEADS; i++) {
        head *h = &e->heads[i];
        h->hidden = het_workspace_take(ws, (size_t)(b * e->spec.head) * sizeof(float));
        h->dhidden = het_workspace_take(ws, (size_t)(b * e->spec.head) * sizeof(float));
        h->dout = het_workspace_take(ws, (size_t)(b * h->out) * sizeof(float));
    }
    e->input = het_workspace_take(ws, (size_t)(b * e->spec.box * e->spec.box * act));
    e->pooled = het_workspace_take(ws, (size_t)(e->largest * act));
    e->argmax = het_workspace_take(ws, (size_t)e->largest);
    for (int i = 0; i < 3; i++) e->grad[i] = het_workspace_take(ws, (size_t)(e->largest * act));
    e->feature = het_workspace_take(ws, (size_t)(b * e->features) * sizeof(float));
    e->dfeature = het_workspace_take(ws, (size_t)(b * e->features) * sizeof(float));
    e->dfeature_part = het_workspace_take(ws, (size_t)(b * e->features) * sizeof(float));
}

int64_t het_encoder_stats(const het_encoder *e)
{
    return e->stats;
}

int64_t het_encoder_stats_offset(const het_encoder *e)
{
    return e->stats_offset;
}

/* stats NULL: statistics of this batch, as always with group norm; otherwise the running ones. */
static void *unit_forward(het_encoder *e, unit *u, const float *params, const float *stats, const void *x)
{
    const het_ops *ops = e->dev->ops;
    u->x = x;
    ops->conv_forward(u->conv, u->c, x, params + u->w);
    if (stats == NULL || e->spec.group_norm)
        ops->norm_forward(u->norm, u->y, u->mean, u->var, u->c, params + u->gamma, params + u->beta);
    else
        ops->norm_infer(u->norm, u->y, u->c, params + u->gamma, params + u->beta, stats + u->stats,
                        stats + u->stats + u->out_c);
    return u->y;
}

static void *block_forward(het_encoder *e, block *b, const float *params, const float *stats, const void *x)
{
    unit *second = &e->units[b->second];
    const void *skip = b->down < 0 ? x : unit_forward(e, &e->units[b->down], params, stats, x);
    const void *y = unit_forward(e, &e->units[b->first], params, stats, x);
    y = unit_forward(e, second, params, stats, y);
    e->dev->ops->add_relu(e->dev, b->y, y, skip, e->spec.batch * second->out_h * second->out_h * second->out_c);
    return b->y;
}

static void run(het_encoder *e, float *out[HET_ENCODER_HEADS], const float *params, const float *stats,
                const float *image)
{
    const het_ops *ops = e->dev->ops;
    const int64_t b = e->spec.batch;
    const unit *stem = &e->units[0], *last = &e->units[e->blocks[BLOCKS - 1].second];
    ops->from_float(e->dev, e->input, image, b * e->spec.box * e->spec.box);
    const void *x = unit_forward(e, &e->units[0], params, stats, e->input);
    if (e->spec.stem_pool) {
        ops->maxpool(e->dev, e->pooled, e->argmax, x, b, stem->out_h, stem->out_h, stem->out_c);
        x = e->pooled;
    }
    for (int i = 0; i < BLOCKS; i++) x = block_forward(e, &e->blocks[i], params, stats, x);
    if (e->spec.flatten)
        ops->to_float(e->dev, e->feature, x, b * e->features);
    else
        ops->avgpool(e->dev, e->feature, x, b, last->out_h * last->out_h, last->out_c);
    for (int i = 0; i < HET_ENCODER_HEADS; i++) {
        head *h = &e->heads[i];
        ops->linear(e->dev, h->hidden, e->feature, params + h->w1, params + h->b1, b, e->spec.head, e->features, 1);
        ops->linear(e->dev, out[i], h->hidden, params + h->w2, params + h->b2, b, h->out, e->spec.head, 0);
    }
}

void het_encoder_forward(het_encoder *e, float *out[HET_ENCODER_HEADS], const float *params, const float *image)
{
    run(e, out, params, NULL, image);
}

void het_encoder_infer(het_encoder *e, float *out[HET_ENCODER_HEADS], const float *params, const float *stats,
                       const float *image)
{
    run(e, out, params, stats, image);
}

/* dx (NULL: not wanted) from dy; scratch holds the gradient before the normalisation. */
static void unit_backward(het_encoder *e, unit *u, float *grads, const float *params, void *dx, const void *dy,
                          void *scratch)
{
    const het_ops *ops = e->dev->ops;
    ops->norm_backward(u->norm, scratch, grads + u->gamma, grads + u->beta, dy, u->c, u->y, params + u->gamma,
                       params + u->beta, u->mean, u->var);
    ops->conv_backward(u->conv, dx, grads + u->w, scratch, u->x, params + u->w);
}

/* In and out: the gradient of the block's output, then of its input, in grad[0]. */
static void block_backward(het_encoder *e, block *b, float *grads, const float *params)
{
    const het_ops *ops = e->dev->ops;
    unit *first = &e->units[b->first], *second = &e->units[b->second];
    const int64_t n = e->spec.batch * second->out_h * second->out_h * second->out_c;
    void *g = e->grad[0], *sum = e->grad[1], *scratch = e->grad[2];
    int64_t n_in = n;
    ops->add_relu_backward(e->dev, sum, g, b->y, n);
    unit_backward(e, second, grads, params, g, sum, scratch);
    unit_backward(e, first, grads, params, g, g, scratch);
    if (b->down >= 0) {
        unit_backward(e, &e->units[b->down], grads, params, sum, sum, scratch);
        /* the block's input: the output of the block before */
        const unit *before = &e->units[b[-1].second];
        n_in = e->spec.batch * before->out_h * before->out_h * before->out_c;
    }
    ops->accumulate(e->dev, g, sum, n_in);
}

static void heads_backward(het_encoder *e, float *grads, float *const dhead[HET_ENCODER_HEADS], const float *params)
{
    const het_ops *ops = e->dev->ops;
    const int64_t b = e->spec.batch;
    ops->zero(e->dev, e->dfeature, (size_t)(b * e->features) * sizeof(float));
    for (int i = 0; i < HET_ENCODER_HEADS; i++) {
        head *h = &e->heads[i];
        if (dhead[i] == NULL) continue;
        ops->linear_backward(e->dev, h->dhidden, grads + h->w2, grads + h->b2, dhead[i], h->hidden, NULL,
                             params + h->w2, b, h->out, e->spec.head, 0);
        ops->linear_backward(e->dev, e->dfeature_part, grads + h->w1, grads + h->b1, h->dhidden, e->feature, h->hidden,
                             params + h->w1, b, e->spec.head, e->features, 1);
        ops->sum_rows(e->dev, e->dfeature, e->dfeature_part, 1.0f, 1, b * e->features);
    }
}

void het_encoder_backward(het_encoder *e, float *grads, float *const dhead[HET_ENCODER_HEADS], const float *params,
                          float stats_factor, het_ready ready, void *context)
{
    const het_ops *ops = e->dev->ops;
    const int64_t b = e->spec.batch;
    const unit *stem = &e->units[0], *last = &e->units[e->blocks[BLOCKS - 1].second];
    for (int i = 0; i < e->unit_count && !e->spec.group_norm; i++) {
        const unit *u = &e->units[i];
        float *stats = grads + e->stats_offset + u->stats;
        ops->sum_rows(e->dev, stats, u->mean, stats_factor, e->spec.groups, u->out_c);
        ops->sum_rows(e->dev, stats + u->out_c, u->var, stats_factor, e->spec.groups, u->out_c);
    }
    heads_backward(e, grads, dhead, params);
    if (e->spec.flatten)
        ops->from_float(e->dev, e->grad[0], e->dfeature, b * e->features);
    else
        ops->avgpool_backward(e->dev, e->grad[0], e->dfeature, b, last->out_h * last->out_h, last->out_c);
    for (int i = BLOCKS - 1; i >= 0; i--) {
        block_backward(e, &e->blocks[i], grads, params);
        if (i % 2 == 0 && ready != NULL) ready(context, e->stage_offset[i / 2]);
    }
    void *dstem = e->grad[0];
    if (e->spec.stem_pool) {
        ops->maxpool_backward(e->dev, e->grad[1], e->grad[0], e->argmax, b, stem->out_h, stem->out_h, stem->out_c);
        dstem = e->grad[1];
    }
    unit_backward(e, &e->units[0], grads, params, NULL, dstem, e->grad[2]);
    if (ready != NULL) ready(context, 0);
}
