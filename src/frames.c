#include "frames.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "mpi/fold.h"
#include "physics/backproject.h"
#include "physics/kmeans.h"
#include "physics/rotation.h"

enum { REACH = 16 }; /* Fourier pixels, of the maps compared: enough to tell a part's turn by a degree */
static const double DEGREES = 57.29577951308232;
static const double MOST = 45.0;  /* degrees: a compromise between parts lies not farther off */
static const double LEAST = 2.0;  /* degrees: less is left to refinement */
static const double GAIN = 0.05;  /* of the correlation, at least (10 % and more where frames differ, 3.5 % at most elsewhere: docs/poses.md), */
static const double SURE = 5.0;   /* and this many standard deviations of that of noise */
static const double POOR = 0.8;   /* of the best correlation: less, and the other hand is tried */
static const het_pose3 STAYS = {.a = {1, 0, 0, 0, 1, 0, 0, 0, 1}, .hand = 1};

/* M R M, M = diag(1,1,-1) */
static void mirror(double r[9])
{
    static const int changed[4] = {2, 5, 6, 7};
    for (int i = 0; i < 4; i++) r[changed[i]] = -r[changed[i]];
}

/* An image of V at R is one of V(-x) at diag(-1,-1,1) R, and V_old(M A y) = V_old(-diag(-1,-1,1) A y). */
void het_frames_move(float rotation[9], float shift[2], const het_pose3 *frame)
{
    double old[9], now[9];
    for (int i = 0; i < 9; i++) old[i] = rotation[i];
    if (frame->hand < 0) mirror(old);
    het_rotation_multiply(now, old, frame->a);
    for (int i = 0; i < 9; i++) rotation[i] = (float)now[i];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) shift[i] -= (float)(now[3 * i + k] * frame->u[k]);
}

/* M^h1 A1 M^h2 A2 = M^(h1 h2) (M^h2 A1 M^h2) A2 */
het_pose3 het_frames_then(const het_pose3 *first, const het_pose3 *second)
{
    het_pose3 both = *second, turned = *first;
    if (second->hand < 0) {
        mirror(turned.a);
        turned.u[2] = -turned.u[2];
    }
    het_rotation_multiply(both.a, turned.a, second->a);
    both.hand = first->hand * second->hand;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) both.u[i] += second->a[3 * j + i] * turned.u[j];
    return both;
}

