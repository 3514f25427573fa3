/* What runs are at, from their folders alone: each is gathered into one JSON object, which is printed as such or in words. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../data/checkpoint.h"
#include "../data/json.h"
#include "../physics/collapse.h"
#include "../run.h"
#include "../run_process.h"
#include "../watch.h"
#include "cli.h"
#include "last_line.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn status RUN... [--json]\n"
    "Say what a training run is at - running, stopped, finished, failed, lost or not started - with its last checkpoint,\n"
    "rate, time left, losses, warnings and refinement. All of it comes from the folder: the job is not asked. Several runs\n"
    "get a line each.\n"
    "      --json             one JSON object a line for each run (docs/formats.md)\n"
    "      --help\n";

static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};

/* Longer than this between two reports, and a running training is said to be silent. */
static const double SILENT_FACTOR = 10.0, SILENT_SECONDS = 60.0;

/* Seconds since a file changed; NAN without it. */
static double age_of(const char *path)
{
    struct stat about;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stat(path, &about) != 0) return NAN;
    return fmax(0.0, (double)(now.tv_sec - about.st_mtim.tv_sec) + 1e-9 * (double)(now.tv_nsec - about.st_mtim.tv_nsec));
}

/* ---- gathering ---- */

static void gather_checkpoint(json_t *object, const char *run)
{
    char file[PATH_MAX + 64];
    char *text = NULL;
    int64_t step;
    double time;
    snprintf(file, sizeof file, "%s/checkpoints", run);
    het_checkpoint_last(file, &step, &time);
    json_object_set_new(object, "checkpoint", json_null());
    if (step < 0) return;
    snprintf(file, sizeof file, "%s/checkpoints/step-%lld.h5", run, (long long)step);
    json_t *checkpoint = json_pack("{s:s, s:I}", "file", file, "step", (json_int_t)step);
    het_json_put(checkpoint, "age_seconds", age_of(file));
    json_t *inside = het_checkpoint_json(file, &text) == HET_OK ? json_loads(text, 0, NULL) : NULL;
    het_json_put(checkpoint, "epoch", het_json_number(inside, "epoch"));
    json_decref(inside);
    free(text);
    json_object_set_new(object, "checkpoint", checkpoint);
    json_object_set_new(object, "refined", json_boolean(het_run_is_refined(run, step)));
}

static void gather_lines(json_t *object, const char *run)
{
    char file[PATH_MAX + 32], line[8192];
    snprintf(file, sizeof file, "%s/log.jsonl", run);
    het_last_line(file, line, sizeof line);
    json_t *report = json_loads(line, 0, NULL);
    het_json_put(object, "report_age_seconds", report != NULL ? age_of(file) : NAN);
    json_object_set_new(object, "report", report != NULL ? report : json_null());
    snprintf(file, sizeof file, "%s/" HET_WATCH_WARNINGS, run);
    het_last_line(file, line, sizeof line);
    json_t *warning = json_loads(line, 0, NULL);
    json_object_set_new(object, "warning", warning != NULL ? warning : json_null());
}

/* Who holds the folder; null when nobody does. */
static void gather_holder(json_t *object, const char *run)
{
    char file[PATH_MAX + 32];
    snprintf(file, sizeof file, "%s/" HET_HOLD_FILE, run);
    json_t *holder = json_load_file(file, 0, NULL);
    if (holder != NULL) {
        json_object_set_new(holder, "gone", json_boolean(het_process_is_gone(holder)));
        het_json_put(holder, "sign_age_seconds", age_of(file));
    }
    json_object_set_new(object, "holder", holder != NULL ? holder : json_null());
}

/* The state in one word, and whether a running training has not reported for too long. */
static const char *judge(const json_t *object, const json_t *state, double sign, int *silent)
{
    const char *word = het_json_text(state, "state");
    *silent = 0;
    if (state == NULL) return json_is_null(json_object_get(object, "checkpoint")) ? "not started" : "stopped";
    if (strcmp(word, "running") != 0) return word;
    if (het_process_is_gone(state) || sign > HET_WATCH_LOST) return "lost";
    const double usual = het_json_number(state, "report_seconds");
    *silent = strcmp(het_json_text(state, "stage"), "training") == 0 && usual > 0.0 &&
              het_json_number(object, "report_age_seconds") > SILENT_FACTOR * usual + SILENT_SECONDS;
    return word;
}

