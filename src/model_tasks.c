/* The two tasks of a training step, forward and backward (METHOD 4 and 5). */
#include <assert.h>

#include "model.h"
#include "model_buffers.h"

float het_model_shift_pixels(const het_model *m)
{
    return m->config.encoder.shift_unit == HET_SHIFT_BOX ? (float)m->spec.box : 1.0f;
}

enum { ROW = sizeof(het_ctf_row) / sizeof(float) };
static_assert(sizeof(het_ctf_row) == ROW * sizeof(float), "rows of the CTF are copied as floats");

void het_model_show(het_model *m, int64_t n, int pairs)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t p = m->active, both = n * pairs;
    ops->image_to_points(m->fourier, b->points, b->image, n, p);
    if (pairs == 2)
        ops->mirror_pairs(m->fourier, b->target, b->points, n, p);
    else
        ops->gather_rows(m->dev, b->target, b->points, NULL, n, 1, 2 * p);
    ops->gather_rows(m->dev, (float *)b->rows, (const float *)b->rows_given, NULL, both, pairs, ROW);
    ops->ctf(m->fourier, b->ctf, b->rows, pairs == 2 ? b->mirrored : NULL, b->envelope, (float)m->spec.apix,
             both, p);
    ops->fill(m->dev, b->scale, (float)m->real_scale, both);
}

/* The batch's images to `image`, where they are not there yet. */
static void take_images(het_model *m)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->step_images, pixels = m->spec.box * m->spec.box;
    if (b->stored != NULL)
        ops->take_images(m->dev, b->image, b->stored, b->in_half, b->index, n, pixels);
    else if (b->in_half)
        ops->take_images(m->dev, b->image, b->half, b->in_half, NULL, n, pixels);
}

void het_model_look(het_model *m, const float *points, int64_t n)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    ops->points_to_image(m->fourier, b->image, points, b->window, b->scale, n, m->active);
    if (m->config.encoder.standardise == HET_STANDARDISE_IMAGE)
        ops->standardise(m->dev, b->image, b->window, n, m->spec.box * m->spec.box);
}

/* The encoder looks at the targets, turned (train.augment) by multiples of 90 degrees. The loss is taken on the image as it
 * is, with the pose turned back (poses_of). */
static void look_at_targets(het_model *m, int64_t both)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    float *turned = b->slice; /* free as yet */
    if (m->turned) ops->turn_points(m->fourier, turned, b->target, b->quarters, both, m->active);
    het_model_look(m, m->turned ? turned : b->target, both);
}

/* rot, shift_px (and the penalised shift) of all rows from the encoder's heads, or as given. */
static void poses_of(het_model *m, int64_t both)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    if (m->given) {
        ops->gather_rows(m->dev, b->rot, b->rot_true, NULL, both, 1, 9);
        ops->gather_rows(m->dev, b->shift_px, b->px_true, NULL, both, 1, 2);
        ops->zero(m->dev, b->head[HET_ENCODER_SHIFT], (size_t)(2 * both) * sizeof(float));
        return;
    }
    ops->s2s2(m->dev, b->rot, b->head[HET_ENCODER_ROTATION], both);
    ops->fill(m->dev, b->weight, het_model_shift_pixels(m), both);
    ops->scale_rows(m->dev, b->shift_px, b->head[HET_ENCODER_SHIFT], b->weight, both, 2);
    if (m->turned) ops->turn_poses(m->dev, b->rot, b->shift_px, b->quarters, 1, both);
}

/* z and its KL term: as given; from the encoder; or, frozen (FCH), carrying nothing of the image. */
static void conformations_of(het_model *m, int64_t both)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t z = m->config.z_dim;
    if (!m->z_given && !m->frozen) {
        ops->latent(m->dev, b->z, b->kl, b->head[HET_ENCODER_LATENT], b->normal, both, z);
        return;
    }
    ops->zero(m->dev, b->kl, (size_t)both * sizeof *b->kl);
    if (m->z_given)
        ops->gather_rows(m->dev, b->z, b->z_given, NULL, both, 1, z);
    else if (m->config.train.freeze_z == HET_FROZEN_ZERO)
        ops->zero(m->dev, b->z, (size_t)(both * z) * sizeof *b->z);
    else
        ops->gather_rows(m->dev, b->z, b->normal, NULL, both, 1, z);
}

