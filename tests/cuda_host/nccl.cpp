/* A test double of NCCL: libnccl.so.2 with the functions of kernels/cuda/nccl_calls.h, on the streams of the double of the CUDA
 * runtime. Ranks are processes of one machine and add up through a shared file. It is stricter than the library: nothing is on
 * the stream until the communicator's state was asked for twice, no call may be made before, the stream must come after all
 * launches so far and be of high priority, and until a sum is there its numbers are NaN. As versions 2.21.5 to 2.23.4 it says of such a
 * sum that it has succeeded.
 *
 * HET_HOST_NCCL=WHAT:RANK[:SUM] makes it fail: join (the rank's start fails), absent (it never joins), wrong (that sum is off by
 * one), sum (it meets an error in that sum, counted from 1, which no rank ever gets). HET_HOST_NCCL_VERSION: what it says. */
#include "../../kernels/cuda/nccl_calls.h"

#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stream.h"

enum { SLOTS = 2, RANKS_MAX = 4, NUMBERS_MAX = 1 << 21, REMOTE_ERROR = 6, SYSTEM_ERROR = 2, ARGUMENT_ERROR = 4 };

/* Counters never go back: a slot's n-th use waits for n times the ranks. */
typedef struct shared_file {
    int joined, left;
    struct {
        long arrived, taken;
        float numbers[RANKS_MAX][NUMBERS_MAX];
    } slot[SLOTS];
} shared_file;

typedef struct communicator communicator;

typedef struct operation {
    communicator *comm;
    het_host_stream *stream;
    float *to, *mine;
    size_t count;
    long number; /* from 0 */
    int sent, dropped;
} operation;

struct communicator {
    int rank, ranks, state, asked; /* how often since the last call */
    long sums;
    shared_file *all;
    operation *waiting; /* not on its stream yet */
    operation *live[16];
};

static void stop(const char *why)
{
    fprintf(stderr, "nccl double: %s\n", why);
    abort();
}

