#include "checkpoint_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../arena.h"
#include "../clock.h"
#include "../log.h"
#include "../thread.h"

enum { FIELDS_MAX = 16, PATH_SIZE = 1100, PATIENCE = 15, LARGE = 32 << 20 };

struct het_checkpoint_writer {
    char directory[PATH_SIZE], log[PATH_SIZE];
    int64_t keep, every;
    het_field fields[FIELDS_MAX]; /* of the copy */
    int64_t room[FIELDS_MAX];     /* bytes of their memory */
    int count;
    pthread_t thread;
    int running; /* from start to wait: what follows is the thread's, until it is done */
    atomic_int done;
    int64_t step;
    char *json;
    double seconds;
    char problem[1400]; /* what there is to warn of */
};

het_status het_checkpoint_writer_new(het_checkpoint_writer **out, const char *directory, const char *log,
                                     int64_t keep, int64_t every)
{
    het_checkpoint_writer *w = *out = het_alloc(sizeof *w);
    if (w == NULL) return het_fail(HET_E_MEMORY, "no memory for checkpoints");
    snprintf(w->directory, sizeof w->directory, "%s", directory);
    snprintf(w->log, sizeof w->log, "%s", log);
    w->keep = keep;
    w->every = every;
    w->seconds = NAN;
    return HET_OK;
}

static void tell(const het_checkpoint_writer *w)
{
    if (w->problem[0] != '\0') het_warn("%s", w->problem);
}

void het_checkpoint_writer_wait(het_checkpoint_writer *w)
{
    if (w == NULL || !w->running) return;
    pthread_join(w->thread, NULL);
    w->running = 0;
    tell(w);
}

int het_checkpoint_writer_is_done(het_checkpoint_writer *w)
{
    if (w == NULL || !w->running || !atomic_load(&w->done)) return 0;
    het_checkpoint_writer_wait(w);
    return 1;
}

void het_checkpoint_writer_free(het_checkpoint_writer *w)
{
    if (w == NULL) return;
    het_checkpoint_writer_wait(w);
    for (int i = 0; i < FIELDS_MAX; i++) het_release(w->fields[i].tensor.data);
    het_release(w);
}

void het_checkpoint_writer_begin(het_checkpoint_writer *w)
{
    het_checkpoint_writer_wait(w);
    w->count = 0;
}

het_status het_checkpoint_writer_add(het_checkpoint_writer *w, const char *name, const het_tensor *like, void **data)
{
    HET_ASSERT(w->count < FIELDS_MAX);
    const int64_t bytes = het_tensor_bytes(like);
    const int i = w->count;
    void *memory = w->fields[i].tensor.data;
    if (bytes > w->room[i] || memory == NULL) {
        het_release(memory);
        memory = het_alloc((size_t)bytes);
        w->room[i] = memory != NULL ? bytes : 0;
    }
    w->fields[i] = (het_field){name, *like};
    w->fields[i].tensor.data = *data = memory;
    if (memory == NULL) return het_fail(HET_E_MEMORY, "no memory for a copy of %s for checkpoints", name);
    w->count++;
    return HET_OK;
}

static het_status sync_log(const het_checkpoint_writer *w)
{
    const int fd = open(w->log, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return HET_OK;
    const int bad = fd < 0 || (fsync(fd) != 0 && errno != EINVAL);
    const het_status status =
        bad ? het_fail(HET_E_IO, "%s: cannot make it durable: %s", w->log, strerror(errno)) : HET_OK;
    if (fd >= 0) close(fd);
    return status;
}

static het_status write_copy(het_checkpoint_writer *w)
{
    het_status status = HET_OK;
    char path[PATH_SIZE + 40];
    const double started = het_seconds();
    w->seconds = NAN;
    snprintf(path, sizeof path, "%s/step-%lld.h5", w->directory, (long long)w->step);
    HET_TRY(sync_log(w));
    HET_TRY(het_checkpoint_save(path, w->fields, w->count, w->json));
    w->seconds = het_seconds() - started;
    if (het_checkpoint_prune(w->directory, w->step, w->keep, w->every) != HET_OK)
        snprintf(w->problem, sizeof w->problem, "%s", het_status_message());
done:
    free(w->json);
    w->json = NULL;
    return status;
}

static void write_or_note(het_checkpoint_writer *w)
{
    if (write_copy(w) != HET_OK)
        snprintf(w->problem, sizeof w->problem, "%s; training goes on, the checkpoint before stays, and the next one is tried at "
                 "its time: make room on that disk", het_status_message());
}

static int64_t copied_bytes(const het_checkpoint_writer *w)
{
    int64_t bytes = 0;
    for (int i = 0; i < w->count; i++) bytes += het_tensor_bytes(&w->fields[i].tensor);
    return bytes;
}

static void *run(void *context)
{
    het_checkpoint_writer *w = context;
    /* Compute threads come first: where all cores are busy, a nice value of 15 leaves 3 % of one to this thread. A small
     * file is written before that matters. Linux changes the value of the thread alone (0: the caller). */
    if (copied_bytes(w) > LARGE) setpriority(PRIO_PROCESS, 0, PATIENCE);
    write_or_note(w);
    atomic_store(&w->done, 1);
    return NULL;
}

static void take(het_checkpoint_writer *w, int64_t step, char *json)
{
    HET_ASSERT(!w->running);
    w->step = step;
    w->json = json;
    w->problem[0] = '\0';
    atomic_store(&w->done, 0);
}

void het_checkpoint_writer_start(het_checkpoint_writer *w, int64_t step, char *json)
{
    take(w, step, json);
    w->running = het_thread_start(&w->thread, run, w) == HET_OK;
    if (w->running) return;
    write_or_note(w);
    tell(w);
}

het_status het_checkpoint_writer_write(het_checkpoint_writer *w, int64_t step, char *json)
{
    take(w, step, json);
    const het_status status = write_copy(w);
    if (status == HET_OK) tell(w);
    return status;
}

double het_checkpoint_writer_seconds(const het_checkpoint_writer *w)
{
    return w->seconds;
}
