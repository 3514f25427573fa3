/* Pose and conformation of an image found together: a wrong pose bends z until it fits, and a search at that z finds the
 * wrong pose again. Such images lie far out in z: of AdK and IgG-1D (docs/experiments.md) nearly all that are wrong are among
 * the outer 40 %. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "model_buffers.h"
#include "physics/kmeans.h"
#include "physics/search.h"
#include "physics/slicer.h"
#include "physics/stats.h"
#include "refine_poses.h"

enum { CONFORMATIONS = 12, LEVELS = 2, KEPT = 16, PLACE_ROUNDS = 2, PIECE = 512 };
static const double BASE_RADIUS = 6.0; /* Fourier pixels: suits the grid's step */
static const double RADIUS = 12.0;     /* and that of the last level, of which the minimum is near enough */
static const double SHARE = 0.4;       /* of the images: those that are farthest out in z */
static const double FAR = 0.1363;      /* |R-R'|^2 of 15 degrees */

typedef struct relocator {
    het_poses *poses;
    het_search *search;
    het_volume map; /* of one conformation: its slices cost less than the decoder's */
    het_slicer slicer;
    float *envelope;          /* (points of the disc) */
    int64_t conformations, k; /* how many are searched; the number of the one that is */
    double *centre;           /* (conformations,Z) */
    int64_t *label;           /* (known conformations): which of them is theirs */
    int64_t *doubtful;        /* (images): whether to search; NULL: all */
    het_predictions before;   /* of a piece, where there are doubtful ones: what a new pose has to be better than */
    int64_t *best;            /* (images): the likeliest conformation so far */
    het_search_pose *pose;    /* (images): and its pose */
    het_search_pose *found;   /* (batch) */
} relocator;

/* The decoder's slices: those of its map without the envelope, which the CTFs hold. */
static void slices_of_map(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const relocator *r = context;
    const het_model *m = r->poses->model;
    het_slicer_slices(&r->slicer, slices, rot, n, m->points.kxy, p, m->dev->threads);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < 2 * p; j++) slices[2 * i * p + j] /= r->envelope[j / 2];
}

/* Images in_batch[0..n), all conformations so far against this one. */
static het_status search_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    relocator *r = context;
    het_poses *s = r->poses;
    het_ctf_row rows[HET_POSES_BATCH];
    HET_TRY(het_poses_observe(s, rows, n));
    het_poses_shorten(s, n, het_search_points(r->search));
    het_search_run(r->search, r->found, s->transform, s->ctf, s->noise, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = s->in_batch[i];
        if (!isfinite(r->found[i].loglik) || (r->best[at] >= 0 && r->pose[at].loglik >= r->found[i].loglik)) continue;
        r->best[at] = r->k;
        r->pose[at] = r->found[i];
    }
done:
    return status;
}

static het_status search_conformation(relocator *r, const double *centre, int *stopped)
{
    het_status status = HET_OK;
    float z[64];
    for (int64_t i = 0; i < r->poses->all.z_dim; i++) z[i] = (float)centre[i];
    HET_TRY(het_model_volume(r->poses->model, z, r->map.data));
    HET_TRY(het_slicer_new(&r->slicer, &r->map));
    het_search_load(r->search, slices_of_map, r, NULL);
    for (int64_t part = 0; part < het_comm_parts(r->poses->comm); part++)
        HET_TRY(het_poses_each(r->poses, part, r->doubtful, 1, search_batch, r, stopped));
done:
    het_slicer_free(&r->slicer);
    return status;
}

