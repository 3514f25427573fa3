#include "frames.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "physics/backproject.h"
#include "physics/kmeans.h"
#include "physics/rotation.h"

enum { REACH = 16 }; /* Fourier pixels, of the maps compared: enough to tell a part's turn by a degree */
static const double DEGREES = 57.29577951308232;
static const double MOST = 45.0;  /* degrees: a compromise between parts lies not farther off */
static const double LEAST = 2.0;  /* degrees: less is left to refinement */
static const double GAIN = 0.15;  /* of the correlation, at least, */
static const double SURE = 5.0;   /* and this many standard deviations of that of noise */

void het_frames_move(float rotation[9], float shift[2], const het_pose3 *frame)
{
    double old[9], now[9];
    for (int i = 0; i < 9; i++) old[i] = rotation[i];
    het_rotation_multiply(now, old, frame->a);
    for (int i = 0; i < 9; i++) rotation[i] = (float)now[i];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) shift[i] -= (float)(now[3 * i + k] * frame->u[k]);
}

het_pose3 het_frames_then(const het_pose3 *first, const het_pose3 *second)
{
    het_pose3 both = *second;
    het_rotation_multiply(both.a, first->a, second->a);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) both.u[i] += second->a[3 * j + i] * first->u[j];
    return both;
}

void het_frames_tree(int *parent, int *order, const double *centre, int64_t dim, int n, int root)
{
    double near[HET_FRAMES];
    int in_tree[HET_FRAMES] = {0};
    HET_ASSERT(n <= HET_FRAMES);
    for (int i = 0; i < n; i++) near[i] = INFINITY;
    near[root] = 0.0;
    parent[root] = -1;
    for (int step = 0; step < n; step++) {
        int next = -1;
        for (int i = 0; i < n; i++)
            if (!in_tree[i] && (next < 0 || near[i] < near[next])) next = i;
        in_tree[next] = 1;
        order[step] = next;
        for (int i = 0; i < n; i++) {
            double d2 = 0.0;
            for (int64_t k = 0; k < dim; k++) d2 += pow(centre[i * dim + k] - centre[next * dim + k], 2);
            if (in_tree[i] || d2 >= near[i]) continue;
            near[i] = d2;
            parent[i] = next;
        }
    }
}

/* ---- maps of clusters ---- */

typedef struct framer {
    het_poses *poses;
    int n;                    /* clusters */
    int64_t *label;           /* (images) */
    int64_t size[HET_FRAMES]; /* images of each */
    double *centre;           /* (n,Z) */
    int64_t reach, points;    /* Fourier pixels of the maps, points within */
    het_backproject back;
    het_volume volume[HET_FRAMES];
    het_pose3 frame[HET_FRAMES]; /* from each cluster's to the root's */
    int joined;                  /* clusters that were not in their parent's */
} framer;

