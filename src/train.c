/* The training loop: the first file to read. Everything that it calls is explained in the headers named
 * here. */
#include "train.h"

#include "arena.h"
#include "log.h"
#include "refine.h"
#include "stop.h"
#include "train_images.h"
#include "train_memory.h"
#include "train_poses.h"

static het_status next_batch(het_trainer *t, const het_decision *d, het_batch *batch)
{
    const double began = het_seconds();
    const het_status mine = het_loader_next(t->loader, d->image_step, batch);
    t->stepper.times.data += het_seconds() - began;
    const het_status status = het_comm_agree(t->comm, mine);
    if (status == HET_OK && d->given) het_train_poses_give(t, batch, d->frozen);
    return status;
}

static het_status save(het_trainer *t, const het_decision *d)
{
    t->state.extras = d->given ? het_train_poses_fields(t, t->state.extra) : 0;
    if (!d->stop) {
        het_run_save(&t->run, t->model, &t->survey, &t->state);
        return HET_OK;
    }
    const het_status status = het_run_save_last(&t->run, t->model, &t->survey, &t->state);
    het_watch_saved(&t->watch);
    return status;
}

static het_status search_poses(het_trainer *t, int *stopped)
{
    het_watch_stage(&t->watch, "search", "");
    const het_status status = het_train_poses_search(t, stopped);
    het_watch_stage(&t->watch, "training", "");
    return status;
}

static het_status train_loop(het_trainer *t, int *interrupted)
{
    het_status status = HET_OK;
    het_decision now = {0};
    het_batch batch = {0};
    int stop_asked = 0;
    if (t->state.step < t->coordinator.end) het_train_poses_drop(t);
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
        if (now.report) het_report_write(&t->report, &t->run, t->model, &t->survey, &t->coordinator, &now, &t->watch);
        t->state.tally = t->report.tally;
        if (now.checkpoint) HET_TRY(save(t, &now));
        if (het_run_saved(&t->run)) het_watch_saved(&t->watch);
    }
    *interrupted = now.stop && !now.finished;
done:
    return status;
}

/* Before anything is written. */
static het_status check_images(const het_trainer *t, const het_train_options *options)
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
    return het_train_poses_check(t->config, count);
}

/* Shards are the batch-norm groups of the global batch; every rank holds whole ones. */
static het_status model_shape(const het_trainer *t, het_model_spec *spec)
{
    const het_stack_info *info = het_stack_get_info(t->stack);
    const int64_t ranks = het_comm_size(t->comm), batch = t->config->train.batch;
    int64_t shards = het_config_shards(t->config, (int)ranks), parts = 1;
    if (t->config->train.deterministic) {
        const het_status status = het_comm_fix(t->comm, shards);
        if (status != HET_OK) return status;
        parts = shards / ranks;
    }
    if (shards % ranks != 0) {
        het_warn("train.shards = %lld cannot be spread over %lld ranks: %lld are used, and losses will not "
                 "equal those of another rank count",
                 (long long)shards, (long long)ranks, (long long)ranks);
        shards = ranks;
    }
    if (shards / ranks / parts > HET_GROUPS_MAX)
        return het_fail(HET_E_USAGE,
                        "train.shards = %lld on %lld ranks: at most %d on each; take more ranks, or fewer "
                        "in a new run",
                        (long long)shards, (long long)ranks, HET_GROUPS_MAX);
    *spec = (het_model_spec){.box = info->box,
                             .apix = info->apix,
                             .batch = batch / ranks / parts,
                             .global_batch = batch,
                             .groups = shards / ranks / parts,
                             .global_groups = shards,
                             .parts = parts,
                             .shift_range = t->config->train.shift_range >= 0.0 ? t->config->train.shift_range
                                                                                : info->shift_range};
    return HET_OK;
}

