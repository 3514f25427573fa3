/* The training loop: the first file to read. Everything that it calls is explained in the headers named
 * here. */
#include "train.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "join.h"
#include "log.h"
#include "model.h"
#include "mpi/coordinator.h"
#include "refine.h"
#include "run.h"
#include "schedule.h"
#include "searched.h"
#include "signals.h"
#include "start.h"
#include "survey.h"
#include "train_report.h"
#include "train_step.h"

typedef struct trainer {
    het_comm *comm;
    het_config *config;
    het_stack *stack;
    het_loader *loader;
    het_start start;  /* while task one uses the poses found, */
    int searching;    /* or: they are searched as training goes on */
    het_searched searched;
    het_model *model;
    het_survey survey;
    het_run run;
    het_run_state state;
    het_coordinator coordinator;
    het_report report;
    het_stepper stepper;
} trainer;

static void give_poses(trainer *t, het_batch *batch, int frozen)
{
    if (t->searching) het_searched_give(&t->searched, batch);
    else het_start_give(&t->start, batch, frozen);
}

static het_status search_poses(trainer *t, int *stopped)
{
    if (t->searching) return het_searched_find(&t->searched, stopped);
    return het_join(&t->start, t->comm, t->model, t->stack, t->survey.noise_variance, stopped);
}

static int poses_fields(const trainer *t, het_field *fields)
{
    if (t->searching) het_searched_fields(fields, &t->searched);
    else het_start_fields(fields, &t->start);
    return t->searching ? HET_SEARCHED_FIELDS : HET_START_FIELDS;
}

static het_status next_batch(trainer *t, const het_decision *d, het_batch *batch)
{
    const het_status status = het_comm_agree(t->comm, het_loader_next(t->loader, d->image_step, batch));
    if (status == HET_OK && d->given) give_poses(t, batch, d->frozen);
    return status;
}

static het_status save(trainer *t, const het_decision *d)
{
    t->state.extras = d->given ? poses_fields(t, t->state.extra) : 0;
    return het_run_save(&t->run, t->model, &t->survey, &t->state);
}

/* With poses given to the end: what is known of every image. */
static het_status keep_answers(trainer *t, int *interrupted)
{
    het_status status = HET_OK;
    char path[1100];
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, t->run.path);
    int64_t there = het_comm_rank(t->comm) == 0 && access(path, F_OK) == 0;
    HET_TRY(het_comm_sum_i64(t->comm, &there, 1));
    if (there || !het_schedule_given(t->config, t->state.epoch)) goto done;
    if (t->searching)
        HET_TRY(het_searched_answers(&t->searched, path, interrupted));
    else
        HET_TRY(het_start_answers(&t->start, t->comm, path, t->model->spec.apix, t->model->spec.box));
done:
    return status;
}

/* What training learned of every image's conformation, to the end; or NULL. */
static het_latents *learned_latents(trainer *t)
{
    return !t->searching && het_schedule_given(t->config, t->state.epoch) ? &t->start.latents : NULL;
}

/* What was kept at an earlier end is no longer what training knows. */
static void drop_answers(const trainer *t)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, t->run.path);
    if (het_comm_rank(t->comm) == 0) remove(path);
}

static het_status train_loop(trainer *t, int *interrupted)
{
    het_status status = HET_OK;
    het_decision now = {0};
    het_batch batch = {0};
    int stop_asked = 0;
    if (t->state.step < t->coordinator.end) drop_answers(t);
    for (int64_t step = t->state.step; step < t->coordinator.end && !now.stop; step++) {
        HET_TRY(het_coordinator_decide(&t->coordinator, step, stop_asked, &now));
        if (!now.pose_task) {
            if (now.radius != t->state.radius) het_model_set_radius(t->model, now.radius, &t->survey);
            t->state.radius = now.radius;
            if (now.search) HET_TRY(search_poses(t, &stop_asked));
            if (now.search && stop_asked) {
                now.stop = 1;
                now.finished = 0;
                HET_TRY(save(t, &now));
                break;
            }
            HET_TRY(next_batch(t, &now, &batch));
        }
        het_tally tally = {0};
        HET_TRY(het_step_once(&t->stepper, &now, &batch, &tally));
        if (now.given && !now.pose_task)
            HET_TRY(het_latents_learn(&t->start.latents, t->comm, &batch, t->model,
                                      t->config->init.rate_z * now.rate_decoder));
        stop_asked |= tally.stop > 0.0;
        het_report_add(&t->report, &tally);
        t->state.step = step + 1;
        t->state.epoch = now.epoch;
        t->state.frozen = now.frozen;
        if (now.report)
            HET_TRY(het_report_write(&t->report, &t->run, t->model, &t->survey, &t->coordinator, &now));
        t->state.tally = t->report.tally;
        if (now.checkpoint) HET_TRY(save(t, &now));
    }
    *interrupted = now.stop && !now.finished;
done:
    return status;
}

