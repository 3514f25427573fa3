/* Sums over ranks by NCCL, loaded at run time, on a stream of high priority beside the one that computes: the first is told by
 * events what the second has done.
 *
 * The communicator is a non-blocking one, the only kind that a lost rank cannot hold for ever: a call may return before its
 * work is even on the stream, so nothing may be said of the stream, and no other call made, until the communicator's state
 * is no longer "in progress" (settle). Nothing here uses HET_CUDA before the ranks have found together: what fails until then
 * costs speed, and must not count as a fault of the device. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "library.h"
#include "members.h"
#include "nccl_calls.h"

typedef struct nccl_calls {
    NC_FUNCTIONS(HET_CALL_MEMBER)
} nccl_calls;

struct het_sum {
    het_cuda *cuda;
    const nccl_calls *nccl;
    void *comm;
    cudaStream_t stream;
    cudaEvent_t ready, done; /* the gradients are final; the last sum is there */
    double limit;            /* s that a call may take until it is on the stream */
    int pending, failed;
};

/* ---- the library ---------------------------------------------------------------------------------------------------- */

static het_status load(const het_cuda *c, const nccl_calls **out, int *version)
{
#define NAME(result, name, arguments) "nccl" #name,
    static const char *const names[] = {"libnccl.so.2", NULL}, *const functions[] = {NC_FUNCTIONS(NAME)};
    static nccl_calls calls;
    static int loaded;
    char why[300];
    static_assert(sizeof calls == sizeof functions, "a table of functions");
    *out = &calls;
    if (!loaded && !het_cuda_library("NCCL", "HET_NCCL_LIBRARY", names, functions, NC_FUNCTIONS(HET_CALL_COUNT), &calls, why,
                                     sizeof why))
        return c->host->fail(HET_E_DEVICE, "%s", why);
    loaded = 1;
    if (calls.GetVersion(version) != NC_SUCCESS || *version < NC_OLDEST)
        return c->host->fail(HET_E_DEVICE, "NCCL is too old: its version counts as %d, and %d (2.14) is the first that will do",
                             *version, (int)NC_OLDEST);
    return HET_OK;
}

/* NCCL's own words: what the result means and, of the last error, the first line. */
static het_status fail(const het_cuda *c, const nccl_calls *nccl, void *comm, het_status code, const char *call, int result)
{
    const char *last = nccl->GetLastError(comm);
    const int length = last == NULL ? 0 : (int)strcspn(last, "\n");
    return c->host->fail(code, "NCCL failed at %s: %s%s%.*s", call, nccl->GetErrorString(result),
                         length > 0 ? ": " : "", length, last == NULL ? "" : last);
}

static het_status find(het_device *dev, het_sum_place *place)
{
    const nccl_calls *nccl;
    const het_cuda *c = het_cuda_of(dev);
    int version = 0;
    const het_status status = load(c, &nccl, &version);
    memcpy(place->device, c->uuid, sizeof place->device);
    place->version = version;
    return status;
}

static het_status make_name(het_device *dev, het_sum_name *out)
{
    const nccl_calls *nccl;
    const het_cuda *c = het_cuda_of(dev);
    nc_id id;
    int version;
    static_assert(sizeof id == sizeof *out, "names are NCCL's");
    const het_status status = load(c, &nccl, &version);
    if (status != HET_OK) return status;
    const int result = nccl->GetUniqueId(&id);
    memcpy(out, &id, sizeof id);
    return result == NC_SUCCESS ? HET_OK : fail(c, nccl, NULL, HET_E_DEVICE, "GetUniqueId", result);
}

/* ---- joining and leaving -------------------------------------------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The state of the last call once it is no longer in progress, or still NC_IN_PROGRESS when the time is up. */
static int settle(const het_sum *s, int result)
{
    const double end = seconds_now() + s->limit;
    const timespec pause = {0, 50000};
    for (int tries = 0; result == NC_IN_PROGRESS && seconds_now() < end; tries++) {
        const int error = s->nccl->CommGetAsyncError(s->comm, &result);
        if (error != NC_SUCCESS && error != NC_IN_PROGRESS) result = error;
        if (result == NC_IN_PROGRESS && tries > 200) nanosleep(&pause, NULL);
    }
    return result;
}

