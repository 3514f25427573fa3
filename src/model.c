/* The model: construction, buffers, parameters. The two tasks: model_tasks.c; inference: model_infer.c. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "model_buffers.h"

enum { WIDEST_BATCH_PER_IMAGE = 2 };

static int64_t pairs(const het_model *m)
{
    return m->config.train.mirror ? 2 : 1;
}

#define TAKE(pointer, count) ((pointer) = het_workspace_take(ws, (size_t)(count) * sizeof *(pointer)))
/* Rows of the larger task. */
static int64_t most_rows(const het_model *m)
{
    const int64_t both = m->spec.batch * pairs(m);
    return both > m->synthetic ? both : m->synthetic;
}

/* What crosses: the workspace's first part. */
static void bind_crossing(het_model *m, het_workspace *ws)
{
    het_model_buffers *b = m->buffers;
    const int64_t n = m->spec.batch, most = most_rows(m), z = m->config.z_dim;
    TAKE(b->rows_given, n);
    TAKE(b->index, n);
    TAKE(b->quarters, n * pairs(m));
    TAKE(b->rot_true, most * 9);
    TAKE(b->shift_true, most * 2);
    TAKE(b->px_true, most * 2);
    TAKE(b->normal, most * z);
    TAKE(b->z_given, n * z);
    TAKE(b->noise_at, 2);
    b->given_bytes = ws->used;
    TAKE(b->which, most);
    TAKE(b->loss, most);
    TAKE(b->kl, most);
    TAKE(b->rot, most * 9);
    TAKE(b->z, most * z);
    TAKE(b->dz, most * z);
    TAKE(b->head[HET_ENCODER_SHIFT], most * 2);
    TAKE(b->head[HET_ENCODER_LATENT], most * 2 * z);
    TAKE(b->zero_loss, 1);
    b->told_bytes = ws->used - b->given_bytes;
}

static void bind_buffers(het_model *m, het_workspace *ws)
{
    het_model_buffers *b = m->buffers;
    const int64_t n = m->spec.batch, both = n * pairs(m), most = most_rows(m);
    const int64_t p = m->points.count, d = m->spec.box, z = m->config.z_dim, images = het_model_images(&m->spec);
    bind_crossing(m, ws);
    TAKE(b->image, most * d * d);
    TAKE(b->half, het_model_image_type(m->dev) == HET_F16 ? n * d * d : 0);
    TAKE(b->window, d * d);
    TAKE(b->envelope, p);
    TAKE(b->points, n * p * 2);
    TAKE(b->target, both * p * 2);
    TAKE(b->slice, most * p * 2);
    TAKE(b->dslice, most * p * 2);
    TAKE(b->ctf, most * p);
    TAKE(b->rows, most);
    TAKE(b->rows_synthetic, images * m->config.train.pose_images);
    TAKE(b->mirrored, most);
    TAKE(b->scale, most);
    TAKE(b->power, m->spec.groups);
    TAKE(b->noisy_power, m->spec.groups);
    TAKE(b->head[HET_ENCODER_ROTATION], most * 6);
    TAKE(b->dhead[HET_ENCODER_ROTATION], most * 6);
    TAKE(b->dhead[HET_ENCODER_SHIFT], most * 2);
    TAKE(b->dhead[HET_ENCODER_LATENT], most * 2 * z);
    TAKE(b->drot, most * 9);
    TAKE(b->shift_px, most * 2);
    TAKE(b->dshift_px, most * 2);
    TAKE(b->z_seen, images * z);
    TAKE(b->z_synthetic, most * z);
    TAKE(b->total, most);
    TAKE(b->weight, most);
    het_decoder_bind(m->decoder, ws);
    /* Both tasks' encoders run one after the other: they share their activations. */
    const size_t start = ws->used;
    het_encoder_bind(m->encoder[0], ws);
    const size_t end = ws->used;
    if (m->encoder[1] != m->encoder[0]) {
        ws->used = start;
        het_encoder_bind(m->encoder[1], ws);
        if (ws->used < end) ws->used = end;
    }
}

#undef TAKE

static het_status new_encoders(het_model *m)
{
    het_status status = HET_OK;
    const het_config_encoder *c = &m->config.encoder;
    het_encoder_spec spec = {.box = m->spec.box, .width = c->width, .head = c->head, .z_dim = m->config.z_dim,
                             .flatten = c->pool == HET_POOL_FLATTEN, .stem_pool = c->stem_pool,
                             .stem_stride = c->stem_stride, .batch = m->spec.batch * pairs(m),
                             .groups = m->spec.groups, .group_norm = c->norm == HET_ENCODER_GROUP_NORM};
    HET_TRY(het_encoder_new(&m->encoder[0], m->dev, &spec, &m->layout));
    m->encoder[1] = m->encoder[0];
    if (m->synthetic != spec.batch) {
        het_layout same = {0}; /* the encoder comes first, so its offsets are the same in any layout */
        spec.batch = m->synthetic;
        m->encoder[1] = NULL;
        HET_TRY(het_encoder_new(&m->encoder[1], m->dev, &spec, &same));
    }
done:
    return status;
}

