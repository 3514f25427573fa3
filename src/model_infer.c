/* Inference: the encoder with running statistics, and the choice between image and mirror by the decoder's
 * loss. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "model.h"
#include "model_buffers.h"

/* The pose of an image's mirror, and back: the same volume seen from behind, R' = diag(-1,1,-1) R,
 * t' = (-tx, ty) (METHOD 4). */
static void mirror_pose(float rot[9], float shift[2])
{
    for (int j = 0; j < 3; j++) {
        rot[j] = -rot[j];
        rot[6 + j] = -rot[6 + j];
    }
    shift[0] = -shift[0];
}

/* The pose of one row: pixels, mapped back. */
static void pose_of(const het_model *m, float *rotation, float *shift, int mirrored, const float *rot,
                    const float *head)
{
    memcpy(rotation, rot, 9 * sizeof *rot);
    for (int j = 0; j < 2; j++) shift[j] = head[j] * het_model_shift_pixels(m);
    if (mirrored) mirror_pose(rotation, shift);
}

static void answer(const het_model *m, const het_answers *out, int64_t i, int mirrored, float loss,
                   const float *rot, const float *shift, const float *latent)
{
    const int64_t z = m->config.z_dim;
    pose_of(m, out->rotation + 9 * i, out->shift + 2 * i, mirrored, rot, shift);
    memcpy(out->z + z * i, latent, (size_t)z * sizeof *latent);
    for (int64_t j = 0; j < z; j++)
        out->z_std[z * i + j] = expf(0.5f * fminf(10.0f, fmaxf(-10.0f, latent[z + j])));
    out->loss[i] = loss;
    out->mirrored[i] = (uint8_t)mirrored;
}

het_status het_model_infer(het_model *m, const float *images, const het_ctf_row *ctf, int64_t n,
                           const het_answers *out)
{
    het_status status = HET_OK;
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t pairs = m->config.train.mirror ? 2 : 1, both = n * pairs, z = m->config.z_dim,
                  p = m->active;
    HET_ASSERT(n >= 1 && n <= m->spec.batch);
    ops->upload(m->dev, b->image, images, (size_t)(n * m->spec.box * m->spec.box) * sizeof *images);
    ops->upload(m->dev, b->rows_given, ctf, (size_t)n * sizeof *ctf);
    het_model_show(m, n, (int)pairs);
    het_model_look(m, b->target, both);
    het_encoder_infer(m->encoder[0], b->head, m->params, m->running, b->image);
    ops->s2s2(m->dev, b->rot, b->head[HET_ENCODER_ROTATION], both);
    const size_t count = (size_t)both;
    float *rot = het_alloc(count * 9 * sizeof *rot), *shift = het_alloc(count * 2 * sizeof *shift);
    float *latent = het_alloc(count * 2 * (size_t)z * sizeof *latent),
          *mean = het_alloc(count * (size_t)z * sizeof *mean);
    float *loss = het_alloc(count * sizeof *loss), *pixels = het_alloc(count * 2 * sizeof *pixels);
    if (rot == NULL || shift == NULL || latent == NULL || mean == NULL || loss == NULL ||
        pixels == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the answers of a batch"));
    ops->download(m->dev, rot, b->rot, count * 9 * sizeof *rot);
    ops->download(m->dev, shift, b->head[HET_ENCODER_SHIFT], count * 2 * sizeof *shift);
    ops->download(m->dev, latent, b->head[HET_ENCODER_LATENT], count * 2 * (size_t)z * sizeof *latent);
    for (int64_t i = 0; i < both; i++)
        for (int64_t j = 0; j < z; j++) mean[i * z + j] = m->frozen ? 0.0f : latent[i * 2 * z + j];
    ops->upload(m->dev, b->z, mean, count * (size_t)z * sizeof *mean);
    for (int64_t i = 0; i < 2 * both; i++) pixels[i] = shift[i] * het_model_shift_pixels(m);
    ops->upload(m->dev, b->shift_px, pixels, count * 2 * sizeof *pixels);
    het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, both, p);
    ops->project_loss(m->fourier, b->loss, b->dslice, b->dshift_px, b->slice, b->ctf, b->shift_px, b->target,
                      both, p);
    ops->download(m->dev, loss, b->loss, count * sizeof *loss);
    for (int64_t i = 0; i < n; i++) {
        const int mirrored = pairs == 2 && loss[2 * i + 1] < loss[2 * i];
        const int64_t row = i * pairs + mirrored;
        answer(m, out, i, mirrored, loss[row], rot + 9 * row, shift + 2 * row, latent + 2 * z * row);
        if (out->other_rotation == NULL) continue;
        const int64_t other = i * pairs + (pairs - 1 - mirrored); /* without a mirror: the same again */
        pose_of(m, out->other_rotation + 9 * i, out->other_shift + 2 * i, pairs == 2 && !mirrored,
                rot + 9 * other, shift + 2 * other);
    }
    HET_TRY(ops->sync(m->dev));
done:
    het_release(rot);
    het_release(shift);
    het_release(latent);
    het_release(mean);
    het_release(loss);
    het_release(pixels);
    return status;
}

het_status het_model_observe(het_model *m, float *points, float *ctf, const float *images,
                             const het_ctf_row *rows, int64_t n)
{
    const het_ops *ops = m->dev->ops;
    HET_ASSERT(n >= 1 && n <= m->spec.batch);
    ops->upload(m->dev, m->buffers->image, images, (size_t)(n * m->spec.box * m->spec.box) * sizeof *images);
    ops->upload(m->dev, m->buffers->rows_given, rows, (size_t)n * sizeof *rows);
    het_model_show(m, n, 1);
    ops->download(m->dev, points, m->buffers->target, (size_t)(n * 2 * m->active) * sizeof *points);
    ops->download(m->dev, ctf, m->buffers->ctf, (size_t)(n * m->active) * sizeof *ctf);
    return ops->sync(m->dev);
}

void het_model_slices(het_model *m, float *slices, const float *rot, const float *z, int64_t n, int64_t p)
{
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t dim = m->config.z_dim;
    HET_ASSERT(p <= m->active);
    for (int64_t first = 0; first < n; first += m->spec.batch) {
        const int64_t rows = n - first < m->spec.batch ? n - first : m->spec.batch;
        ops->upload(m->dev, b->rot, rot + 9 * first, (size_t)(9 * rows) * sizeof *rot);
        ops->upload(m->dev, b->z, z + dim * first, (size_t)(dim * rows) * sizeof *z);
        het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, NULL, rows, p);
        ops->download(m->dev, slices + first * 2 * p, b->slice, (size_t)(2 * rows * p) * sizeof *slices);
    }
}
