#include "refine_conformations.h"

#include <math.h>

#include "arena.h"
#include "model_buffers.h"
#include "physics/kmeans.h"

enum { LEVELS = 2, KEPT = 16 };
static const double BASE_RADIUS = 6.0; /* Fourier pixels: suits the grid's step */
static const double RADIUS = 12.0;     /* and that of the last level, of which the minimum is near enough */

typedef struct searcher {
    het_conformations *c;
    het_conformations_take take;
    void *context;
} searcher;

/* The decoder's slices: those of its map without the envelope, which the CTFs hold. */
static void slices_of_map(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const het_conformations *c = context;
    const het_model *m = c->poses->model;
    het_slicer_slices(&c->slicer, slices, rot, n, m->points.kxy, p, m->dev->threads);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < 2 * p; j++) slices[2 * i * p + j] /= c->envelope[j / 2];
}

/* Images in_batch[0..n). */
static het_status search_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    const searcher *by = context;
    het_conformations *c = by->c;
    het_poses *s = c->poses;
    het_ctf_row rows[HET_POSES_BATCH];
    HET_TRY(het_poses_observe(s, rows, n));
    het_poses_shorten(s, n, het_search_points(c->search));
    het_search_run(c->search, c->found, s->transform, s->ctf, s->noise, n);
    for (int64_t i = 0; i < n; i++) by->take(by->context, s->in_batch[i], c->k, &c->found[i]);
done:
    return status;
}

static het_status search_one(searcher *by, const int64_t *wanted, int *stopped)
{
    het_status status = HET_OK;
    het_conformations *c = by->c;
    const int64_t dim = c->poses->all.z_dim;
    float z[64];
    for (int64_t i = 0; i < dim; i++) z[i] = (float)c->centre[c->k * dim + i];
    HET_TRY(het_model_volume(c->poses->model, z, c->map.data));
    HET_TRY(het_slicer_new(&c->slicer, &c->map));
    het_search_load(c->search, slices_of_map, c, NULL);
    for (int64_t part = 0; part < het_comm_parts(c->poses->comm); part++)
        HET_TRY(het_poses_each(c->poses, part, wanted, 1, search_batch, by, stopped));
done:
    het_slicer_free(&c->slicer);
    return status;
}

het_status het_conformations_search(het_conformations *c, const int64_t *wanted, het_conformations_take take, void *context,
                                    int *stopped)
{
    het_status status = HET_OK;
    searcher by = {.c = c, .take = take, .context = context};
    for (c->k = 0; c->k < c->count && status == HET_OK && !*stopped; c->k++) status = search_one(&by, wanted, stopped);
    return status;
}

het_status het_conformations_open(het_conformations *c, het_poses *s, const float *known, int64_t n, int64_t *label)
{
    het_status status = HET_OK;
    const int64_t z = s->all.z_dim, k = n < HET_CONFORMATIONS ? n : HET_CONFORMATIONS, points = s->model->points.count;
    const double radius = fmin(RADIUS, het_poses_radius(s)) + 1e-6; /* else its square may be rounded down */
    *c = (het_conformations){.poses = s, .count = k,
                             .centre = het_alloc((size_t)(k * z) * sizeof *c->centre),
                             .envelope = het_alloc((size_t)points * sizeof *c->envelope),
                             .found = het_alloc((size_t)het_poses_batch(s) * sizeof *c->found)};
    if (c->centre == NULL || c->envelope == NULL || c->found == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations"));
    HET_TRY(het_volume_new(&c->map, s->model->spec.box, 1.0));
    HET_TRY(het_search_new(&c->search, s->model->dev,
                           &(het_search_spec){.box = s->model->spec.box,
                                              .base_radius = fmin(BASE_RADIUS, radius),
                                              .radius = radius,
                                              .shift_range = s->model->spec.shift_range,
                                              .levels = LEVELS,
                                              .keep = KEPT,
                                              .result = 1}));
    HET_TRY(het_kmeans(c->centre, label, NULL, known, n, z, k, (uint64_t)s->model->config.train.seed));
    for (int64_t j = 0; j < points; j++) {
        const int32_t *xy = s->model->points.kxy + 2 * j;
        c->envelope[j] = het_model_envelope(s->model, hypot((double)xy[0], (double)xy[1]));
    }
done:
    return status;
}

void het_conformations_close(het_conformations *c)
{
    het_search_free(c->search);
    het_volume_free(&c->map);
    void *const mine[] = {c->envelope, c->found, c->centre};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}
