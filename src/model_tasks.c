/* The two tasks of a training step, forward and backward (METHOD 4 and 5). */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "model.h"
#include "model_buffers.h"
#include "physics/rotation.h"
#include "rng.h"

static void fill(het_model *m, float *device, float value, int64_t n)
{
    float *host = m->buffers->host.same;
    for (int64_t i = 0; i < n; i++) host[i] = value;
    m->dev->ops->upload(m->dev, device, host, (size_t)n * sizeof *host);
}

float het_model_shift_pixels(const het_model *m)
{
    return m->config.encoder.shift_unit == HET_SHIFT_BOX ? (float)m->spec.box : 1.0f;
}

/* Rows of the CTF, each `repeat` times. */
static void upload_rows(het_model *m, het_ctf_row *device, const het_ctf_row *rows, int64_t n, int64_t repeat)
{
    het_ctf_row *host = m->buffers->host.rows;
    for (int64_t i = 0; i < n; i++) host[i] = rows[i / repeat];
    m->dev->ops->upload(m->dev, device, host, (size_t)n * sizeof *host);
}

void het_model_show(het_model *m, const het_ctf_row *ctf, int64_t n, int pairs)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t p = m->active, both = n * pairs;
    ops->image_to_points(m->fourier, b->points, b->image, n, p);
    if (pairs == 2)
        ops->mirror_pairs(m->fourier, b->target, b->points, n, p);
    else
        ops->gather_rows(m->dev, b->target, b->points, NULL, n, 1, 2 * p);
    upload_rows(m, b->rows, ctf, both, pairs);
    ops->ctf(m->fourier, b->ctf, b->rows, pairs == 2 ? b->mirrored : NULL, b->envelope, (float)m->spec.apix,
             both, p);
    fill(m, b->scale, (float)m->real_scale, both);
}

/* The batch's images to `image`. */
static void take_images(het_model *m, const het_batch *batch)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = batch->count, pixels = m->spec.box * m->spec.box;
    const int half = batch->type == HET_F16;
    if (batch->stored != NULL) {
        ops->upload(m->dev, b->index, batch->index, (size_t)n * sizeof *batch->index);
        ops->take_images(m->dev, b->image, batch->stored, half, b->index, n, pixels);
    } else if (half) {
        ops->upload(m->dev, b->half, batch->images, (size_t)(n * pixels) * sizeof *b->half);
        ops->take_images(m->dev, b->image, b->half, half, NULL, n, pixels);
    } else {
        ops->upload(m->dev, b->image, batch->images, (size_t)(n * pixels) * sizeof *b->image);
    }
}

void het_model_look(het_model *m, const float *points, int64_t n)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    ops->points_to_image(m->fourier, b->image, points, b->window, b->scale, n, m->active);
    if (m->config.encoder.standardise == HET_STANDARDISE_IMAGE)
        ops->standardise(m->dev, b->image, b->window, n, m->spec.box * m->spec.box);
}

/* The encoder looks at the targets, turned (train.augment) by multiples of 90 degrees, an image like its mirror,
 * keyed by the image's place in the global batch. The loss is taken on the image as it is, with the pose turned
 * back (poses_of). */
static void look_at_targets(het_model *m, const het_batch *batch, int64_t both, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    m->turned = m->config.train.augment;
    for (int64_t i = 0; m->turned && i < both; i++) {
        het_rng rng = het_rng_at((uint64_t)m->config.train.seed, HET_STREAM_TURN, (uint64_t)step,
                                 (uint64_t)(batch->first + i / m->pairs));
        b->host.quarters[i] = (uint8_t)het_rng_below(&rng, 4);
    }
    if (m->turned) ops->upload(m->dev, b->quarters, b->host.quarters, (size_t)both);
    float *turned = b->slice; /* free as yet */
    if (m->turned) ops->turn_points(m->fourier, turned, b->target, b->quarters, both, m->active);
    het_model_look(m, m->turned ? turned : b->target, both);
}

