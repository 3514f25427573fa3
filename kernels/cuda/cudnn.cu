#include "act.h"
#include "cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn_calls.h"
#include "library.h"

/* The older of its two interfaces: it knows NHWC, bf16 with fp32 sums and which algorithms are deterministic, in a few calls.
 * What it declines when it plans, or later at a call, is computed by columns from then on.
 *
 * Its gradients of weights have the type of the images: in bf16 they are rounded once (2^-9), and then added to the fp32 ones. By
 * columns they would not be, but columns of an encoder's images at D = 128 cross the memory as 5 GB in a step, a fifth of its time as
 * computed. */

enum { ALGORITHMS = 16, WORKSPACE_MOST = 256 << 20 };

typedef struct cd_calls {
    CD_FUNCTIONS(HET_CALL_MEMBER)
} cd_calls;

struct het_cudnn : cd_calls {
    void *handle;
    int asked; /* by HET_CUDA_CONV: what it declines is said */
};

/* One direction: the convolution's descriptor carries the mode of arithmetic, which algorithms come with. */
typedef struct way {
    void *conv;
    int algorithm, usable;
    size_t workspace;
} way;

struct het_cudnn_conv {
    het_cuda *cuda;
    void *x, *y, *w; /* descriptors; w: of its gradient, too */
    way forward, data, filter;
    size_t dw_at; /* bf16: where in scratch the gradient of weights goes first */
    het_conv_spec spec;
};

__global__ void add_rounded(float *dw, const het_narrow *rounded, int64_t n)
{
    HET_FOR(i, n) dw[i] += het_load(rounded, i);
}

/* ---- the library ---------------------------------------------------------------------------------------------------- */

/* 0, with the reason, where it cannot be used. */
static int load(het_cuda *c, het_cudnn *d, char *why, size_t size)
{
#define NAME(result, name, arguments) "cudnn" #name,
    static const char *const names[] = {"libcudnn.so.9", NULL}, *const functions[] = {CD_FUNCTIONS(NAME)};
    static_assert(sizeof(cd_calls) == sizeof functions, "a table of functions");
    if (!het_cuda_library("cuDNN", "HET_CUDNN_LIBRARY", names, functions, CD_FUNCTIONS(HET_CALL_COUNT), (cd_calls *)d, why,
                          size))
        return 0;
    if (d->GetVersion() / 10000 != 9) {
        snprintf(why, size, "cuDNN's version counts as %zu, but 9 is wanted", d->GetVersion());
        return 0;
    }
    int status = d->Create(&d->handle);
    if (status == CD_SUCCESS) status = d->SetStream(d->handle, (void *)c->stream);
    (void)cudaGetLastError(); /* what fails here must not be taken for a fault of a kernel */
    if (status != CD_SUCCESS) snprintf(why, size, "cuDNN does not start: %s", d->GetErrorString(status));
    return status == CD_SUCCESS;
}

het_status het_cudnn_open(het_cuda *c)
{
    const char *wanted = getenv("HET_CUDA_CONV");
    const int asked = wanted != NULL && strcmp(wanted, "cudnn") == 0;
    char why[300];
    if (wanted != NULL && strcmp(wanted, "columns") == 0) return HET_OK;
    if (wanted != NULL && !asked)
        return c->host->fail(HET_E_USAGE, "HET_CUDA_CONV=%s: it must be columns or cudnn", wanted);
    c->cudnn = new het_cudnn();
    c->cudnn->asked = asked;
    if (load(c, c->cudnn, why, sizeof why)) return HET_OK;
    het_cudnn_close(c);
    if (asked) c->host->warn("convolutions are computed by columns: %s", why);
    return HET_OK;
}

void het_cudnn_close(het_cuda *c)
{
    if (c->cudnn != NULL && c->cudnn->handle != NULL) (void)c->cudnn->Destroy(c->cudnn->handle);
    delete c->cudnn;
    c->cudnn = NULL;
}

