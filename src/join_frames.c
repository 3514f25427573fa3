#include "join_frames.h"

#include "arena.h"
#include "frames.h"
#include "mpi/fold.h"
#include "physics/backproject.h"
#include "physics/kmeans.h"

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
    f->reach = rim < HET_FRAMES_REACH ? rim : HET_FRAMES_REACH;
    f->points = het_points_within(&s->model->points, (double)f->reach);
    f->label = het_alloc((size_t)count * sizeof *f->label);
    f->centre = het_alloc((size_t)(f->n * dim) * sizeof *f->centre);
    if (f->label == NULL || f->centre == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for maps of conformations"));
    HET_TRY(het_backproject_new(&f->back, 2 * (f->reach + 1), s->model->spec.box));
    HET_TRY(het_fold_open(&f->fold, s->comm, (size_t)het_backproject_numbers(f->back.box, 1), sizeof *f->back.sum));
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
    double prior[HET_FRAMES_REACH + 2];
    for (int i = 0; i < HET_FRAMES_REACH + 2; i++) prior[i] = s->noise_variance;
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

het_status het_join_frames(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    const het_predictions *all = &s->all;
    framer f;
    HET_TRY(het_comm_agree(s->comm, framer_new(&f, s)));
    for (int i = 0; i < f.n && !*stopped; i++) HET_TRY(reconstruct(&f, i, stopped));
    if (*stopped) goto done;
    if (het_comm_rank(s->comm) == 0) status = het_frames_register(f.frame, f.volume, f.size, f.n, f.reach, s->model->spec.box);
    HET_TRY(het_comm_agree(s->comm, status));
    HET_TRY(het_comm_broadcast(s->comm, f.frame, sizeof f.frame, 0));
    het_frames_move_all(all->rotation, all->shift, f.label, all->count, f.frame, f.n);
done:
    framer_free(&f);
    return status;
}
