/* Adam and the norm of the gradient. */
#include <math.h>

#include "members.h"

typedef struct adam_step {
    float rate, beta1, beta2, eps, correct1, correct2; /* correct: 1/(1 - beta^step) */
} adam_step;

enum { ADAM_EACH = 2 }; /* numbers of a thread under way at once */

/* All is read before anything is written: for all the compiler knows, a store changes what is read after it. */
__global__ void adam(float *w, float *m, float *v, const float *g, int64_t n, adam_step s)
{
    const int64_t across = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += ADAM_EACH * across) {
        float weight[ADAM_EACH], first[ADAM_EACH], second[ADAM_EACH], gradient[ADAM_EACH];
        HET_UNROLL for (int k = 0; k < ADAM_EACH; k++)
        {
            const int64_t at = i + k * across < n ? i + k * across : i;
            weight[k] = w[at];
            first[k] = m[at];
            second[k] = v[at];
            gradient[k] = g[at];
        }
        HET_UNROLL for (int k = 0; k < ADAM_EACH; k++)
        {
            const int64_t at = i + k * across;
            if (at >= n) return;
            first[k] = s.beta1 * first[k] + (1.0f - s.beta1) * gradient[k];
            second[k] = s.beta2 * second[k] + (1.0f - s.beta2) * (gradient[k] * gradient[k]);
            m[at] = first[k]; /* before the weight is worked out: otherwise its load is put off until then */
            v[at] = second[k];
            w[at] = weight[k] - s.rate * (first[k] * s.correct1) / (sqrtf(second[k] * s.correct2) + s.eps);
        }
    }
}

typedef struct norm_part {
    double sum;
    int64_t non_finite;
} norm_part;

enum { NORM_PARTS = 256 };

/* Grid (PARTS). */
__global__ void norm_parts(norm_part *parts, const float *x, int64_t n)
{
    __shared__ norm_part of[HET_BLOCK];
    norm_part mine = {0.0, 0};
    for (int64_t i = n * blockIdx.x / NORM_PARTS + threadIdx.x; i < n * (blockIdx.x + 1) / NORM_PARTS; i += HET_BLOCK) {
        if (isfinite(x[i])) mine.sum += (double)x[i] * x[i];
        else mine.non_finite++;
    }
    of[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int t = 1; t < HET_BLOCK; t++) {
        mine.sum += of[t].sum;
        mine.non_finite += of[t].non_finite;
    }
    parts[blockIdx.x] = mine;
}

void het_cuda_adam(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate, float beta1,
                   float beta2, float eps, int64_t step)
{
    const adam_step s = {rate, beta1, beta2, eps, (float)(1.0 / (1.0 - pow(beta1, (double)step))),
                         (float)(1.0 / (1.0 - pow(beta2, (double)step)))};
    HET_LAUNCH(het_cuda_of(dev), adam, het_blocks(het_tiles(n, ADAM_EACH)), HET_BLOCK, w, m, v, g, n, s);
}

void het_cuda_norm2(het_device *dev, double *sum_of_squares, int64_t *non_finite, const float *x, int64_t n)
{
    het_cuda *c = het_cuda_of(dev);
    norm_part parts[NORM_PARTS] = {};
    HET_LAUNCH_MEET(c, norm_parts, NORM_PARTS, HET_BLOCK, (norm_part *)c->scratch.memory, x, n);
    het_cuda_download(c, parts, c->scratch.memory, sizeof parts);
    *sum_of_squares = 0.0;
    *non_finite = 0;
    for (int i = 0; i < NORM_PARTS; i++) {
        *sum_of_squares += parts[i].sum;
        *non_finite += parts[i].non_finite;
    }
}
