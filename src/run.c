/* The run folder: configuration, log and checkpoints. */
#include "run.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "data/checkpoint.h"
#include "log.h"
#include "schedule.h"

/* Compare with the configuration the folder was started with. Root rank. */
static het_status settle_config(const het_run *run, het_config *config)
{
    het_status status = HET_OK;
    char file[1100], text[1024];
    snprintf(file, sizeof file, "%s/config.yaml", run->path);
    if (access(file, F_OK) == 0) {
        het_config was;
        het_config_default(&was);
        HET_TRY(het_config_load(&was, file));
        if (config->train.shards == 0) config->train.shards = was.train.shards;
        if (run->newest[0] != '\0' && het_config_differences(config, &was, 1, text, sizeof text) > 0)
            HET_TRY(het_fail(HET_E_USAGE, "%s was started with other settings: %s; go on with those, or give -o a new folder",
                             run->path, text));
        if (run->newest[0] != '\0' && config->train.deterministic && config->train.threads != was.train.threads)
            HET_TRY(het_fail(HET_E_USAGE, "%s was started with %lld thread(s) on each rank, now there are %lld, which "
                             "train.deterministic does not allow: give --set train.threads=%lld", run->path,
                             (long long)was.train.threads, (long long)config->train.threads, (long long)was.train.threads));
    }
    config->train.shards = het_config_shards(config, het_comm_size(run->comm));
done:
    return status;
}

het_status het_run_open(het_run *run, het_comm *comm, const char *path, int hold, het_config *config)
{
    het_status status = HET_OK;
    char folder[1100] = "";
    *run = (het_run){.comm = comm};
    if (strlen(path) >= sizeof run->path)
        HET_TRY(het_fail(HET_E_USAGE, "the name of the run folder is too long (%zu characters)", strlen(path)));
    snprintf(run->path, sizeof run->path, "%s", path);
    snprintf(folder, sizeof folder, "%s/checkpoints", run->path);
    if (het_comm_rank(comm) == 0) {
        if (hold) status = het_run_hold_take(&run->hold, run->path, het_comm_size(comm));
        if (status == HET_OK) status = het_checkpoint_newest(folder, run->newest, sizeof run->newest);
        if (status == HET_OK) status = settle_config(run, config);
        het_run_log_open(&run->log, run->path);
    }
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_broadcast(comm, run->newest, sizeof run->newest, 0));
    HET_TRY(het_comm_broadcast(comm, config, sizeof *config, 0));
done:
    return status;
}

static het_status begin_root(het_run *run, const het_config *config)
{
    het_status status = HET_OK;
    int made;
    char path[1100];
    HET_TRY(het_run_folder(run->path, &made));
    snprintf(path, sizeof path, "%s/checkpoints", run->path);
    HET_TRY(het_run_folder(path, &made));
    HET_TRY(het_checkpoint_clean(path));
    snprintf(path, sizeof path, "%s/config.yaml", run->path);
    HET_TRY(het_config_save(config, path));
    if (run->newest[0] == '\0') status = het_run_log_trim(&run->log, 0); /* a run that was killed before its first checkpoint */
done:
    return status;
}

het_status het_run_begin(het_run *run, const het_config *config)
{
    return het_comm_agree(run->comm, het_comm_rank(run->comm) == 0 ? begin_root(run, config) : HET_OK);
}

void het_run_release(het_run *run)
{
    het_run_hold_release(&run->hold);
}

void het_run_settle(het_run *run)
{
    het_checkpoint_writer_wait(run->writer);
}

void het_run_close(het_run *run)
{
    het_checkpoint_writer_free(run->writer);
    run->writer = NULL;
    het_run_log_close(&run->log);
}

/* What a checkpoint holds of the model and the survey: blocks on the device, then arrays of the host. */
enum { FIELDS = HET_RUN_BLOCKS + 3 };

typedef struct content {
    het_field fields[FIELDS];
    int blocks, count;
} content;

static het_tensor vector(void *data, het_dtype type, int64_t count)
{
    return (het_tensor){.data = data, .type = type, .rank = 1, .shape = {count}};
}

