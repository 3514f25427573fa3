/* Conformations of images at given poses, without the encoder. */
#include <string.h>

#include "arena.h"
#include "physics/conform.h"
#include "refine_poses.h"

enum { STEPS = 5 };

typedef struct conformer {
    het_poses *poses;
    het_conform_spec spec;
    float *rotation, *z, *zstd, *loss, *shift; /* (batch, 9, Z, Z, 1, 2): gathered, as a
        batch's images need not follow one another */
    float *turned;                             /* (model's batch, 9): of slices */
} conformer;

static void slices_of(void *context, float *slices, const float *z, const int64_t *image, int64_t n, int64_t p)
{
    const conformer *c = context;
    const int64_t batch = c->poses->model->spec.batch, dim = c->poses->all.z_dim;
    for (int64_t first = 0; first < n; first += batch) {
        const int64_t m = n - first < batch ? n - first : batch;
        for (int64_t i = 0; i < m; i++)
            memcpy(c->turned + 9 * i, c->rotation + 9 * image[first + i], 9 * sizeof *c->turned);
        het_model_slices(c->poses->model, slices + first * 2 * p, c->turned, z + first * dim, m, p);
    }
}

static het_status conform_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    conformer *c = context;
    het_predictions *all = &c->poses->all;
    het_ctf_row rows[HET_POSES_BATCH];
    const int64_t dim = all->z_dim;
    HET_TRY(het_poses_observe(c->poses, rows, n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = c->poses->in_batch[i];
        memcpy(c->rotation + 9 * i, all->rotation + 9 * at, 9 * sizeof *c->rotation);
        memcpy(c->shift + 2 * i, all->shift + 2 * at, 2 * sizeof *c->shift);
        memcpy(c->z + dim * i, all->z + dim * at, (size_t)dim * sizeof *c->z);
    }
    HET_TRY(het_conform_run(&c->spec, c->z, c->zstd, c->loss, c->poses->transform, c->poses->ctf, c->shift, n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = c->poses->in_batch[i];
        memcpy(all->z + dim * at, c->z + dim * i, (size_t)dim * sizeof *c->z);
        memcpy(all->zstd + dim * at, c->zstd + dim * i, (size_t)dim * sizeof *c->z);
        all->loss[at] = c->loss[i];
    }
done:
    return status;
}

static het_status conform_all(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    const size_t batch = (size_t)het_poses_batch(s), z = (size_t)s->all.z_dim, f = sizeof(float);
    conformer c = {.poses = s,
                   .spec = {.points = &s->model->points,
                            .row = s->model->active,
                            .z_dim = (int)s->all.z_dim,
                            .prior = s->model->config.init.prior_z,
                            .noise_variance = s->noise_variance,
                            .steps = STEPS,
                            .threads = s->model->dev->threads,
                            .slices = slices_of,
                            .context = &c},
                   .rotation = het_alloc(9 * batch * f),
                   .shift = het_alloc(2 * batch * f),
                   .z = het_alloc(z * batch * f),
                   .zstd = het_alloc(z * batch * f),
                   .loss = het_alloc(batch * f),
                   .turned = het_alloc(9 * (size_t)s->model->spec.batch * f)};
    if (c.rotation == NULL || c.shift == NULL || c.z == NULL || c.zstd == NULL || c.loss == NULL || c.turned == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for conformations"));
    for (int64_t part = 0; part < het_comm_parts(s->comm) && !*stopped; part++)
        HET_TRY(het_poses_each(s, part, NULL, 0, conform_batch, &c, stopped));
done:;
    void *const mine[] = {c.rotation, c.shift, c.z, c.zstd, c.loss, c.turned};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
    return status;
}

het_status het_poses_conform(het_poses *s, int *stopped)
{
    return het_poses_share(s, conform_all(s, stopped), stopped);
}