static void forward_image(het_model *m)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->step_images, both = n * m->pairs, p = m->active, z = m->config.z_dim;
    take_images(m);
    het_model_show(m, n, m->pairs);
    ops->points_power(m->fourier, b->zero_loss, b->points, n, p, 1);
    if (m->encoded) {
        look_at_targets(m, both);
        het_encoder_forward(m->encoder[0], b->head, m->params, b->image);
    }
    poses_of(m, both);
    conformations_of(m, both);
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, both, p);
    ops->project_loss(m->fourier, b->loss, b->dslice, b->dshift_px, b->slice, b->ctf, b->shift_px, b->target,
                      both, p);
    ops->winners(m->dev, b->total, b->which, b->weight, b->loss, b->kl, b->head[HET_ENCODER_SHIFT],
                 (float)m->config.train.lambda_z, (float)m->config.train.lambda_t,
                 1.0f / (float)m->spec.global_batch, both, m->pairs);
    ops->gather_rows(m->dev, b->z_seen + m->part * n * z, b->z, b->which, n, 1, z);
    ops->gather_rows(m->dev, (float *)(b->rows_synthetic + m->part * m->synthetic), (const float *)b->rows_given, NULL,
                     m->synthetic, m->config.train.pose_images, ROW);
}

static void backward_image(het_model *m, het_ready ready, void *context)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->step_images, both = n * m->pairs, p = m->active, z = m->config.z_dim;
    ops->scale_rows(m->dev, b->dslice, b->dslice, b->weight, both, 2 * p);
    het_decoder_backward(m->decoder, m->grads, b->drot, b->dz, b->dslice, m->params, b->rot, b->z,
                         b->which, n, both, p);
    if (ready != NULL) ready(context, m->decoder_first);
    if (!m->encoded) return;
    float *dhead[HET_ENCODER_HEADS] = {NULL};
    if (!m->given) {
        dhead[HET_ENCODER_ROTATION] = b->dhead[HET_ENCODER_ROTATION];
        dhead[HET_ENCODER_SHIFT] = b->dhead[HET_ENCODER_SHIFT];
        if (m->turned) ops->turn_poses(m->dev, b->drot, b->dshift_px, b->quarters, 0, both);
        ops->s2s2_backward(m->dev, dhead[HET_ENCODER_ROTATION], b->drot, b->head[HET_ENCODER_ROTATION], both);
        ops->shift_backward(m->dev, dhead[HET_ENCODER_SHIFT], b->dshift_px, b->head[HET_ENCODER_SHIFT], b->weight,
                            (float)m->config.train.lambda_t, het_model_shift_pixels(m), both);
    }
    if (!m->frozen) {
        ops->fill(m->dev, b->scale, (float)m->config.train.lambda_z, both);
        ops->scale_rows(m->dev, b->scale, b->weight, b->scale, both, 1); /* dkl = lambda_z weight */
        ops->latent_backward(m->dev, b->dhead[HET_ENCODER_LATENT], b->dz, b->scale,
                             b->head[HET_ENCODER_LATENT], b->normal, both, z);
        dhead[HET_ENCODER_LATENT] = b->dhead[HET_ENCODER_LATENT];
    }
    het_encoder_backward(m->encoder[0], m->grads, dhead, m->params, 1.0f / (float)m->spec.global_groups,
                         ready, context);
}

/* With noise, ASN (eq. 10): of the variance of the clean images over the SNR; without it: the data's. */
static void synthesise(het_model *m)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->synthetic, p = m->active, g = m->spec.groups;
    const het_ctf_row *rows = b->rows_synthetic + m->part * n;
    const int asn = m->config.ablation.asn;
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot_true, b->z_synthetic, NULL, n, p);
    ops->ctf(m->fourier, b->ctf, rows, NULL, b->envelope, (float)m->spec.apix, n, p);
    float *points = b->dslice; /* no gradient passes the decoder in this task: its buffer is free */
    ops->project(m->fourier, points, b->slice, b->ctf, b->px_true, n, p);
    if (asn)
        ops->points_power(m->fourier, b->power, points, n, p, g);
    else
        ops->fill(m->dev, b->power, (float)m->noise_variance, g);
    ops->add_noise(m->fourier, points, b->power, asn ? (float)m->snr : 1.0f, (uint64_t)m->config.train.seed, b->noise_at, n, p,
                   g);
    ops->points_power(m->fourier, b->noisy_power, points, n, p, g);
    ops->unit_scale(m->dev, b->scale, b->noisy_power, n, g);
    het_model_look(m, points, n);
}