void het_cudnn_name(const het_cuda *c, char *text, size_t size)
{
    const size_t version = c->cudnn == NULL ? 0 : c->cudnn->GetVersion();
    text[0] = '\0';
    if (version > 0) snprintf(text, size, "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

/* ---- plans ---------------------------------------------------------------------------------------------------------- */

static int describe(het_cudnn_conv *p, const het_conv_spec *s, int64_t out_h, int64_t out_w)
{
    const het_cudnn *d = p->cuda->cudnn;
    const int type = p->cuda->narrow ? (int)CD_BFLOAT16 : (int)CD_FLOAT, kernel = (int)s->kernel;
    const int in = (int)s->in_c, out = (int)s->out_c, batch = (int)s->batch;
    return d->CreateTensorDescriptor(&p->x) == CD_SUCCESS && d->CreateTensorDescriptor(&p->y) == CD_SUCCESS &&
           d->CreateFilterDescriptor(&p->w) == CD_SUCCESS &&
           d->SetTensor4dDescriptor(p->x, CD_NHWC, type, batch, in, (int)s->in_h, (int)s->in_w) == CD_SUCCESS &&
           d->SetTensor4dDescriptor(p->y, CD_NHWC, type, batch, out, (int)out_h, (int)out_w) == CD_SUCCESS &&
           d->SetFilter4dDescriptor(p->w, type, CD_NHWC, out, in, kernel, kernel) == CD_SUCCESS;
}

static int describe_way(const het_cudnn_conv *p, way *w, const het_conv_spec *s)
{
    const het_cudnn *d = p->cuda->cudnn;
    const int pad = (int)s->pad, stride = (int)s->stride;
    return d->CreateConvolutionDescriptor(&w->conv) == CD_SUCCESS &&
           d->SetConvolution2dDescriptor(w->conv, pad, pad, stride, stride, 1, 1, CD_CROSS_CORRELATION, CD_FLOAT) ==
               CD_SUCCESS &&
           d->SetConvolutionMathType(w->conv, p->cuda->narrow ? CD_TENSOR_OP_MATH : CD_FMA_MATH) == CD_SUCCESS;
}

/* The first, which it takes for the fastest, of those that have one order, little workspace and plain sums of products: numbers beyond
   `last` are transforms (Fourier, Winograd), which lose digits. */
static void choose(const het_cudnn_conv *p, way *w, int last, int status, int found, const cd_algorithm *all)
{
    for (int i = 0; status == CD_SUCCESS && i < found && !w->usable; i++) {
        const cd_algorithm *a = &all[i];
        if (a->algorithm > last || a->status != CD_SUCCESS || a->determinism != CD_DETERMINISTIC || a->memory > WORKSPACE_MOST) continue;
        if (!p->cuda->narrow && a->math == CD_TENSOR_OP_MATH) continue; /* TF32 */
        if (p->cuda->narrow && p->cuda->cudnn->SetConvolutionMathType(w->conv, a->math) != CD_SUCCESS) continue;
        w->algorithm = a->algorithm;
        w->workspace = a->memory;
        w->usable = 1;
    }
}

static void plan_ways(het_cudnn_conv *p, const het_conv_spec *s)
{
    const het_cudnn *d = p->cuda->cudnn;
    cd_algorithm all[ALGORITHMS];
    int found = 0, status;
    if (!describe_way(p, &p->forward, s) || !describe_way(p, &p->data, s) || !describe_way(p, &p->filter, s)) return;
    status = d->GetConvolutionForwardAlgorithm_v7(d->handle, p->x, p->w, p->forward.conv, p->y, ALGORITHMS, &found, all);
    choose(p, &p->forward, CD_FORWARD_LAST, status, found, all);
    found = 0;
    status = d->GetConvolutionBackwardDataAlgorithm_v7(d->handle, p->w, p->y, p->data.conv, p->x, ALGORITHMS, &found, all);
    choose(p, &p->data, CD_BACKWARD_LAST, status, found, all);
    found = 0;
    status = d->GetConvolutionBackwardFilterAlgorithm_v7(d->handle, p->x, p->y, p->filter.conv, p->w, ALGORITHMS, &found, all);
    choose(p, &p->filter, CD_BACKWARD_LAST, status, found, all);
}

static void say_declined(const het_cudnn_conv *p, const char *what, const char *since)
{
    const het_conv_spec *s = &p->spec;
    if (p->cuda->cudnn->asked)
        p->cuda->host->warn("cuDNN declines %s, %lld x %lld of %lld x %lld x %lld to %lld channels: columns serve%s", what, (long long)s->kernel,
                            (long long)s->kernel, (long long)s->in_h, (long long)s->in_w, (long long)s->in_c, (long long)s->out_c, since);
}

static void say_plans(const het_cudnn_conv *p)
{
    if (!p->forward.usable) say_declined(p, "a convolution", "");
    if (!p->data.usable) say_declined(p, "a gradient of images", "");
    if (!p->filter.usable) say_declined(p, "a gradient of weights", "");
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int64_t weights(const het_conv_spec *s)
{
    return s->out_c * s->kernel * s->kernel * s->in_c;
}

/* What the three ways need of it. */
static size_t scratch_of(het_cudnn_conv *p)
{
    size_t filter = p->filter.workspace;
    p->dw_at = (filter + 255) / 256 * 256;
    if (p->cuda->narrow) filter = p->dw_at + (size_t)weights(&p->spec) * sizeof(het_narrow);
    return larger(filter, larger(p->forward.workspace, p->data.workspace));
}

het_cudnn_conv *het_cudnn_conv_new(het_cuda *c, const het_conv_spec *s, int64_t out_h, int64_t out_w, size_t *scratch)
{
    const int64_t most = (int64_t)1 << 31; /* numbers in a tensor */
    *scratch = 0;
    if (c->cudnn == NULL || s->batch >= most || s->batch * s->in_h * s->in_w * s->in_c >= most ||
        s->batch * out_h * out_w * s->out_c >= most)
        return NULL;
    het_cudnn_conv *p = new het_cudnn_conv();
    p->cuda = c;
    p->spec = *s;
    if (describe(p, s, out_h, out_w)) plan_ways(p, s);
    (void)cudaGetLastError();
    say_plans(p);
    *scratch = scratch_of(p);
    if (p->forward.usable || p->data.usable || p->filter.usable) return p;
    het_cudnn_conv_free(p);
    return NULL;
}

void het_cudnn_conv_free(het_cudnn_conv *p)
{
    if (p == NULL) return;
    const het_cudnn *d = p->cuda->cudnn;
    if (p->x != NULL) (void)d->DestroyTensorDescriptor(p->x);
    if (p->y != NULL) (void)d->DestroyTensorDescriptor(p->y);
    if (p->w != NULL) (void)d->DestroyFilterDescriptor(p->w);
    void *convs[] = {p->forward.conv, p->data.conv, p->filter.conv};
    for (int i = 0; i < 3; i++)
        if (convs[i] != NULL) (void)d->DestroyConvolutionDescriptor(convs[i]);
    delete p;
}

/* ---- calls ---------------------------------------------------------------------------------------------------------- */

static int usable(const het_cudnn_conv *p, const way *w)
{
    return p->cuda->status == HET_OK && w->usable;
}

/* What it will not do - also for want of one of its own files, or of memory - columns do: forward and data overwrite what it may have
 * begun, and a device that is gone shows there. The gradient of weights in fp32 is added to, so only what is refused before anything begins
 * may be done again. Within a capture what it did before and does not any more ends that. */
static int done(het_cudnn_conv *p, way *w, const char *call, int status)
{
    if (status == CD_SUCCESS) return 1;
    if (p->cuda->recording == NULL) {
        w->usable = 0;
        if (w != &p->filter || status < CD_NOT_SUPPORTED_END) {
            say_declined(p, call, " from now on");
            return 0;
        }
    }
    het_cuda_fault(p->cuda, call, p->cuda->cudnn->GetErrorString(status), __FILE__, __LINE__);
    return 1;
}

static const float zero = 0.0f, one = 1.0f;

int het_cudnn_forward(het_cudnn_conv *p, void *y, const void *x, const void *w)
{
    if (p == NULL || !usable(p, &p->forward)) return 0;
    const het_cudnn *d = p->cuda->cudnn;
    way *v = &p->forward;
    return done(p, v, "cudnnConvolutionForward",
                d->ConvolutionForward(d->handle, &one, p->x, x, p->w, w, v->conv, v->algorithm, p->cuda->scratch.memory,
                                      v->workspace, &zero, p->y, y));
}

int het_cudnn_backward_data(het_cudnn_conv *p, void *dx, const void *dy, const void *w)
{
    if (p == NULL || !usable(p, &p->data)) return 0;
    const het_cudnn *d = p->cuda->cudnn;
    way *v = &p->data;
    return done(p, v, "cudnnConvolutionBackwardData",
                d->ConvolutionBackwardData(d->handle, &one, p->w, w, p->y, dy, v->conv, v->algorithm, p->cuda->scratch.memory,
                                           v->workspace, &zero, p->x, dx));
}

int het_cudnn_backward_filter(het_cudnn_conv *p, float *dw, const void *dy, const void *x)
{
    if (p == NULL || !usable(p, &p->filter)) return 0;
    het_cuda *c = p->cuda;
    const het_cudnn *d = c->cudnn;
    way *v = &p->filter;
    het_narrow *rounded = c->narrow ? (het_narrow *)((char *)c->scratch.memory + p->dw_at) : NULL;
    void *to = rounded != NULL ? (void *)rounded : (void *)dw;
    const float *beta = rounded != NULL ? &zero : &one;
    const int64_t n = weights(&p->spec);
    if (!done(p, v, "cudnnConvolutionBackwardFilter",
              d->ConvolutionBackwardFilter(d->handle, &one, p->x, x, p->y, dy, v->conv, v->algorithm, c->scratch.memory, v->workspace,
                                           beta, p->w, to)))
        return 0;
    if (rounded != NULL) HET_LAUNCH(c, add_rounded, het_blocks(n), HET_BLOCK, dw, rounded, n);
    return 1;
}
