/* Work that is launched as one: CUDA graphs.
 *
 * The first work of a key runs kernel by kernel: what libraries and the runtime do on first use (loading kernels, choosing
 * algorithms) is done then, and is not allowed within a capture. The second is captured, and from then on the graph is
 * launched in its place, until another key comes: one graph is kept at a time, so that keys which change now and then, as with
 * the radius of frequency marching, cost one plain step and one capture.
 *
 * Numbers that differ from step to step are read from the GPU's memory (ops.h: `at` of add_noise), where an upload before the
 * work puts them. The other way, to capture every step and update the graph (cudaGraphExecUpdate), needs no key, but takes the
 * host as long as the launches that it replaces, while the GPU waits: a step begins when the last one's numbers are known.
 *
 * Where something cannot be captured nothing has run yet: the work is done kernel by kernel, then and from then on, with a
 * warning. A fault of the GPU within a graph shows at a later call, as one within a kernel does. HET_CUDA_GRAPH=off. */
#include <stdlib.h>
#include <string.h>

#include "members.h"

struct het_graph {
    het_cuda *cuda;
    char key[HET_GRAPH_KEY];
    size_t key_bytes;
    int64_t moved; /* the device's, when the graph was made */
    cudaGraphExec_t exec; /* NULL: not captured yet */
};

het_status het_cuda_graphs_open(het_cuda *c)
{
    const char *wanted = getenv("HET_CUDA_GRAPH");
    c->no_graphs = wanted != NULL && strcmp(wanted, "off") == 0;
    if (wanted != NULL && !c->no_graphs && strcmp(wanted, "on") != 0)
        return c->host->fail(HET_E_USAGE, "HET_CUDA_GRAPH=%s: it must be on or off", wanted);
    return HET_OK;
}

static void forget(het_graph *g)
{
    if (g->exec != NULL) (void)cudaGraphExecDestroy(g->exec);
    g->exec = NULL;
}

/* From now on kernel by kernel. */
static void decline(het_cuda *c, const char *why)
{
    c->host->warn("steps are launched kernel by kernel, as they cannot be captured: %s", why);
    c->no_graphs = 1;
    (void)cudaGetLastError();
}

/* Whether the graph's last work was this one, with the same memory beneath it. */
static int same(const het_graph *g, const void *key, size_t bytes)
{
    return g->moved == g->cuda->moved && g->key_bytes == bytes && memcmp(g->key, key, bytes) == 0;
}

int het_cuda_graph_begin(het_device *dev, het_graph **graph, const void *key, size_t bytes)
{
    het_cuda *c = het_cuda_of(dev);
    if (c->no_graphs || c->status != HET_OK || bytes > HET_GRAPH_KEY) return 1;
    if (*graph == NULL) *graph = new het_graph();
    het_graph *g = *graph;
    g->cuda = c;
    if (!same(g, key, bytes)) {
        forget(g);
        memcpy(g->key, key, bytes);
        g->key_bytes = bytes;
        g->moved = c->moved;
        return 1;
    }
    if (g->exec != NULL) {
        HET_CUDA(c, cudaGraphLaunch(g->exec, c->stream));
        return 0;
    }
    const cudaError_t error = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess) c->recording = g;
    else decline(c, cudaGetErrorString(error));
    return 1;
}

/* What was recorded, as a graph; else why not. */
static const char *instantiate(het_cuda *c, het_graph *g)
{
    cudaGraph_t recorded = NULL;
    cudaError_t error = cudaStreamEndCapture(c->stream, &recorded);
    if (error == cudaSuccess && c->status == HET_OK) error = cudaGraphInstantiateWithFlags(&g->exec, recorded, 0);
    if (recorded != NULL) (void)cudaGraphDestroy(recorded);
    if (c->status != HET_OK) return c->fault;
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

int het_cuda_graph_end(het_device *dev)
{
    het_cuda *c = het_cuda_of(dev);
    het_graph *g = c->recording;
    if (g == NULL) return 1;
    c->recording = NULL;
    const char *why = instantiate(c, g);
    if (why == NULL) {
        HET_CUDA(c, cudaGraphLaunch(g->exec, c->stream));
        return 1;
    }
    decline(c, why);
    g->exec = NULL;
    c->status = HET_OK; /* of the capture; one of the GPU itself shows again */
    return 0;
}

void het_cuda_graph_free(het_graph *g)
{
    if (g == NULL) return;
    forget(g);
    delete g;
}