int het_run_blocks(const het_model *m, het_field blocks[HET_RUN_BLOCKS])
{
    const struct { const char *name; float *data; int64_t count; } all[HET_RUN_BLOCKS] = {
        {"model/parameters", m->params, m->layout.total},
        {"optimiser/moment1", m->moment1, m->layout.total},
        {"optimiser/moment2", m->moment2, m->layout.total},
        {"model/running_statistics", m->running, HET_STATS_SETS * het_encoder_stats(m->encoder[0])}};
    int count = 0;
    for (int i = 0; i < HET_RUN_BLOCKS; i++)
        if (all[i].data != NULL) blocks[count++] = (het_field){all[i].name, vector(all[i].data, HET_F32, all[i].count)};
    return count;
}

static content content_of(const het_model *m, const het_survey *survey, het_run_state *state)
{
    content c = {0};
    c.blocks = c.count = het_run_blocks(m, c.fields);
    c.fields[c.count++] = (het_field){"survey/power", vector(survey->power, HET_F64, survey->shells)};
    c.fields[c.count++] = (het_field){"survey/envelope", vector(survey->envelope, HET_F32, survey->shells)};
    c.fields[c.count++] = (het_field){"state/tally", vector(&state->tally, HET_F64, sizeof state->tally / 8)};
    return c;
}

static char *state_json(const het_model *m, const het_survey *survey, const het_run_state *s)
{
    json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:f, s:f, s:I}",
                               "format", "hetacumn checkpoint 1", "step", (json_int_t)s->step, "encoder_steps",
                               (json_int_t)m->adam_steps[0], "decoder_steps", (json_int_t)m->adam_steps[1], "count",
                               (json_int_t)s->count, "box", (json_int_t)s->box, "shards", (json_int_t)s->global_groups,
                               "apix", s->apix, "mean", s->mean, "std", s->std, "shift_range", s->shift_range, "radius",
                               s->radius, "epoch", s->epoch, "frozen", s->frozen, "snr", survey->snr,
                               "noise_variance", survey->noise_variance, "parameters", (json_int_t)m->layout.total);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(object);
    return text;
}

/* Root rank. */
static het_status open_writer(het_run *run, const het_model *m, const het_run_state *state)
{
    char folder[1100];
    const het_config *c = &m->config;
    if (run->writer != NULL) return HET_OK;
    snprintf(folder, sizeof folder, "%s/checkpoints", run->path);
    return het_checkpoint_writer_new(&run->writer, folder, run->log.path, c->run.keep,
                                     het_schedule_keep(c, state->count / c->train.batch));
}

/* Into the writer's memory. Root rank. */
static het_status copy(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    het_status status = HET_OK;
    het_run_state s = *state;
    const content c = content_of(m, survey, &s);
    void *to;
    HET_TRY(open_writer(run, m, state));
    het_checkpoint_writer_begin(run->writer);
    for (int i = 0; i < c.count + state->extras; i++) {
        const het_field *field = i < c.count ? &c.fields[i] : &state->extra[i - c.count];
        const size_t bytes = (size_t)het_tensor_bytes(&field->tensor);
        HET_TRY(het_checkpoint_writer_add(run->writer, field->name, &field->tensor, &to));
        if (i < c.blocks) m->dev->ops->download(m->dev, to, field->tensor.data, bytes);
        else memcpy(to, field->tensor.data, bytes);
    }
done:
    return status;
}

/* The copy, and the text that goes with it in *json. */
static het_status copy_all(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state,
                           char **json)
{
    const het_status status = copy(run, m, survey, state);
    if (status != HET_OK) return status;
    *json = state_json(m, survey, state);
    return *json != NULL ? HET_OK : het_fail(HET_E_NUMERIC, "a number of the run's state is not finite: nothing saved");
}

het_status het_run_ready(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    const int root = het_comm_rank(run->comm) == 0;
    return het_comm_agree(run->comm, root ? copy(run, m, survey, state) : HET_OK);
}

