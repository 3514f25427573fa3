/* Candidates for poses from a search over all of them, at a small radius. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "physics/search.h"
#include "refine_poses.h"

enum { CENTRES = 4, LISTED = 32 };       /* clusters of z; poses that the search lists for each image */
static const double SEARCH_RADIUS = 6.0; /* suits the grid's step */
static const double APART = 0.3; /* |R-R'|^2 of candidates worth trying beside each other: 22 degrees */

typedef struct searcher {
    het_poses *poses;
    het_search *search;
    het_search_pose *list; /* (batch, LISTED) */
    float *z;              /* (model's batch, Z): the cluster's centre, for each slice */
} searcher;

static void slices_at_centre(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const searcher *c = context;
    het_model *m = c->poses->model;
    const int64_t batch = m->spec.batch;
    for (int64_t i = 0; i < n; i += batch)
        het_model_slices(m, slices + i * 2 * p, rot + 9 * i, c->z, n - i < batch ? n - i : batch, p);
}

/* Fill an image's places from the list, the likeliest first, with what stands apart. */
static void choose(het_fit_pose *place, int places, const het_search_pose *list)
{
    int filled = HET_POSE_SEARCHED;
    for (int i = HET_POSE_SEARCHED; i < places; i++) place[i].image = -1;
    for (int i = 0; i < LISTED && filled < places && isfinite(list[i].loglik); i++) {
        int apart = 1;
        for (int j = 0; j < filled; j++)
            if (place[j].image >= 0)
                apart &= het_poses_distance2(place[j].rotation, list[i].rotation) > APART;
        if (!apart) continue;
        memcpy(place[filled].rotation, list[i].rotation, sizeof place->rotation);
        memcpy(place[filled].shift, list[i].shift, sizeof place->shift);
        place[filled++].image = 0;
    }
}

/* Images in_batch[0..n) of one cluster. The search's rows are shorter than the model's. */
static het_status search_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    const searcher *c = context;
    het_poses *s = c->poses;
    het_ctf_row rows[HET_POSES_BATCH];
    HET_TRY(het_poses_observe(s, rows, n));
    het_poses_shorten(s, n, het_search_points(c->search));
    het_search_run(c->search, c->list, s->transform, s->ctf, s->noise, n);
    for (int64_t i = 0; i < n; i++)
        choose(s->candidate + (s->in_batch[i] - s->first) * s->places, s->places, c->list + i * LISTED);
done:
    return status;
}

static void load_centre(void *context, const double *centre)
{
    searcher *c = context;
    const int64_t z = c->poses->all.z_dim;
    for (int64_t i = 0; i < c->poses->model->spec.batch * z; i++) c->z[i] = (float)centre[i % z];
    het_search_load(c->search, slices_at_centre, c, NULL);
}

/* All images of this rank, cluster by cluster. */
het_status het_poses_search(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    const double radius = fmin(SEARCH_RADIUS, het_poses_radius(s));
    searcher c = {.poses = s, .list = het_alloc((size_t)(het_poses_batch(s) * LISTED) * sizeof *c.list),
                  .z = het_alloc((size_t)(s->model->spec.batch * s->all.z_dim) * sizeof *c.z)};
    if (c.list == NULL || c.z == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the pose search"));
    HET_TRY(het_search_new(&c.search, s->model->dev,
                           &(het_search_spec){.box = s->model->spec.box,
                                              .base_radius = radius,
                                              .radius = radius,
                                              .shift_range = s->model->spec.shift_range,
                                              .keep = LISTED,
                                              .result = LISTED}));
    status = het_poses_by_cluster(s, CENTRES, load_centre, search_batch, &c, stopped);
done:
    het_search_free(c.search);
    het_release(c.list);
    het_release(c.z);
    return status;
}
