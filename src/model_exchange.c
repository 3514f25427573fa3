/* What crosses between host and device in a step: what it is given before its work, and its numbers after it. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "model.h"
#include "model_buffers.h"
#include "physics/rotation.h"
#include "rng.h"

/* ---- given ---------------------------------------------------------------------------------------------------------- */

/* Where the images of a batch are: on the device already, or brought there. Those of the loader are pinned by it. */
static void give_images(het_model *m, const het_batch *batch)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const size_t pixels = (size_t)(batch->count * m->spec.box * m->spec.box);
    b->stored = batch->stored;
    b->in_half = batch->type == HET_F16;
    if (batch->stored != NULL)
        memcpy(het_model_mirror(b, b->index), batch->index, (size_t)batch->count * sizeof *b->index);
    else if (b->in_half)
        ops->upload(m->dev, b->half, batch->images, pixels * sizeof *b->half);
    else
        ops->upload(m->dev, b->image, batch->images, pixels * sizeof *b->image);
}

/* By how many quarters the encoder sees each image turned, an image like its mirror, keyed by the image's place in the
 * global batch. */
static void draw_turns(het_model *m, int64_t first, int64_t both, int64_t step)
{
    uint8_t *quarters = het_model_mirror(m->buffers, m->buffers->quarters);
    for (int64_t i = 0; i < both; i++) {
        het_rng rng = het_rng_at((uint64_t)m->config.train.seed, HET_STREAM_TURN, (uint64_t)step,
                                 (uint64_t)(first + i / m->pairs));
        quarters[i] = (uint8_t)het_rng_below(&rng, 4);
    }
}

/* Standard normal numbers for z, keyed by the image's place in the global batch. */
static void draw_normal(het_model *m, int64_t rows, int64_t first_row, int64_t step)
{
    const int64_t z = m->config.z_dim;
    float *normal = het_model_mirror(m->buffers, m->buffers->normal);
    for (int64_t i = 0; i < rows; i++) {
        het_rng rng = het_rng_at((uint64_t)m->config.train.seed, HET_STREAM_LATENT, (uint64_t)step,
                                 (uint64_t)(first_row + i));
        for (int64_t j = 0; j < z; j++) normal[i * z + j] = het_rng_normal(&rng);
    }
}

static void give_image(het_model *m, const het_batch *batch, int64_t step)
{
    const het_model_buffers *b = m->buffers;
    const int64_t n = batch->count, z = m->config.z_dim;
    m->given = batch->rotation != NULL;
    m->z_given = m->given && batch->z != NULL;
    m->pairs = m->config.train.mirror && !m->given ? 2 : 1;
    m->encoded = !m->given || (!m->z_given && !m->frozen);
    m->turned = m->encoded && m->config.train.augment;
    m->step_images = n;
    give_images(m, batch);
    memcpy(het_model_mirror(b, b->rows_given), batch->ctf, (size_t)n * sizeof *batch->ctf);
    if (m->turned) draw_turns(m, batch->first, n * m->pairs, step);
    draw_normal(m, n * m->pairs, batch->first * m->pairs, step);
    if (m->given) {
        memcpy(het_model_mirror(b, b->rot_true), batch->rotation, (size_t)(9 * n) * sizeof(float));
        memcpy(het_model_mirror(b, b->px_true), batch->shift, (size_t)(2 * n) * sizeof(float));
    }
    if (m->z_given) memcpy(het_model_mirror(b, b->z_given), batch->z, (size_t)(n * z) * sizeof(float));
}

/* R uniform on SO(3), t uniform in the shift range, keyed by the image's place in the global batch. */
static void draw_poses(het_model *m, int64_t first, int64_t step)
{
    const het_model_buffers *b = m->buffers;
    const uint64_t seed = (uint64_t)m->config.train.seed;
    float *rot = het_model_mirror(b, b->rot_true), *px = het_model_mirror(b, b->px_true),
          *shift = het_model_mirror(b, b->shift_true);
    for (int64_t j = 0; j < m->synthetic; j++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_ROTATION, (uint64_t)step, (uint64_t)(first + j));
        double r[9];
        het_rotation_draw(r, &rng);
        for (int i = 0; i < 9; i++) rot[9 * j + i] = (float)r[i];
        rng = het_rng_at(seed, HET_STREAM_SHIFT, (uint64_t)step, (uint64_t)(first + j));
        for (int i = 0; i < 2; i++) {
            px[2 * j + i] = (float)((2.0 * het_rng_uniform(&rng) - 1.0) * m->spec.shift_range);
            shift[2 * j + i] = px[2 * j + i] / het_model_shift_pixels(m);
        }
    }
}

static void give_pose(het_model *m, const het_batch *batch, int64_t step)
{
    const int64_t first = batch->first * m->config.train.pose_images;
    uint64_t *at = het_model_mirror(m->buffers, m->buffers->noise_at);
    at[0] = (uint64_t)step;
    at[1] = (uint64_t)first;
    draw_poses(m, first, step);
    if (het_model_draws_z(m)) draw_normal(m, m->synthetic, first, step);
}