static void leave(het_sum *s, int together)
{
    if (s->comm != NULL) {
        const int whole = together && !s->failed && !s->pending && settle(s, s->nccl->CommFinalize(s->comm)) == NC_SUCCESS;
        (void)(whole ? s->nccl->CommDestroy(s->comm) : s->nccl->CommAbort(s->comm));
    }
    if (s->ready != NULL) (void)cudaEventDestroy(s->ready);
    if (s->done != NULL) (void)cudaEventDestroy(s->done);
    if (s->stream != NULL) (void)cudaStreamDestroy(s->stream);
    (void)cudaGetLastError();
    delete s;
}

static het_status make_stream(het_sum *s)
{
    int least = 0, greatest = 0;
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (error == cudaSuccess) error = cudaStreamCreateWithPriority(&s->stream, cudaStreamNonBlocking, greatest);
    if (error == cudaSuccess) error = cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming);
    if (error == cudaSuccess) return HET_OK;
    return s->cuda->host->fail(HET_E_DEVICE, "no stream for NCCL: %s", cudaGetErrorString(error));
}

static het_status join(het_device *dev, het_sum **out, const het_sum_name *name, int rank, int ranks, double seconds)
{
    const nccl_calls *nccl;
    het_cuda *c = het_cuda_of(dev);
    nc_id id;
    nc_config config = {sizeof config, (unsigned)NC_MAGIC, NC_OLDEST, 0};
    int version;
    *out = NULL;
    het_status status = load(c, &nccl, &version);
    if (status != HET_OK) return status;
    memcpy(&id, name, sizeof id);
    het_sum *s = new het_sum();
    s->cuda = c;
    s->nccl = nccl;
    s->limit = seconds;
    status = make_stream(s);
    if (status == HET_OK) {
        const int result = settle(s, nccl->CommInitRankConfig(&s->comm, ranks, id, rank, &config));
        s->failed = result != NC_SUCCESS;
        if (result == NC_IN_PROGRESS)
            status = c->host->fail(HET_E_DEVICE, "NCCL did not find the other ranks within %.3g s", seconds);
        else if (result != NC_SUCCESS) status = fail(c, nccl, s->comm, HET_E_DEVICE, "CommInitRankConfig", result);
    }
    if (status == HET_OK) *out = s;
    else leave(s, 0);
    return status;
}

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

static het_status broken(het_sum *s, const char *call, int result)
{
    s->failed = 1;
    return fail(s->cuda, s->nccl, s->comm, HET_E_PEER, call, result);
}

static het_status fault(const het_cuda *c)
{
    return c->status == HET_OK ? HET_OK : c->host->fail(c->status, "%s", c->fault);
}

static het_status start(het_sum *s, float *data, int64_t n)
{
    het_cuda *c = s->cuda;
    HET_CUDA(c, cudaEventRecord(s->ready, c->stream));
    HET_CUDA(c, cudaStreamWaitEvent(s->stream, s->ready, 0));
    if (c->status != HET_OK || n == 0) return fault(c);
    s->pending = 1;
    int result = s->nccl->AllReduce(data, data, (size_t)n, NC_FLOAT, NC_SUM, s->comm, (void *)s->stream);
    /* versions 2.21.5 to 2.23.4 speak of success of a sum that is not on the stream yet: the state is asked in any case */
    result = settle(s, result == NC_SUCCESS ? (int)NC_IN_PROGRESS : result);
    if (result != NC_SUCCESS) return broken(s, "AllReduce", result);
    HET_CUDA(c, cudaEventRecord(s->done, s->stream));
    return fault(c);
}

static het_status poll(het_sum *s, int *done)
{
    het_cuda *c = s->cuda;
    int state = NC_SUCCESS;
    *done = !s->pending;
    if (!s->pending || c->status != HET_OK) return fault(c);
    const cudaError_t error = cudaEventQuery(s->done);
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError();
        const int result = s->nccl->CommGetAsyncError(s->comm, &state);
        if (result != NC_SUCCESS) state = result;
        return state == NC_SUCCESS || state == NC_IN_PROGRESS ? HET_OK : broken(s, "AllReduce", state);
    }
    HET_CUDA(c, error);
    s->pending = c->status != HET_OK;
    *done = !s->pending;
    return fault(c);
}

const het_sum_ops het_cuda_sums = {"NCCL", find, make_name, join, leave, start, poll};