/* Standard normal numbers for z, keyed by the image's place in the global batch. */
static void draw_normal(het_model *m, float *device, int64_t rows, int64_t first_row, int64_t step)
{
    const int64_t z = m->config.z_dim;
    float *host = m->buffers->host.z;
    for (int64_t i = 0; i < rows; i++) {
        het_rng rng = het_rng_at((uint64_t)m->config.train.seed, HET_STREAM_LATENT, (uint64_t)step,
                                 (uint64_t)(first_row + i));
        for (int64_t j = 0; j < z; j++) host[i * z + j] = het_rng_normal(&rng);
    }
    m->dev->ops->upload(m->dev, device, host, (size_t)(rows * z) * sizeof *host);
}

/* rot, shift_px (and the penalised shift) of all rows from the encoder's heads, or as given. */
static void poses_of(het_model *m, const het_batch *batch, int64_t both)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    if (m->given) {
        ops->upload(m->dev, b->rot, batch->rotation, (size_t)(9 * both) * sizeof(float));
        ops->upload(m->dev, b->shift_px, batch->shift, (size_t)(2 * both) * sizeof(float));
        ops->zero(m->dev, b->head[HET_ENCODER_SHIFT], (size_t)(2 * both) * sizeof(float));
        return;
    }
    ops->s2s2(m->dev, b->rot, b->head[HET_ENCODER_ROTATION], both);
    fill(m, b->weight, het_model_shift_pixels(m), both);
    ops->scale_rows(m->dev, b->shift_px, b->head[HET_ENCODER_SHIFT], b->weight, both, 2);
    if (m->turned) ops->turn_poses(m->dev, b->rot, b->shift_px, b->quarters, 1, both);
}

/* z and its KL term: as given; from the encoder; or, frozen (FCH), carrying nothing of the image. */
static void conformations_of(het_model *m, const het_batch *batch, int64_t both, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t z = m->config.z_dim;
    draw_normal(m, b->eps, both, batch->first * m->pairs, step);
    if (!m->z_given && !m->frozen) {
        ops->latent(m->dev, b->z, b->kl, b->head[HET_ENCODER_LATENT], b->eps, both, z);
        return;
    }
    ops->zero(m->dev, b->kl, (size_t)both * sizeof *b->kl);
    if (batch->z != NULL)
        ops->upload(m->dev, b->z, batch->z, (size_t)(both * z) * sizeof(float));
    else if (m->config.train.freeze_z == HET_FROZEN_ZERO)
        ops->zero(m->dev, b->z, (size_t)(both * z) * sizeof *b->z);
    else
        ops->gather_rows(m->dev, b->z, b->eps, NULL, both, 1, z);
}

static void forward_image(het_model *m, const het_batch *batch, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    m->given = batch->rotation != NULL;
    m->z_given = m->given && batch->z != NULL;
    m->pairs = m->config.train.mirror && !m->given ? 2 : 1;
    m->encoded = !m->given || (!m->z_given && !m->frozen);
    const int64_t n = batch->count, both = n * m->pairs, p = m->active, z = m->config.z_dim;
    take_images(m, batch);
    het_model_show(m, batch->ctf, n, m->pairs);
    if (m->encoded) {
        look_at_targets(m, batch, both, step);
        het_encoder_forward(m->encoder[0], b->head, m->params, b->image);
    }
    poses_of(m, batch, both);
    conformations_of(m, batch, both, step);
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, both, p);
    ops->project_loss(m->fourier, b->loss, b->dslice, b->dshift_px, b->slice, b->ctf, b->shift_px, b->target,
                      both, p);
    ops->winners(m->dev, b->total, b->which, b->weight, b->loss, b->kl, b->head[HET_ENCODER_SHIFT],
                 (float)m->config.train.lambda_z, (float)m->config.train.lambda_t,
                 1.0f / (float)m->spec.global_batch, both, m->pairs);
    ops->gather_rows(m->dev, b->z_seen + m->part * n * z, b->z, b->which, n, 1, z);
    const int64_t k = m->config.train.pose_images;
    upload_rows(m, b->rows_synthetic + m->part * m->synthetic, batch->ctf, m->synthetic, k);
    m->step_images = n;
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
    if (m->z_given) {
        ops->gather_rows(m->dev, b->given_dz + m->part * n * z, b->dz, NULL, n, 1, z);
        ops->gather_rows(m->dev, b->given_loss + m->part * n, b->loss, NULL, n, 1, 1);
    }
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
        fill(m, b->scale, (float)m->config.train.lambda_z, both);
        ops->scale_rows(m->dev, b->scale, b->weight, b->scale, both, 1); /* dkl = lambda_z weight */
        ops->latent_backward(m->dev, b->dhead[HET_ENCODER_LATENT], b->dz, b->scale,
                             b->head[HET_ENCODER_LATENT], b->eps, both, z);
        dhead[HET_ENCODER_LATENT] = b->dhead[HET_ENCODER_LATENT];
    }
    het_encoder_backward(m->encoder[0], m->grads, dhead, m->params, 1.0f / (float)m->spec.global_groups,
                         ready, context);
}

