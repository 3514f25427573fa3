/* The run folder: configuration, log and checkpoints. */
#include "run.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "data/checkpoint.h"
#include "log.h"

static het_status make_folder(const char *path)
{
    struct stat info;
    if (mkdir(path, 0777) == 0) return HET_OK;
    if (errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return HET_OK;
    return het_fail(HET_E_IO, "cannot make the run folder %s: %s", path, strerror(errno));
}

/* Compare with the configuration the folder was started with, and save the new one. Root rank. */
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
    }
    if (config->train.shards == 0) config->train.shards = het_comm_size(run->comm);
    status = het_config_save(config, file);
done:
    return status;
}

het_status het_run_open(het_run *run, het_comm *comm, const char *path, het_config *config)
{
    het_status status = HET_OK;
    char folder[1100] = "";
    *run = (het_run){.comm = comm};
    if (strlen(path) >= sizeof run->path)
        HET_TRY(het_fail(HET_E_USAGE, "the name of the run folder is too long (%zu characters)", strlen(path)));
    snprintf(run->path, sizeof run->path, "%s", path);
    snprintf(folder, sizeof folder, "%s/checkpoints", run->path);
    if (het_comm_rank(comm) == 0) {
        status = make_folder(run->path);
        if (status == HET_OK) status = make_folder(folder);
        if (status == HET_OK) status = het_checkpoint_newest(folder, run->newest, sizeof run->newest);
        if (status == HET_OK) status = settle_config(run, config);
    }
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_broadcast(comm, run->newest, sizeof run->newest, 0));
    HET_TRY(het_comm_broadcast(comm, config, sizeof *config, 0));
done:
    return status;
}

/* Host copies of the blocks that a checkpoint holds, and the table that names them. */
enum { BLOCKS = 4, FIELDS = 7 };

typedef struct snapshot {
    float *block[BLOCKS]; /* parameters, two moments, running statistics */
    het_field fields[FIELDS + HET_RUN_EXTRAS];
    int count;
} snapshot;

static het_tensor vector(void *data, het_dtype type, int64_t count)
{
    return (het_tensor){.data = data, .type = type, .rank = 1, .shape = {count}};
}

static int64_t block_count(const het_model *m, int i)
{
    return i < BLOCKS - 1 ? m->layout.total : HET_STATS_SETS * het_encoder_stats(m->encoder[0]);
}

static float *block_of(const het_model *m, int i)
{
    float *const blocks[BLOCKS] = {m->params, m->moment1, m->moment2, m->running};
    return blocks[i];
}

static void snapshot_free(snapshot *s)
{
    for (int i = 0; i < BLOCKS; i++) het_release(s->block[i]);
}

