#include "start.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "data/predictions.h"
#include "log.h"
#include "run_stage.h"
#include "start_components.h"
#include "start_fine.h"
#include "start_volume.h"
#include "stop.h"

enum { POSES = 3, FIELDS = 4, CHUNK = 512, JSON = 1024 }; /* fields: of poses, of the start; images at a time; bytes */

static const double PARTICLES_LEAST = 0.1; /* of the images */

static int64_t count_found(const float *found, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += found[i] != 0.0F;
    return count;
}

/* The poses of the images of one of this rank's parts of the stack, in place, but those that were found before the program was
 * stopped; the other rows stay as they are. */
static het_status search_part(het_start *s, float *found, int64_t part, const het_first_volume *volume, const het_comm *comm,
                              het_device *dev, const het_stack *stack, double radius, double shift_range)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t first, count, index[CHUNK];
    het_comm_part(comm, part, s->count, &first, &count);
    float *images = het_alloc((size_t)(CHUNK * info->box * info->box) * sizeof *images);
    het_search_pose *pose = het_alloc(CHUNK * sizeof *pose);
    het_ctf_row *ctf = het_alloc(CHUNK * sizeof *ctf);
    if (images == NULL || pose == NULL || ctf == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start"));
    for (int64_t at = first; at < first + count; at += CHUNK) {
        const int64_t n = first + count - at < CHUNK ? first + count - at : CHUNK;
        if (count_found(found + at, n) == n) continue;
        for (int64_t i = 0; i < n; i++) index[i] = at + i;
        HET_TRY(het_stack_read_standardised(stack, images, index, n));
        HET_TRY(het_stack_read_ctf(stack, ctf, index, n));
        const het_first_volume_spec spec = {.box = info->box,
                                            .count = n,
                                            .apix = info->apix,
                                            .whitening = info->whitening,
                                            .images = images,
                                            .ctf = ctf,
                                            .radius = radius,
                                            .shift_range = shift_range};
        HET_TRY(het_first_volume_search(volume, pose, dev, &spec));
        for (int64_t i = 0; i < n; i++) {
            memcpy(s->rotation + 9 * (at + i), pose[i].rotation, sizeof pose[i].rotation);
            memcpy(s->shift + 2 * (at + i), pose[i].shift, sizeof pose[i].shift);
            s->particle[at + i] = (double)pose[i].loglik > HET_PARTICLE;
            found[at + i] = 1.0F;
        }
        HET_TRY(het_stop_check());
    }
done:
    het_release(images);
    het_release(pose);
    het_release(ctf);
    return status;
}

