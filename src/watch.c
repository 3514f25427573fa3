#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "data/checkpoint.h"
#include "data/json.h"
#include "log.h"
#include "run_process.h"
#include "stop.h"
#include "thread.h"

static const char *const states[] = {"running", "stopped", "finished", "failed"};

static double unix_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- the files ---- */

/* Write path.tmp and rename it. No fsync: a lost second of news is no harm. Returns errno. */
static int replace_file(const char *path, const char *text)
{
    char temporary[PATH_MAX + 40];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    errno = 0;
    FILE *file = fopen(temporary, "w");
    if (file == NULL) return errno;
    int bad = fputs(text, file) < 0;
    bad |= fclose(file) != 0;
    if (!bad && rename(temporary, path) == 0) return 0;
    const int why = errno != 0 ? errno : EIO;
    unlink(temporary);
    return why;
}

static json_t *state_object(const het_watch *w)
{
    const het_watch_numbers *n = &w->now;
    char detail[sizeof w->detail + sizeof w->progress + 2];
    snprintf(detail, sizeof detail, "%s%s%s", w->detail, w->detail[0] != '\0' && w->progress[0] != '\0' ? ": " : "", w->progress);
    json_t *object = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s}", "version", 1, "state", w->state, "reason", w->reason, "stage",
                               w->stage, "detail", detail, "stack", w->stack);
    if (object == NULL) return NULL;
    het_process_put(object, w->ranks);
    het_json_put(object, "started", w->started);
    het_json_put(object, "stage_since", w->stage_since);
    het_json_put(object, "updated", unix_time());
    json_object_set_new(object, "step", json_integer(n->step));
    json_object_set_new(object, "steps", json_integer(n->steps));
    het_json_put(object, "epochs", n->epochs);
    het_json_put(object, "reported", w->reported);
    het_json_put(object, "report_seconds", w->report_seconds);
    het_json_put(object, "images_per_second", n->images_per_second);
    het_json_put(object, "seconds_left", n->seconds_left);
    json_object_set_new(object, "warnings", json_integer(w->warnings));
    return object;
}

/* A label's value: backslash, quote and line end are escaped (Prometheus text format 0.0.4). */
static void print_label(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"') fputc('\\', out);
        if (*text == '\n') fputs("\\n", out);
        else fputc(*text, out);
    }
}

static void print_metric(FILE *out, const het_watch *w, const char *name, const char *type, const char *help, double value)
{
    fprintf(out, "# HELP hetacumn_%s %s\n# TYPE hetacumn_%s %s\nhetacumn_%s{run=\"", name, help, name, type, name);
    print_label(out, w->run);
    if (isfinite(value)) fprintf(out, "\"} %.15g\n", value);
    else fprintf(out, "\"} NaN\n");
}

static void print_state(FILE *out, const het_watch *w)
{
    fputs("# HELP hetacumn_state 1 for the state the run is in\n# TYPE hetacumn_state gauge\n", out);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        fputs("hetacumn_state{run=\"", out);
        print_label(out, w->run);
        fprintf(out, "\",state=\"%s\"} %d\n", states[i], strcmp(states[i], w->state) == 0);
    }
}

static char *prometheus_text(const het_watch *w)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) return NULL;
    const het_watch_numbers *n = &w->now;
    char folder[PATH_MAX + 16];
    int64_t step;
    double saved;
    snprintf(folder, sizeof folder, "%s/checkpoints", w->run);
    het_checkpoint_last(folder, &step, &saved);
    const struct {
        const char *name, *type, *help;
        double value;
    } metrics[] = {
        {"step", "gauge", "steps done at the last report", (double)n->step},
        {"steps", "gauge", "steps at the end of the training", (double)n->steps},
        {"epoch", "gauge", "passes over the stack done", n->epoch},
        {"epochs", "gauge", "passes over the stack at the end of the training", n->epochs},
        {"image_loss", "gauge", "mean square error of the images", n->image_loss},
        {"zero_loss", "gauge", "mean square error of an empty model", n->zero_loss},
        {"pose_loss", "gauge", "loss of the second task", n->pose_loss},
        {"z_rms", "gauge", "root mean square of the conformations", n->z_rms},
        {"radius", "gauge", "Fourier pixels in use", n->radius},
        {"images_per_second", "gauge", "images seen a second", n->images_per_second},
        {"left_seconds", "gauge", "time to the end of the training", n->seconds_left},
        {"health", "gauge", "findings of the last report as in log.jsonl, 0 is healthy", (double)n->findings},
        {"warnings_total", "counter", "warnings of the run", (double)w->warnings},
        {"checkpoint_step", "gauge", "step of the newest checkpoint, -1 before the first", (double)step},
        {"checkpoint_timestamp_seconds", "gauge", "Unix time of the newest checkpoint", saved < 0.0 ? NAN : saved},
        {"start_timestamp_seconds", "gauge", "Unix time at which the program started", w->started},
        {"report_timestamp_seconds", "gauge", "Unix time of the last report", w->reported > 0.0 ? w->reported : NAN},
    };
    print_state(out, w);
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        print_metric(out, w, metrics[i].name, metrics[i].type, metrics[i].help, metrics[i].value);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

