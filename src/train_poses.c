#include "train_poses.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "arena.h"
#include "join.h"
#include "log.h"
#include "run_stage.h"
#include "schedule.h"
#include "start_volume.h"

enum { ABOUT = 512 };

het_status het_train_poses_check(const het_config *config, int64_t images)
{
    const int started = config->init.method != HET_START_NONE && config->train.method != HET_METHOD_CRYODRGN2;
    return started ? het_start_volume_check(&config->init, images) : HET_OK;
}

void het_train_poses_give(het_trainer *t, het_batch *batch, int frozen)
{
    if (t->searching) het_searched_give(&t->searched, batch);
    else het_start_give(&t->start, batch, frozen);
}

het_status het_train_poses_search(het_trainer *t, int *stopped)
{
    het_run_settle(&t->run); /* pieces of the search are kept by HDF5 */
    const het_status status = t->searching ? het_searched_find(&t->searched, stopped)
                                           : het_join(&t->start, t->comm, t->model, t->stack, t->survey.noise_variance, t->run.path, &t->watch, stopped);
    if (status == HET_OK && !*stopped) het_stage_forget(t->comm, t->run.path);
    return status;
}

int het_train_poses_fields(const het_trainer *t, het_field *fields)
{
    if (t->searching) het_searched_fields(fields, &t->searched);
    else het_start_fields(fields, &t->start);
    return t->searching ? HET_SEARCHED_FIELDS : HET_START_FIELDS;
}

/* The start's poses and conformations, and which of them to trust. */
static het_status keep_started(het_trainer *t, const char *path, int *interrupted)
{
    het_status status = HET_OK;
    float *confirmed = NULL;
    if (!t->state.frozen) { /* else there are no conformations */
        confirmed = het_alloc((size_t)t->start.count * sizeof *confirmed);
        HET_TRY(het_comm_agree(t->comm, confirmed != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the answers")));
        HET_TRY(het_join_confirm(confirmed, &t->start, t->comm, t->model, t->stack, t->survey.noise_variance, interrupted));
    }
    if (!*interrupted) status = het_start_answers(&t->start, t->state.frozen, confirmed, t->comm, path, t->model->spec.apix, t->model->spec.box);
done:
    het_release(confirmed);
    return status;
}

het_status het_train_poses_keep(het_trainer *t, int *interrupted)
{
    het_status status = HET_OK;
    char path[1100];
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, t->run.path);
    int64_t there = het_comm_rank(t->comm) == 0 && access(path, F_OK) == 0;
    HET_TRY(het_comm_sum_i64(t->comm, &there, 1));
    if (there || !het_schedule_given(t->config, t->state.epoch)) goto done;
    if (t->searching) {
        HET_TRY(het_searched_answers(&t->searched, path, interrupted));
        if (!*interrupted) het_stage_forget(t->comm, t->run.path);
    } else {
        HET_TRY(keep_started(t, path, interrupted));
    }
done:
    return status;
}

het_latents *het_train_poses_latents(het_trainer *t)
{
    return !t->searching && het_schedule_given(t->config, t->state.epoch) ? &t->start.latents : NULL;
}

void het_train_poses_drop(const het_trainer *t)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/" HET_RUN_KEPT, t->run.path);
    if (het_comm_rank(t->comm) == 0) remove(path);
}

/* All that the decoder's first steps depend on: settings, the stack, and poses that were found. */
static void describe_teaching(const het_trainer *t, char about[ABOUT])
{
    const het_run_state *s = &t->state;
    const size_t found = t->searching ? 0 : (size_t)s->count * sizeof(float);
    char path[1100];
    snprintf(path, sizeof path, "%s/config.yaml", t->run.path);
    snprintf(about, ABOUT, "{\"config\": \"%016llx\", \"images\": %lld, \"box\": %lld, \"mean\": %.17g, \"std\": %.17g, "
             "\"rotation\": \"%016llx\", \"shift\": \"%016llx\"}", (unsigned long long)het_stage_file(path), (long long)s->count,
             (long long)s->box, s->mean, s->std, (unsigned long long)het_stage_bytes(t->start.rotation, 9 * found),
             (unsigned long long)het_stage_bytes(t->start.shift, 2 * found));
}