static het_status gather(json_t **out, const char *run)
{
    char file[PATH_MAX + 32];
    int silent;
    struct stat about;
    *out = NULL;
    if (strlen(run) >= PATH_MAX) return het_fail(HET_E_USAGE, "the name of a run folder is too long");
    if (stat(run, &about) != 0) return het_fail(HET_E_IO, "%s: %s", run, strerror(errno));
    snprintf(file, sizeof file, "%s/config.yaml", run);
    if (access(file, R_OK) != 0)
        return het_fail(HET_E_INPUT, "%s is not the folder of a run: it has no config.yaml", run);
    json_t *object = json_object();
    snprintf(file, sizeof file, "%s/" HET_WATCH_STATE, run);
    json_t *state = json_load_file(file, 0, NULL);
    json_object_set_new(object, "run", json_string(run));
    gather_checkpoint(object, run);
    gather_lines(object, run);
    gather_holder(object, run);
    const double sign = age_of(file);
    json_object_set_new(object, "state", json_string(judge(object, state, sign, &silent)));
    json_object_set_new(object, "silent", json_boolean(silent));
    het_json_put(object, "sign_age_seconds", sign);
    json_object_update_missing(object, state);
    json_decref(state);
    *out = object;
    return HET_OK;
}

/* ---- printing ---- */

/* A time span in words; static, one at a time. */
static const char *span(double seconds)
{
    static char text[32];
    if (!isfinite(seconds)) snprintf(text, sizeof text, "unknown");
    else if (seconds < 120.0) snprintf(text, sizeof text, "%.0f s", seconds);
    else if (seconds < 7200.0) snprintf(text, sizeof text, "%.0f min", seconds / 60.0);
    else if (seconds < 172800.0) snprintf(text, sizeof text, "%.1f h", seconds / 3600.0);
    else snprintf(text, sizeof text, "%.1f days", seconds / 86400.0);
    return text;
}

static int is(const json_t *object, const char *state)
{
    return strcmp(het_json_text(object, "state"), state) == 0;
}

static void health_of(const json_t *report, char *text, size_t size)
{
    het_health_names(text, size, (int)json_integer_value(json_object_get(report, "health")));
}

/* What stands after the state: the stage of a running one, the reason of one that ended. */
static void print_state(const json_t *object)
{
    const char *reason = het_json_text(object, "reason"), *detail = het_json_text(object, "detail");
    const int checkpoint = !json_is_null(json_object_get(object, "checkpoint"));
    if (is(object, "running")) {
        printf(" (%s%s%s), for %s", het_json_text(object, "stage"), *detail != '\0' ? ", " : "", detail,
               span((double)time(NULL) - het_json_number(object, "started")));
        if (json_is_true(json_object_get(object, "silent")))
            printf("; but silent: no report for %s", span(het_json_number(object, "report_age_seconds")));
    } else if (is(object, "lost")) {
        printf(": it ended without a word, killed or with its machine (last sign %s ago)", span(het_json_number(object, "sign_age_seconds")));
    } else if (*reason != '\0') {
        printf(": %s", reason);
    }
    if (is(object, "lost") || is(object, "stopped") || is(object, "failed"))
        printf(checkpoint ? "; the same command goes on from the checkpoint" : "; there is no checkpoint yet");
    printf("\n");
}

static void print_where(const json_t *object)
{
    const json_t *holder = json_object_get(object, "holder");
    char who[512], since[32] = "";
    het_process_words(object, who, sizeof who);
    if (*who != '\0') printf("  job          %s\n", who);
    het_process_words(holder, who, sizeof who);
    if (*who == '\0') return;
    const time_t time = (time_t)het_json_number(holder, "since");
    struct tm parts;
    if (localtime_r(&time, &parts) != NULL) strftime(since, sizeof since, "%F %T", &parts);
    printf("  held by      %s, since %s%s\n", who, since,
           json_is_true(json_object_get(holder, "gone")) ? ": it is gone, the next start takes over" : "");
}