void het_frames_tree(int *parent, int *order, const double *alike, int64_t stride, int n, int root)
{
    double most[HET_FRAMES];
    int in_tree[HET_FRAMES] = {0};
    HET_ASSERT(n <= HET_FRAMES);
    for (int i = 0; i < n; i++) most[i] = -INFINITY;
    most[root] = INFINITY;
    parent[root] = -1;
    for (int step = 0; step < n; step++) {
        int next = -1;
        for (int i = 0; i < n; i++)
            if (!in_tree[i] && (next < 0 || most[i] > most[next])) next = i;
        in_tree[next] = 1;
        order[step] = next;
        for (int i = 0; i < n; i++) {
            if (in_tree[i] || alike[i * stride + next] <= most[i]) continue;
            most[i] = alike[i * stride + next];
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
    het_fold fold; /* of its sums */
    het_volume volume[HET_FRAMES];
    het_pose3 frame[HET_FRAMES]; /* from each cluster's to the root's */
} framer;

static het_status framer_new(framer *f, het_poses *s)
{
    het_status status = HET_OK;
    const int64_t rim = (int64_t)(het_poses_radius(s) + 1e-6), count = s->all.count, dim = s->all.z_dim;
    *f = (framer){.poses = s};
    f->n = count < HET_FRAMES ? (int)count : HET_FRAMES;
    f->reach = rim < REACH ? rim : REACH;
    for (int i = 0; i < f->n; i++) f->frame[i] = STAYS;
    f->points = het_points_within(&s->model->points, (double)f->reach);
    f->label = het_alloc((size_t)count * sizeof *f->label);
    f->centre = het_alloc((size_t)(f->n * dim) * sizeof *f->centre);
    if (f->label == NULL || f->centre == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for maps of conformations"));
    HET_TRY(het_backproject_new(&f->back, 2 * (f->reach + 1), s->model->spec.box));
    HET_TRY(het_fold_open(&f->fold, s->comm, (size_t)het_backproject_numbers(f->back.box), sizeof *f->back.sum));
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
    het_fold_close(&f->fold);
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
    for (int64_t part = 0; part < het_comm_parts(s->comm) && status == HET_OK; part++) {
        het_backproject_clear(&f->back);
        status = het_poses_each(s, part, f->label, cluster, add_batch, f, stopped);
        het_fold_add(&f->fold, f->back.sum);
    }
    HET_TRY(het_poses_agree(s, status, stopped));
    HET_TRY(het_comm_sum_f64(s->comm, f->back.sum, f->fold.count));
    HET_TRY(het_comm_agree(s->comm, het_volume_new(&f->volume[cluster], f->back.box, 1.0)));
    het_backproject_solve(&f->back, &f->volume[cluster], prior);
done:
    return status;
}

/* ---- their frames ---- */

static double turn_of(const het_pose3 *pose)
{
    return DEGREES * het_rotation_angle(het_rotation_distance2(pose->a, STAYS.a));
}

/* Of the ball of radius `reach` one half is independent, two numbers each. */
static int gains(double from, double to, int64_t reach)
{
    const double deviation = 1.0 / sqrt(4.0 / 3.0 * M_PI * pow((double)reach, 3.0));
    return to - from >= GAIN * to && to - from >= SURE * deviation;
}

int het_frames_differ(const het_pose3 *pose, const double correlations[2], int64_t reach)
{
    return turn_of(pose) >= LEAST && gains(correlations[0], correlations[1], reach);
}

/* How a cluster's map lies in the frame of another's. */
typedef struct branch {
    int parent;
    het_pose3 pose;
} branch;

/* How alike the maps of two clusters are as they lie, but for a trifle. */
static het_status compare(const framer *f, double same[HET_FRAMES][HET_FRAMES])
{
    het_status status = HET_OK;
    double c[2];
    for (int i = 0; i < f->n; i++) {
        for (int j = 0; j < i; j++) {
            het_pose3 near = STAYS;
            HET_TRY(het_place_search(&near, c, &f->volume[i], &f->volume[j], 0.0, f->reach));
            same[i][j] = same[j][i] = c[1];
        }
    }
done:
    return status;
}

/* The mirror image of a cluster's map in the frame of the cluster so far whose map it fits best, if that is clearly better than
 * the map itself fits. */
static het_status try_mirrored(const framer *f, branch *to, double own, int cluster, const int *order, int placed)
{
    het_status status = HET_OK;
    double best = own;
    for (int i = 0; i < placed; i++) {
        double c[2];
        het_pose3 mirrored = STAYS;
        mirrored.hand = -1;
        HET_TRY(het_place_search(&mirrored, c, &f->volume[cluster], &f->volume[order[i]], M_PI, f->reach));
        if (c[1] <= best || !gains(own, c[1], f->reach)) continue;
        best = c[1];
        *to = (branch){order[i], mirrored};
    }
done:
    return status;
}

/* From the largest cluster outwards, the one that is most like any so far next. One rank. */
static het_status register_all(framer *f)
{
    het_status status = HET_OK;
    double same[HET_FRAMES][HET_FRAMES] = {{0}}, best = 0.0, c[2];
    int parent[HET_FRAMES], order[HET_FRAMES], root = 0;
    for (int i = 1; i < f->n; i++)
        if (f->size[i] > f->size[root]) root = i;
    HET_TRY(compare(f, same));
    for (int i = 0; i < f->n; i++)
        for (int j = 0; j < i; j++) best = fmax(best, same[i][j]);
    het_frames_tree(parent, order, same[0], HET_FRAMES, f->n, root);
    for (int i = 1; i < f->n; i++) {
        const int cluster = order[i];
        branch to = {.parent = parent[cluster], .pose = STAYS};
        HET_TRY(het_place_search(&to.pose, c, &f->volume[cluster], &f->volume[to.parent], MOST / DEGREES, f->reach));
        if (!het_frames_differ(&to.pose, c, f->reach)) to.pose = STAYS;
        if (same[cluster][to.parent] < POOR * best) HET_TRY(try_mirrored(f, &to, c[1], cluster, order, i));
        for (int k = 0; k < 3; k++) to.pose.u[k] *= (double)f->poses->model->spec.box / (double)f->back.box;
        f->frame[cluster] = het_frames_then(&to.pose, &f->frame[to.parent]);
    }
done:
    return status;
}

static void move_all(const framer *f)
{
    const het_predictions *all = &f->poses->all;
    double farthest = 0.0;
    int turned = 0, mirrored = 0;
    for (int i = 0; i < f->n; i++) {
        const double turn = turn_of(&f->frame[i]);
        if (f->frame[i].hand < 0) {
            mirrored++;
        } else if (turn > 0.0) {
            turned++;
            farthest = fmax(farthest, turn);
        }
    }
    for (int64_t i = 0; i < all->count; i++)
        het_frames_move(all->rotation + 9 * i, all->shift + 2 * i, &f->frame[f->label[i]]);
    if (turned > 0)
        het_info("frames: %d of %d groups of conformations turned into the frame of the others, by up to %.1f degrees", turned,
                 f->n, farthest);
    if (mirrored > 0)
        het_info("frames: %d of %d groups of conformations had the other hand, and were mirrored", mirrored, f->n);
    if (turned + mirrored == 0) het_info("frames: all conformations lie in one");
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
    move_all(&f);
done:
    framer_free(&f);
    return status;
}