/* R uniform on SO(3), t uniform in the shift range, keyed by the image's place in the global batch. */
static void draw_poses(het_model *m, int64_t first, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    const het_model_host *h = &m->buffers->host;
    const uint64_t seed = (uint64_t)m->config.train.seed;
    const size_t n = (size_t)m->synthetic;
    for (int64_t j = 0; j < m->synthetic; j++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_ROTATION, (uint64_t)step, (uint64_t)(first + j));
        double r[9];
        het_rotation_draw(r, &rng);
        for (int i = 0; i < 9; i++) h->rot_true[9 * j + i] = (float)r[i];
        rng = het_rng_at(seed, HET_STREAM_SHIFT, (uint64_t)step, (uint64_t)(first + j));
        for (int i = 0; i < 2; i++) {
            h->px[2 * j + i] = (float)((2.0 * het_rng_uniform(&rng) - 1.0) * m->spec.shift_range);
            h->shift[2 * j + i] = h->px[2 * j + i] / het_model_shift_pixels(m);
        }
    }
    ops->upload(m->dev, m->buffers->rot_true, h->rot_true, 9 * n * sizeof(float));
    ops->upload(m->dev, m->buffers->shift_true, h->shift, 2 * n * sizeof(float));
    ops->upload(m->dev, m->buffers->shift_px, h->px, 2 * n * sizeof(float));
}

/* ASN (eq. 10): the variance of the clean images over the SNR; without it: the data's noise. */
static void noise_levels(het_model *m, const float *power, float *sigma2)
{
    const int64_t g = m->spec.groups;
    for (int64_t i = 0; i < g; i++)
        sigma2[i] = m->config.ablation.asn ? power[i] / (float)m->snr : (float)m->noise_variance;
}

static void synthesise(het_model *m, int64_t first, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->synthetic, p = m->active, g = m->spec.groups;
    const het_ctf_row *rows = b->rows_synthetic + m->part * n;
    float power[HET_GROUPS_MAX], level[HET_GROUPS_MAX];
    HET_ASSERT(g <= HET_GROUPS_MAX);
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot_true, b->z_synthetic, NULL, n, p);
    ops->ctf(m->fourier, b->ctf, rows, NULL, b->envelope, (float)m->spec.apix, n, p);
    float *points = b->dslice; /* no gradient passes the decoder in this task: its buffer is free */
    ops->project(m->fourier, points, b->slice, b->ctf, b->shift_px, n, p);
    ops->points_power(m->fourier, b->power, points, n, p, g);
    ops->download(m->dev, power, b->power, (size_t)g * sizeof *power);
    noise_levels(m, power, level);
    ops->upload(m->dev, b->sigma2, level, (size_t)g * sizeof *level);
    ops->add_noise(m->fourier, points, b->sigma2, (uint64_t)m->config.train.seed, (uint64_t)step,
                   (uint64_t)first, n, p, g);
    ops->points_power(m->fourier, b->power, points, n, p, g);
    ops->download(m->dev, power, b->power, (size_t)g * sizeof *power);
    for (int64_t i = 0; i < g; i++)
        fill(m, b->scale + i * (n / g), 1.0f / sqrtf(fmaxf(power[i], 1e-12f)), n / g);
    het_model_look(m, points, n);
}

/* With every image's z given in task one, the encoder learns z as it learns poses: from synthetic images,
 * whose z is known.
 *      L_z = 1/(2 Z) sum_j ( (z_j - mu_j)^2 / v_j + log v_j ),   v = exp(logvar) within exp(+-10)
 *  (the log-likelihood of z under the posterior), gradients times `weight`. */
