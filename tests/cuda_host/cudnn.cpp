/* A test double of cuDNN: libcudnn.so.9 with the functions of kernels/cuda/cudnn_calls.h, computed by plain loops from the
 * descriptors, so that a wrong shape, layout or type shows. Of the algorithms that it offers only one is right: those before it
 * are not deterministic, not supported, too large, a transform or, for fp32, TF32, and stop the test when they are used. As the library, it
 * has no fp32 gradient of filters for bf16.
 * HET_HOST_CUDNN=decline: every call is declined; =dead: it does not start.
 * HET_HOST_CUDNN_LEAST=N: the process must have computed so many convolutions when it ends. */
#include "../../kernels/cuda/cudnn_calls.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

enum { RIGHT = 1, WRONG = 0, TRANSFORM = 4, WORKSPACE = 4096, DILATION = 1 };

struct tensor {
    int format, type, n, c, h, w;
};
struct filter {
    int format, type, k, c, h, w;
};
struct convolution {
    int pad, stride, mode, compute, math;
};

static void stop(const char *why)
{
    fprintf(stderr, "cudnn double: %s\n", why);
    abort();
}

static long computed;

__attribute__((destructor)) static void check_use(void)
{
    const char *least = getenv("HET_HOST_CUDNN_LEAST");
    if (least == NULL || computed >= atol(least)) return;
    fprintf(stderr, "cudnn double: %ld convolutions\n", computed);
    stop("fewer convolutions than it should have been given");
}

static int said(const char *word)
{
    const char *text = getenv("HET_HOST_CUDNN");
    return text != NULL && strcmp(text, word) == 0;
}

static float load(int type, const void *x, int64_t i)
{
    if (type == CD_FLOAT) return ((const float *)x)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void store(int type, void *y, int64_t i, double sum, float beta)
{
    const float value = (float)sum + (beta == 0.0f ? 0.0f : beta * load(type, y, i));
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == CD_FLOAT) ((float *)y)[i] = value;
    else ((uint16_t *)y)[i] = (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED size_t cudnnGetVersion(void)
{
    return 91900;
}

EXPORTED const char *cudnnGetErrorString(int)
{
    return "words of the double";
}

EXPORTED int cudnnCreate(void **handle)
{
    *handle = NULL;
    if (said("dead")) return 1001;
    *handle = new het_host_stream *();
    return CD_SUCCESS;
}

EXPORTED int cudnnDestroy(void *handle)
{
    delete (het_host_stream **)handle;
    return CD_SUCCESS;
}

EXPORTED int cudnnSetStream(void *handle, void *stream)
{
    *(het_host_stream **)handle = (het_host_stream *)stream;
    return CD_SUCCESS;
}

#define DESCRIPTOR(Name, type)                                 \
    EXPORTED int cudnnCreate##Name##Descriptor(void **made)    \
    {                                                          \
        *made = new type();                                    \
        return CD_SUCCESS;                                     \
    }                                                          \
    EXPORTED int cudnnDestroy##Name##Descriptor(void *gone)    \
    {                                                          \
        delete (type *)gone;                                   \
        return CD_SUCCESS;                                     \
    }
DESCRIPTOR(Tensor, tensor)
DESCRIPTOR(Filter, filter)
DESCRIPTOR(Convolution, convolution)

EXPORTED int cudnnSetTensor4dDescriptor(void *t, int format, int type, int n, int c, int h, int w)
{
    *(tensor *)t = {format, type, n, c, h, w};
    return format == CD_NHWC ? CD_SUCCESS : CD_BAD_PARAM;
}

EXPORTED int cudnnSetFilter4dDescriptor(void *f, int type, int format, int k, int c, int h, int w)
{
    *(filter *)f = {format, type, k, c, h, w};
    return format == CD_NHWC ? CD_SUCCESS : CD_BAD_PARAM;
}

EXPORTED int cudnnSetConvolution2dDescriptor(void *c, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                             int dilation_w, int mode, int compute)
{
    if (pad_h != pad_w || stride_h != stride_w || dilation_h != DILATION || dilation_w != DILATION) return CD_NOT_SUPPORTED;
    *(convolution *)c = {pad_h, stride_h, mode, compute, 0};
    return CD_SUCCESS;
}

EXPORTED int cudnnSetConvolutionMathType(void *c, int math)
{
    ((convolution *)c)->math = math;
    return CD_SUCCESS;
}

static int out_of(int in, int kernel, const convolution *c)
{
    return (in + 2 * c->pad - kernel) / c->stride + 1;
}

static int fits(const tensor *x, const filter *w, const convolution *c, const tensor *y)
{
    return x->type == y->type && x->n == y->n && w->c == x->c && w->k == y->c && w->h == w->w &&
           y->h == out_of(x->h, w->h, c) && y->w == out_of(x->w, w->w, c) && c->mode == CD_CROSS_CORRELATION &&
           c->compute == CD_FLOAT;
}

static int offer(const tensor *x, const filter *w, const convolution *c, const tensor *y, int *found, cd_algorithm *all)
{
    const int narrow = x->type == CD_BFLOAT16, math = narrow ? (int)CD_TENSOR_OP_MATH : (int)CD_FMA_MATH;
    if (!fits(x, w, c, y)) return CD_BAD_PARAM;
    if (w->type != x->type) return CD_NOT_SUPPORTED;
    all[0] = {WRONG, CD_SUCCESS, 1.0f, 0, 0, math, {0}};
    all[1] = {WRONG, CD_NOT_SUPPORTED, -1.0f, 0, CD_DETERMINISTIC, math, {0}};
    all[2] = {WRONG, CD_SUCCESS, 2.0f, (size_t)1 << 40, CD_DETERMINISTIC, math, {0}};
    all[3] = {TRANSFORM, CD_SUCCESS, 2.5f, WORKSPACE, CD_DETERMINISTIC, math, {0}};
    all[4] = {narrow ? (int)RIGHT : (int)WRONG, CD_SUCCESS, 3.0f, WORKSPACE, CD_DETERMINISTIC, CD_TENSOR_OP_MATH, {0}};
    all[5] = {RIGHT, CD_SUCCESS, 4.0f, WORKSPACE, CD_DETERMINISTIC, math, {0}};
    *found = 6;
    return CD_SUCCESS;
}

EXPORTED int cudnnGetConvolutionForwardAlgorithm_v7(void *, void *x, void *w, void *c, void *y, int wanted, int *found,
                                                    cd_algorithm *all)
{
    return wanted < 6 ? (int)CD_BAD_PARAM : offer((tensor *)x, (filter *)w, (convolution *)c, (tensor *)y, found, all);
}

EXPORTED int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, void *w, void *dy, void *c, void *dx, int wanted, int *found,
                                                         cd_algorithm *all)
{
    return wanted < 6 ? (int)CD_BAD_PARAM : offer((tensor *)dx, (filter *)w, (convolution *)c, (tensor *)dy, found, all);
}

EXPORTED int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, void *x, void *dy, void *c, void *dw, int wanted, int *found,
                                                           cd_algorithm *all)
{
    return wanted < 6 ? (int)CD_BAD_PARAM : offer((tensor *)x, (filter *)dw, (convolution *)c, (tensor *)dy, found, all);
}