static void say_once(het_watch *w, int which, const char *path, int why)
{
    if (why != 0 && !w->failed[which])
        het_warn("cannot write %s: %s; the training goes on, and what it tells of itself is out of date", path, strerror(why));
    w->failed[which] = why != 0;
}

static void update(het_watch *w)
{
    json_t *object = state_object(w);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    json_decref(object);
    say_once(w, 0, w->state_file, text == NULL ? EILSEQ : replace_file(w->state_file, text));
    free(text);
    if (w->prometheus[0] == '\0') return;
    text = prometheus_text(w);
    say_once(w, 1, w->prometheus, text == NULL ? ENOMEM : replace_file(w->prometheus, text));
    free(text);
}

static void write_warnings(het_watch *w)
{
    FILE *file = w->early == NULL ? NULL : fopen(w->warnings_file, "a");
    if (file == NULL) return;
    for (const char *c = w->early; *c != '\0'; c++) w->warnings += *c == '\n';
    fputs(w->early, file);
    fclose(file);
    free(w->early);
    w->early = NULL;
}

/* Called for every warning. A failure here is silent: the warning itself is on stderr. */
static void keep_warning(void *context, const char *words)
{
    het_watch *w = context;
    char *line = NULL, *text = NULL;
    pthread_mutex_lock(&w->own);
    json_t *object = json_pack("{s:f, s:I, s:s}", "time", unix_time(), "step", (json_int_t)w->now.step, "text", words);
    if (object != NULL) line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(object);
    if (line != NULL && asprintf(&text, "%s%s\n", w->early != NULL ? w->early : "", line) >= 0) {
        free(w->early);
        w->early = text;
        if (w->is_open) write_warnings(w);
    }
    free(line);
    pthread_mutex_unlock(&w->own);
}

/* The watch on lost ranks speaks, from its own thread. The main one may hang in the file system with the lock. */
static void hear(void *context, const char *text, int last)
{
    het_watch *w = context;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    if (pthread_mutex_timedlock(&w->own, &until) != 0) return;
    if (!last) keep_warning(w, text);
    else if (w->is_open) {
        w->state = states[3];
        snprintf(w->reason, sizeof w->reason, "%s", text);
        update(w);
    }
    pthread_mutex_unlock(&w->own);
}

static long long count_lines(const char *path)
{
    long long lines = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    for (int c; (c = getc(file)) != EOF;) lines += c == '\n';
    fclose(file);
    return lines;
}

/* ---- the sign of life ---- */

