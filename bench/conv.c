/* Speed of the encoder's convolutions: every layer shape of ResNet-18 at a box, forward and backward, best of
 * many. GFLOP/s count the products of the plain 3x3 convolution including those with padding, as the
 * literature does; columns "ms" are what matters. Usage: bench_conv [box] [batch] [threads] [fp32|bf16] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../kernels/ops.h"
#include "../src/rng.h"

enum { ROUNDS = 15 };

typedef struct layer {
    const char *name;
    int count;      /* times in the network */
    int64_t divide; /* input size = box / divide */
    int64_t in_c, out_c, kernel, stride;
} layer;

static const layer layers[] = {
    {"stem 7x7/2 1-64", 1, 1, 1, 64, 7, 2},          {"stage1 3x3 64-64", 4, 4, 64, 64, 3, 1},
    {"stage2 3x3/2 64-128", 1, 4, 64, 128, 3, 2},    {"stage2 1x1/2 64-128", 1, 4, 64, 128, 1, 2},
    {"stage2 3x3 128-128", 3, 8, 128, 128, 3, 1},    {"stage3 3x3/2 128-256", 1, 8, 128, 256, 3, 2},
    {"stage3 1x1/2 128-256", 1, 8, 128, 256, 1, 2},  {"stage3 3x3 256-256", 3, 16, 256, 256, 3, 1},
    {"stage4 3x3/2 256-512", 1, 16, 256, 512, 3, 2}, {"stage4 1x1/2 256-512", 1, 16, 256, 512, 1, 2},
    {"stage4 3x3 512-512", 3, 32, 512, 512, 3, 1},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Device activations of small random numbers. */
static void *random_act(het_device *dev, int64_t n)
{
    float *host = malloc((size_t)n * sizeof *host);
    float *f32 = dev->ops->alloc(dev, (size_t)n * sizeof(float));
    void *act = dev->ops->alloc(dev, (size_t)n * sizeof(float));
    HET_ASSERT(host != NULL && f32 != NULL && act != NULL);
    het_rng rng = het_rng_at(1, HET_STREAM_INIT, 0, (uint64_t)n);
    for (int64_t i = 0; i < n; i++) host[i] = het_rng_uniform(&rng) - 0.5f;
    dev->ops->upload(dev, f32, host, (size_t)n * sizeof(float));
    dev->ops->from_float(dev, act, f32, n);
    dev->ops->release(dev, f32);
    free(host);
    return act;
}

static int measure(het_device *dev, const layer *l, int64_t box, int64_t batch, double total[3])
{
    const het_ops *ops = dev->ops;
    const int64_t in = box / l->divide, pad = l->kernel / 2, out = (in + 2 * pad - l->kernel) / l->stride + 1;
    const het_conv_spec spec = {batch, in, in, l->in_c, l->out_c, l->kernel, l->stride, pad};
    const int64_t weights = l->out_c * l->kernel * l->kernel * l->in_c;
    het_conv *conv;
    if (ops->conv_new(dev, &conv, &spec) != HET_OK) {
        fprintf(stderr, "%s: %s\n", l->name, het_status_message());
        return 1;
    }
    void *x = random_act(dev, batch * in * in * l->in_c), *y = random_act(dev, batch * out * out * l->out_c);
    void *dx = random_act(dev, batch * in * in * l->in_c);
    float *w = ops->alloc(dev, (size_t)weights * sizeof *w),
          *dw = ops->alloc(dev, (size_t)weights * sizeof *dw);
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        ops->conv_forward(conv, y, x, w);
        if (ops->sync(dev) != HET_OK) return 1;
        const double middle = now();
        ops->conv_backward(conv, l->in_c == 1 ? NULL : dx, dw, y, x, w);
        if (ops->sync(dev) != HET_OK) return 1;
        const double end = now();
        if (middle - start < best[0]) best[0] = middle - start;
        if (end - middle < best[1]) best[1] = end - middle;
    }
    const double gflop = 2e-9 * (double)(batch * out * out * weights),
                 back = (l->in_c == 1 ? 1.0 : 2.0) * gflop;
    printf("%-22s x%d  %3lldx%-3lld  fwd %8.3f ms %7.1f GFLOP/s   bwd %8.3f ms %7.1f GFLOP/s\n", l->name,
           l->count, (long long)in, (long long)in, 1e3 * best[0], gflop / best[0], 1e3 * best[1],
           back / best[1]);
    total[0] += l->count * best[0];
    total[1] += l->count * best[1];
    total[2] += l->count * gflop;
    ops->conv_free(conv);
    void *all[] = {x, y, dx, w, dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ops->release(dev, all[i]);
    return 0;
}

int main(int argc, char **argv)
{
    const int64_t box = argc > 1 ? atoll(argv[1]) : 32, batch = argc > 2 ? atoll(argv[2]) : 64;
    const het_precision precision = argc <= 4                      ? HET_PRECISION_AUTO
                                    : strcmp(argv[4], "bf16") == 0 ? HET_PRECISION_BF16
                                                                   : HET_PRECISION_F32;
    double total[3] = {0};
    het_device dev;
    int failed = 0;
    if (het_device_open_cpu(&dev, argc > 3 ? atoi(argv[3]) : 1, precision) != HET_OK) {
        fprintf(stderr, "%s\n", het_status_message());
        return 1;
    }
    printf("%s; box %lld, batch %lld\n", het_device_name(&dev), (long long)box, (long long)batch);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        failed |= measure(&dev, layers + i, box, batch, total);
    printf("all convolutions: fwd %.2f ms %.1f GFLOP/s   bwd %.2f ms %.1f GFLOP/s   (%.3f GFLOP forward)\n",
           1e3 * total[0], total[2] / total[0], 1e3 * total[1], 2.0 * total[2] / total[1], total[2]);
    het_device_close(&dev);
    return failed;
}