static void print_report(const json_t *object)
{
    const json_t *report = json_object_get(object, "report");
    const double steps = het_json_number(object, "steps"), epochs = het_json_number(object, "epochs");
    char health[80];
    if (!json_is_object(report)) {
        printf("  progress     no report yet\n");
        return;
    }
    printf("  progress     step %.0f", het_json_number(report, "step"));
    if (steps > 0.0) printf(" of %.0f", steps);
    printf(", epoch %.2f", het_json_number(report, "epoch"));
    if (epochs > 0.0) printf(" of %g", epochs);
    printf("; %.0f images/s", het_json_number(report, "images_per_second"));
    if (is(object, "running") && isfinite(het_json_number(object, "seconds_left")))
        printf("; %s left", span(het_json_number(object, "seconds_left")));
    printf("; reported %s ago\n", span(het_json_number(object, "report_age_seconds")));
    health_of(report, health, sizeof health);
    printf("  losses       image %.4f (nothing %.4f), pose %.4f; z %.2f; radius %.1f\n", het_json_number(report, "image_loss"),
           het_json_number(report, "zero_loss"), het_json_number(report, "pose_loss"), het_json_number(report, "z_rms"),
           het_json_number(report, "radius"));
    printf("  health       %s\n", health);
}

static void print_text(const json_t *object)
{
    const json_t *checkpoint = json_object_get(object, "checkpoint"), *warning = json_object_get(object, "warning");
    printf("%s: %s", het_json_text(object, "run"), het_json_text(object, "state"));
    print_state(object);
    print_where(object);
    print_report(object);
    if (json_is_object(checkpoint)) {
        printf("  checkpoint   step %.0f, ", het_json_number(checkpoint, "step"));
        if (isfinite(het_json_number(checkpoint, "epoch"))) printf("epoch %.2f, ", het_json_number(checkpoint, "epoch"));
        printf("%s old\n", span(het_json_number(checkpoint, "age_seconds")));
    } else printf("  checkpoint   none yet\n");
    if (json_is_object(warning))
        printf("  warnings     %.0f; the last, at step %.0f: %s\n", het_json_number(object, "warnings"), het_json_number(warning, "step"),
               het_json_text(warning, "text"));
    else printf("  warnings     none\n");
    if (strcmp(het_json_text(object, "stage"), "refinement") == 0 && !is(object, "finished"))
        printf("  refinement   %s, %s\n", is(object, "running") ? "going on" : "not done", het_json_text(object, "detail"));
    else printf("  refinement   %s\n", json_is_true(json_object_get(object, "refined")) ? "done" : "none");
}

static void print_line(const json_t *object)
{
    const json_t *report = json_object_get(object, "report"), *checkpoint = json_object_get(object, "checkpoint");
    char health[80];
    printf("%-24s %-11s", het_json_text(object, "run"), het_json_text(object, "state"));
    if (json_is_object(report)) {
        health_of(report, health, sizeof health);
        printf("  step %.0f", het_json_number(report, "step"));
        if (het_json_number(object, "steps") > 0.0) printf(" of %.0f", het_json_number(object, "steps"));
        printf("  epoch %.2f  image %.4f (nothing %.4f)  %.0f images/s", het_json_number(report, "epoch"),
               het_json_number(report, "image_loss"), het_json_number(report, "zero_loss"), het_json_number(report, "images_per_second"));
    }
    if (is(object, "running")) printf("  %s left", span(het_json_number(object, "seconds_left")));
    if (json_is_object(checkpoint)) printf("  checkpoint %s old", span(het_json_number(checkpoint, "age_seconds")));
    if (json_is_object(report)) printf("  health: %s", health);
    printf("\n");
}

static het_status show(char **runs, int count, int as_json)
{
    het_status status = HET_OK, worst = HET_OK;
    char message[1024] = "";
    for (int i = 0; i < count; i++) {
        json_t *object;
        status = gather(&object, runs[i]);
        if (status != HET_OK && worst == HET_OK) {
            worst = status;
            snprintf(message, sizeof message, "%s", het_status_message());
        }
        if (status != HET_OK) continue;
        if (as_json) {
            json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15));
            printf("\n");
        } else if (count > 1) print_line(object);
        else print_text(object);
        json_decref(object);
    }
    return worst == HET_OK ? HET_OK : het_fail(worst, "%s", message);
}

het_status het_cmd_status(het_comm *comm, int argc, char **argv, int *exit_code)
{
    int option, as_json = 0;
    (void)exit_code;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == 'h' && het_comm_rank(comm) == 0) fputs(usage, stdout);
        if (option == 'h') return HET_OK;
        if (option == 'j') as_json = 1;
        else return het_options_refused(argv, option);
    }
    if (optind == argc) return het_fail(HET_E_USAGE, "status: give the folder of a run, or several");
    return het_comm_agree(comm, het_comm_rank(comm) == 0 ? show(argv + optind, argc - optind, as_json) : HET_OK);
}
