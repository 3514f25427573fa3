#include "refine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "given.h"
#include "log.h"
#include "refine_poses.h"
#include "run_stage.h"

enum { ABOUT = 512, ROUND_FIELDS = 5 + HET_LATENTS_FIELDS };

typedef struct refiner {
    const het_refine_job *job;
    het_model *model;
    const het_config_refine *config;
    het_latents *latents; /* NULL: conformations stay */
    het_poses poses;
    het_given given;
    double started;
} refiner;

static void say(const refiner *r, const char *what, int64_t round, double loss)
{
    het_info("refine: %s, round %lld of %lld: image loss %.5f, %.1f min", what, (long long)round + 1,
             (long long)r->config->rounds, loss, (het_seconds() - r->started) / 60.0);
}

static void tell(const refiner *r, const char *what, int64_t round)
{
    char detail[80];
    snprintf(detail, sizeof detail, "round %lld of %lld: %s", (long long)round + 1, (long long)r->config->rounds, what);
    het_watch_stage(r->job->watch, "refinement", detail);
}

static double mean_loss(const het_poses *poses)
{
    double sum = 0.0;
    for (int64_t i = 0; i < poses->all.count; i++) sum += poses->all.loss[i];
    return sum / (double)poses->all.count;
}

/* The decoder learns the images at their poses, and the images their conformations. */
static het_status update_volumes(refiner *r, int64_t round, int *stopped)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(r->config->epochs * (double)het_loader_steps_per_epoch(r->job->loader));
    const het_predictions *all = &r->poses.all;
    const float *z = r->latents != NULL ? r->latents->z : all->z;
    het_tally tally = {0};
    double loss = 0.0, images = 0.0;
    for (int64_t step = 0; step < steps && !*stopped; step++) {
        het_batch batch;
        const double progress = (double)step / (double)steps,
                     rate = 0.1 + 0.45 * (1.0 + cos(M_PI * progress));
        const het_decision d = {.step = round * steps + step,
                                .frozen = r->job->state->frozen,
                                .rate_decoder = r->config->rate * rate};
        HET_TRY(het_comm_agree(r->job->comm, het_loader_next(r->job->loader, d.step, &batch)));
        het_given_set(&r->given, &batch, all->rotation, all->shift, z);
        tally = (het_tally){0};
        HET_TRY(het_step_once(r->job->stepper, &d, &batch, &tally));
        if (r->latents != NULL)
            HET_TRY(het_latents_learn(r->latents, r->job->comm, &batch, r->model,
                                      r->model->config.init.rate_z * d.rate_decoder));
        *stopped = tally.stop > 0.0;
        loss += tally.image_loss;
        images += tally.images;
    }
    if (z != all->z) memcpy(all->z, z, (size_t)(all->count * all->z_dim) * sizeof *z);
    if (!*stopped && steps > 0) say(r, "volumes", round, loss / images);
done:
    return status;
}

static het_status save(const refiner *r, het_run *out)
{
    het_status status = HET_OK;
    char path[1200];
    const het_poses *p = &r->poses;
    const het_predictions part = het_predictions_rows(&p->all, p->first, p->count);
    HET_TRY(het_run_save_last(out, r->model, r->job->survey, r->job->state));
    snprintf(path, sizeof path, "%s/predictions.h5", out->path);
    HET_TRY(het_predictions_save(r->job->comm, path, p->all.count, p->first, &part, HET_OK));
    het_stage_forget(r->job->comm, out->path);
    het_info("refine: poses and volumes are in %s", out->path);
done:
    return status;
}

static het_status prepare(refiner *r)
{
    het_status status = HET_OK;
    HET_TRY(het_poses_open(&r->poses, r->job->comm, r->model, r->job->stack, r->job->survey->noise_variance));
    HET_TRY(het_given_new(&r->given, het_model_images(&r->model->spec), r->model->config.z_dim));
done:
    return status;
}

/* What training kept image by image, or else the encoder's answers. */
static het_status first_answers(refiner *r, int *stopped)
{
    het_status status = HET_OK;
    char path[1200];
    het_predictions kept = {0};
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, r->job->run->path);
    if (access(path, R_OK) != 0) {
        HET_TRY(het_poses_encode(&r->poses, stopped));
        if (!*stopped) het_info("refine: the encoder's poses: image loss %.5f", mean_loss(&r->poses));
        goto done;
    }
    HET_TRY(het_comm_agree(r->job->comm, het_predictions_load(&kept, path)));
    if (kept.count != r->poses.all.count || kept.z_dim != r->poses.all.z_dim)
        HET_TRY(het_fail(HET_E_INPUT, "%s does not belong to this run: remove it", path));
    het_predictions_free(&r->poses.all);
    r->poses.all = kept;
    kept = (het_predictions){0};
    if (r->config->learn_z && !r->job->state->frozen) r->latents = r->job->latents;
    if (r->latents != NULL) /* equal already, unless the file was replaced; Adam's moments go on */
        memcpy(r->latents->z, r->poses.all.z, (size_t)(r->latents->count * r->latents->z_dim) * sizeof(float));
    het_info("refine: the poses kept in training: image loss %.5f", mean_loss(&r->poses));
done:
    het_predictions_free(&kept);
    return status;
}

