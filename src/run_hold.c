/* Who may write to a run folder. */
#define _GNU_SOURCE
#include "run_hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "data/json.h"
#include "log.h"
#include "run_process.h"
#include "stop.h"
#include "thread.h"

/* ---- the file ---- */

/* What stands in it; "" where there is none, or nothing can be read. Opened anew each time: so network file systems show what is
 * there now. */
static void read_file(const char *path, char text[HET_HOLD_RECORD + 1])
{
    ssize_t length = -1;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) length = pread(file, text, HET_HOLD_RECORD, 0);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = '\0';
}

/* Write the record with its next number, by one write of a fixed size into the same file: nobody reads half of one. Returns errno. */
static int write_file(het_run_hold *h, int flags)
{
    char text[HET_HOLD_RECORD];
    const int file = open(h->file, O_WRONLY | O_CLOEXEC | flags, 0666);
    if (file < 0) return errno;
    json_object_set_new(h->record, "beat", json_integer(++h->beat));
    memset(text, ' ', sizeof text);
    const size_t length = json_dumpb(h->record, text, sizeof text - 1, JSON_INDENT(1));
    text[sizeof text - 1] = '\n';
    errno = 0;
    int why = length >= sizeof text ? ENAMETOOLONG : 0;
    if (why == 0 && pwrite(file, text, sizeof text, 0) != (ssize_t)sizeof text) why = errno != 0 ? errno : ENOSPC;
    if (close(file) != 0 && why == 0) why = errno;
    if (why != 0 && (flags & O_EXCL) != 0) unlink(h->file);
    return why;
}

/* Take away the file of a dead holder, as it was seen. Two may want to at once, and the later of them must not take away the
 * file of the first one: it looks at what it has got, and puts back what is not the dead one's. */
static void remove_dead(const het_run_hold *h, const char *seen)
{
    char aside[1200], text[HET_HOLD_RECORD + 1];
    snprintf(aside, sizeof aside, "%s.%s", h->file, h->id);
    if (rename(h->file, aside) != 0) return; /* somebody was faster */
    read_file(aside, text);
    if (strcmp(text, seen) == 0) unlink(aside);
    else rename(aside, h->file);
}

/* ---- the sign of life ---- */

_Noreturn static void end_process(const het_run_hold *h, const json_t *other)
{
    char who[512];
    het_process_words(other, who, sizeof who);
    het_log(HET_LOG_ERROR, "%s was taken over by %s, as nothing was heard of this process: it ends here", h->folder, who);
    _Exit(1); /* nothing more may be written; the other ranks see it as a loss */
}

static void renew(het_run_hold *h)
{
    char text[HET_HOLD_RECORD + 1];
    read_file(h->file, text);
    json_t *there = json_loads(text, 0, NULL);
    if (there != NULL && strcmp(het_json_text(there, "id"), h->id) != 0) end_process(h, there);
    json_decref(there);
    /* What fails fails again or not at the next beat. A file that somebody has removed comes back. */
    if (write_file(h, 0) == ENOENT) write_file(h, O_CREAT | O_EXCL);
}

static void *beat(void *context)
{
    het_run_hold *h = context;
    pthread_mutex_lock(&h->own);
    while (!h->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += HET_HOLD_BEAT;
        while (!h->stop && pthread_cond_timedwait(&h->changed, &h->own, &until) != ETIMEDOUT) {}
        if (!h->stop) renew(h);
    }
    pthread_mutex_unlock(&h->own);
    return NULL;
}

static het_status start_thread(het_run_hold *h)
{
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_mutex_init(&h->own, NULL);
    pthread_cond_init(&h->changed, &steady);
    pthread_condattr_destroy(&steady);
    const het_status status = het_thread_start(&h->thread, beat, h);
    h->has_thread = status == HET_OK;
    return status;
}

void het_run_hold_renew(het_run_hold *h)
{
    if (!h->has_thread) return;
    pthread_mutex_lock(&h->own);
    renew(h);
    pthread_mutex_unlock(&h->own);
}

/* ---- taking it ---- */

/* What was seen of another holder. */
typedef struct sight {
    char text[HET_HOLD_RECORD + 1];
    char id[64];
    double began, since; /* monotonic seconds: of the watch, of the last change */
    int beats;           /* changes that were seen of this holder */
    int said;
} sight;

/* Whether the holder is this Slurm job itself, before it was queued again. */
static int is_earlier_start(const json_t *there, const json_t *mine)
{
    const char *job = json_string_value(json_object_get(mine, "job"));
    const char *other = json_string_value(json_object_get(there, "job"));
    return job != NULL && other != NULL && strcmp(job, other) == 0 &&
           het_json_number(there, "restart") < het_json_number(mine, "restart");
}

