/* The pose search of cryoDRGN2: over all poses, without the present one. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "physics/search.h"
#include "refine_poses.h"

/* Published: a base grid of 15 degrees, the 8 best poses kept at each of the levels, a radius that grows from
 * level to level (Zhong et al. 2021). Here radii follow from the base grid's step and the schedule, and 16
 * candidates are halved from level to level (physics/search.h). */
enum { CENTRES = 4, KEPT = 16, LEVELS_MAX = 8, PIECE = 8192 };
static const double BASE_RADIUS = 6.0; /* Fourier pixels: suits the grid's step */
static const double LAST_TURN = 0.25;  /* Fourier pixels at the rim: the step of the last level at most */

typedef struct locator {
    het_poses *poses;
    het_search *search;
    float centre[64];   /* (Z) of the cluster: for the base grid, which all its images share */
    int64_t at, images; /* the run's images are in_batch[at, at + images); 0: the base grid */
    float *z;           /* (model's batch, Z) */
} locator;

static void slices_of(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const locator *l = context;
    const het_poses *poses = l->poses;
    const int64_t batch = poses->model->spec.batch, z = poses->all.z_dim;
    for (int64_t first = 0; first < n; first += batch) {
        const int64_t m = n - first < batch ? n - first : batch;
        for (int64_t i = 0; i < m; i++) {
            const float *from = l->centre;
            if (l->images > 0)
                from = poses->all.z + z * poses->in_batch[l->at + (first + i) / (n / l->images)];
            memcpy(l->z + i * z, from, (size_t)z * sizeof *from);
        }
        het_model_slices(poses->model, slices + first * 2 * p, rot + 9 * first, l->z, m, p);
    }
}

/* sum_p weight_p |X_p|^2 / D^2: the loss of no particle at all. */
static double loss_of_nothing(const het_model *m, const float *transform)
{
    double sum = 0.0;
    for (int64_t i = 0; i < m->active; i++) {
        const double re = transform[2 * i], im = transform[2 * i + 1];
        sum += (double)m->points.weight[i] * (re * re + im * im);
    }
    return sum / (double)(m->spec.box * m->spec.box);
}

/* Images in_batch[0..n) of one cluster. With one noise for all points the log-likelihood tells the loss:
 * L = nothing's loss - 2 noise loglik / D^2. */
static het_status locate_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    locator *l = context;
    het_poses *s = l->poses;
    het_ctf_row rows[HET_POSES_BATCH];
    het_search_pose found[HET_SEARCH_CHUNK];
    const int64_t p = s->model->active;
    const double pixels = (double)(s->model->spec.box * s->model->spec.box);
    HET_TRY(het_poses_observe(s, rows, n));
    for (l->at = 0; l->at < n; l->at += HET_SEARCH_CHUNK) {
        const float *transform = s->transform + l->at * 2 * p;
        l->images = n - l->at < HET_SEARCH_CHUNK ? n - l->at : HET_SEARCH_CHUNK;
        het_search_run(l->search, found, transform, s->ctf + l->at * p, s->noise, l->images);
        for (int64_t i = 0; i < l->images; i++) {
            const int64_t at = s->in_batch[l->at + i];
            if (!isfinite(found[i].loglik)) continue; /* the pose stays */
            memcpy(s->all.rotation + 9 * at, found[i].rotation, sizeof found[i].rotation);
            memcpy(s->all.shift + 2 * at, found[i].shift, sizeof found[i].shift);
            s->all.loss[at] = (float)(loss_of_nothing(s->model, transform + i * 2 * p) -
                                      2.0 * s->noise_variance * (double)found[i].loglik / pixels);
        }
    }
    l->images = 0;
done:
    return status;
}

static het_status open_search(het_search **search, const het_poses *s)
{
    const double radius = het_poses_radius(s) + 1e-6; /* else its square may be rounded down */
    int levels = 0;
    for (double turn = 2.0 * M_PI / HET_SEARCH_TURNS * radius; turn > LAST_TURN && levels < LEVELS_MAX; turn *= 0.5)
        levels++;
    return het_search_new(search, s->model->dev,
                          &(het_search_spec){.box = s->model->spec.box,
                                             .base_radius = fmin(BASE_RADIUS, radius),
                                             .radius = radius,
                                             .shift_range = s->model->spec.shift_range,
                                             .levels = levels,
                                             .keep = KEPT,
                                             .result = 1});
}

static void load_centre(void *context, const double *centre)
{
    locator *l = context;
    for (int64_t i = 0; i < l->poses->all.z_dim; i++) l->centre[i] = (float)centre[i];
    het_search_load(l->search, slices_of, l, NULL);
}

/* This rank's images, cluster by cluster. */
static het_status locate(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    locator l = {.poses = s, .z = het_alloc((size_t)(s->model->spec.batch * s->all.z_dim) * sizeof *l.z)};
    if (l.z == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the pose search"));
    HET_TRY(open_search(&l.search, s));
    HET_ASSERT(het_search_points(l.search) == s->model->active);
    status = het_poses_by_cluster(s, s->model->frozen ? 1 : CENTRES, load_centre, locate_batch, &l, stopped);
done:
    het_search_free(l.search);
    het_release(l.z);
    return status;
}

static het_status locate_piece(het_poses *s, void *context, int *stopped)
{
    (void)context;
    return het_poses_share(s, locate(s, stopped), stopped);
}

het_status het_poses_locate(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    if (s->model->frozen) {
        het_predictions_freeze(&s->all);
    } else {
        HET_TRY(het_poses_encode(s, stopped));
        memset(s->all.mirrored, 0, (size_t)s->all.count * sizeof *s->all.mirrored);
    }
    const het_poses_work work = {.name = "search of poses", .size = PIECE, .run = locate_piece};
    if (!*stopped) status = het_poses_pieces(s, &work, stopped);
done:
    return status;
}