het_status het_start_new(het_start *s, int64_t count, const het_config *config, const het_model_spec *model)
{
    het_status status = HET_OK;
    *s = (het_start){.count = count};
    s->rotation = het_alloc((size_t)(9 * count) * sizeof *s->rotation);
    s->shift = het_alloc((size_t)(2 * count) * sizeof *s->shift);
    s->particle = het_alloc((size_t)count * sizeof *s->particle);
    if (s->rotation == NULL || s->shift == NULL || s->particle == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start's %lld poses", (long long)count));
    HET_TRY(het_given_new(&s->given, het_model_images(model), config->z_dim));
    status = het_latents_new(&s->latents, count, config, model);
done:
    return status;
}

/* All that poses and first conformations depend on. */
static void describe(char json[JSON], const het_stack_info *stack, const het_start_volume_spec *spec, int64_t z_dim)
{
    const het_config_init *init = spec->init;
    snprintf(json, JSON,
             "{\"images\": %lld, \"box\": %lld, \"apix\": %.9g, \"mean\": %.9g, \"std\": %.9g, \"seed\": %llu, \"shift\": %.9g, "
             "\"init.images\": %lld, \"init.starts\": %lld, \"init.search_images\": %lld, \"init.search_rounds\": %lld, "
             "\"init.radius\": %.9g, \"init.rounds\": %lld, \"init.fine_rounds\": %lld, \"init.components\": %lld, \"z_dim\": %lld}",
             (long long)stack->count, (long long)stack->box, stack->apix, stack->mean, stack->std,
             (unsigned long long)spec->seed, spec->shift_range, (long long)init->images, (long long)init->starts,
             (long long)init->search_images, (long long)init->search_rounds, spec->radius, (long long)init->rounds,
             (long long)init->fine_rounds, (long long)init->components, (long long)z_dim);
}

/* Whether the file is there and was found just as this start would be. */
static int found_before(const char *path, const char *json)
{
    char *there = NULL;
    const int same = access(path, R_OK) == 0 && het_checkpoint_json(path, &there) == HET_OK && strcmp(there, json) == 0;
    free(there);
    return same;
}

static void fields_of(het_field field[FIELDS], const het_start *s)
{
    field[0] = (het_field){"rotation", {s->rotation, HET_F32, 3, {s->count, 3, 3}}};
    field[1] = (het_field){"shift", {s->shift, HET_F32, 2, {s->count, 2}}};
    field[2] = (het_field){"particle", {s->particle, HET_F32, 1, {s->count}}};
    field[POSES] = (het_field){"z", {s->latents.z, HET_F32, 2, {s->count, s->latents.z_dim}}};
}

/* What images the maps are made from. Where hardly any seem to be particles the volume is not theirs, and says nothing of them. */
static void judge_particles(het_start *s)
{
    const int64_t particles = het_start_particles(s);
    const double share = (double)particles / (double)s->count;
    if (share < PARTICLES_LEAST) {
        for (int64_t i = 0; i < s->count; i++) s->particle[i] = 1.0F;
        het_warn("the start's volume explains %.1f %% of the images better than no particle would: it is probably wrong", 100.0 * share);
    } else if (particles < s->count) {
        het_info("start: %lld of %lld images (%.1f %%) are likelier no particles: maps are made without them", (long long)(s->count - particles),
                 (long long)s->count, 100.0 * (1.0 - share));
    }
}

int64_t het_start_particles(const het_start *s)
{
    return count_found(s->particle, s->count);
}

static het_status search(het_start *s, het_comm *comm, het_device *dev, const het_stack *stack,
                         const het_start_volume_spec *spec)
{
    het_first_volume volume = {0};
    het_status status = HET_OK;
    int there;
    int64_t first, own;
    float *found = het_alloc((size_t)s->count * sizeof *found); /* 1: this image's pose is */
    het_field field[FIELDS];
    fields_of(field, s);
    field[POSES] = (het_field){"found", {found, HET_F32, 1, {s->count}}};
    const het_stage stage = {.comm = comm, .folder = spec->folder, .name = "poses", .about = spec->about, .field = field,
                             .count = FIELDS};
    HET_TRY(het_comm_agree(comm, found != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start")));
    HET_TRY(het_start_volume(&volume, comm, dev, stack, spec));
    HET_TRY(het_stage_recall(&stage, &there));
    const int64_t before = count_found(found, s->count);
    for (int64_t part = 0; part < het_comm_parts(comm) && status == HET_OK; part++)
        status = search_part(s, found, part, &volume, comm, dev, stack, spec->radius, spec->shift_range);
    status = het_comm_agree(comm, status);
    if (status != HET_OK && status != HET_E_STOPPED) goto done;
    const int stopped = status == HET_E_STOPPED;
    het_comm_share(comm, s->count, &first, &own);
    for (int i = 0; i < FIELDS; i++)
        HET_TRY(het_comm_unite_rows(comm, field[i].tensor.data, s->count, het_tensor_count(&field[i].tensor) / s->count, first, own));
    if (count_found(found, s->count) > before) het_stage_keep(&stage);
    if (stopped) status = het_stop_status();
done:
    het_first_volume_free(&volume);
    het_release(found);
    return status;
}

het_status het_start_find(het_start *s, het_run *run, het_device *dev, const het_stack *stack,
                          const het_survey *survey, const het_config *config, const het_model_spec *model)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    char path[1100], json[JSON];
    double reached;
    het_field field[FIELDS];
    const het_start_volume_spec spec = {.folder = run->path, .about = json, .init = &config->init, .seed = (uint64_t)config->train.seed,
                                        .radius = fmin(config->init.radius, (double)(info->box / 2 - 1)),
                                        .shift_range = model->shift_range, .noise_variance = survey->noise_variance};
    HET_TRY(het_comm_agree(run->comm, het_start_new(s, info->count, config, model)));
    snprintf(path, sizeof path, "%s/start.h5", run->path);
    describe(json, info, &spec, config->z_dim);
    fields_of(field, s);
    int64_t there = het_comm_rank(run->comm) == 0 && found_before(path, json);
    HET_TRY(het_comm_sum_i64(run->comm, &there, 1));
    if (there) {
        HET_TRY(het_comm_agree(run->comm, het_checkpoint_load(path, field, FIELDS)));
        het_info("start: its poses are in %s already", path);
        goto done;
    }
    HET_TRY(search(s, run->comm, dev, stack, &spec));
    judge_particles(s);
    HET_TRY(het_start_fine(s, run->comm, dev, stack, &spec, &reached));
    HET_TRY(het_start_components(s, run->comm, dev, stack, &spec, reached));
    if (het_comm_rank(run->comm) == 0) status = het_checkpoint_save(path, field, FIELDS, json);
    status = het_comm_agree(run->comm, status);
    if (status == HET_OK) het_stage_forget(run->comm, run->path);
done:
    return status;
}

void het_start_fields(het_field field[HET_START_FIELDS], const het_start *s)
{
    het_latents_fields(field, &s->latents);
    field[HET_LATENTS_FIELDS] = (het_field){"images/rotation", {s->rotation, HET_F32, 3, {s->count, 3, 3}}};
    field[HET_LATENTS_FIELDS + 1] = (het_field){"images/shift", {s->shift, HET_F32, 2, {s->count, 2}}};
    field[HET_LATENTS_FIELDS + 2] = (het_field){"images/particle", {s->particle, HET_F32, 1, {s->count}}};
}

void het_start_free(het_start *s)
{
    het_release(s->rotation);
    het_release(s->shift);
    het_release(s->particle);
    het_given_free(&s->given);
    het_latents_free(&s->latents);
    *s = (het_start){0};
}

void het_start_give(het_start *s, het_batch *batch, int frozen)
{
    het_given_set(&s->given, batch, s->rotation, s->shift, frozen ? NULL : s->latents.z);
}

het_status het_start_answers(const het_start *s, int frozen, const float *confirmed, het_comm *comm, const char *path, double apix,
                             int64_t box)
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
        if (!frozen) memcpy(part.z, l->z + l->z_dim * first, (size_t)(l->z_dim * count) * sizeof *part.z);
        memcpy(part.loss, l->loss + first, (size_t)count * sizeof *part.loss);
        memcpy(part.particle, s->particle + first, (size_t)count * sizeof *part.particle);
        if (confirmed != NULL) memcpy(part.confirmed, confirmed + first, (size_t)count * sizeof *part.confirmed);
    }
    const het_status saved = het_predictions_save(comm, path, s->count, first, &part, status);
    het_predictions_free(&part);
    return saved;
}