static het_status refuse(const het_run_hold *h, const json_t *there, const char *how)
{
    char who[512], since[32] = "an unknown time";
    const time_t time = (time_t)json_integer_value(json_object_get(there, "since"));
    struct tm parts;
    if (localtime_r(&time, &parts) != NULL) strftime(since, sizeof since, "%F %T", &parts);
    het_process_words(there, who, sizeof who);
    return het_fail(HET_E_IO, "%s is in use by %s, since %s%s: wait for its end, or give -o a new folder", h->folder, who, since, how);
}

static void note(sight *s, const json_t *there, const char *text)
{
    const int changed = strcmp(s->text, text) != 0, same = s->id[0] != '\0' && strcmp(s->id, het_json_text(there, "id")) == 0;
    s->beats = same ? s->beats + changed : 0;
    if (changed) s->since = het_seconds();
    strcpy(s->text, text);
    snprintf(s->id, sizeof s->id, "%s", het_json_text(there, "id"));
}

/* One look at somebody else's file: it is removed where its holder is dead. */
static het_status look(het_run_hold *h, sight *s)
{
    het_status status = HET_OK;
    char who[512], text[HET_HOLD_RECORD + 1];
    read_file(h->file, text);
    json_t *there = json_loads(text, 0, NULL);
    note(s, there, text);
    const double now = het_seconds(), silent = now - s->since;
    const int here = het_process_is_here(there);
    het_process_words(there, who, sizeof who);
    if (het_process_is_gone(there) || (!here && silent >= HET_HOLD_SILENT)) {
        het_info("%s is taken over from %s, which ended without a word", h->folder, *who != '\0' ? who : "an unknown holder");
        remove_dead(h, text);
        goto done;
    }
    if (s->beats > 0 && !is_earlier_start(there, h->record)) HET_TRY(refuse(h, there, ""));
    if (silent >= HET_HOLD_SILENT) HET_TRY(refuse(h, there, ", which gives no sign of life but is there, stopped perhaps"));
    if (now - s->began >= HET_HOLD_PATIENCE) HET_TRY(refuse(h, there, ""));
    if (!s->said && now - s->began > 1.0) {
        het_info("%s is held by %s: waiting for its end or a sign of life", h->folder, who);
        s->said = 1;
    }
    if (het_stop_asked()) HET_TRY(het_fail(HET_E_STOPPED, "stopped while it waited for %s", h->folder));
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
done:
    json_decref(there);
    return status;
}

het_status het_run_folder(const char *path, int *made)
{
    struct stat info;
    *made = mkdir(path, 0777) == 0;
    if (*made || (errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode))) return HET_OK;
    return het_fail(HET_E_IO, "cannot make the run folder %s: %s", path, strerror(errno));
}

static void describe(het_run_hold *h, int ranks)
{
    uint64_t key = 0;
    if (getrandom(&key, sizeof key, 0) != (ssize_t)sizeof key) key = (uint64_t)getpid();
    snprintf(h->id, sizeof h->id, "%016llx", (unsigned long long)key);
    h->record = json_object();
    json_object_set_new(h->record, "version", json_integer(1));
    het_process_put(h->record, ranks);
    json_object_set_new(h->record, "since", json_integer(time(NULL)));
    json_object_set_new(h->record, "id", json_string(h->id));
}

het_status het_run_hold_take(het_run_hold *h, const char *folder, int ranks)
{
    het_status status = HET_OK;
    int why, made;
    sight s = {.began = het_seconds()};
    s.since = s.began;
    *h = (het_run_hold){0};
    snprintf(h->folder, sizeof h->folder, "%s", folder);
    snprintf(h->file, sizeof h->file, "%s/" HET_HOLD_FILE, folder);
    describe(h, ranks);
    do {
        status = het_run_folder(h->folder, &made);
        h->made |= made;
        why = status != HET_OK ? 0 : write_file(h, O_CREAT | O_EXCL);
        if (why == EEXIST) status = look(h, &s);
    } while (status == HET_OK && (why == EEXIST || why == ENOENT)); /* ENOENT: who had made the folder has removed it */
    if (status == HET_OK && why != 0) status = het_fail(HET_E_IO, "cannot write %s: %s", h->file, strerror(why));
    if (status == HET_OK) {
        status = start_thread(h);
        if (status != HET_OK) unlink(h->file);
    }
    if (status == HET_OK) return HET_OK;
    if (h->made) rmdir(h->folder);
    json_decref(h->record);
    *h = (het_run_hold){0};
    return status;
}

void het_run_hold_release(het_run_hold *h)
{
    if (!h->has_thread) return;
    pthread_mutex_lock(&h->own);
    renew(h); /* what is removed must be ours */
    h->stop = 1;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->own);
    pthread_join(h->thread, NULL);
    unlink(h->file);
    if (h->made) rmdir(h->folder); /* only an empty one goes */
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->own);
    json_decref(h->record);
    *h = (het_run_hold){0};
}