static het_status start_or_resume(het_trainer *t, const het_train_options *options)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(t->stack);
    const int resumed = t->run.newest[0] != '\0';
    HET_TRY(het_survey_new(&t->survey, info->box));
    het_model_set_whitening(t->model, &info->whitening);
    if (resumed) HET_TRY(het_run_restore(&t->run, t->model, &t->survey, &t->state, info));
    HET_TRY(het_run_begin(&t->run, t->config));
    het_watch_open(&t->watch, options->run, options->stack, options->prometheus);
    if (resumed) {
        if (t->config->train.snr > 0.0) t->survey.snr = t->model->snr = t->config->train.snr;
        t->report.tally = t->state.tally;
        if (het_comm_rank(t->comm) == 0) het_report_recall(&t->report, &t->survey, &t->run.log);
        het_info("going on from %s, step %lld", t->run.newest, (long long)t->state.step);
        HET_TRY(het_train_poses_take(t, 1));
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
    HET_TRY(het_train_poses_take(t, 0));
done:
    return status;
}

het_status het_train(het_comm *comm, het_device *dev, het_config *config, const het_train_options *options,
                     int *interrupted)
{
    het_status status = HET_OK;
    het_model_spec spec;
    het_trainer t = {.comm = comm, .config = config};
    if (options->max_hours > 0.0) het_stop_after(3600.0 * options->max_hours);
    if (!options->dry_run) het_watch_listen(&t.watch, comm);
    HET_TRY(het_stack_open_together(&t.stack, comm, options->stack));
    const het_stack_info *info = het_stack_get_info(t.stack);
    HET_TRY(check_images(&t, options));
    if (config->train.deterministic) config->train.threads = dev->threads; /* the run remembers them: sums depend on them too */
    if (!options->dry_run) HET_TRY(het_run_open(&t.run, comm, options->run, 1, config));
    HET_TRY(het_comm_agree(comm, model_shape(&t, &spec)));
    HET_TRY(het_train_model(&t, dev, &spec, options->memory, options->dry_run));
    if (options->dry_run) goto done;
    HET_TRY(het_stepper_open(&t.stepper, comm, t.model));
    HET_TRY(het_train_images_open(&t));
    HET_TRY(het_comm_agree(comm, het_loader_new(&t.loader, t.stack, comm, (uint64_t)config->train.seed,
                                                config->train.batch, t.images)));
    HET_TRY(start_or_resume(&t, options));
    HET_TRY(het_run_ready(&t.run, t.model, &t.survey, &t.state));
    het_coordinator_init(&t.coordinator, comm, config, info->box, info->count,
                         het_loader_steps_per_epoch(t.loader));
    het_report_start(&t.report, t.model, &t.survey, &t.coordinator, t.state.step, &t.stepper.times);
    het_watch_training(&t.watch, t.state.step, t.coordinator.end, t.state.epoch, config->train.epochs);
    HET_TRY(train_loop(&t, interrupted));
    if (!*interrupted) HET_TRY(het_train_poses_keep(&t, interrupted));
    if (options->refine && !*interrupted)
        HET_TRY(het_refine(&(het_refine_job){comm, t.stack, t.loader, &t.stepper, &t.survey, &t.run, &t.state,
                                             het_train_poses_latents(&t), &t.watch},
                           interrupted));
    het_info("memory: at most %.1f MiB were in use", (double)het_arena_peak() / 1048576.0);
done:
    if (status == HET_E_STOPPED) {
        het_warn("%s: finished pieces of the start are kept, the same command goes on with them", het_status_message());
        *interrupted = 1;
        status = HET_OK;
    }
    het_run_close(&t.run); /* first: it may be using HDF5 */
    het_watch_close(&t.watch, status, *interrupted);
    het_run_release(&t.run);
    het_loader_free(t.loader);
    het_train_images_close(&t);
    het_train_poses_free(&t);
    het_stepper_close(&t.stepper);
    het_model_free(t.model);
    het_survey_free(&t.survey);
    het_stack_close(t.stack);
    return status;
}
