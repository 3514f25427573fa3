#include "start_frames.h"

#include <string.h>

#include "arena.h"

typedef struct framer {
    const het_groups *groups;
    float *shift; /* of all images, in the new frame */
    het_backproject back, *part;
    het_volume map[HET_FRAMES];
    het_pose3 frame[HET_FRAMES];
} framer;

static het_status framer_new(framer *f, const het_comm *comm, const het_device *dev, const het_components *model, int64_t count)
{
    het_status status = HET_OK;
    f->shift = het_alloc((size_t)(2 * count) * sizeof *f->shift);
    f->part = het_alloc((size_t)dev->threads * sizeof *f->part);
    if (f->shift == NULL || f->part == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for maps of conformations"));
    HET_TRY(het_backproject_new(&f->back, model->map[0].box, model->sum.image_box));
    het_backproject_share(&f->back, het_comm_rank(comm), het_comm_size(comm));
    HET_TRY(het_backproject_parts(f->part, dev->threads, &f->back));
    for (int i = 0; i < f->groups->n; i++) HET_TRY(het_volume_new(&f->map[i], f->back.box, 1.0));
done:
    return status;
}

static void framer_free(framer *f, const het_device *dev)
{
    if (f->part != NULL) het_backproject_parts_free(f->part, dev->threads);
    for (int i = 0; i < f->groups->n; i++) het_volume_free(&f->map[i]);
    het_backproject_free(&f->back);
    het_release(f->shift);
    het_release(f->part);
}

static het_status make_map(framer *f, het_comm *comm, const het_device *dev, int cluster, const het_components_images *images, int64_t count,
                           const double *prior)
{
    het_status status = HET_OK;
    const int64_t p = images->p;
    het_backproject_clear(&f->back);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int t = 0; t < dev->threads; t++)
        for (int64_t i = 0; i < count; i++)
            if (f->groups->label[i] == cluster)
                het_backproject_add(&f->part[t], images->a + i * 2 * p, images->b + i * p, images->rotation + 9 * i, 1.0, images->points->kxy, p);
    HET_TRY(het_comm_unite(comm, f->back.sum, 2 * (size_t)het_backproject_numbers(f->back.box, 1)));
    het_backproject_solve(&f->back, &f->map[cluster], prior);
done:
    return status;
}

het_status het_start_frames(het_comm *comm, het_device *dev, const het_components *model, const het_components_images *images, int64_t count,
                            het_components_answer *answer, const het_groups *groups)
{
    het_status status = HET_OK;
    double prior[HET_COMPONENTS_SHELLS];
    framer f = {.groups = groups};
    HET_TRY(het_comm_agree(comm, framer_new(&f, comm, dev, model, count)));
    const int64_t rim = f.back.box / 2 - 2, reach = rim < HET_FRAMES_REACH ? rim : HET_FRAMES_REACH;
    het_components_prior(model, prior);
    for (int i = 0; i < groups->n; i++) HET_TRY(make_map(&f, comm, dev, i, images, count, prior));
    if (het_comm_rank(comm) == 0) status = het_frames_register(f.frame, f.map, groups->size, groups->n, reach, f.back.image_box);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_broadcast(comm, f.frame, sizeof f.frame, 0));
    memcpy(f.shift, images->shift, (size_t)(2 * count) * sizeof *f.shift);
    het_frames_move_all(images->rotation, f.shift, groups->label, count, f.frame, groups->n);
    for (int64_t i = 0; i < count; i++) {
        double *pose = answer[i].pose;
        memset(pose, 0, sizeof answer[i].pose);
        for (int j = 0; j < 2; j++) pose[3 + j] = (double)(f.shift[2 * i + j] - images->shift[2 * i + j]);
    }
    het_components_move(images, answer, 0, count, dev->threads);
done:
    framer_free(&f, dev);
    return status;
}
