/* What a checkpoint of the default network costs training: the time it waits, the time the file takes, and the steps meanwhile.
 *
 *   bench_checkpoint FOLDER [checkpoints] [box] [batch] [section.key=value ...]
 *       Trains on noise in FOLDER/bench-run, which must not exist, on one rank: cycles of both tasks, with a checkpoint as soon
 *       as as many cycles have gone by without one being written as with. The file is written on the disk of FOLDER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/arena.h"
#include "../src/clock.h"
#include "../src/log.h"
#include "../src/rng.h"
#include "../src/run.h"

enum { MOST = 4000 };

typedef struct series {
    double seconds[MOST];
    int count;
} series;

static void check(het_status status)
{
    if (status == HET_OK) return;
    fprintf(stderr, "bench_checkpoint: %s\n", het_status_message());
    exit(1);
}

static void add(series *s, double seconds)
{
    if (s->count < MOST) s->seconds[s->count++] = seconds;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void say(const char *what, series *s)
{
    if (s->count == 0) return;
    qsort(s->seconds, (size_t)s->count, sizeof *s->seconds, ascending);
    double sum = 0.0;
    for (int i = 0; i < s->count; i++) sum += s->seconds[i];
    printf("%-36s %4d: median %8.1f ms, mean %8.1f, least %8.1f, most %8.1f\n", what, s->count,
           1e3 * s->seconds[s->count / 2], 1e3 * sum / s->count, 1e3 * s->seconds[0], 1e3 * s->seconds[s->count - 1]);
}

static void cycle(het_model *m, const het_batch *batch, int64_t *step)
{
    for (int task = 0; task < 2; task++) {
        het_model_gradients(m, task == 0 ? HET_TASK_IMAGE : HET_TASK_POSE, batch, (*step)++, 0, NULL, NULL);
        het_model_update(m, m->config.train.rate_encoder, m->config.train.rate_decoder);
    }
}

static void measure(het_run *run, het_model *m, const het_survey *survey, het_run_state *state, const het_batch *batch,
                    int checkpoints)
{
    static series alone, meanwhile, waits, files, last;
    int writing = 0, since = 0, needed = 3;
    int64_t step = 0;
    check(het_run_ready(run, m, survey, state));
    for (int i = 0; i < 2; i++) cycle(m, batch, &step);
    while (files.count < checkpoints) {
        double started = het_seconds();
        if (!writing && since >= needed) {
            state->step = step;
            het_run_save(run, m, survey, state);
            add(&waits, het_seconds() - started);
            writing = 1;
            since = 0;
            started = het_seconds();
        }
        cycle(m, batch, &step);
        since++;
        add(writing ? &meanwhile : &alone, het_seconds() - started);
        if (!writing || !het_run_saved(run)) continue;
        add(&files, het_checkpoint_writer_seconds(run->writer));
        needed = since;
        writing = since = 0;
    }
    for (int i = 0; i < checkpoints; i++) {
        const double started = het_seconds();
        check(het_run_save_last(run, m, survey, state));
        add(&last, het_seconds() - started);
    }
    say("training waits", &waits);
    say("a file, checksums to fsync", &files);
    say("all of it, at the end of a training", &last);
    say("a cycle, nothing being written", &alone);
    say("a cycle, while a file is written", &meanwhile);
}

int main(int argc, char **argv)
{
    het_comm *comm;
    het_config config;
    het_device device;
    het_model *model;
    het_survey survey;
    het_run run;
    char path[1000];
    const int64_t box = argc > 3 ? atoi(argv[3]) : 64, count = argc > 4 ? atoi(argv[4]) : 8;
    if (argc < 2) return fprintf(stderr, "usage: bench_checkpoint FOLDER [checkpoints] [box] [batch] [key=value ...]\n"), 2;
    het_log_init(HET_LOG_WARN, 1);
    check(het_comm_open(&comm, &argc, &argv));
    het_config_default(&config);
    config.train.batch = count;
    for (int i = 5; i < argc; i++) check(het_config_set(&config, argv[i]));
    snprintf(path, sizeof path, "%s/bench-run", argv[1]);
    check(het_run_open(&run, comm, path, 0, &config));
    check(het_run_begin(&run, &config));
    check(het_device_open_cpu(&device, (int)config.train.threads, (het_precision)config.train.precision));
    check(het_model_new(&model, &device, &config,
                        &(het_model_spec){.box = box, .apix = 3.0, .batch = count, .global_batch = count, .groups = 1,
                                          .global_groups = 1, .shift_range = 3.0}));
    check(het_survey_new(&survey, box));
    for (int64_t i = 0; i < survey.shells; i++) {
        survey.envelope[i] = 1.0F;
        survey.power[i] = 1.0 / (double)survey.shells;
    }
    survey.snr = survey.noise_variance = 0.5;
    het_model_set_survey(model, &survey);
    het_model_set_radius(model, (double)(box / 2 - 1), &survey);
    float *images = het_alloc((size_t)(count * box * box) * sizeof *images);
    het_ctf_row *ctf = het_alloc((size_t)count * sizeof *ctf);
    HET_ASSERT(images != NULL && ctf != NULL);
    het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, 0);
    for (int64_t i = 0; i < count * box * box; i++) images[i] = het_rng_normal(&rng);
    for (int64_t i = 0; i < count; i++) ctf[i] = (het_ctf_row){1.5e4F, 1.4e4F, 0.1F, 3e5F, 2.7e7F, 0.1F, 0.0F};
    het_run_state state = {.count = count, .box = box, .global_groups = 1, .apix = 3.0, .mean = 0.0, .std = 1.0};
    const het_batch batch = {.count = count, .images = images, .ctf = ctf};
    printf("%s, %.2f million parameters, box %lld, batch %lld, %d threads\n", het_device_name(&device),
           (double)model->layout.total / 1e6, (long long)box, (long long)count, device.threads);
    measure(&run, model, &survey, &state, &batch, argc > 2 ? atoi(argv[2]) : 5);
    het_run_close(&run);
    het_release(images);
    het_release(ctf);
    het_survey_free(&survey);
    het_model_free(model);
    het_device_close(&device);
    het_comm_close(comm);
    return 0;
}