static void *beat(void *context)
{
    het_watch *w = context;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += HET_WATCH_BEAT;
        pthread_cond_timedwait(&w->changed, &w->lock, &until);
        if (!w->stop) utimensat(AT_FDCWD, w->state_file, NULL, 0);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void start_thread(het_watch *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->has_thread = het_thread_start(&w->thread, beat, w) == HET_OK;
    if (!w->has_thread) het_warn("cannot start the thread that tells that the run is alive");
}

static void stop_thread(het_watch *w)
{
    if (w->has_thread) {
        pthread_mutex_lock(&w->lock);
        w->stop = 1;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

/* ---- what the training tells ---- */

void het_watch_listen(het_watch *w, het_comm *comm)
{
    pthread_mutexattr_t again;
    if (het_comm_rank(comm) != 0) return;
    pthread_mutexattr_init(&again); /* a warning may come while the files are written */
    pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&w->own, &again);
    pthread_mutexattr_destroy(&again);
    w->comm = comm;
    w->listens = 1;
    w->ranks = het_comm_size(comm);
    w->now = (het_watch_numbers){.epoch = NAN, .epochs = NAN, .image_loss = NAN, .zero_loss = NAN, .pose_loss = NAN,
                                 .radius = NAN, .z_rms = NAN, .images_per_second = NAN, .seconds_left = NAN};
    het_log_also(keep_warning, w);
    het_comm_listen(comm, hear, w);
}

void het_watch_open(het_watch *w, const char *run, const char *stack, const char *prometheus)
{
    if (!w->listens) return;
    pthread_mutex_lock(&w->own);
    if (realpath(run, w->run) == NULL) snprintf(w->run, sizeof w->run, "%s", run);
    if (realpath(stack, w->stack) == NULL) snprintf(w->stack, sizeof w->stack, "%s", stack);
    snprintf(w->state_file, sizeof w->state_file, "%s/" HET_WATCH_STATE, w->run);
    snprintf(w->warnings_file, sizeof w->warnings_file, "%s/" HET_WATCH_WARNINGS, w->run);
    snprintf(w->prometheus, sizeof w->prometheus, "%s", prometheus != NULL ? prometheus : "");
    w->state = states[0];
    w->stage = "start";
    w->started = w->stage_since = unix_time();
    w->warnings = count_lines(w->warnings_file);
    w->is_open = 1;
    write_warnings(w);
    update(w);
    pthread_mutex_unlock(&w->own);
    start_thread(w);
}

void het_watch_stage(het_watch *w, const char *stage, const char *detail)
{
    if (!w->is_open) return;
    pthread_mutex_lock(&w->own);
    if (strcmp(stage, w->stage) != 0) {
        w->stage_since = unix_time();
        w->report_seconds = 0.0; /* the next report comes later than usual */
    }
    w->stage = stage;
    snprintf(w->detail, sizeof w->detail, "%s", detail);
    w->progress[0] = '\0';
    update(w);
    pthread_mutex_unlock(&w->own);
}

void het_watch_search(het_watch *w, const char *what, int64_t left, int64_t images)
{
    if (!w->is_open) return;
    pthread_mutex_lock(&w->own);
    snprintf(w->progress, sizeof w->progress, "%s, %.0f %% of %lld images are left", what, 100.0 * (double)left / (double)images,
             (long long)images);
    update(w);
    pthread_mutex_unlock(&w->own);
}

void het_watch_training(het_watch *w, int64_t step, int64_t steps, double epoch, double epochs)
{
    if (!w->is_open) return;
    pthread_mutex_lock(&w->own);
    w->now.step = step;
    w->now.steps = steps;
    w->now.epoch = epoch;
    w->now.epochs = epochs;
    het_watch_stage(w, "training", "");
    pthread_mutex_unlock(&w->own);
}

void het_watch_report(het_watch *w, const het_watch_numbers *numbers)
{
    if (!w->is_open) return;
    const double now = unix_time();
    pthread_mutex_lock(&w->own);
    w->report_seconds = w->reported > w->stage_since ? now - w->reported : 0.0;
    w->reported = now;
    w->now = *numbers;
    update(w);
    pthread_mutex_unlock(&w->own);
}

void het_watch_saved(het_watch *w)
{
    if (!w->is_open) return;
    pthread_mutex_lock(&w->own);
    update(w);
    pthread_mutex_unlock(&w->own);
}

static void write_end(het_watch *w, het_status status, int interrupted)
{
    const int number = het_stop_signal();
    const char *name = number > 0 ? sigabbrev_np(number) : NULL;
    w->state = states[status != HET_OK ? 3 : interrupted ? 1 : 2];
    if (status != HET_OK) snprintf(w->reason, sizeof w->reason, "%s", het_status_message());
    else if (interrupted && name != NULL) snprintf(w->reason, sizeof w->reason, "signal %s", name);
    else if (interrupted) snprintf(w->reason, sizeof w->reason, "--max-hours, or a signal to another rank");
    update(w);
}

void het_watch_close(het_watch *w, het_status status, int interrupted)
{
    if (!w->listens) return;
    het_comm_listen(w->comm, NULL, NULL); /* from here on this thread is alone */
    if (w->is_open) stop_thread(w);
    if (w->is_open) write_end(w, status, interrupted);
    het_log_also(NULL, NULL);
    pthread_mutex_destroy(&w->own);
    free(w->early);
    *w = (het_watch){0};
}
