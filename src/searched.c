#include "searched.h"

#include <string.h>

#include "clock.h"
#include "log.h"
#include "physics/rotation.h"
#include "rng.h"

het_status het_searched_open(het_searched *s, het_comm *comm, het_model *model, const het_stack *stack,
                             double noise_variance)
{
    het_status status = HET_OK;
    *s = (het_searched){0};
    HET_TRY(het_poses_open(&s->poses, comm, model, stack, noise_variance));
    HET_TRY(het_predictions_new(&s->kept, s->poses.all.count, model->config.z_dim));
    HET_TRY(het_given_new(&s->given, het_model_images(&model->spec), model->config.z_dim));
    model->frozen = 1;
done:
    return status;
}

void het_searched_close(het_searched *s)
{
    het_poses_close(&s->poses);
    het_predictions_free(&s->kept);
    het_given_free(&s->given);
}

void het_searched_scatter(het_searched *s, int64_t pass)
{
    const het_predictions *all = &s->poses.all;
    const uint64_t seed = (uint64_t)s->poses.model->config.train.seed;
    for (int64_t i = 0; i < all->count; i++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 2 + (uint64_t)pass, (uint64_t)i);
        double r[9];
        het_rotation_draw(r, &rng);
        for (int j = 0; j < 9; j++) all->rotation[9 * i + j] = (float)r[j];
        all->shift[2 * i] = all->shift[2 * i + 1] = 0.0F;
    }
}

static void copy_poses(het_predictions *to, const het_predictions *from)
{
    memcpy(to->rotation, from->rotation, (size_t)(9 * from->count) * sizeof *to->rotation);
    memcpy(to->shift, from->shift, (size_t)(2 * from->count) * sizeof *to->shift);
}

/* |R - R'|^2 of the search before tells how far poses still move. */
static double mean_move(const het_predictions *now, const het_predictions *before)
{
    double sum = 0.0;
    for (int64_t i = 0; i < now->count; i++)
        sum += het_poses_distance2(now->rotation + 9 * i, before->rotation + 9 * i);
    return sum / (double)now->count;
}

het_status het_searched_find(het_searched *s, int *stopped)
{
    het_status status = HET_OK;
    const double started = het_seconds();
    het_predictions *all = &s->poses.all;
    copy_poses(&s->kept, all);
    HET_TRY(het_poses_locate(&s->poses, stopped));
    if (*stopped) {
        copy_poses(all, &s->kept);
        goto done;
    }
    double loss = 0.0;
    for (int64_t i = 0; i < all->count; i++) loss += all->loss[i];
    het_info("search: poses to %.1f Fourier pixels: image loss %.4f, rotations moved by %.2f, %.1f s",
             het_poses_radius(&s->poses), loss / (double)all->count, mean_move(all, &s->kept),
             het_seconds() - started);
done:
    return status;
}

void het_searched_give(het_searched *s, het_batch *batch)
{
    het_given_set(&s->given, batch, s->poses.all.rotation, s->poses.all.shift, NULL);
}

void het_searched_fields(het_field field[HET_SEARCHED_FIELDS], const het_searched *s)
{
    const het_predictions *all = &s->poses.all;
    field[0] = (het_field){"images/rotation", {all->rotation, HET_F32, 3, {all->count, 3, 3}}};
    field[1] = (het_field){"images/shift", {all->shift, HET_F32, 2, {all->count, 2}}};
}

het_status het_searched_answers(het_searched *s, const char *path, int *stopped)
{
    het_status status = HET_OK;
    const het_poses *p = &s->poses;
    HET_TRY(het_searched_find(s, stopped));
    if (*stopped) goto done;
    const het_predictions part = het_predictions_rows(&p->all, p->first, p->count);
    status = het_predictions_save(p->comm, path, p->all.count, p->first, &part, HET_OK);
done:
    return status;
}
