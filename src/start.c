#include "start.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "data/predictions.h"
#include "log.h"
#include "start_volume.h"

enum { FIELDS = 2, CHUNK = 512 };

/* The poses of this rank's share of the stack, in place; the other rows stay 0. */
static het_status search_share(het_start *s, const het_first_volume *volume, const het_comm *comm,
                               het_device *dev, const het_stack *stack, double radius, double shift_range)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t first, count, index[CHUNK];
    het_comm_share(comm, s->count, &first, &count);
    float *images = het_alloc((size_t)(CHUNK * info->box * info->box) * sizeof *images);
    het_search_pose *pose = het_alloc(CHUNK * sizeof *pose);
    if (images == NULL || pose == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start"));
    for (int64_t at = first; at < first + count; at += CHUNK) {
        const int64_t n = first + count - at < CHUNK ? first + count - at : CHUNK;
        for (int64_t i = 0; i < n; i++) index[i] = at + i;
        HET_TRY(het_stack_read_standardised(stack, images, index, n));
        const het_first_volume_spec spec = {.box = info->box,
                                            .count = n,
                                            .apix = info->apix,
                                            .images = images,
                                            .ctf = het_stack_ctf(stack) + at,
                                            .radius = radius,
                                            .shift_range = shift_range};
        HET_TRY(het_first_volume_search(volume, pose, dev, &spec));
        for (int64_t i = 0; i < n; i++) {
            memcpy(s->rotation + 9 * (at + i), pose[i].rotation, sizeof pose[i].rotation);
            memcpy(s->shift + 2 * (at + i), pose[i].shift, sizeof pose[i].shift);
        }
    }
done:
    het_release(images);
    het_release(pose);
    return status;
}

static het_status start_new(het_start *s, int64_t count, const het_config *config,
                            const het_model_spec *model)
{
    het_status status = HET_OK;
    *s = (het_start){.count = count};
    s->rotation = het_alloc((size_t)(9 * count) * sizeof *s->rotation);
    s->shift = het_alloc((size_t)(2 * count) * sizeof *s->shift);
    if (s->rotation == NULL || s->shift == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start's %lld poses", (long long)count));
    HET_TRY(het_given_new(&s->given, model->batch, config->z_dim));
    status = het_latents_new(&s->latents, count, config, model);
done:
    return status;
}

het_status het_start_find(het_start *s, het_comm *comm, het_device *dev, const het_stack *stack,
                          const het_survey *survey, const het_config *config, const het_model_spec *model)
{
    const het_stack_info *info = het_stack_get_info(stack);
    const double radius = fmin(config->init.radius, (double)(info->box / 2 - 1));
    const het_start_volume_spec spec = {.init = &config->init, .seed = (uint64_t)config->train.seed, .radius = radius,
                                        .shift_range = model->shift_range, .noise_variance = survey->noise_variance};
    het_first_volume volume = {0};
    het_status status = start_new(s, info->count, config, model);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_start_volume(&volume, comm, dev, stack, &spec));
    HET_TRY(het_comm_agree(comm, search_share(s, &volume, comm, dev, stack, radius, model->shift_range)));
    HET_TRY(het_comm_sum_f32(comm, s->rotation, (size_t)(9 * s->count)));
    HET_TRY(het_comm_sum_f32(comm, s->shift, (size_t)(2 * s->count)));
done:
    het_first_volume_free(&volume);
    return status;
}

static void fields_of(het_field field[FIELDS], const het_start *s)
{
    field[0] = (het_field){"rotation", {s->rotation, HET_F32, 3, {s->count, 3, 3}}};
    field[1] = (het_field){"shift", {s->shift, HET_F32, 2, {s->count, 2}}};
}

static void file_of(char path[1100], const het_run *run)
{
    snprintf(path, 1100, "%s/start.h5", run->path);
}

het_status het_start_save(const het_start *s, het_run *run)
{
    char path[1100], json[64];
    het_field field[FIELDS];
    file_of(path, run);
    fields_of(field, s);
    snprintf(json, sizeof json, "{\"images\": %lld}", (long long)s->count);
    return het_checkpoint_save(run->comm, path, field, FIELDS, json);
}

static het_status load(het_start *s, const char *path, const het_config *config, const het_model_spec *model,
                       int64_t images)
{
    het_status status = HET_OK;
    het_field field[FIELDS];
    HET_TRY(start_new(s, images, config, model));
    fields_of(field, s);
    HET_TRY(het_checkpoint_load(path, field, FIELDS));
done:
    return status;
}

het_status het_start_load(het_start *s, const het_run *run, const het_config *config,
                          const het_model_spec *model, int64_t images)
{
    char path[1100];
    file_of(path, run);
    return het_comm_agree(run->comm, load(s, path, config, model, images));
}

void het_start_fields(het_field field[HET_START_FIELDS], const het_start *s)
{
    het_latents_fields(field, &s->latents);
    field[HET_LATENTS_FIELDS] = (het_field){"images/rotation", {s->rotation, HET_F32, 3, {s->count, 3, 3}}};
    field[HET_LATENTS_FIELDS + 1] = (het_field){"images/shift", {s->shift, HET_F32, 2, {s->count, 2}}};
}

void het_start_free(het_start *s)
{
    het_release(s->rotation);
    het_release(s->shift);
    het_given_free(&s->given);
    het_latents_free(&s->latents);
    *s = (het_start){0};
}

void het_start_give(het_start *s, het_batch *batch, int frozen)
{
    het_given_set(&s->given, batch, s->rotation, s->shift, frozen ? NULL : s->latents.z);
}

het_status het_start_answers(const het_start *s, het_comm *comm, const char *path, double apix, int64_t box)
{
    const het_latents *l = &s->latents;
    het_predictions part = {0};
    int64_t first, count;
    het_comm_share(comm, s->count, &first, &count);
    const het_status status = het_predictions_new(&part, count, l->z_dim);
    if (status == HET_OK) {
        part.box = box;
        part.apix = apix;
        memcpy(part.rotation, s->rotation + 9 * first, (size_t)(9 * count) * sizeof *part.rotation);
        memcpy(part.shift, s->shift + 2 * first, (size_t)(2 * count) * sizeof *part.shift);
        memcpy(part.z, l->z + l->z_dim * first, (size_t)(l->z_dim * count) * sizeof *part.z);
        memcpy(part.loss, l->loss + first, (size_t)count * sizeof *part.loss);
    }
    const het_status saved = het_predictions_save(comm, path, s->count, first, &part, status);
    het_predictions_free(&part);
    return saved;
}
