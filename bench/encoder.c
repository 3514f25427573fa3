/* Speed of the whole encoder (ResNet-18 with heads of 512, average pooling): forward and backward, best of
 * many. GFLOP/s count its convolutions, products with padding included. Usage: bench_encoder [box] [batch]
 * [threads] [fp32|bf16] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/nn/encoder.h"
#include "../src/rng.h"

enum { ROUNDS = 60, Z = 8 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Products of all convolutions for one image, in GFLOP: 2 out_h out_w weights each. */
static double gflop(const het_layout *layout, int64_t box)
{
    double sum = 0.0;
    int64_t h = box / 4; /* after the stem and its pooling */
    for (int i = 0; i < layout->count; i++) {
        const het_parameter *p = &layout->list[i];
        if (p->init != HET_INIT_CONV) continue;
        if (p->shape[3] == 1)
            sum += 2e-9 * (double)(p->count * box * box / 4);
        else {
            if (p->shape[0] == 2 * p->shape[3] && p->shape[1] == 3) h = (h + 1) / 2;
            sum += 2e-9 * (double)(p->count * h * h);
        }
    }
    return sum;
}

int main(int argc, char **argv)
{
    const int64_t box = argc > 1 ? atoll(argv[1]) : 32, batch = argc > 2 ? atoll(argv[2]) : 64;
    const int bf16 = argc > 4 && strcmp(argv[4], "bf16") == 0;
    const het_encoder_spec spec = {.box = box,
                                   .width = 64,
                                   .head = 512,
                                   .z_dim = Z,
                                   .flatten = 0,
                                   .stem_pool = 1,
                                   .stem_stride = 2,
                                   .batch = batch,
                                   .groups = 1};
    static het_layout layout;
    het_device dev;
    het_encoder *encoder;
    if (het_device_open_cpu(&dev, argc > 3 ? atoi(argv[3]) : 1,
                            bf16 ? HET_PRECISION_BF16 : HET_PRECISION_F32) != HET_OK ||
        het_encoder_new(&encoder, &dev, &spec, &layout) != HET_OK) {
        fprintf(stderr, "%s\n", het_status_message());
        return 1;
    }
    het_workspace workspace = {0};
    het_encoder_bind(encoder, &workspace);
    void *base = dev.ops->alloc(&dev, workspace.used);
    workspace = (het_workspace){.base = base};
    het_encoder_bind(encoder, &workspace);
    float *params = dev.ops->alloc(&dev, (size_t)layout.total * sizeof(float));
    float *grads = dev.ops->alloc(&dev, (size_t)layout.total * sizeof(float));
    float *image = dev.ops->alloc(&dev, (size_t)(batch * box * box) * sizeof(float));
    float *head[HET_ENCODER_HEADS], *dhead[HET_ENCODER_HEADS];
    for (int i = 0; i < HET_ENCODER_HEADS; i++) {
        head[i] = dev.ops->alloc(&dev, (size_t)(batch * 2 * Z) * sizeof(float));
        dhead[i] = dev.ops->alloc(&dev, (size_t)(batch * 2 * Z) * sizeof(float));
    }
    het_layout_initialise(&layout, params, 1);
    het_rng rng = het_rng_at(1, HET_STREAM_INIT, 0, 0);
    for (int64_t i = 0; i < batch * box * box; i++) image[i] = het_rng_normal(&rng);
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        het_encoder_forward(encoder, head, params, image);
        const double middle = now();
        for (int j = 0; j < HET_ENCODER_HEADS; j++) dhead[j][0] = 1.0f;
        het_encoder_backward(encoder, grads, dhead, params, 0.0f, NULL, NULL);
        const double end = now();
        if (middle - start < best[0]) best[0] = middle - start;
        if (end - middle < best[1]) best[1] = end - middle;
    }
    const double work = gflop(&layout, box) * (double)batch;
    printf("%s; box %lld, batch %lld: %.2f GFLOP forward; fwd %.2f ms %.0f GFLOP/s, bwd %.2f ms %.0f "
           "GFLOP/s, %.0f images/s\n",
           het_device_name(&dev), (long long)box, (long long)batch, work, 1e3 * best[0], work / best[0],
           1e3 * best[1], 2.0 * work / best[1], (double)batch / (best[0] + best[1]));
    het_encoder_free(encoder);
    het_device_close(&dev);
    return 0;
}