static void conformation_loss(het_model *m, float weight, int64_t n)
{
    const het_ops *ops = m->dev->ops;
    const int64_t z = m->config.z_dim;
    const het_model_buffers *b = m->buffers;
    const het_model_host *h = &b->host;
    ops->download(m->dev, h->latent, b->head[HET_ENCODER_LATENT], (size_t)(n * 2 * z) * sizeof(float));
    ops->download(m->dev, h->z, b->z_synthetic, (size_t)(n * z) * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        float *mean = h->latent + 2 * z * i, *spread = mean + z; /* become their gradients */
        float loss = 0.0F;
        for (int64_t j = 0; j < z; j++) {
            const float given = spread[j], logvar = fminf(10.0F, fmaxf(-10.0F, given)), variance = expf(logvar),
                        d = mean[j] - h->z[z * i + j];
            loss += (d * d / variance + logvar) / (2.0F * (float)z);
            mean[j] = weight / (float)z * d / variance;
            spread[j] = fabsf(given) < 10.0F ? weight / (2.0F * (float)z) * (1.0F - d * d / variance) : 0.0F;
        }
        h->kl[i] = loss;
    }
    ops->upload(m->dev, b->dhead[HET_ENCODER_LATENT], h->latent, (size_t)(n * 2 * z) * sizeof(float));
    ops->upload(m->dev, b->kl, h->kl, (size_t)n * sizeof(float));
}

/* Whether task two teaches the conformation head. */
static int teaches_z(const het_model *m)
{
    return m->z_given && !m->frozen;
}

static void forward_pose(het_model *m, const het_batch *batch, int64_t step)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t n = m->synthetic, z = m->config.z_dim, k = m->config.train.pose_images;
    const int64_t first = batch->first * k;
    draw_poses(m, first, step);
    if (m->config.ablation.pds || (m->frozen && m->config.train.freeze_z == HET_FROZEN_ZERO))
        ops->gather_rows(m->dev, b->z_synthetic, b->z_seen + m->part * m->spec.batch * z, NULL, n, k, z);
    else
        draw_normal(m, b->z_synthetic, n, first, step);
    synthesise(m, first, step);
    het_encoder_forward(m->encoder[1], b->head, m->params, b->image);
    ops->s2s2(m->dev, b->rot, b->head[HET_ENCODER_ROTATION], n);
    ops->pose_loss(m->dev, b->loss, b->drot, b->dhead[HET_ENCODER_SHIFT], b->rot, b->head[HET_ENCODER_SHIFT],
                   b->rot_true, b->shift_true,
                   (float)(m->config.train.lambda_pose / (double)(m->spec.global_batch * k)), n);
    if (teaches_z(m))
        conformation_loss(m, (float)(m->config.init.lambda_z / (double)(m->spec.global_batch * k)), n);
}

static void backward_pose(het_model *m, het_ready ready, void *context)
{
    het_model_buffers *b = m->buffers;
    m->dev->ops->s2s2_backward(m->dev, b->dhead[HET_ENCODER_ROTATION], b->drot, b->head[HET_ENCODER_ROTATION],
                               m->synthetic);
    float *dhead[HET_ENCODER_HEADS] = {b->dhead[0], b->dhead[1],
                                       teaches_z(m) ? b->dhead[HET_ENCODER_LATENT] : NULL};
    het_encoder_backward(m->encoder[1], m->grads, dhead, m->params, 1.0f / (float)m->spec.global_groups,
                         ready, context);
}

void het_model_forward(het_model *m, het_task task, const het_batch *batch, int64_t step, int frozen)
{
    m->task = task;
    m->frozen = frozen;
    if (task == HET_TASK_IMAGE)
        forward_image(m, batch, step);
    else
        forward_pose(m, batch, step);
}

void het_model_backward(het_model *m, het_ready ready, void *context)
{
    if (m->task == HET_TASK_IMAGE)
        backward_image(m, ready, context);
    else
        backward_pose(m, ready, context);
}

/* Whether z says something of the image: where the encoder ran, or z is given and in use. */
static int tells_z(const het_model *m)
{
    return m->encoded || (m->z_given && !m->frozen);
}

/* z of one row: the posterior, or as given. */
static void tally_conformation(const het_model *m, het_tally *tally, int32_t row)
{
    const int64_t z = m->config.z_dim;
    const het_model_host *h = &m->buffers->host;
    const float *mean = m->z_given ? h->z + z * row : h->latent + 2 * z * row;
    for (int64_t i = 0; i < z; i++) {
        tally->z_square += mean[i] * mean[i] / (double)z;
        if (m->z_given) continue;
        tally->z_std += exp(0.5 * fmin(10.0, fmax(-10.0, mean[z + i]))) / (double)z;
    }
}