/* The host's part: the mirror and what it keeps of answers. 0: no memory. */
static int allocate_host(het_model *m)
{
    het_model_buffers *b = m->buffers;
    const size_t crossing = b->given_bytes + b->told_bytes, images = (size_t)het_model_images(&m->spec);
    b->mirror = het_alloc(crossing);
    b->given_dz = het_alloc(images * (size_t)m->config.z_dim * sizeof *b->given_dz);
    b->given_loss = het_alloc(images * sizeof *b->given_loss);
    m->envelope_shells = het_alloc((size_t)(m->spec.box / 2) * sizeof(float));
    if (b->mirror == NULL || b->given_dz == NULL || b->given_loss == NULL || m->envelope_shells == NULL) return 0;
    b->pinned = m->dev->ops->pin != NULL && m->dev->ops->pin(m->dev, b->mirror, crossing);
    return 1;
}

static size_t statistics_bytes(const het_model *m)
{
    return (size_t)(HET_STATS_SETS * het_encoder_stats(m->encoder[0])) * sizeof(float);
}

static het_status allocate(het_model *m)
{
    const het_ops *ops = m->dev->ops;
    const size_t bytes = (size_t)m->layout.total * sizeof(float);
    const size_t stats = statistics_bytes(m);
    het_workspace ws = {0};
    m->params = ops->alloc(m->dev, bytes);
    m->running = ops->alloc(m->dev, stats);
    if (!m->spec.infer_only) {
        m->grads = ops->alloc(m->dev, bytes);
        m->moment1 = ops->alloc(m->dev, bytes);
        m->moment2 = ops->alloc(m->dev, bytes);
    }
    ws.base = ops->alloc(m->dev, m->buffers->workspace_bytes);
    m->buffers->workspace = ws.base;
    const int training = m->grads != NULL && m->moment1 != NULL && m->moment2 != NULL;
    if (!allocate_host(m) || m->params == NULL || m->running == NULL || ws.base == NULL ||
        (!training && !m->spec.infer_only))
        return het_fail(HET_E_MEMORY,
                        "no memory: %.1f MiB of parameters and optimiser, %.1f MiB of workspace; "
                        "a smaller train.batch needs less",
                        4.0 * (double)bytes / 1048576.0, (double)m->buffers->workspace_bytes / 1048576.0);
    bind_buffers(m, &ws);
    return HET_OK;
}

/* Soft circular window (METHOD 3): 1 inside `inner`, 0 outside `outer` (fractions of the half-box), cosine
 * between. */
static void make_window(float *window, int64_t d, double inner, double outer)
{
    const double half = (double)d / 2.0;
    for (int64_t y = 0; y < d; y++) {
        for (int64_t x = 0; x < d; x++) {
            const double r = hypot((double)x - half, (double)y - half) / half;
            const double t = (r - inner) / (outer - inner);
            window[y * d + x] = (float)(t <= 0.0 ? 1.0 : t >= 1.0 ? 0.0 : 0.5 * (1.0 + cos(M_PI * t)));
        }
    }
}

