#include "optimiser.h"

#include <math.h>
#include <string.h>

#include "clones.h"

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef struct adam_step {
    float rate, beta1, beta2, eps, correct1, correct2; /* correct: 1/(1 - beta^step) */
} adam_step;

HET_CLONES static void adam_range(float *restrict w, float *restrict m, float *restrict v,
                                  const float *restrict g, int64_t n, adam_step s)
{
    for (int64_t i = 0; i < n; i++) {
        m[i] = s.beta1 * m[i] + (1.0f - s.beta1) * g[i];
        v[i] = s.beta2 * v[i] + (1.0f - s.beta2) * (g[i] * g[i]);
        w[i] -= s.rate * (m[i] * s.correct1) / (sqrtf(v[i] * s.correct2) + s.eps);
    }
}

enum { ADAM_BLOCK = 16384 };

void het_cpu_adam(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate,
                  float beta1, float beta2, float eps, int64_t step)
{
    const adam_step s = {rate, beta1, beta2, eps, (float)(1.0 / (1.0 - pow(beta1, (double)step))),
                         (float)(1.0 / (1.0 - pow(beta2, (double)step)))};
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t i = 0; i < n; i += ADAM_BLOCK)
        adam_range(w + i, m + i, v + i, g + i, at_most(ADAM_BLOCK, n - i), s);
}

typedef struct norm_part {
    double sum;
    int64_t non_finite;
} norm_part;

enum { NORM_PARTS = 64 };

/* Infinity and NaN are the numbers whose exponent is all ones; in integers the test does not keep the loop
 * scalar. */
HET_CLONES static norm_part norm_range(const float *x, int64_t n)
{
    const uint32_t exponent = 0x7f800000u;
    double sum = 0.0;
    int64_t finite = 0;
#pragma omp simd reduction(+ : sum, finite)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        float value;
        memcpy(&bits, &x[i], sizeof bits);
        const uint32_t is_finite = (bits & exponent) != exponent;
        bits &= 0u - is_finite;
        memcpy(&value, &bits, sizeof value);
        sum += (double)value * value;
        finite += is_finite;
    }
    return (norm_part){sum, n - finite};
}

void het_cpu_norm2(het_device *dev, double *sum_of_squares, int64_t *non_finite, const float *x, int64_t n)
{
    norm_part parts[NORM_PARTS];
    const int64_t size = (n + NORM_PARTS - 1) / NORM_PARTS;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t i = 0; i < NORM_PARTS; i++) {
        const int64_t first = at_most(i * size, n);
        parts[i] = norm_range(x + first, at_most(size, n - first));
    }
    *sum_of_squares = 0.0;
    *non_finite = 0;
    for (int i = 0; i < NORM_PARTS; i++) {
        *sum_of_squares += parts[i].sum;
        *non_finite += parts[i].non_finite;
    }
}