/* doubtful (images): 1 for those that are farthest from the mean z, 0 for the others. */
static het_status find_doubtful(relocator *r)
{
    het_status status = HET_OK;
    const het_predictions *all = &r->poses->all;
    const int64_t n = all->count, dim = all->z_dim;
    double mean[64] = {0}, *far = het_alloc((size_t)(2 * n) * sizeof *far);
    r->doubtful = het_alloc((size_t)n * sizeof *r->doubtful);
    if (far == NULL || r->doubtful == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations"));
    HET_TRY(het_predictions_new(&r->before, n, dim));
    for (int64_t i = 0; i < n * dim; i++) mean[i % dim] += (double)all->z[i] / (double)n;
    for (int64_t i = 0; i < n * dim; i++) far[i / dim] += pow((double)all->z[i] - mean[i % dim], 2);
    memcpy(far + n, far, (size_t)n * sizeof *far);
    het_sort(far + n, n);
    const double limit = far[n + (int64_t)((1.0 - SHARE) * (double)n)];
    for (int64_t i = 0; i < n; i++) r->doubtful[i] = far[i] >= limit;
done:
    het_release(far);
    return status;
}

static void relocator_free(relocator *r)
{
    het_search_free(r->search);
    het_volume_free(&r->map);
    het_predictions_free(&r->before);
    void *const mine[] = {r->best, r->envelope, r->pose, r->found, r->centre, r->label, r->doubtful};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* The conformations: centres of clusters of known (count,Z). */
static het_status relocator_new(relocator *r, het_poses *s, const float *known, int64_t count)
{
    het_status status = HET_OK;
    const int64_t n = s->all.count, z = s->all.z_dim, k = count < CONFORMATIONS ? count : CONFORMATIONS, points = s->model->points.count;
    const double radius = fmin(RADIUS, het_poses_radius(s)) + 1e-6; /* else its square may be rounded down */
    *r = (relocator){.poses = s, .conformations = k,
                     .centre = het_alloc((size_t)(k * z) * sizeof *r->centre),
                     .label = het_alloc((size_t)count * sizeof *r->label),
                     .best = het_alloc((size_t)n * sizeof *r->best),
                     .envelope = het_alloc((size_t)points * sizeof *r->envelope),
                     .pose = het_alloc((size_t)n * sizeof *r->pose),
                     .found = het_alloc((size_t)het_poses_batch(s) * sizeof *r->found)};
    if (r->centre == NULL || r->label == NULL || r->found == NULL || r->best == NULL || r->pose == NULL || r->envelope == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations"));
    HET_TRY(het_volume_new(&r->map, s->model->spec.box, 1.0));
    HET_TRY(het_search_new(&r->search, s->model->dev,
                           &(het_search_spec){.box = s->model->spec.box,
                                              .base_radius = fmin(BASE_RADIUS, radius),
                                              .radius = radius,
                                              .shift_range = s->model->spec.shift_range,
                                              .levels = LEVELS,
                                              .keep = KEPT,
                                              .result = 1}));
    HET_TRY(het_kmeans(r->centre, r->label, NULL, known, count, z, k, (uint64_t)s->model->config.train.seed));
    for (int64_t i = 0; i < n; i++) r->best[i] = -1;
    for (int64_t j = 0; j < points; j++) {
        const int32_t *xy = s->model->points.kxy + 2 * j;
        r->envelope[j] = het_model_envelope(s->model, hypot((double)xy[0], (double)xy[1]));
    }
done:
    return status;
}

/* This rank's images of the piece at the likeliest of all poses and conformations. A doubtful one keeps its own z where the likeliest
   conformation is its own cluster's. */
static het_status search_piece(relocator *r, int *stopped)
{
    het_status status = HET_OK;
    het_poses *s = r->poses;
    const int64_t z = s->all.z_dim;
    for (r->k = 0; r->k < r->conformations && !*stopped; r->k++) HET_TRY(search_conformation(r, r->centre + r->k * z, stopped));
    for (int64_t at = s->first; at < s->first + s->count; at++) {
        const int64_t best = r->best[at];
        if (best < 0) continue; /* not searched, or the image holds NaN */
        r->best[at] = -1;
        memcpy(s->all.rotation + 9 * at, r->pose[at].rotation, sizeof r->pose[at].rotation);
        memcpy(s->all.shift + 2 * at, r->pose[at].shift, sizeof r->pose[at].shift);
        if (r->doubtful != NULL && best == r->label[at]) continue;
        for (int64_t j = 0; j < z; j++) s->all.z[at * z + j] = (float)r->centre[best * z + j];
    }
done:
    return status;
}

static void copy_all(het_predictions *to, const het_predictions *from)
{
    const size_t n = (size_t)from->count;
    memcpy(to->rotation, from->rotation, 9 * n * sizeof *to->rotation);
    memcpy(to->shift, from->shift, 2 * n * sizeof *to->shift);
    memcpy(to->z, from->z, n * (size_t)from->z_dim * sizeof *to->z);
    memcpy(to->loss, from->loss, n * sizeof *to->loss);
}

/* What is no better than it was goes back. */
static void take_better(het_predictions *all, const het_predictions *before)
{
    const int64_t z = all->z_dim;
    for (int64_t i = 0; i < all->count; i++) {
        if (all->loss[i] < before->loss[i]) continue;
        all->loss[i] = before->loss[i];
        memcpy(all->rotation + 9 * i, before->rotation + 9 * i, 9 * sizeof *all->rotation);
        memcpy(all->shift + 2 * i, before->shift + 2 * i, 2 * sizeof *all->shift);
        memcpy(all->z + z * i, before->z + z * i, (size_t)z * sizeof *all->z);
    }
}

static het_status relocate_piece(het_poses *s, void *context, int *stopped)
{
    het_status status = HET_OK;
    relocator *r = context;
    HET_TRY(het_poses_improve_piece(s, 0, stopped));
    if (*stopped) goto done;
    copy_all(&r->before, &s->all);
    HET_TRY(het_poses_share(s, search_piece(r, stopped), stopped));
    if (!*stopped) HET_TRY(het_poses_improve_piece(s, 0, stopped));
    if (!*stopped) take_better(&s->all, &r->before);
done:
    return status;
}

static void tell_moved(const het_predictions *all, const het_predictions *before)
{
    const int64_t z = all->z_dim;
    int64_t moved = 0, changed = 0;
    for (int64_t i = 0; i < all->count; i++) {
        moved += het_poses_distance2(all->rotation + 9 * i, before->rotation + 9 * i) > FAR;
        changed += memcmp(all->z + z * i, before->z + z * i, (size_t)z * sizeof *all->z) != 0;
    }
    het_info("poses searched anew: %.1f %% moved by more than 15 degrees, %.1f %% to another conformation",
             100.0 * (double)moved / (double)all->count, 100.0 * (double)changed / (double)all->count);
}

het_status het_poses_relocate(het_poses *s, int *stopped)
{
    het_predictions start = {0};
    relocator r;
    het_status status = relocator_new(&r, s, s->all.z, s->all.count);
    if (status == HET_OK) status = find_doubtful(&r);
    if (status == HET_OK) status = het_predictions_new(&start, s->all.count, s->all.z_dim);
    HET_TRY(het_comm_agree(s->comm, status));
    copy_all(&start, &s->all);
    const het_poses_work work = {.name = "lost poses", .size = PIECE, .run = relocate_piece, .context = &r};
    HET_TRY(het_poses_pieces(s, &work, stopped));
    if (!*stopped) tell_moved(&s->all, &start);
done:
    relocator_free(&r);
    het_predictions_free(&start);
    return status;
}

static het_status place_piece(het_poses *s, void *context, int *stopped)
{
    het_status status = HET_OK;
    HET_TRY(het_poses_share(s, search_piece(context, stopped), stopped));
    for (int round = 0; round < PLACE_ROUNDS && !*stopped; round++) {
        HET_TRY(het_poses_improve_piece(s, 0, stopped));
        if (!*stopped) HET_TRY(het_poses_conform(s, stopped));
    }
done:
    return status;
}

het_status het_poses_place(het_poses *s, const float *known, int64_t n, int *stopped)
{
    relocator r;
    const het_poses_work work = {.name = "poses and conformations", .size = PIECE, .run = place_piece, .context = &r};
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(s->comm, relocator_new(&r, s, known, n)));
    het_info("searching the poses of %lld images in %lld conformations", (long long)s->all.count, (long long)r.conformations);
    status = het_poses_pieces(s, &work, stopped);
done:
    relocator_free(&r);
    return status;
}