/* The decoder learns the images at the poses found for them, or at random ones; the encoder waits. */
static het_status teach_decoder(trainer *t, int64_t steps, double radius)
{
    het_status status = HET_OK;
    const int64_t in_epoch = het_loader_steps_per_epoch(t->loader);
    het_model_set_radius(t->model, radius, &t->survey);
    for (int64_t step = 0; step < steps; step++) {
        het_batch batch;
        het_tally tally = {0};
        const het_decision d = {.step = step, .frozen = 1, .rate_decoder = 1.0};
        HET_TRY(het_comm_agree(t->comm, het_loader_next(t->loader, step, &batch)));
        if (t->searching && step % in_epoch == 0) het_searched_scatter(&t->searched, step / in_epoch);
        give_poses(t, &batch, 1);
        HET_TRY(het_step_once(&t->stepper, &d, &batch, &tally));
        if (step == 0 || step == steps - 1)
            het_info("start: the decoder %s: image loss %.4f (nothing %.4f)",
                     step == 0 ? "before" : "after learning", tally.image_loss / tally.images,
                     tally.zero_loss / tally.images);
    }
    het_model_forget_moments(t->model);
    t->state.radius = radius;
    t->state.frozen = 1;
done:
    return status;
}

/* The first poses before any search: random. */
static het_status take_random(trainer *t, int going_on)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(t->config->search.pretrain / (double)t->config->train.batch);
    HET_TRY(het_comm_agree(t->comm, het_searched_open(&t->searched, t->comm, t->model, t->stack,
                                                      t->survey.noise_variance)));
    if (going_on) {
        het_field fields[HET_SEARCHED_FIELDS];
        t->model->frozen = t->state.frozen;
        het_searched_fields(fields, &t->searched);
        HET_TRY(het_comm_agree(t->comm, het_checkpoint_load(t->run.newest, fields, HET_SEARCHED_FIELDS)));
    } else {
        HET_TRY(teach_decoder(t, steps, het_schedule_radius(t->config, 0.0, t->model->spec.box)));
    }
done:
    return status;
}

/* The poses of the start: found, or, going on, read again as long as they are needed. */
static het_status take_start(trainer *t, int going_on)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(t->config->init.epochs *
                                        (double)het_loader_steps_per_epoch(t->loader));
    t->searching = t->config->train.method == HET_METHOD_CRYODRGN2;
    if (t->searching) return take_random(t, going_on);
    if (t->config->init.method == HET_START_NONE) return HET_OK;
    if (going_on) {
        if (!het_schedule_given(t->config, t->state.epoch)) return HET_OK;
        het_field fields[HET_START_FIELDS];
        HET_TRY(het_start_load(&t->start, &t->run, t->config, &t->model->spec,
                               het_stack_get_info(t->stack)->count));
        het_start_fields(fields, &t->start);
        HET_TRY(het_comm_agree(t->comm, het_checkpoint_load(t->run.newest, fields, HET_START_FIELDS)));
    } else {
        HET_TRY(het_start_find(&t->start, t->comm, t->model->dev, t->stack, &t->survey, t->config,
                               &t->model->spec));
        HET_TRY(het_start_save(&t->start, &t->run));
        HET_TRY(teach_decoder(t, steps, t->config->init.radius));
    }
done:
    return status;
}

/* Before anything is written. */
static het_status check_batch(const trainer *t, const het_train_options *options)
{
    const int64_t count = het_stack_get_info(t->stack)->count, batch = t->config->train.batch;
    const int ranks = het_comm_size(t->comm);
    if (count < batch)
        return het_fail(HET_E_USAGE,
                        "%s holds %lld images, fewer than train.batch = %lld: choose a smaller batch",
                        options->stack, (long long)count, (long long)batch);
    if (batch % ranks != 0)
        return het_fail(HET_E_USAGE,
                        "train.batch = %lld cannot be shared by %d ranks: choose a multiple of them",
                        (long long)batch, ranks);
    return HET_OK;
}