static het_status fill_constants(het_model *m)
{
    het_status status = HET_OK;
    const int64_t d = m->spec.box, both = m->spec.batch * pairs(m);
    const int64_t stats = HET_STATS_SETS * het_encoder_stats(m->encoder[0]);
    int64_t most = m->layout.total > d * d ? m->layout.total : d * d;
    if (stats > most) most = stats;
    float *host = het_alloc((size_t)most * sizeof *host);
    uint8_t *mirrored = het_alloc((size_t)both);
    if (host == NULL || mirrored == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for initial parameters"));
    make_window(host, d, m->config.encoder.window_inner, m->config.encoder.window_outer);
    m->dev->ops->upload(m->dev, m->buffers->window, host, (size_t)(d * d) * sizeof *host);
    for (int64_t i = 0; i < both; i++) mirrored[i] = pairs(m) == 2 && i % 2 == 1;
    m->dev->ops->upload(m->dev, m->buffers->mirrored, mirrored, (size_t)both);
    het_layout_initialise(&m->layout, host, (uint64_t)m->config.train.seed);
    m->dev->ops->upload(m->dev, m->params, host, (size_t)m->layout.total * sizeof *host);
    /* as good as any: replaced by the first batch */
    for (int64_t i = 0; i < stats; i++) host[i] = 1.0f;
    m->dev->ops->upload(m->dev, m->running, host, (size_t)stats * sizeof *host);
    het_decoder_load(m->decoder, m->params);
done:
    het_release(host);
    het_release(mirrored);
    return status;
}

het_status het_model_plan(het_model **model, het_device *dev, const het_config *config,
                          const het_model_spec *spec)
{
    het_status status = HET_OK;
    const size_t before = het_arena_bytes();
    het_model *m = het_alloc(sizeof *m);
    *model = m;
    if (m == NULL) return het_fail(HET_E_MEMORY, "no memory for the model");
    m->dev = dev;
    m->config = *config;
    m->spec = *spec;
    m->synthetic = spec->batch * config->train.pose_images;
    m->real_scale = 1.0;
    m->snr = 1.0;
    m->buffers = het_alloc(sizeof *m->buffers);
    if (m->buffers == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the model"));
    HET_TRY(het_points_new(&m->points, spec->box));
    m->active = m->points.count;
    HET_TRY(dev->ops->fourier_new(dev, &m->fourier, spec->box, m->points.count, m->points.kxy));
    HET_TRY(new_encoders(m));
    m->trained_encoder = het_encoder_stats_offset(m->encoder[0]);
    m->decoder_first = m->layout.total;
    const int64_t most = m->synthetic > spec->batch * WIDEST_BATCH_PER_IMAGE
                             ? m->synthetic
                             : spec->batch * WIDEST_BATCH_PER_IMAGE;
    const het_decoder_spec decoder = {spec->box, config->decoder.frequencies, config->decoder.width,
                                      config->decoder.layers, config->z_dim, most, config->decoder.sigma,
                                      !config->decoder.residual};
    HET_TRY(het_decoder_new(&m->decoder, dev, &decoder, m->points.count, m->points.kxy,
                            (uint64_t)config->train.seed, &m->layout));
    het_workspace ws = {0}; /* only measured */
    bind_buffers(m, &ws);
    m->buffers->workspace_bytes = ws.used;
    m->plan_bytes = het_arena_bytes() - before;
done:
    if (status != HET_OK) {
        het_model_free(m);
        *model = NULL;
    }
    return status;
}

het_status het_model_allocate(het_model *m)
{
    const het_status status = allocate(m);
    return status == HET_OK ? fill_constants(m) : status;
}

het_status het_model_new(het_model **model, het_device *dev, const het_config *config,
                         const het_model_spec *spec)
{
    het_status status = het_model_plan(model, dev, config, spec);
    if (status == HET_OK) status = het_model_allocate(*model);
    if (status != HET_OK) {
        het_model_free(*model);
        *model = NULL;
    }
    return status;
}

static void free_buffers(het_model *m)
{
    het_model_buffers *b = m->buffers;
    if (b->workspace != NULL) m->dev->ops->release(m->dev, b->workspace);
    if (b->pinned) m->dev->ops->unpin(m->dev, b->mirror);
    het_release(b->mirror);
    het_release(b->given_dz);
    het_release(b->given_loss);
    het_release(b);
}

void het_model_free(het_model *m)
{
    if (m == NULL) return;
    const het_ops *ops = m->dev->ops;
    for (int task = 0; task < 2; task++)
        if (m->graph[task] != NULL) ops->graph_free(m->graph[task]);
    if (m->encoder[1] != m->encoder[0]) het_encoder_free(m->encoder[1]);
    het_encoder_free(m->encoder[0]);
    het_decoder_free(m->decoder);
    if (m->fourier != NULL) ops->fourier_free(m->fourier);
    float *blocks[] = {m->params, m->grads, m->moment1, m->moment2, m->running};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (blocks[i] != NULL) ops->release(m->dev, blocks[i]);
    if (m->buffers != NULL) free_buffers(m);
    het_release(m->envelope_shells);
    het_points_free(&m->points);
    het_release(m);
}

het_dtype het_model_image_type(const het_device *dev)
{
    return !dev->on_host && dev->precision == HET_BF16 ? HET_F16 : HET_F32;
}

int64_t het_model_images(const het_model_spec *spec)
{
    return spec->batch * (spec->parts > 1 ? spec->parts : 1);
}

void het_model_memory(const het_model *m, size_t bytes[4])
{
    const size_t block = (size_t)m->layout.total * sizeof(float);
    bytes[0] = block + statistics_bytes(m);
    bytes[1] = m->spec.infer_only ? 0 : block;
    bytes[2] = m->spec.infer_only ? 0 : 2 * block;
    bytes[3] = m->buffers->workspace_bytes;
}

/* What CTFs are multiplied by. */
static void upload_envelope(het_model *m)
{
    float *host = het_alloc((size_t)m->points.count * sizeof *host);
    HET_ASSERT(host != NULL);
    for (int64_t p = 0; p < m->points.count; p++) {
        const double radius = hypot(m->points.kxy[2 * p], m->points.kxy[2 * p + 1]);
        host[p] = het_model_envelope(m, radius) * (float)het_whitening_at(&m->whitening, radius, m->spec.box);
    }
    m->dev->ops->upload(m->dev, m->buffers->envelope, host, (size_t)m->points.count * sizeof *host);
    het_release(host);
}

void het_model_set_survey(het_model *m, const het_survey *survey)
{
    const int64_t shells = m->spec.box / 2;
    m->snr = survey->snr;
    m->noise_variance = survey->noise_variance;
    for (int64_t r = 0; r < shells; r++)
        m->envelope_shells[r] = m->config.decoder.envelope ? survey->envelope[r] : 1.0f;
    upload_envelope(m);
}

void het_model_set_whitening(het_model *m, const het_whitening *whitening)
{
    m->whitening = *whitening;
    upload_envelope(m);
}

float het_model_envelope(const het_model *m, double radius)
{
    const int64_t last = m->spec.box / 2 - 1;
    const int64_t shell = radius >= (double)last ? last - 1 : (int64_t)radius;
    const double t = radius >= (double)last ? 1.0 : radius - (double)shell;
    return (float)((1.0 - t) * m->envelope_shells[shell] + t * m->envelope_shells[shell + 1]);
}

void het_model_set_radius(het_model *m, double radius, const het_survey *survey)
{
    m->active = het_points_within(&m->points, radius);
    double variance = 0.0;
    for (int64_t r = 0; r < survey->shells && (double)r <= radius; r++) variance += survey->power[r];
    /* before the window, as synthetic images are scaled too */
    m->real_scale = 1.0 / sqrt(fmax(variance, 1e-12));
}

void het_model_zero_grad(het_model *m)
{
    m->dev->ops->zero(m->dev, m->grads, (size_t)m->layout.total * sizeof *m->grads);
}

void het_model_update(het_model *m, double rate_encoder, double rate_decoder)
{
    const het_ops *ops = m->dev->ops;
    const float b1 = 0.9f, b2 = 0.999f, eps = 1e-8f;
    if (m->task == HET_TASK_IMAGE && rate_decoder > 0.0) {
        const int64_t first = m->decoder_first;
        ops->adam(m->dev, m->params + first, m->moment1 + first, m->moment2 + first, m->grads + first,
                  m->layout.total - first, (float)rate_decoder, b1, b2, eps, ++m->adam_steps[1]);
        het_decoder_load(m->decoder, m->params);
    }
    if (rate_encoder <= 0.0 || (m->task == HET_TASK_IMAGE && !m->encoded)) return;
    ops->adam(m->dev, m->params, m->moment1, m->moment2, m->grads, m->trained_encoder, (float)rate_encoder,
              b1, b2, eps, ++m->adam_steps[0]);
    const int64_t stats = het_encoder_stats(m->encoder[0]);
    const int set = m->task == HET_TASK_POSE && m->config.encoder.separate_stats ? HET_STATS_SYNTHETIC
                                                                                 : HET_STATS_REAL;
    const int64_t images = m->adam_steps[1], all = m->adam_steps[0];
    int64_t seen = all;
    if (m->config.encoder.separate_stats) seen = set == HET_STATS_REAL ? images : all - images;
    /* A plain mean until it is as long as the running one: the first batches count, the start does not. */
    const double momentum = fmax(m->config.encoder.stats_momentum, 1.0 / (double)(seen > 0 ? seen : 1));
    ops->blend(m->dev, m->running + set * stats, m->grads + m->trained_encoder, (float)momentum, stats);
    /* Where the encoder sees no real images, those of synthetic ones are the best there are for them. */
    if (m->task == HET_TASK_POSE && !m->encoded && m->config.encoder.separate_stats)
        ops->blend(m->dev, m->running + HET_STATS_REAL * stats, m->grads + m->trained_encoder,
                   (float)momentum, stats);
}

void het_model_forget_moments(het_model *m)
{
    m->dev->ops->zero(m->dev, m->moment1, (size_t)m->layout.total * sizeof *m->moment1);
    m->dev->ops->zero(m->dev, m->moment2, (size_t)m->layout.total * sizeof *m->moment2);
    m->adam_steps[0] = m->adam_steps[1] = 0;
}
