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

enum { ROUND_FIELDS = 7 + HET_LATENTS_FIELDS };

typedef struct refiner {
    const het_refine_job *job;
    het_model *model;
    const het_config_refine *config;
    het_latents *latents; /* NULL: conformations stay */
    int doubts;           /* some poses of the training are not confirmed */
    het_poses poses;
    het_given given;
    double started;
    int64_t done, steps; /* pieces of work (do_piece), and steps of the one after them */
    het_stage stage;     /* where all of this is kept */
    het_field field[ROUND_FIELDS];
    char about[HET_POSES_ABOUT];
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

/* The decoder learns the images at their poses, and the images their conformations; going on where it was stopped. */
static het_status update_volumes(refiner *r, int64_t round, int *stopped)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(r->config->epochs * (double)het_loader_steps_per_epoch(r->job->loader));
    const double pause = 60.0 * r->model->config.run.checkpoint_minutes;
    const het_predictions *all = &r->poses.all;
    const float *z = r->latents != NULL ? r->latents->z : all->z;
    het_tally tally = {0};
    double loss = 0.0, images = 0.0, kept = het_seconds();
    for (; r->steps < steps && !*stopped; r->steps++) {
        het_batch batch;
        const double progress = (double)r->steps / (double)steps,
                     rate = 0.1 + 0.45 * (1.0 + cos(M_PI * progress));
        const het_decision d = {.step = round * steps + r->steps,
                                .frozen = r->job->state->frozen,
                                .rate_decoder = r->config->rate * rate};
        if (pause > 0.0 && het_seconds() - kept > pause) {
            het_stage_keep(&r->stage);
            kept = het_seconds();
        }
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
    if (r->steps < steps) goto done;
    if (z != all->z) memcpy(all->z, z, (size_t)(all->count * all->z_dim) * sizeof *z);
    if (images > 0.0) say(r, "volumes", round, loss / images);
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
    if (r->latents != NULL) het_poses_warn(p);
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
    r->doubts = r->latents != NULL && het_poses_doubted(&r->poses) > 0.0;
    if (r->latents != NULL) /* equal already, unless the file was replaced; Adam's moments go on */
        memcpy(r->latents->z, r->poses.all.z, (size_t)(r->latents->count * r->latents->z_dim) * sizeof(float));
    het_info("refine: the poses kept in training: image loss %.5f", mean_loss(&r->poses));
done:
    het_predictions_free(&kept);
    return status;
}

/* What the pieces of work change: how many are done, every image's pose and conformation, and the model. */
static het_status open_stage(refiner *r, const het_run *out)
{
    const het_predictions *all = &r->poses.all;
    const int64_t n = all->count, z = all->z_dim;
    const het_field field[] = {{"done", {&r->done, HET_I64, 1, {1}}},
                               {"steps", {&r->steps, HET_I64, 1, {1}}},
                               {"rotation", {all->rotation, HET_F32, 3, {n, 3, 3}}},
                               {"shift", {all->shift, HET_F32, 2, {n, 2}}},
                               {"z", {all->z, HET_F32, 2, {n, z}}},
                               {"zstd", {all->zstd, HET_F32, 2, {n, z}}},
                               {"loss", {all->loss, HET_F32, 1, {n}}}};
    int count = sizeof field / sizeof *field;
    memcpy(r->field, field, sizeof field);
    if (r->latents != NULL) {
        het_latents_fields(r->field + count, r->latents);
        count += HET_LATENTS_FIELDS;
    }
    r->poses.folder = out->path;
    r->poses.watch = r->job->watch;
    r->stage = (het_stage){.comm = r->job->comm, .folder = out->path, .name = "round", .about = r->about, .field = r->field,
                           .count = count, .model = r->model};
    return het_poses_describe(r->about, &r->poses, "refinement");
}

/* Poses that were lost in training, and conformations that had bent to fit them, are found when nothing is taken from it. */
static het_status find_lost(refiner *r, int *stopped)
{
    het_status status = HET_OK;
    tell(r, "lost poses", 0);
    if (r->poses.all.confirmed[0] < 0.0F) HET_TRY(het_poses_confirm(&r->poses, stopped));
    if (*stopped || het_poses_are_sure(&r->poses)) goto done;
    HET_TRY(het_poses_place(&r->poses, &r->poses.all, stopped));
    if (*stopped) goto done;
    het_latents_put(r->latents, r->poses.all.z);
    say(r, "lost poses", 0, mean_loss(&r->poses));
done:
    return status;
}

/* Where some poses were not confirmed, each round finds more of those that were lost: its maps are better. */
static het_status find_poses(refiner *r, int64_t round, int *stopped)
{
    het_status status = HET_OK;
    if (!r->doubts || round == 0) return het_poses_improve(&r->poses, 1, stopped);
    HET_TRY(het_poses_confirm(&r->poses, stopped));
    if (!*stopped) HET_TRY(het_poses_relocate(&r->poses, stopped));
    if (!*stopped) het_latents_put(r->latents, r->poses.all.z);
done:
    return status;
}

/* One of the pieces: lost poses; poses and volumes of each round in turn; the poses at the last volumes. */
static het_status do_piece(refiner *r, int64_t piece, int *stopped)
{
    het_status status = HET_OK;
    const int64_t round = (piece - 1) / 2, rounds = r->config->rounds;
    if (piece == 0) {
        if (r->latents != NULL) HET_TRY(find_lost(r, stopped));
    } else if (piece == 2 * rounds + 1) {
        het_watch_stage(r->job->watch, "refinement", "last poses");
        HET_TRY(het_poses_improve(&r->poses, 0, stopped));
        if (!*stopped) say(r, "poses at the last volumes", rounds - 1, mean_loss(&r->poses));
        if (!*stopped && r->latents != NULL) HET_TRY(het_poses_confirm(&r->poses, stopped));
    } else if (piece % 2 == 1) {
        tell(r, "poses", round);
        HET_TRY(find_poses(r, round, stopped));
        if (!*stopped) say(r, "poses", round, mean_loss(&r->poses));
    } else {
        tell(r, "volumes", round);
        HET_TRY(update_volumes(r, round, stopped));
    }
done:
    return status;
}

static het_status do_all(refiner *r, const het_run *out, int *stopped)
{
    het_status status = HET_OK;
    int there;
    het_watch_stage(r->job->watch, "refinement", "first poses");
    HET_TRY(first_answers(r, stopped));
    if (*stopped) goto done;
    HET_TRY(het_comm_agree(r->job->comm, open_stage(r, out)));
    HET_TRY(het_stage_recall(&r->stage, &there));
    if (r->done > 1) het_poses_forget_mirrors(&r->poses);
    for (const int64_t last = 2 * r->config->rounds + 1; r->done <= last && !*stopped;) {
        HET_TRY(do_piece(r, r->done, stopped));
        if (!*stopped) {
            r->done++;
            r->steps = 0;
        }
        if (r->steps > 0 || (!*stopped && r->done <= last)) het_stage_keep(&r->stage);
    }
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
    HET_TRY(do_all(&r, &out, interrupted));
    if (*interrupted)
        het_warn("stopped before the refinement was done: its finished pieces are kept, the same command goes on with them");
    else
        HET_TRY(save(&r, &out));
done:
    het_run_close(&out);
    het_poses_close(&r.poses);
    het_given_free(&r.given);
    return status;
}