/* May it run? The stream's memory is open then, and the workspace spoiled. */
static int begin(void *handle, const tensor *x, const filter *w, const convolution *c, const tensor *y, int algorithm,
                 void *workspace, size_t bytes, const void *alpha)
{
    if (said("decline")) return CD_NOT_SUPPORTED;
    if (algorithm != RIGHT) stop("an algorithm that must not be used");
    if (!fits(x, w, c, y)) stop("shapes that do not fit");
    if (c->math != (x->type == CD_FLOAT ? (int)CD_FMA_MATH : (int)CD_TENSOR_OP_MATH)) stop("another mode of arithmetic");
    if (bytes < WORKSPACE || workspace == NULL) stop("too little workspace");
    if (*(const float *)alpha != 1.0f) stop("a factor");
    (*(het_host_stream **)handle)->open();
    memset(workspace, 0xff, bytes);
    computed++;
    return CD_SUCCESS;
}

static int end(void *handle)
{
    (*(het_host_stream **)handle)->close();
    return CD_SUCCESS;
}

/* The input pixel under tap (ky, kx) of output pixel (oy, ox); -1: outside. */
static int64_t under(const tensor *x, const convolution *c, int n, int oy, int ox, int ky, int kx)
{
    const int iy = oy * c->stride - c->pad + ky, ix = ox * c->stride - c->pad + kx;
    if (iy < 0 || iy >= x->h || ix < 0 || ix >= x->w) return -1;
    return (((int64_t)n * x->h + iy) * x->w + ix) * x->c;
}

/* Whether the stream captures the call. */
template <class Call> static int captures(void *handle, const Call &call)
{
    return het_host_record(*(het_host_stream **)handle, call);
}

/* visit(input pixel, output pixel, tap) for all that meet */
template <class Visit> static void for_taps(const tensor *x, const filter *w, const convolution *c, const tensor *y, Visit visit)
{
    for (int n = 0; n < y->n; n++)
        for (int oy = 0; oy < y->h; oy++)
            for (int ox = 0; ox < y->w; ox++)
                for (int ky = 0; ky < w->h; ky++)
                    for (int kx = 0; kx < w->w; kx++) {
                        const int64_t in = under(x, c, n, oy, ox, ky, kx);
                        if (in >= 0) visit(in, (((int64_t)n * y->h + oy) * y->w + ox) * y->c, ky * w->w + kx);
                    }
}