static int fault(const char *what, int rank, long sum)
{
    const char *text = getenv("HET_HOST_NCCL");
    char word[16];
    int at = -1;
    long which = 1;
    if (text == NULL || sscanf(text, "%15[a-z]:%d:%ld", word, &at, &which) < 2) return 0;
    return strcmp(word, what) == 0 && at == rank && (sum == 0 || sum == which);
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

static int version_here(void)
{
    const char *text = getenv("HET_HOST_NCCL_VERSION");
    return text == NULL ? 22809 : atoi(text);
}

EXPORTED int ncclGetVersion(int *version)
{
    *version = version_here();
    return NC_SUCCESS;
}

EXPORTED const char *ncclGetErrorString(int result)
{
    return result == REMOTE_ERROR ? "remote process exited or there was a network error" : "unhandled system error";
}

EXPORTED const char *ncclGetLastError(void *)
{
    return "words of the double\nand a second line";
}

EXPORTED int ncclGetUniqueId(nc_id *id)
{
    const char *folder = getenv("TMPDIR");
    memset(id, 0, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "%.90s/nccl.XXXXXX", folder == NULL ? "/tmp" : folder);
    const int file = mkstemp(id->bytes);
    if (file < 0 || ftruncate(file, sizeof(shared_file)) != 0) return SYSTEM_ERROR;
    close(file);
    return NC_SUCCESS;
}

EXPORTED int ncclCommInitRankConfig(void **out, int ranks, nc_id id, int rank, nc_config *config)
{
    if (config->size != sizeof *config || config->magic != 0xcafebeef || config->version != NC_OLDEST || config->blocking != 0 ||
        rank < 0 || rank >= ranks || ranks > RANKS_MAX)
        return ARGUMENT_ERROR;
    communicator *c = new communicator();
    c->rank = rank;
    c->ranks = ranks;
    c->state = fault("join", rank, 0) ? (int)SYSTEM_ERROR : (int)NC_IN_PROGRESS;
    const int file = open(id.bytes, O_RDWR);
    void *all = mmap(NULL, sizeof(shared_file), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || all == MAP_FAILED) stop("no shared file");
    close(file);
    c->all = (shared_file *)all;
    if (!fault("absent", rank, 0)) __atomic_add_fetch(&c->all->joined, 1, __ATOMIC_ACQ_REL);
    if (rank == 0 && c->state == SYSTEM_ERROR) unlink(id.bytes);
    if (__atomic_load_n(&c->all->joined, __ATOMIC_ACQUIRE) == ranks) unlink(id.bytes);
    *out = c;
    return c->state;
}

static size_t chunk_of(const operation *o)
{
    return o->count * sizeof(float);
}

/* Done, or not yet: the work that stands on the stream. */
static int advance(void *context)
{
    operation *o = (operation *)context;
    communicator *c = o->comm;
    if (!o->dropped) {
        auto &slot = c->all->slot[o->number % SLOTS];
        const long use = o->number / SLOTS;
        if (fault("sum", c->rank, o->number + 1)) {
            c->state = REMOTE_ERROR;
            return 0;
        }
        if (!o->sent && __atomic_load_n(&slot.taken, __ATOMIC_ACQUIRE) < use * c->ranks) return 0;
        if (!o->sent) {
            memcpy(slot.numbers[c->rank], o->mine, chunk_of(o));
            __atomic_add_fetch(&slot.arrived, 1, __ATOMIC_ACQ_REL);
            o->sent = 1;
        }
        if (__atomic_load_n(&slot.arrived, __ATOMIC_ACQUIRE) < (use + 1) * c->ranks) return 0;
        o->stream->open();
        for (size_t i = 0; i < o->count; i++) {
            float sum = slot.numbers[0][i];
            for (int rank = 1; rank < c->ranks; rank++) sum += slot.numbers[rank][i];
            o->to[i] = sum + (float)fault("wrong", c->rank, o->number + 1);
        }
        o->stream->close();
        __atomic_add_fetch(&slot.taken, 1, __ATOMIC_ACQ_REL);
        c->live[o->number % 16] = NULL;
    }
    delete[] o->mine;
    delete o;
    return 1;
}

/* Put the sum that waits on its stream. */
static void issue(communicator *c)
{
    operation *o = c->waiting;
    c->waiting = NULL;
    if (o->stream->priority >= 0) stop("a sum on a stream of low priority");
    if (o->stream->seen != *o->stream->launches) stop("a sum whose stream does not wait for what was launched before");
    if (c->live[o->number % 16] != NULL) stop("too many sums at a time");
    c->live[o->number % 16] = o;
    o->mine = new float[o->count];
    o->stream->open();
    memcpy(o->mine, o->to, chunk_of(o));
    for (size_t i = 0; i < o->count; i++) o->to[i] = NAN;
    o->stream->close();
    o->stream->put(o->stream, advance, o);
}

EXPORTED int ncclCommGetAsyncError(void *comm, int *state)
{
    communicator *c = (communicator *)comm;
    if (c->state == NC_IN_PROGRESS && ++c->asked > 1 && __atomic_load_n(&c->all->joined, __ATOMIC_ACQUIRE) == c->ranks) {
        if (c->waiting != NULL) issue(c);
        c->state = NC_SUCCESS;
    }
    *state = c->state;
    return NC_SUCCESS;
}

static int begin(communicator *c)
{
    if (c->state != NC_SUCCESS) stop("a call before the last one was over");
    c->asked = 0;
    return c->state = NC_IN_PROGRESS;
}

EXPORTED int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation_, void *comm, void *stream)
{
    communicator *c = (communicator *)comm;
    if (from != to || type != NC_FLOAT || operation_ != NC_SUM || count == 0 || count > NUMBERS_MAX) return ARGUMENT_ERROR;
    begin(c);
    c->waiting = new operation{c, (het_host_stream *)stream, (float *)to, NULL, count, c->sums++, 0, 0};
    return version_here() >= 22105 && version_here() <= 22304 ? NC_SUCCESS : NC_IN_PROGRESS;
}

EXPORTED int ncclCommFinalize(void *comm)
{
    return begin((communicator *)comm);
}

EXPORTED int ncclCommAbort(void *comm)
{
    communicator *c = (communicator *)comm;
    for (operation *o : c->live)
        if (o != NULL) o->dropped = 1;
    delete c->waiting;
    munmap(c->all, sizeof(shared_file));
    delete c;
    return NC_SUCCESS;
}

EXPORTED int ncclCommDestroy(void *comm)
{
    for (operation *o : ((communicator *)comm)->live)
        if (o != NULL) stop("a communicator ends with sums under way");
    return ncclCommAbort(comm);
}