int het_model_teaches_z(const het_model *m)
{
    return m->z_given && !m->frozen;
}

int het_model_draws_z(const het_model *m)
{
    return !m->config.ablation.pds && !(m->frozen && m->config.train.freeze_z == HET_FROZEN_ZERO);
}

static void forward_pose(het_model *m)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->synthetic, z = m->config.z_dim, k = m->config.train.pose_images;
    const double all = (double)(m->spec.global_batch * k);
    const float *seen = b->z_seen + m->part * m->spec.batch * z;
    ops->gather_rows(m->dev, b->z_synthetic, het_model_draws_z(m) ? b->normal : seen, NULL, n, het_model_draws_z(m) ? 1 : k, z);
    synthesise(m);
    het_encoder_forward(m->encoder[1], b->head, m->params, b->image);
    ops->s2s2(m->dev, b->rot, b->head[HET_ENCODER_ROTATION], n);
    ops->pose_loss(m->dev, b->loss, b->drot, b->dhead[HET_ENCODER_SHIFT], b->rot, b->head[HET_ENCODER_SHIFT],
                   b->rot_true, b->shift_true, (float)(m->config.train.lambda_pose / all), n);
    /* With every image's z given in task one, the encoder learns z as it learns poses: from synthetic images, whose z is
       known. */
    if (het_model_teaches_z(m))
        ops->conformation_loss(m->dev, b->kl, b->dhead[HET_ENCODER_LATENT], b->head[HET_ENCODER_LATENT], b->z_synthetic,
                               (float)(m->config.init.lambda_z / all), n, z);
}

static void backward_pose(het_model *m, het_ready ready, void *context)
{
    het_model_buffers *b = m->buffers;
    m->dev->ops->s2s2_backward(m->dev, b->dhead[HET_ENCODER_ROTATION], b->drot, b->head[HET_ENCODER_ROTATION],
                               m->synthetic);
    float *dhead[HET_ENCODER_HEADS] = {b->dhead[0], b->dhead[1],
                                       het_model_teaches_z(m) ? b->dhead[HET_ENCODER_LATENT] : NULL};
    het_encoder_backward(m->encoder[1], m->grads, dhead, m->params, 1.0f / (float)m->spec.global_groups,
                         ready, context);
}

static void forward(het_model *m)
{
    if (m->task == HET_TASK_IMAGE)
        forward_image(m);
    else
        forward_pose(m);
}

void het_model_forward(het_model *m, het_task task, const het_batch *batch, int64_t step, int frozen)
{
    het_model_give(m, task, batch, step, frozen);
    forward(m);
}

void het_model_backward(het_model *m, het_ready ready, void *context)
{
    if (m->task == HET_TASK_IMAGE)
        backward_image(m, ready, context);
    else
        backward_pose(m, ready, context);
}

/* Whatever the work of a step depends on beside the device's memory and the configuration. Members of eight bytes: no gaps. */
typedef struct work_key {
    int64_t task, active, images, pairs, given, encoded, turned, z_given, frozen, in_half;
    double real_scale, snr, noise_variance;
    uint64_t stored, context; /* of those who are told */
} work_key;

/* Who is told of final gradients, by the device: when their work has been launched. */
typedef struct told {
    het_device *dev;
    het_ready ready;
    void *context;
} told;

static void tell(void *context, int64_t offset)
{
    const told *t = context;
    t->dev->ops->graph_call(t->dev, t->ready, t->context, offset);
}

static void work(het_model *m, het_ready ready, void *context)
{
    het_model_zero_grad(m);
    forward(m);
    het_model_backward(m, ready, context);
}

void het_model_gradients(het_model *m, het_task task, const het_batch *batch, int64_t step, int frozen, het_ready ready,
                         void *context)
{
    const het_ops *ops = m->dev->ops;
    het_model_give(m, task, batch, step, frozen);
    const work_key key = {task, m->active, m->step_images, m->pairs, m->given, m->encoded, m->turned, m->z_given, frozen,
                          m->buffers->in_half, m->real_scale, m->snr, m->noise_variance,
                          (uint64_t)(uintptr_t)m->buffers->stored, (uint64_t)(uintptr_t)context};
    told to = {m->dev, ready, context};
    if (ops->graph_begin == NULL || m->spec.parts > 1)
        work(m, ready, context);
    else if (ops->graph_begin(m->dev, &m->graph[task], &key, sizeof key))
        do work(m, ready == NULL ? NULL : tell, &to);
        while (!ops->graph_end(m->dev));
}