/* Shards are the batch-norm groups of the global batch; every rank holds whole ones. */
static het_status model_shape(const trainer *t, het_model_spec *spec)
{
    const het_stack_info *info = het_stack_get_info(t->stack);
    const int64_t ranks = het_comm_size(t->comm), batch = t->config->train.batch;
    int64_t shards = t->config->train.shards == 0 ? ranks : t->config->train.shards;
    if (shards % ranks != 0) {
        het_warn("train.shards = %lld cannot be spread over %lld ranks: %lld are used, and losses will not "
                 "equal those of another rank count",
                 (long long)shards, (long long)ranks, (long long)ranks);
        shards = ranks;
    }
    if (shards / ranks > HET_GROUPS_MAX)
        return het_fail(HET_E_USAGE,
                        "train.shards = %lld on %lld ranks: at most %d on each; take more ranks, or fewer "
                        "in a new run",
                        (long long)shards, (long long)ranks, HET_GROUPS_MAX);
    *spec = (het_model_spec){.box = info->box,
                             .apix = info->apix,
                             .batch = batch / ranks,
                             .global_batch = batch,
                             .groups = shards / ranks,
                             .global_groups = shards,
                             .shift_range = t->config->train.shift_range >= 0.0 ? t->config->train.shift_range
                                                                                : info->shift_range};
    return HET_OK;
}

static het_status start_or_resume(trainer *t)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(t->stack);
    HET_TRY(het_survey_new(&t->survey, info->box));
    if (t->run.newest[0] != '\0') {
        HET_TRY(het_run_restore(&t->run, t->model, &t->survey, &t->state, info));
        if (t->config->train.snr > 0.0) t->survey.snr = t->model->snr = t->config->train.snr;
        t->report.tally = t->state.tally;
        het_info("going on from %s, step %lld", t->run.newest, (long long)t->state.step);
        HET_TRY(take_start(t, 1));
        goto done;
    }
    HET_TRY(het_survey_take(&t->survey, t->comm, t->model->dev, t->stack, t->config));
    t->state = (het_run_state){.count = info->count,
                               .box = info->box,
                               .global_groups = t->model->spec.global_groups,
                               .apix = info->apix,
                               .mean = info->mean,
                               .std = info->std,
                               .shift_range = t->model->spec.shift_range};
    het_model_set_survey(t->model, &t->survey);
    HET_TRY(take_start(t, 0));
done:
    return status;
}

het_status het_train(het_comm *comm, het_device *dev, het_config *config, const het_train_options *options,
                     int *interrupted)
{
    het_status status = HET_OK;
    het_model_spec spec;
    trainer t = {.comm = comm, .config = config};
    HET_TRY(het_comm_agree(comm, het_stack_open(&t.stack, options->stack)));
    const het_stack_info *info = het_stack_get_info(t.stack);
    HET_TRY(check_batch(&t, options));
    if (!options->dry_run) HET_TRY(het_run_open(&t.run, comm, options->run, config));
    HET_TRY(model_shape(&t, &spec));
    HET_TRY(het_comm_agree(comm, het_model_new(&t.model, dev, config, &spec)));
    t.stepper = (het_stepper){.comm = comm, .model = t.model};
    het_report_memory(t.model);
    if (options->dry_run) goto done;
    HET_TRY(het_comm_agree(comm, het_loader_new(&t.loader, t.stack, comm, (uint64_t)config->train.seed,
                                                config->train.batch)));
    het_signals_note();
    HET_TRY(start_or_resume(&t));
    het_coordinator_init(&t.coordinator, comm, config, info->box, info->count,
                         het_loader_steps_per_epoch(t.loader), options->max_hours);
    het_report_start(&t.report, t.model, &t.survey, &t.coordinator, t.state.step);
    HET_TRY(train_loop(&t, interrupted));
    if (!*interrupted) HET_TRY(keep_answers(&t, interrupted));
    if (options->refine && !*interrupted)
        HET_TRY(het_refine(&(het_refine_job){comm, t.stack, &t.stepper, &t.survey, &t.run, &t.state,
                                             learned_latents(&t)},
                           interrupted));
done:
    het_loader_free(t.loader);
    het_start_free(&t.start);
    het_searched_close(&t.searched);
    het_model_free(t.model);
    het_survey_free(&t.survey);
    het_stack_close(t.stack);
    return status;
}