static void tally_image(het_model *m, het_tally *tally)
{
    const het_model_buffers *b = m->buffers;
    const het_model_host *h = &b->host;
    const het_ops *ops = m->dev->ops;
    const int64_t n = m->step_images, z = m->config.z_dim;
    const size_t both = (size_t)(n * m->pairs) * sizeof(float);
    float power;
    ops->download(m->dev, h->which, b->which, (size_t)n * sizeof *h->which);
    ops->download(m->dev, h->loss, b->loss, both);
    ops->download(m->dev, h->kl, b->kl, both);
    ops->download(m->dev, h->rot, b->rot, 9 * both);
    ops->download(m->dev, h->shift, b->head[HET_ENCODER_SHIFT], 2 * both);
    if (tells_z(m) && m->z_given) ops->download(m->dev, h->z, b->z, (size_t)z * both);
    else if (tells_z(m)) ops->download(m->dev, h->latent, b->head[HET_ENCODER_LATENT], (size_t)(2 * z) * both);
    for (int64_t j = 0; j < n; j++) {
        const int32_t winner = h->which[j];
        const float *rot = h->rot + 9 * winner, *shift = h->shift + 2 * winner;
        tally->image_loss += h->loss[winner];
        tally->kl += h->kl[winner];
        tally->shift_penalty += 0.5 * (fabsf(shift[0]) + fabsf(shift[1]));
        tally->mirrored += winner != j * m->pairs;
        tally->non_finite += !isfinite(h->loss[winner]);
        if (tells_z(m)) tally_conformation(m, tally, winner);
        if (j == 0) continue;
        const float *last = h->rot + 9 * h->which[j - 1];
        for (int i = 0; i < 9; i++) tally->spread += (rot[i] - last[i]) * (rot[i] - last[i]);
        tally->spread_pairs++;
    }
    ops->points_power(m->fourier, b->power, b->points, n, m->active, 1);
    ops->download(m->dev, &power, b->power, sizeof power);
    tally->zero_loss += power * (double)n;
    tally->images += (double)n;
}

static void tally_pose(het_model *m, het_tally *tally)
{
    const het_model_buffers *b = m->buffers;
    const het_model_host *h = &b->host;
    const het_ops *ops = m->dev->ops;
    const size_t n = (size_t)m->synthetic * sizeof(float);
    ops->download(m->dev, h->loss, b->loss, n);
    ops->download(m->dev, h->rot, b->rot, 9 * n);
    ops->download(m->dev, h->rot_true, b->rot_true, 9 * n);
    if (teaches_z(m)) ops->download(m->dev, h->kl, b->kl, n);
    for (int64_t j = 0; j < m->synthetic; j++) {
        const float *rot = h->rot + 9 * j, *truth = h->rot_true + 9 * j;
        tally->pose_loss += h->loss[j];
        if (teaches_z(m)) {
            tally->conformation_loss += h->kl[j];
            tally->non_finite += !isfinite(h->kl[j]);
        }
        for (int i = 0; i < 9; i++) tally->rotation_error += (rot[i] - truth[i]) * (rot[i] - truth[i]);
        tally->non_finite += !isfinite(h->loss[j]);
    }
    tally->synthetic += (double)m->synthetic;
}

het_status het_model_tally(het_model *m, het_tally *tally)
{
    if (m->task == HET_TASK_IMAGE)
        tally_image(m, tally);
    else
        tally_pose(m, tally);
    return m->dev->ops->sync(m->dev);
}

void het_model_answers_given(het_model *m, float *dz, float *loss)
{
    const int64_t n = het_model_images(&m->spec), z = m->config.z_dim;
    HET_ASSERT(m->z_given);
    m->dev->ops->download(m->dev, dz, m->buffers->given_dz, (size_t)(n * z) * sizeof *dz);
    m->dev->ops->download(m->dev, loss, m->buffers->given_loss, (size_t)n * sizeof *loss);
    /* the gradients are of the batch's mean */
    for (int64_t i = 0; i < n * z; i++) dz[i] *= (float)m->spec.global_batch;
}
