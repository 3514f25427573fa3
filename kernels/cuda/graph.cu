/* Work that is launched as one: CUDA graphs.
 *
 * The first work of a key runs kernel by kernel: what libraries and the runtime do on first use (loading kernels, choosing
 * algorithms) is done then, and is not allowed within a capture. The second is captured, and from then on the graph is
 * launched in its place, until another key comes: one graph is kept at a time, so that keys which change now and then, as with
 * the radius of frequency marching, cost one plain step and one capture.
 *
 * Where the host has something to do in between - it starts the sum of gradients that are final - the work is captured as a row of
 * graphs, and the host's calls are made between their launches. Sums are not part of a graph: NCCL's calls on a communicator
 * that does not block may return before their work is on the stream, and MPI's sums need the host.
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

/* Operations up to a call to the host, or to the end. */
typedef struct piece {
    cudaGraphExec_t exec;
    void (*say)(void *context, int64_t value); /* NULL: the last piece */
    void *context;
    int64_t value;
} piece;

struct het_graph {
    het_cuda *cuda;
    char key[HET_GRAPH_KEY];
    size_t key_bytes;
    int64_t moved; /* the device's, when the graph was made */
    piece pieces[HET_GRAPH_CALLS + 1];
    int count;     /* 0: not captured yet */
    int open;      /* a piece is being captured */
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
    for (int i = 0; i < g->count; i++)
        if (g->pieces[i].exec != NULL) (void)cudaGraphExecDestroy(g->pieces[i].exec);
    g->count = 0;
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

static void begin_piece(het_cuda *c, het_graph *g)
{
    HET_CUDA(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
    g->open = c->status == HET_OK;
}

/* What was recorded since the piece began. Where that has failed there is a fault, so that no operation does anything until the
   end. */
static void end_piece(het_cuda *c, het_graph *g, const piece *after)
{
    cudaGraph_t recorded = NULL;
    if (!g->open) return;
    piece *p = &g->pieces[g->count++];
    *p = *after;
    g->open = 0;
    cudaError_t capture = cudaStreamEndCapture(c->stream, &recorded);
    if (capture == cudaSuccess && c->status == HET_OK) capture = cudaGraphInstantiateWithFlags(&p->exec, recorded, 0);
    if (recorded != NULL) (void)cudaGraphDestroy(recorded);
    HET_CUDA(c, capture);
}

static void launch(het_cuda *c, const het_graph *g)
{
    for (const piece *p = g->pieces; p < g->pieces + g->count; p++) {
        HET_CUDA(c, cudaGraphLaunch(p->exec, c->stream));
        if (p->say != NULL) p->say(p->context, p->value);
    }
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
    if (g->count > 0) {
        launch(c, g);
        return 0;
    }
    c->recording = g;
    begin_piece(c, g);
    return 1;
}

void het_cuda_graph_call(het_device *dev, void (*say)(void *context, int64_t value), void *context, int64_t value)
{
    het_cuda *c = het_cuda_of(dev);
    het_graph *g = c->recording;
    const piece after = {NULL, say, context, value};
    if (g == NULL) {
        say(context, value);
        return;
    }
    end_piece(c, g, &after);
    if (g->count > HET_GRAPH_CALLS) het_cuda_fault(c, "capture", "more calls than a graph holds", __FILE__, __LINE__);
    begin_piece(c, g);
}

int het_cuda_graph_end(het_device *dev)
{
    het_cuda *c = het_cuda_of(dev);
    het_graph *g = c->recording;
    const piece after = {NULL, NULL, NULL, 0};
    if (g == NULL) return 1;
    end_piece(c, g, &after);
    c->recording = NULL;
    if (c->status == HET_OK) {
        launch(c, g);
        return 1;
    }
    decline(c, c->fault);
    forget(g);
    c->status = HET_OK; /* of the capture; one of the GPU itself shows again */
    return 0;
}

void het_cuda_graph_free(het_graph *g)
{
    if (g == NULL) return;
    forget(g);
    delete g;
}