/* Where weight (k, c) of a tap lies. */
static int64_t weight(const filter *w, int k, int tap, int c)
{
    return ((int64_t)k * w->h * w->w + tap) * w->c + c;
}

static double *sums_of(int64_t count)
{
    return (double *)calloc((size_t)count, sizeof(double));
}

static void put(int type, void *to, double *sums, int64_t count, float beta)
{
    for (int64_t i = 0; i < count; i++) store(type, to, i, sums[i], beta);
    free(sums);
}

static int64_t numbers(const tensor *t)
{
    return (int64_t)t->n * t->c * t->h * t->w;
}

EXPORTED int cudnnConvolutionForward(void *handle, const void *alpha, void *x_desc, const void *x, void *w_desc, const void *w,
                                     void *conv, int algorithm, void *workspace, size_t bytes, const void *beta, void *y_desc,
                                     void *y)
{
    const auto call = [=] {
        cudnnConvolutionForward(handle, alpha, x_desc, x, w_desc, w, conv, algorithm, workspace, bytes,
           beta, y_desc, y);
    };
    if (captures(handle, call)) return CD_SUCCESS;
    const tensor *tx = (tensor *)x_desc, *ty = (tensor *)y_desc;
    const filter *f = (filter *)w_desc;
    const int status = begin(handle, tx, f, (convolution *)conv, ty, algorithm, workspace, bytes, alpha);
    if (status != CD_SUCCESS) return status;
    double *sums = sums_of(numbers(ty));
    for_taps(tx, f, (convolution *)conv, ty, [=](int64_t in, int64_t out, int tap) {
        for (int k = 0; k < f->k; k++)
            for (int c = 0; c < f->c; c++)
                sums[out + k] += (double)load(tx->type, x, in + c) * load(f->type, w, weight(f, k, tap, c));
    });
    put(ty->type, y, sums, numbers(ty), *(const float *)beta);
    return end(handle);
}

EXPORTED int cudnnConvolutionBackwardData(void *handle, const void *alpha, void *w_desc, const void *w, void *dy_desc,
                                          const void *dy, void *conv, int algorithm, void *workspace, size_t bytes,
                                          const void *beta, void *dx_desc, void *dx)
{
    const auto call = [=] {
        cudnnConvolutionBackwardData(handle, alpha, w_desc, w, dy_desc, dy, conv, algorithm, workspace, bytes,
           beta, dx_desc, dx);
    };
    if (captures(handle, call)) return CD_SUCCESS;
    const tensor *tx = (tensor *)dx_desc, *ty = (tensor *)dy_desc;
    const filter *f = (filter *)w_desc;
    const int status = begin(handle, tx, f, (convolution *)conv, ty, algorithm, workspace, bytes, alpha);
    if (status != CD_SUCCESS) return status;
    double *sums = sums_of(numbers(tx));
    for_taps(tx, f, (convolution *)conv, ty, [=](int64_t in, int64_t out, int tap) {
        for (int k = 0; k < f->k; k++)
            for (int c = 0; c < f->c; c++)
                sums[in + c] += (double)load(ty->type, dy, out + k) * load(f->type, w, weight(f, k, tap, c));
    });
    put(tx->type, dx, sums, numbers(tx), *(const float *)beta);
    return end(handle);
}

EXPORTED int cudnnConvolutionBackwardFilter(void *handle, const void *alpha, void *x_desc, const void *x, void *dy_desc,
                                            const void *dy, void *conv, int algorithm, void *workspace, size_t bytes,
                                            const void *beta, void *dw_desc, void *dw)
{
    const auto call = [=] {
        cudnnConvolutionBackwardFilter(handle, alpha, x_desc, x, dy_desc, dy, conv, algorithm, workspace, bytes,
           beta, dw_desc, dw);
    };
    if (captures(handle, call)) return CD_SUCCESS;
    const tensor *tx = (tensor *)x_desc, *ty = (tensor *)dy_desc;
    const filter *f = (filter *)dw_desc;
    const int status = begin(handle, tx, f, (convolution *)conv, ty, algorithm, workspace, bytes, alpha);
    if (status != CD_SUCCESS) return status;
    const int64_t count = (int64_t)f->k * f->c * f->h * f->w;
    double *sums = sums_of(count);
    for_taps(tx, f, (convolution *)conv, ty, [=](int64_t in, int64_t out, int tap) {
        for (int k = 0; k < f->k; k++)
            for (int c = 0; c < f->c; c++)
                sums[weight(f, k, tap, c)] += (double)load(tx->type, x, in + c) * load(ty->type, dy, out + k);
    });
    put(f->type, dw, sums, count, *(const float *)beta);
    return end(handle);
}