/* A model for inference has no moments: they are neither read nor written. */
static het_status snapshot_new(snapshot *s, const het_model *m, const het_survey *survey, het_run_state *state)
{
    static const char *const names[BLOCKS] = {"model/parameters", "optimiser/moment1", "optimiser/moment2",
                                              "model/running_statistics"};
    *s = (snapshot){0};
    for (int i = 0; i < BLOCKS; i++) {
        if (block_of(m, i) == NULL) continue;
        s->block[i] = het_alloc((size_t)block_count(m, i) * sizeof(float));
        if (s->block[i] == NULL) {
            snapshot_free(s);
            return het_fail(HET_E_MEMORY, "no memory for a checkpoint");
        }
        s->fields[s->count++] = (het_field){names[i], vector(s->block[i], HET_F32, block_count(m, i))};
    }
    s->fields[s->count++] = (het_field){"survey/power", vector(survey->power, HET_F64, survey->shells)};
    s->fields[s->count++] = (het_field){"survey/envelope", vector(survey->envelope, HET_F32, survey->shells)};
    s->fields[s->count++] = (het_field){"state/tally", vector(&state->tally, HET_F64, sizeof state->tally / 8)};
    return HET_OK;
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

het_status het_run_save(het_run *run, const het_model *m, const het_survey *survey, const het_run_state *state)
{
    het_status status = HET_OK;
    snapshot s = {0};
    char file[1200], folder[1100];
    char *json = NULL;
    het_run_state copy = *state;
    HET_TRY(snapshot_new(&s, m, survey, &copy));
    for (int i = 0; i < state->extras; i++) s.fields[s.count++] = state->extra[i];
    for (int i = 0; i < BLOCKS; i++)
        m->dev->ops->download(m->dev, s.block[i], block_of(m, i), (size_t)block_count(m, i) * sizeof(float));
    json = state_json(m, survey, state);
    if (json == NULL) HET_TRY(het_fail(HET_E_NUMERIC, "a number of the run's state is not finite: nothing saved"));
    snprintf(folder, sizeof folder, "%s/checkpoints", run->path);
    snprintf(file, sizeof file, "%s/step-%lld.h5", folder, (long long)state->step);
    HET_TRY(het_checkpoint_save(run->comm, file, s.fields, s.count, json));
    if (het_comm_rank(run->comm) == 0) status = het_checkpoint_prune(folder, m->config.run.keep);
    HET_TRY(het_comm_agree(run->comm, status));
done:
    free(json);
    snapshot_free(&s);
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
    snapshot s = {0};
    HET_TRY(snapshot_new(&s, m, survey, state));
    HET_TRY(het_checkpoint_load(file, s.fields, s.count));
    for (int i = 0; i < BLOCKS; i++)
        if (s.block[i] != NULL)
            m->dev->ops->upload(m->dev, block_of(m, i), s.block[i], (size_t)block_count(m, i) * sizeof(float));
    het_decoder_load(m->decoder, m->params);
    het_model_set_survey(m, survey);
    het_model_set_radius(m, state->radius, survey);
    m->frozen = state->frozen;
done:
    snapshot_free(&s);
    return status;
}

/* Lines of steps that the checkpoint does not know will be written again. */
static het_status trim_log(const het_run *run, int64_t step)
{
    char name[1100], temporary[1110];
    snprintf(name, sizeof name, "%s/log.jsonl", run->path);
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    FILE *in = fopen(name, "r");
    if (in == NULL) return errno == ENOENT ? HET_OK : het_fail(HET_E_IO, "cannot read %s: %s", name, strerror(errno));
    FILE *out = fopen(temporary, "w");
    char *line = NULL;
    size_t size = 0;
    int bad = out == NULL;
    while (!bad && getline(&line, &size, in) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        const json_t *at = json_object_get(object, "step");
        if (json_is_integer(at) && json_integer_value(at) <= step) bad = fputs(line, out) < 0;
        json_decref(object);
    }
    free(line);
    fclose(in);
    if (out != NULL) bad |= fclose(out) != 0;
    if (bad || rename(temporary, name) != 0)
        return het_fail(HET_E_IO, "cannot rewrite %s: %s", name, strerror(errno));
    return HET_OK;
}

int het_run_is_of(const het_run_state *state, const het_stack_info *stack)
{
    return state->box == stack->box && state->count == stack->count && state->apix == stack->apix &&
           state->mean == stack->mean && state->std == stack->std;
}

static het_status same_stack(const het_run_state *state, const het_stack_info *stack)
{
    if (state->box != stack->box)
        return het_fail(HET_E_INPUT, "the run was trained on images of box %lld, the stack has box %lld: give the run's own "
                        "stack, or -o a new folder", (long long)state->box, (long long)stack->box);
    if (state->count != stack->count || fabs(state->apix - stack->apix) > 1e-4 * state->apix ||
        fabs(state->std - stack->std) > 1e-4 * state->std)
        return het_fail(HET_E_INPUT, "the run was trained on another stack (%lld images of %.4g A/px, this one %lld of %.4g): "
                        "give that one, or -o a new folder", (long long)state->count, state->apix,
                        (long long)stack->count, stack->apix);
    return HET_OK;
}

het_status het_run_restore(het_run *run, het_model *m, het_survey *survey, het_run_state *state,
                           const het_stack_info *stack)
{
    het_status status = read_state(run->newest, state, m->adam_steps, survey);
    if (status == HET_OK) status = same_stack(state, stack);
    if (status == HET_OK) status = load_blocks(run->newest, m, survey, state);
    if (status == HET_OK && het_comm_rank(run->comm) == 0) status = trim_log(run, state->step);
    return het_comm_agree(run->comm, status);
}

het_status het_run_report(het_run *run, const char *json)
{
    char name[1100];
    snprintf(name, sizeof name, "%s/log.jsonl", run->path);
    FILE *file = fopen(name, "a");
    int bad = file == NULL;
    if (file != NULL) {
        bad |= fprintf(file, "%s\n", json) < 0;
        bad |= fclose(file) != 0;
    }
    return bad ? het_fail(HET_E_IO, "cannot write %s: %s", name, strerror(errno)) : HET_OK;
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
