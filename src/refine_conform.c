/* Conformations of images at given poses, without the encoder. */
#include "latents.h"
#include "physics/conform.h"
#include "refine_poses.h"

enum { STEPS = 5 };

static void slices_of(void *context, float *slices, const float *rot, const float *z, int64_t n, int64_t p)
{
    const het_poses *s = context;
    het_model_slices(s->model, slices, rot, z, n, p);
}

static het_status conform_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    het_poses *s = context;
    het_predictions *all = &s->all;
    het_ctf_row rows[HET_POSES_BATCH];
    const int64_t at = s->in_batch[0], z = all->z_dim; /* they follow one another */
    const het_conform_spec spec = {.points = &s->model->points,
                                   .row = s->model->active,
                                   .z_dim = (int)z,
                                   .prior = het_latents_prior(s->model),
                                   .noise_variance = s->noise_variance,
                                   .steps = STEPS,
                                   .threads = s->model->dev->threads,
                                   .slices = slices_of,
                                   .context = s};
    HET_TRY(het_poses_observe(s, rows, n));
    status = het_conform_run(&spec, all->z + z * at, all->zstd + z * at, all->loss + at, s->transform, s->ctf, all->rotation + 9 * at,
                             all->shift + 2 * at, n);
done:
    return status;
}

het_status het_poses_conform(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    for (int64_t part = 0; part < het_comm_parts(s->comm) && status == HET_OK; part++)
        status = het_poses_each(s, part, NULL, 0, conform_batch, s, stopped);
    return het_poses_share(s, status, stopped);
}