void het_model_give(het_model *m, het_task task, const het_batch *batch, int64_t step, int frozen)
{
    const het_model_buffers *b = m->buffers;
    m->task = task;
    m->frozen = frozen;
    if (task == HET_TASK_IMAGE)
        give_image(m, batch, step);
    else
        give_pose(m, batch, step);
    m->dev->ops->upload(m->dev, b->workspace, b->mirror, b->given_bytes);
}

/* ---- told ----------------------------------------------------------------------------------------------------------- */

/* Whether z says something of the image: where the encoder ran, or z is given and in use. */
static int tells_z(const het_model *m)
{
    return m->encoded || (m->z_given && !m->frozen);
}

/* z of one row: the posterior, or as given. */
static void tally_conformation(const het_model *m, het_tally *tally, int32_t row)
{
    const int64_t z = m->config.z_dim;
    const het_model_buffers *b = m->buffers;
    const float *given = het_model_mirror(b, b->z), *latent = het_model_mirror(b, b->head[HET_ENCODER_LATENT]);
    const float *mean = m->z_given ? given + z * row : latent + 2 * z * row;
    for (int64_t i = 0; i < z; i++) {
        tally->z_square += mean[i] * mean[i] / (double)z;
        if (m->z_given) continue;
        tally->z_std += exp(0.5 * fmin(10.0, fmax(-10.0, mean[z + i]))) / (double)z;
    }
}

/* Until the next image step, or of another part. */
static void keep_answers(const het_model *m, const float *loss)
{
    const het_model_buffers *b = m->buffers;
    const int64_t n = m->step_images, z = m->config.z_dim;
    if (m->z_given) memcpy(b->given_dz + m->part * n * z, het_model_mirror(b, b->dz), (size_t)(n * z) * sizeof(float));
    memcpy(b->given_loss + m->part * n, loss, (size_t)n * sizeof(float));
}

static void tally_image(het_model *m, het_tally *tally)
{
    const het_model_buffers *b = m->buffers;
    const int64_t n = m->step_images;
    const int32_t *which = het_model_mirror(b, b->which);
    const float *loss = het_model_mirror(b, b->loss), *kl = het_model_mirror(b, b->kl), *rots = het_model_mirror(b, b->rot),
                *shifts = het_model_mirror(b, b->head[HET_ENCODER_SHIFT]), *zero_loss = het_model_mirror(b, b->zero_loss);
    for (int64_t j = 0; j < n; j++) {
        const int32_t winner = which[j];
        const float *rot = rots + 9 * winner, *shift = shifts + 2 * winner;
        tally->image_loss += loss[winner];
        tally->kl += kl[winner];
        tally->shift_penalty += 0.5 * (fabsf(shift[0]) + fabsf(shift[1]));
        tally->mirrored += winner != j * m->pairs;
        tally->non_finite += !isfinite(loss[winner]);
        if (tells_z(m)) tally_conformation(m, tally, winner);
        if (j == 0) continue;
        const float *last = rots + 9 * which[j - 1];
        for (int i = 0; i < 9; i++) tally->spread += (rot[i] - last[i]) * (rot[i] - last[i]);
        tally->spread_pairs++;
    }
    tally->zero_loss += *zero_loss * (double)n;
    tally->images += (double)n;
    tally->pixels += (double)(n * (2 * m->active - 1)); /* half of it is kept */
    if (m->given) keep_answers(m, loss);
}

static void tally_pose(het_model *m, het_tally *tally)
{
    const het_model_buffers *b = m->buffers;
    const float *loss = het_model_mirror(b, b->loss), *kl = het_model_mirror(b, b->kl), *rots = het_model_mirror(b, b->rot),
                *truths = het_model_mirror(b, b->rot_true);
    for (int64_t j = 0; j < m->synthetic; j++) {
        const float *rot = rots + 9 * j, *truth = truths + 9 * j;
        tally->pose_loss += loss[j];
        if (het_model_teaches_z(m)) {
            tally->conformation_loss += kl[j];
            tally->non_finite += !isfinite(kl[j]);
        }
        for (int i = 0; i < 9; i++) tally->rotation_error += (rot[i] - truth[i]) * (rot[i] - truth[i]);
        tally->non_finite += !isfinite(loss[j]);
    }
    tally->synthetic += (double)m->synthetic;
}

het_status het_model_tally(het_model *m, het_tally *tally)
{
    const het_model_buffers *b = m->buffers;
    const char *told = (const char *)b->workspace + b->given_bytes;
    m->dev->ops->download(m->dev, het_model_mirror(b, told), told, b->told_bytes);
    if (m->task == HET_TASK_IMAGE)
        tally_image(m, tally);
    else
        tally_pose(m, tally);
    return m->dev->ops->sync(m->dev);
}

void het_model_answers_given(het_model *m, float *dz, float *loss)
{
    const int64_t n = het_model_images(&m->spec), z = m->config.z_dim;
    HET_ASSERT(m->given);
    /* the gradients are of the batch's mean */
    for (int64_t i = 0; i < n * z; i++) dz[i] = m->buffers->given_dz[i] * (float)m->spec.global_batch;
    memcpy(loss, m->buffers->given_loss, (size_t)n * sizeof *loss);
}