/* The decoder learns the images at the poses found for them, or at random ones; the encoder waits. */
static het_status teach_decoder(het_trainer *t, int64_t steps, double radius)
{
    het_status status = HET_OK;
    const int64_t in_epoch = het_loader_steps_per_epoch(t->loader);
    const double pause = 60.0 * t->config->run.checkpoint_minutes;
    double kept = het_seconds();
    char about[ABOUT];
    int there;
    int64_t done = 0;
    const het_field field = {"steps", {&done, HET_I64, 1, {1}}};
    const het_stage stage = {.comm = t->comm, .folder = t->run.path, .name = "decoder", .about = about, .field = &field, .count = 1,
                             .model = t->model};
    het_model_set_radius(t->model, radius, &t->survey);
    describe_teaching(t, about);
    HET_TRY(het_stage_recall(&stage, &there));
    const int64_t first = done;
    for (int64_t step = first; step < steps; step++) {
        het_batch batch;
        het_tally tally = {0};
        const het_decision d = {.step = step, .frozen = 1, .rate_decoder = 1.0};
        HET_TRY(het_comm_agree(t->comm, het_loader_next(t->loader, step, &batch)));
        if (t->searching && (step % in_epoch == 0 || step == first)) het_searched_scatter(&t->searched, step / in_epoch);
        het_train_poses_give(t, &batch, 1);
        HET_TRY(het_step_once(&t->stepper, &d, &batch, &tally));
        done = step + 1;
        if (tally.stop > 0.0 || (pause > 0.0 && het_seconds() - kept > pause)) {
            het_stage_keep(&stage);
            kept = het_seconds();
        }
        if (tally.stop > 0.0) HET_TRY(het_fail(HET_E_STOPPED, "stopped while the decoder learned its first volume"));
        if (step == 0 || step == steps - 1)
            het_info("start: the decoder %s: image loss %.4f (nothing %.4f)",
                     step == 0 ? "before" : "after learning", tally.image_loss / tally.images,
                     tally.zero_loss / tally.images);
    }
    het_stage_forget(t->comm, t->run.path);
    het_model_forget_moments(t->model);
    t->state.radius = radius;
    t->state.frozen = 1;
done:
    return status;
}

/* The first poses before any search: random. */
static het_status take_random(het_trainer *t, int going_on)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(t->config->search.pretrain / (double)t->config->train.batch);
    HET_TRY(het_comm_agree(t->comm, het_searched_open(&t->searched, t->comm, t->model, t->stack,
                                                      t->survey.noise_variance)));
    t->searched.poses.folder = t->run.path;
    t->searched.poses.watch = &t->watch;
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

het_status het_train_poses_take(het_trainer *t, int going_on)
{
    het_status status = HET_OK;
    const int64_t steps = (int64_t)ceil(t->config->init.epochs *
                                        (double)het_loader_steps_per_epoch(t->loader));
    t->searching = t->config->train.method == HET_METHOD_CRYODRGN2;
    het_comm_phase(t->comm, "the start");
    if (t->searching) return take_random(t, going_on);
    if (t->config->init.method == HET_START_NONE) return HET_OK;
    if (going_on) {
        if (!het_schedule_given(t->config, t->state.epoch)) return HET_OK;
        het_field fields[HET_START_FIELDS];
        HET_TRY(het_comm_agree(t->comm, het_start_new(&t->start, het_stack_get_info(t->stack)->count, t->config,
                                                      &t->model->spec)));
        het_start_fields(fields, &t->start);
        HET_TRY(het_comm_agree(t->comm, het_checkpoint_load(t->run.newest, fields, HET_START_FIELDS)));
    } else {
        HET_TRY(het_start_find(&t->start, &t->run, t->model->dev, t->stack, &t->survey, t->config, &t->model->spec));
        HET_TRY(teach_decoder(t, steps, t->config->init.radius));
    }
done:
    return status;
}

void het_train_poses_free(het_trainer *t)
{
    het_start_free(&t->start);
    het_searched_close(&t->searched);
}