void het_run_save(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    char *json = NULL;
    if (het_comm_rank(run->comm) != 0) return;
    het_run_hold_renew(&run->hold);
    if (copy_all(run, m, survey, state, &json) == HET_OK) het_checkpoint_writer_start(run->writer, state->step, json);
    else het_warn("no checkpoint of step %lld: %s", (long long)state->step, het_status_message());
}

int het_run_saved(het_run *run)
{
    return het_checkpoint_writer_is_done(run->writer);
}

static het_status save_root(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    het_status status = HET_OK;
    char *json = NULL, why[1024];
    het_run_hold_renew(&run->hold);
    HET_TRY(copy_all(run, m, survey, state, &json));
    HET_TRY(het_checkpoint_writer_write(run->writer, state->step, json));
    status = het_run_log_flush(&run->log);
done:
    if (status != HET_E_IO) return status;
    snprintf(why, sizeof why, "%s", het_status_message());
    return het_fail(status, "%s; make room on that disk: the same command goes on from the newest checkpoint there", why);
}

het_status het_run_save_last(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    het_status status = HET_OK;
    const char *before = het_comm_phase(run->comm, "saving a checkpoint");
    if (het_comm_rank(run->comm) == 0) status = save_root(run, m, survey, state);
    status = het_comm_agree(run->comm, status);
    het_comm_phase(run->comm, before);
    return status;
}

static het_status read_state(const char *file, het_run_state *s, int64_t adam[2], het_survey *survey)
{
    het_status status = HET_OK;
    char *text = NULL;
    json_t *object = NULL;
    json_int_t step, encoder, decoder, count, box, shards;
    HET_TRY(het_checkpoint_json(file, &text));
    object = json_loads(text, 0, NULL);
    if (object == NULL ||
        json_unpack(object, "{s:I, s:I, s:I, s:I, s:I, s:I, s:F, s:F, s:F, s:F, s:F, s:F, s:b, s:F, s:F}", "step", &step,
                    "encoder_steps", &encoder, "decoder_steps", &decoder, "count", &count, "box", &box, "shards", &shards,
                    "apix", &s->apix, "mean", &s->mean, "std", &s->std, "shift_range", &s->shift_range, "radius",
                    &s->radius, "epoch", &s->epoch, "frozen", &s->frozen, "snr", &survey->snr, "noise_variance",
                    &survey->noise_variance) != 0)
        HET_TRY(het_fail(HET_E_INPUT, "%s: its state is not one of this program's; use another checkpoint", file));
    s->step = step;
    s->count = count;
    s->box = box;
    s->global_groups = shards;
    adam[0] = encoder;
    adam[1] = decoder;
done:
    free(text);
    json_decref(object);
    return status;
}

static het_status load_blocks(const char *file, het_model *m, het_survey *survey, het_run_state *state)
{
    het_status status = HET_OK;
    const content c = content_of(m, survey, state);
    content host = c;
    for (int i = 0; i < c.blocks; i++) {
        host.fields[i].tensor.data = het_alloc((size_t)het_tensor_bytes(&c.fields[i].tensor));
        if (host.fields[i].tensor.data == NULL) status = het_fail(HET_E_MEMORY, "no memory to load a checkpoint");
    }
    HET_TRY(status);
    HET_TRY(het_checkpoint_load(file, host.fields, host.count));
    for (int i = 0; i < c.blocks; i++)
        m->dev->ops->upload(m->dev, c.fields[i].tensor.data, host.fields[i].tensor.data,
                            (size_t)het_tensor_bytes(&c.fields[i].tensor));
    het_decoder_load(m->decoder, m->params);
    het_model_set_survey(m, survey);
    het_model_set_radius(m, state->radius, survey);
    m->frozen = state->frozen;
done:
    for (int i = 0; i < c.blocks; i++) het_release(host.fields[i].tensor.data);
    return status;
}

int het_run_is_of(const het_run_state *state, const het_stack_info *stack)
{
    return state->box == stack->box && state->count == stack->count && state->apix == stack->apix &&
           state->mean == stack->mean && state->std == stack->std;
}