static het_status framer_new(framer *f, het_poses *s)
{
    het_status status = HET_OK;
    const int64_t rim = (int64_t)(het_poses_radius(s) + 1e-6), count = s->all.count, dim = s->all.z_dim;
    *f = (framer){.poses = s};
    f->n = count < HET_FRAMES ? (int)count : HET_FRAMES;
    f->reach = rim < REACH ? rim : REACH;
    for (int i = 0; i < f->n; i++) f->frame[i] = (het_pose3){.a = {1, 0, 0, 0, 1, 0, 0, 0, 1}, .hand = 1};
    f->points = het_points_within(&s->model->points, (double)f->reach);
    f->label = het_alloc((size_t)count * sizeof *f->label);
    f->centre = het_alloc((size_t)(f->n * dim) * sizeof *f->centre);
    if (f->label == NULL || f->centre == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for maps of conformations"));
    HET_TRY(het_backproject_new(&f->back, 2 * (f->reach + 1), s->model->spec.box));
    HET_TRY(het_kmeans(f->centre, f->label, NULL, s->all.z, count, dim, f->n,
                       (uint64_t)s->model->config.train.seed));
    for (int64_t i = 0; i < count; i++) f->size[f->label[i]]++;
done:
    return status;
}

static void framer_free(framer *f)
{
    for (int i = 0; i < HET_FRAMES; i++) het_volume_free(&f->volume[i]);
    het_backproject_free(&f->back);
    het_release(f->label);
    het_release(f->centre);
}

/* Images in_batch[0..n). */
static het_status add_batch(void *context, int64_t n)
{
    het_status status = HET_OK;
    framer *f = context;
    het_poses *s = f->poses;
    het_ctf_row rows[HET_POSES_BATCH];
    const int64_t p = s->model->active;
    HET_TRY(het_poses_observe(s, rows, n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = s->in_batch[i];
        het_backproject_image(&f->back, s->transform + i * 2 * p, s->ctf + i * p, s->all.rotation + 9 * at,
                              s->all.shift + 2 * at, 1.0, s->model->points.kxy, f->points);
    }
done:
    return status;
}

/* The map of one cluster, from the images of all ranks. The CTFs hold the envelope, so it is divided out, and
 * the prior says that signal is about 1. */
static het_status reconstruct(framer *f, int cluster, int *stopped)
{
    het_status status = HET_OK;
    het_poses *s = f->poses;
    double prior[REACH + 2];
    for (int i = 0; i < REACH + 2; i++) prior[i] = s->noise_variance;
    het_backproject_clear(&f->back);
    HET_TRY(het_comm_agree(s->comm, het_poses_each(s, f->label, cluster, add_batch, f, stopped)));
    int64_t stop = *stopped;
    HET_TRY(het_comm_sum_i64(s->comm, &stop, 1));
    *stopped = stop > 0;
    HET_TRY(het_comm_sum_f64(s->comm, f->back.sum, (size_t)(het_fft_size(f->back.fft) / 2 * 3)));
    HET_TRY(het_comm_agree(s->comm, het_volume_new(&f->volume[cluster], f->back.box, 1.0)));
    het_backproject_solve(&f->back, &f->volume[cluster], prior);
done:
    return status;
}

/* ---- their frames ---- */

static double turn_of(const het_pose3 *pose)
{
    static const double one[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    return DEGREES * het_rotation_angle(het_rotation_distance2(pose->a, one));
}

/* Of the ball of radius `reach` one half is independent, two numbers each. */
int het_frames_differ(const het_pose3 *pose, const double correlations[2], int64_t reach)
{
    const double deviation = 1.0 / sqrt(4.0 / 3.0 * M_PI * pow((double)reach, 3.0));
    const double gain = correlations[1] - correlations[0];
    return turn_of(pose) >= LEAST && gain >= GAIN * correlations[1] && gain >= SURE * deviation;
}

/* From the root of the tree outwards. One rank. */
static het_status register_all(framer *f)
{
    het_status status = HET_OK;
    int parent[HET_FRAMES], order[HET_FRAMES], root = 0;
    for (int i = 1; i < f->n; i++)
        if (f->size[i] > f->size[root]) root = i;
    het_frames_tree(parent, order, f->centre, f->poses->all.z_dim, f->n, root);
    for (int i = 1; i < f->n; i++) {
        const int child = order[i];
        het_pose3 pose = f->frame[root];
        double c[2];
        f->frame[child] = f->frame[parent[child]];
        HET_TRY(het_place_search(&pose, c, &f->volume[child], &f->volume[parent[child]], MOST / DEGREES,
                                 f->reach));
        if (!het_frames_differ(&pose, c, f->reach)) continue;
        for (int k = 0; k < 3; k++) pose.u[k] *= (double)f->poses->model->spec.box / (double)f->back.box;
        f->frame[child] = het_frames_then(&pose, &f->frame[child]);
        f->joined++;
    }
done:
    return status;
}

static void move_all(const framer *f)
{
    const het_predictions *all = &f->poses->all;
    double farthest = 0.0;
    for (int i = 0; i < f->n; i++) farthest = fmax(farthest, turn_of(&f->frame[i]));
    for (int64_t i = 0; i < all->count; i++)
        het_frames_move(all->rotation + 9 * i, all->shift + 2 * i, &f->frame[f->label[i]]);
    if (f->joined > 0)
        het_info("frames: %d groups of conformations joined, the farthest by %.1f degrees", f->joined + 1,
                 farthest);
    else
        het_info("frames: all conformations lie in one");
}

het_status het_frames_join(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    framer f;
    HET_TRY(het_comm_agree(s->comm, framer_new(&f, s)));
    for (int i = 0; i < f.n && !*stopped; i++) HET_TRY(reconstruct(&f, i, stopped));
    if (*stopped) goto done;
    if (het_comm_rank(s->comm) == 0) status = register_all(&f);
    HET_TRY(het_comm_agree(s->comm, status));
    HET_TRY(het_comm_broadcast(s->comm, f.frame, sizeof f.frame, 0));
    HET_TRY(het_comm_broadcast(s->comm, &f.joined, sizeof f.joined, 0));
    move_all(&f);
done:
    framer_free(&f);
    return status;
}
