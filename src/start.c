#include "start.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "data/predictions.h"
#include "log.h"
#include "rng.h"
#include "start_volume.h"

enum { FIELDS = 2, CHUNK = 512 };
static const float Z_SPREAD = 0.3F; /* of the first conformations: enough to tell them apart */

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
    const int64_t z = config->z_dim, b = model->batch, g = model->global_batch;
    *s = (het_start){.count = count, .z_dim = z, .global_batch = g};
    const struct { float **to; int64_t floats; } arrays[] = {
        {&s->rotation, 9 * count}, {&s->shift, 2 * count}, {&s->z, z * count}, {&s->moment1, z * count},
        {&s->moment2, z * count}, {&s->visits, count}, {&s->loss, count}, {&s->batch_dz, z * b},
        {&s->batch_loss, b}, {&s->shared, (3 * z + 1) * g}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].to = het_alloc((size_t)arrays[i].floats * sizeof(float));
        if (*arrays[i].to == NULL)
            return het_fail(HET_E_MEMORY, "no memory for the start's %lld poses", (long long)count);
    }
    s->shared_index = het_alloc((size_t)g * sizeof *s->shared_index);
    if (s->shared_index == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start"));
    HET_TRY(het_given_new(&s->given, b, z));
    for (int64_t i = 0; i < count; i++) {
        het_rng rng = het_rng_at((uint64_t)config->train.seed, HET_STREAM_SEARCH, 1, (uint64_t)i);
        for (int64_t j = 0; j < z; j++) s->z[i * z + j] = Z_SPREAD * het_rng_normal(&rng);
    }
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
    field[0] = (het_field){"images/z", {s->z, HET_F32, 2, {s->count, s->z_dim}}};
    field[1] = (het_field){"images/moment1", {s->moment1, HET_F32, 2, {s->count, s->z_dim}}};
    field[2] = (het_field){"images/moment2", {s->moment2, HET_F32, 2, {s->count, s->z_dim}}};
    field[3] = (het_field){"images/visits", {s->visits, HET_F32, 1, {s->count}}};
    field[4] = (het_field){"images/loss", {s->loss, HET_F32, 1, {s->count}}};
}

void het_start_free(het_start *s)
{
    void *const all[] = {s->rotation, s->shift, s->z, s->moment1, s->moment2, s->visits, s->loss, s->batch_dz,
                         s->batch_loss, s->shared_index, s->shared};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) het_release(all[i]);
    het_given_free(&s->given);
    *s = (het_start){0};
}

void het_start_give(het_start *s, het_batch *batch, int frozen)
{
    het_given_set(&s->given, batch, s->rotation, s->shift, frozen ? NULL : s->z);
}

/* Adam on one image's z; it is visited once per epoch, so the means are short. */
static void learn_one(het_start *s, int64_t at, const float *dz, double lambda, double rate)
{
    const double b1 = 0.8, b2 = 0.95, eps = 1e-8;
    const double n = s->visits[at] += 1.0F;
    for (int64_t j = 0; j < s->z_dim; j++) {
        float *z = s->z + at * s->z_dim + j, *m = s->moment1 + at * s->z_dim + j,
              *v = s->moment2 + at * s->z_dim + j;
        const double g = (double)dz[j] + lambda * *z;
        *m = (float)(b1 * *m + (1.0 - b1) * g);
        *v = (float)(b2 * *v + (1.0 - b2) * g * g);
        *z -= (float)(rate * (*m / (1.0 - pow(b1, n))) / (sqrt(*v / (1.0 - pow(b2, n))) + eps));
    }
}

/* The rows that this rank has changed, to all. */
static het_status share_rows(het_start *s, het_comm *comm, const het_batch *batch)
{
    het_status status = HET_OK;
    const int64_t z = s->z_dim, row = 3 * z + 1;
    if (het_comm_size(comm) == 1) return HET_OK;
    memset(s->shared, 0, (size_t)(s->global_batch * row) * sizeof *s->shared);
    memset(s->shared_index, 0, (size_t)s->global_batch * sizeof *s->shared_index);
    for (int64_t i = 0; i < batch->count; i++) {
        const int64_t at = batch->index[i];
        float *to = s->shared + (batch->first + i) * row;
        s->shared_index[batch->first + i] = at;
        memcpy(to, s->z + at * z, (size_t)z * sizeof *to);
        memcpy(to + z, s->moment1 + at * z, (size_t)z * sizeof *to);
        memcpy(to + 2 * z, s->moment2 + at * z, (size_t)z * sizeof *to);
        to[3 * z] = s->loss[at];
    }
    HET_TRY(het_comm_sum_i64(comm, s->shared_index, (size_t)s->global_batch));
    HET_TRY(het_comm_sum_f32(comm, s->shared, (size_t)(s->global_batch * row)));
    for (int64_t i = 0; i < s->global_batch; i++) {
        const int64_t at = s->shared_index[i];
        const float *from = s->shared + i * row;
        if (i >= batch->first && i < batch->first + batch->count) continue;
        memcpy(s->z + at * z, from, (size_t)z * sizeof *from);
        memcpy(s->moment1 + at * z, from + z, (size_t)z * sizeof *from);
        memcpy(s->moment2 + at * z, from + 2 * z, (size_t)z * sizeof *from);
        s->loss[at] = from[3 * z];
        s->visits[at] += 1.0F;
    }
done:
    return status;
}

het_status het_start_learn(het_start *s, het_comm *comm, const het_batch *batch, het_model *m, double rate)
{
    if (batch->z == NULL) return HET_OK;
    het_model_answers_given(m, s->batch_dz, s->batch_loss);
    for (int64_t i = 0; i < batch->count; i++) {
        s->loss[batch->index[i]] = s->batch_loss[i];
        learn_one(s, batch->index[i], s->batch_dz + i * s->z_dim, m->config.train.lambda_z, rate);
    }
    return share_rows(s, comm, batch);
}

het_status het_start_answers(const het_start *s, het_comm *comm, const char *path, double apix, int64_t box)
{
    het_predictions part = {0};
    int64_t first, count;
    het_comm_share(comm, s->count, &first, &count);
    const het_status status = het_predictions_new(&part, count, s->z_dim);
    if (status == HET_OK) {
        part.box = box;
        part.apix = apix;
        memcpy(part.rotation, s->rotation + 9 * first, (size_t)(9 * count) * sizeof *part.rotation);
        memcpy(part.shift, s->shift + 2 * first, (size_t)(2 * count) * sizeof *part.shift);
        memcpy(part.z, s->z + s->z_dim * first, (size_t)(s->z_dim * count) * sizeof *part.z);
        memcpy(part.loss, s->loss + first, (size_t)count * sizeof *part.loss);
    }
    const het_status saved = het_predictions_save(comm, path, s->count, first, &part, status);
    het_predictions_free(&part);
    return saved;
}