static int name_difference(char *text, size_t size, const char *name, double now, double was)
{
    const size_t used = strlen(text);
    if (!(fabs(now - was) > 1e-4 * fabs(was))) return 0;
    snprintf(text + used, size - used, "%s%s %.6g, was %.6g", used > 0 ? "; " : "", name, now, was);
    return 1;
}

static het_status same_stack(const het_run_state *state, const het_stack_info *stack)
{
    char text[256] = "";
    if (state->box != stack->box || state->count != stack->count)
        return het_fail(HET_E_INPUT, "the run was trained on %lld images of box %lld, the stack has %lld of box %lld: give the run's own "
                        "stack, or -o a new folder", (long long)state->count, (long long)state->box, (long long)stack->count,
                        (long long)stack->box);
    if (!(name_difference(text, sizeof text, "A/px", stack->apix, state->apix) |
          name_difference(text, sizeof text, "standard deviation", stack->std, state->std)))
        return HET_OK;
    return het_fail(HET_E_INPUT, "the run was trained on another stack (%s): give that one, or -o a new folder", text);
}

het_status het_run_restore(het_run *run, het_model *m, het_survey *survey, het_run_state *state,
                           const het_stack_info *stack)
{
    het_status status = read_state(run->newest, state, m->adam_steps, survey);
    if (status == HET_OK) status = same_stack(state, stack);
    if (status == HET_OK) status = load_blocks(run->newest, m, survey, state);
    if (status == HET_OK && het_comm_rank(run->comm) == 0) status = het_run_log_trim(&run->log, state->step);
    return het_comm_agree(run->comm, status);
}

het_status het_run_load(const char *path, het_device *dev, int64_t batch, het_model **model, het_survey *survey,
                        het_run_state *state)
{
    het_status status = HET_OK;
    char file[1200], folder[1100];
    int64_t adam[2];
    het_config config;
    *model = NULL;
    *survey = (het_survey){0};
    snprintf(file, sizeof file, "%s/config.yaml", path);
    snprintf(folder, sizeof folder, "%s/checkpoints", path);
    if (access(file, R_OK) != 0)
        HET_TRY(het_fail(HET_E_INPUT, "%s is not the folder of a run: it has no config.yaml", path));
    het_config_default(&config);
    HET_TRY(het_config_load(&config, file));
    HET_TRY(het_checkpoint_newest(folder, file, sizeof file));
    if (file[0] == '\0')
        HET_TRY(het_fail(HET_E_INPUT, "%s has no usable checkpoint: run `hetacumn train` first", folder));
    het_survey found = {0};
    HET_TRY(read_state(file, state, adam, &found));
    HET_TRY(het_survey_new(survey, state->box));
    survey->snr = found.snr;
    survey->noise_variance = found.noise_variance;
    HET_TRY(het_model_new(model, dev, &config,
                          &(het_model_spec){.box = state->box, .apix = state->apix, .batch = batch,
                                            .global_batch = batch, .groups = 1, .global_groups = 1,
                                            .shift_range = state->shift_range, .infer_only = 1}));
    HET_TRY(load_blocks(file, *model, survey, state));
done:
    if (status != HET_OK) {
        het_model_free(*model);
        het_survey_free(survey);
        *model = NULL;
    }
    return status;
}

int het_run_is_refined(const char *path, int64_t step)
{
    char file[1200];
    snprintf(file, sizeof file, "%s/refined/predictions.h5", path);
    if (access(file, R_OK) != 0) return 0;
    snprintf(file, sizeof file, "%s/refined/checkpoints/step-%lld.h5", path, (long long)step);
    return access(file, R_OK) == 0;
}

void het_run_results(char *folder, size_t size, const char *path, int amortised)
{
    char checkpoints[1100], file[1200];
    long long step;
    snprintf(folder, size, "%s", path);
    if (amortised) return;
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", path);
    if (het_checkpoint_newest(checkpoints, file, sizeof file) != HET_OK || file[0] == '\0') return;
    if (sscanf(strrchr(file, '/') + 1, "step-%lld.h5", &step) != 1 || !het_run_is_refined(path, step)) return;
    snprintf(folder, size, "%s/refined", path);
    het_info("using the refined results in %s", folder);
}