/* All that the rounds depend on: settings, the trained parameters, and the poses and conformations that they begin with. */
static het_status describe(const refiner *r, const het_run *out, char about[ABOUT])
{
    het_status status = HET_OK;
    const het_predictions *all = &r->poses.all;
    const het_model *m = r->model;
    const size_t bytes = (size_t)m->layout.total * sizeof *m->params;
    char path[1200];
    snprintf(path, sizeof path, "%s/config.yaml", out->path);
    float *params = het_alloc(bytes);
    if (params == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the refinement"));
    m->dev->ops->download(m->dev, params, m->params, bytes);
    snprintf(about, ABOUT, "{\"step\": %lld, \"config\": \"%016llx\", \"parameters\": \"%016llx\", \"rotation\": \"%016llx\", "
             "\"shift\": \"%016llx\", \"z\": \"%016llx\"}", (long long)r->job->state->step,
             (unsigned long long)het_stage_file(path), (unsigned long long)het_stage_bytes(params, bytes),
             (unsigned long long)het_stage_bytes(all->rotation, (size_t)(9 * all->count) * sizeof(float)),
             (unsigned long long)het_stage_bytes(all->shift, (size_t)(2 * all->count) * sizeof(float)),
             (unsigned long long)het_stage_bytes(all->z, (size_t)(all->z_dim * all->count) * sizeof(float)));
done:
    het_release(params);
    return status;
}

/* What a round changes: the number of rounds done, every image's pose and conformation, and the model. */
static int round_fields(const refiner *r, het_field field[ROUND_FIELDS], int64_t *done)
{
    const het_predictions *all = &r->poses.all;
    int count = 0;
    field[count++] = (het_field){"rounds", {done, HET_I64, 1, {1}}};
    field[count++] = (het_field){"rotation", {all->rotation, HET_F32, 3, {all->count, 3, 3}}};
    field[count++] = (het_field){"shift", {all->shift, HET_F32, 2, {all->count, 2}}};
    field[count++] = (het_field){"z", {all->z, HET_F32, 2, {all->count, all->z_dim}}};
    field[count++] = (het_field){"loss", {all->loss, HET_F32, 1, {all->count}}};
    if (r->latents != NULL) het_latents_fields(field + count, r->latents);
    return r->latents != NULL ? count + HET_LATENTS_FIELDS : count;
}

/* Poses that were lost in training, and conformations that had bent to fit them, are found when nothing is taken from it. */
static het_status find_lost(refiner *r, int *stopped)
{
    het_status status = HET_OK;
    tell(r, "lost poses", 0);
    HET_TRY(het_poses_place(&r->poses, r->poses.all.z, r->poses.all.count, stopped));
    if (*stopped) goto done;
    het_latents_put(r->latents, r->poses.all.z);
    say(r, "lost poses", 0, mean_loss(&r->poses));
done:
    return status;
}

static het_status rounds(refiner *r, const het_run *out, int *stopped)
{
    het_status status = HET_OK;
    char about[ABOUT];
    int there;
    int64_t done = 0;
    het_field field[ROUND_FIELDS];
    het_watch_stage(r->job->watch, "refinement", "first poses");
    HET_TRY(first_answers(r, stopped));
    if (*stopped) goto done;
    HET_TRY(het_comm_agree(r->job->comm, describe(r, out, about)));
    const het_stage stage = {.comm = r->job->comm, .folder = out->path, .name = "round", .about = about, .field = field,
                             .count = round_fields(r, field, &done), .model = r->model};
    HET_TRY(het_stage_recall(&stage, &there));
    if (there) het_poses_forget_mirrors(&r->poses);
    for (int64_t round = done; round < r->config->rounds; round++) {
        if (round == 0 && r->latents != NULL) HET_TRY(find_lost(r, stopped));
        if (*stopped) goto done;
        tell(r, "poses", round);
        HET_TRY(het_poses_improve(&r->poses, 1, stopped));
        if (*stopped) goto done;
        say(r, "poses", round, mean_loss(&r->poses));
        tell(r, "volumes", round);
        HET_TRY(update_volumes(r, round, stopped));
        if (*stopped) goto done;
        done = round + 1;
        het_stage_keep(&stage);
    }
    het_watch_stage(r->job->watch, "refinement", "last poses");
    HET_TRY(het_poses_improve(&r->poses, 0, stopped));
    if (!*stopped) say(r, "poses at the last volumes", r->config->rounds - 1, mean_loss(&r->poses));
done:
    return status;
}

het_status het_refine(const het_refine_job *job, int *interrupted)
{
    het_status status = HET_OK;
    char path[1200];
    het_run out = {0};
    het_model *model = job->stepper->model;
    het_config config = model->config;
    refiner r = {.job = job, .model = model, .config = &model->config.refine, .started = het_seconds()};
    int64_t done_before =
        het_comm_rank(job->comm) == 0 && het_run_is_refined(job->run->path, job->state->step);
    het_comm_phase(job->comm, "refinement");
    HET_TRY(het_comm_sum_i64(job->comm, &done_before, 1));
    if (done_before) {
        het_info("%s/refined is done already; remove that folder to refine again", job->run->path);
        goto done;
    }
    snprintf(path, sizeof path, "%s/refined/predictions.h5", job->run->path);
    if (het_comm_rank(job->comm) == 0) remove(path); /* of an older checkpoint, if any */
    snprintf(path, sizeof path, "%s/refined", job->run->path);
    HET_TRY(het_run_open(&out, job->comm, path, 0, &config));
    HET_TRY(het_run_begin(&out, &config));
    HET_TRY(het_comm_agree(job->comm, prepare(&r)));
    HET_TRY(rounds(&r, &out, interrupted));
    if (*interrupted)
        het_warn("stopped before the refinement was done: its finished rounds are kept, the same command goes on with them");
    else
        HET_TRY(save(&r, &out));
done:
    het_run_close(&out);
    het_poses_close(&r.poses);
    het_given_free(&r.given);
    return status;
}
