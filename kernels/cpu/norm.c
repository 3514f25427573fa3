#include "norm.h"

#include <math.h>

#include "../../src/arena.h"
#include "bf16.h"
#include "context.h"

/* Batch normalisation (Ioffe & Szegedy 2015) over rows of channels (NHWC), in groups of consecutive images;
 * with joined channels group normalisation (Wu & He 2018).
 *
 * A group's rows are cut into slices, the unit of parallel work and of summation: inside a slice fp32 sums,
 * across slices double, in slice order. The cut does not depend on the number of threads, so neither do the
 * results. A slice's variance comes from deviations from its first row, in one pass over memory and without
 * the cancellation of E[x^2] - mean^2; slices are joined by the rule of Chan, Golub and LeVeque (1979).
 * Outputs may overwrite inputs of the same shape in place (so ivdep on those loops, not restrict). */

enum { SLICE_ROWS_MIN = 64, SLICES_MAX = 64 };
static const float epsilon = 1e-5f;

struct het_norm {
    het_device *dev;
    het_norm_spec spec;
    int64_t rows;   /* of one group: batch/groups * hw */
    int64_t slices; /* of one group */
    float *partial; /* (groups, slices, 2, C) */
    float *coef;    /* (groups, 4, C): the affine map applied to every element */
};

het_status het_cpu_norm_new(het_device *dev, het_norm **norm, const het_norm_spec *spec)
{
    *norm = NULL;
    if (spec->batch < 1 || spec->hw < 1 || spec->channels < 1 || spec->groups < 1 ||
        spec->batch % spec->groups != 0)
        return het_fail(HET_E_SHAPE,
                        "batch norm of %lld images in %lld groups: the groups must divide the batch",
                        (long long)spec->batch, (long long)spec->groups);
    if (spec->joined < 1 || spec->channels % spec->joined != 0)
        return het_fail(HET_E_SHAPE, "norm of %lld channels, %lld at a time: these must divide the channels",
                        (long long)spec->channels, (long long)spec->joined);
    het_norm *n = het_alloc(sizeof *n);
    if (n == NULL) return het_fail(HET_E_MEMORY, "no memory for batch norm");
    n->dev = dev;
    n->spec = *spec;
    n->rows = spec->batch / spec->groups * spec->hw;
    n->slices = (n->rows + SLICE_ROWS_MIN - 1) / SLICE_ROWS_MIN;
    if (n->slices > SLICES_MAX) n->slices = SLICES_MAX;
    n->partial = het_alloc((size_t)(spec->groups * n->slices * 2 * spec->channels) * sizeof(float));
    n->coef = het_alloc((size_t)(spec->groups * 4 * spec->channels) * sizeof(float));
    if (n->partial == NULL || n->coef == NULL) {
        het_cpu_norm_free(n);
        return het_fail(HET_E_MEMORY, "no memory for batch norm of %lld channels", (long long)spec->channels);
    }
    *norm = n;
    return HET_OK;
}

void het_cpu_norm_free(het_norm *norm)
{
    if (norm == NULL) return;
    het_release(norm->partial);
    het_release(norm->coef);
    het_release(norm);
}

/* First row of slice s within its group. */
static int64_t slice_begin(const het_norm *n, int64_t s)
{
    return n->rows * s / n->slices;
}

typedef struct slice {
    int64_t group, first, rows; /* first row, counted over all groups */
} slice;

/* Slice t of all groups' slices in order. */
static slice slice_at(const het_norm *n, int64_t t)
{
    const int64_t group = t / n->slices, begin = slice_begin(n, t % n->slices);
    return (slice){group, group * n->rows + begin, slice_begin(n, t % n->slices + 1) - begin};
}

/* mean (C) and m2 (C) = sum of squared deviations, over `rows` rows from x. */
static HET_INLINE void moments_body(float *restrict mean, float *restrict m2, const void *x, int64_t first,
                                    int64_t rows, int64_t ch, int bf16)
{
    const int64_t x0 = first * ch;
    for (int64_t c = 0; c < ch; c++) mean[c] = m2[c] = 0.0f;
    int64_t r = 1;
    for (; r + 4 <= rows; r += 4) {
        const int64_t at = x0 + r * ch;
        for (int64_t c = 0; c < ch; c++) {
            const float origin = het_act_load(x, x0 + c, bf16);
            const float d0 = het_act_load(x, at + c, bf16) - origin;
            const float d1 = het_act_load(x, at + ch + c, bf16) - origin;
            const float d2 = het_act_load(x, at + 2 * ch + c, bf16) - origin;
            const float d3 = het_act_load(x, at + 3 * ch + c, bf16) - origin;
            mean[c] += (d0 + d1) + (d2 + d3);
            m2[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (; r < rows; r++)
        for (int64_t c = 0; c < ch; c++) {
            const float d = het_act_load(x, x0 + r * ch + c, bf16) - het_act_load(x, x0 + c, bf16);
            mean[c] += d;
            m2[c] += d * d;
        }
    for (int64_t c = 0; c < ch; c++) {
        const float sum = mean[c];
        mean[c] = het_act_load(x, x0 + c, bf16) + sum / (float)rows;
        m2[c] -= sum * (sum / (float)rows);
    }
}

HET_CLONES
static void moments(float *mean, float *m2, const void *x, int64_t first, int64_t rows, int64_t ch, int bf16)
{
    if (bf16)
        moments_body(mean, m2, x, first, rows, ch, 1);
    else
        moments_body(mean, m2, x, first, rows, ch, 0);
}

/* y = [relu]((x - mean) scale + beta); coef = mean | scale | beta */
static HET_INLINE void apply_body(void *y, const void *x, const float *coef, int64_t first, int64_t rows,
                                  int64_t ch, int relu, int bf16)
{
    const float *mean = coef, *scale = coef + ch, *beta = coef + 2 * ch;
    for (int64_t r = first; r < first + rows; r++)
#pragma GCC ivdep
        for (int64_t c = 0; c < ch; c++) {
            const float v = (het_act_load(x, r * ch + c, bf16) - mean[c]) * scale[c] + beta[c];
            het_act_store(y, r * ch + c, relu && v <= 0.0f ? 0.0f : v, bf16);
        }
}

HET_CLONES
static void apply(void *y, const void *x, const float *coef, int64_t first, int64_t rows, int64_t ch,
                  int relu, int bf16)
{
    if (bf16)
        apply_body(y, x, coef, first, rows, ch, relu, 1);
    else
        apply_body(y, x, coef, first, rows, ch, relu, 0);
}

/* dy where the relu let through */
static HET_INLINE float masked(const void *dy, const void *y, int64_t i, int relu, int bf16)
{
    const float d = het_act_load(dy, i, bf16);
    return relu && !(het_act_load(y, i, bf16) > 0.0f) ? 0.0f : d;
}

/* s1 (C) = sum dy, s2 (C) = sum dy (x - mean), of masked dy */
static HET_INLINE void sums_body(float *restrict s1, float *restrict s2, const void *dy, const void *x,
                                 const void *y, const float *mean, int64_t first, int64_t rows, int64_t ch,
                                 int relu, int bf16)
{
    for (int64_t c = 0; c < ch; c++) s1[c] = s2[c] = 0.0f;
    int64_t r = first;
    for (; r + 2 <= first + rows; r += 2)
        for (int64_t c = 0; c < ch; c++) {
            const int64_t i = r * ch + c, j = i + ch;
            const float di = masked(dy, y, i, relu, bf16), dj = masked(dy, y, j, relu, bf16);
            s1[c] += di + dj;
            s2[c] += di * (het_act_load(x, i, bf16) - mean[c]) + dj * (het_act_load(x, j, bf16) - mean[c]);
        }
    for (; r < first + rows; r++)
        for (int64_t c = 0; c < ch; c++) {
            const float d = masked(dy, y, r * ch + c, relu, bf16);
            s1[c] += d;
            s2[c] += d * (het_act_load(x, r * ch + c, bf16) - mean[c]);
        }
}

HET_CLONES
static void sums(float *s1, float *s2, const void *dy, const void *x, const void *y, const float *mean,
                 int64_t first, int64_t rows, int64_t ch, int relu, int bf16)
{
    if (relu && bf16)
        sums_body(s1, s2, dy, x, y, mean, first, rows, ch, 1, 1);
    else if (relu)
        sums_body(s1, s2, dy, x, y, mean, first, rows, ch, 1, 0);
    else if (bf16)
        sums_body(s1, s2, dy, x, y, mean, first, rows, ch, 0, 1);
    else
        sums_body(s1, s2, dy, x, y, mean, first, rows, ch, 0, 0);
}

/* dx = a dy + b (x - mean) + c, of masked dy; coef = a | b | c | mean */
static HET_INLINE void spread_body(void *dx, const void *dy, const void *x, const void *y, const float *coef,
                                   int64_t first, int64_t rows, int64_t ch, int relu, int bf16)
{
    const float *ka = coef, *kb = coef + ch, *kc = coef + 2 * ch, *mean = coef + 3 * ch;
    for (int64_t r = first; r < first + rows; r++)
#pragma GCC ivdep
        for (int64_t c = 0; c < ch; c++) {
            const int64_t i = r * ch + c;
            const float d = masked(dy, y, i, relu, bf16);
            het_act_store(dx, i, ka[c] * d + kb[c] * (het_act_load(x, i, bf16) - mean[c]) + kc[c], bf16);
        }
}

HET_CLONES
static void spread(void *dx, const void *dy, const void *x, const void *y, const float *coef, int64_t first,
                   int64_t rows, int64_t ch, int relu, int bf16)
{
    if (relu && bf16)
        spread_body(dx, dy, x, y, coef, first, rows, ch, 1, 1);
    else if (relu)
        spread_body(dx, dy, x, y, coef, first, rows, ch, 1, 0);
    else if (bf16)
        spread_body(dx, dy, x, y, coef, first, rows, ch, 0, 1);
    else
        spread_body(dx, dy, x, y, coef, first, rows, ch, 0, 0);
}

/* Join the slices' moments of every group; mean, var (G,C). */
static void join_moments(const het_norm *n, float *mean, float *var)
{
    const int64_t ch = n->spec.channels;
    for (int64_t g = 0; g < n->spec.groups; g++)
        for (int64_t c = 0; c < ch; c++) {
            const float *part = n->partial + g * n->slices * 2 * ch + c;
            double m = 0.0, m2 = 0.0;
            for (int64_t s = 0; s < n->slices; s++)
                m += (double)(slice_begin(n, s + 1) - slice_begin(n, s)) * part[2 * s * ch];
            m /= (double)n->rows;
            for (int64_t s = 0; s < n->slices; s++) {
                const double d = part[2 * s * ch] - m;
                m2 += part[(2 * s + 1) * ch] + (double)(slice_begin(n, s + 1) - slice_begin(n, s)) * d * d;
            }
            mean[g * ch + c] = (float)m;
            var[g * ch + c] = m2 > 0.0 ? (float)(m2 / (double)n->rows) : m2 < 0.0 ? 0.0f : (float)m2;
        }
}

/* Mean and variance over every `joined` channels, from those of each. */
static void join_channels(const het_norm *n, float *mean, float *var)
{
    const int64_t k = n->spec.joined;
    for (int64_t i = 0; i < n->spec.groups * n->spec.channels; i += k) {
        double m = 0.0, v = 0.0;
        for (int64_t c = i; c < i + k; c++) m += mean[c] / (double)k;
        for (int64_t c = i; c < i + k; c++) v += (var[c] + (mean[c] - m) * (mean[c] - m)) / (double)k;
        for (int64_t c = i; c < i + k; c++) {
            mean[c] = (float)m;
            var[c] = (float)v;
        }
    }
}

/* The second half of forward and infer: step is C for statistics per group, 0 for one set. */
static void normalise(const het_norm *n, void *y, const void *x, const float *gamma, const float *beta,
                      const float *mean, const float *var, int64_t step)
{
    const int64_t ch = n->spec.channels, tasks = n->spec.groups * n->slices;
    const int bf16 = n->dev->precision == HET_BF16, relu = n->spec.relu;
    for (int64_t g = 0; g < n->spec.groups; g++)
        for (int64_t c = 0; c < ch; c++) {
            float *coef = n->coef + g * 4 * ch + c;
            coef[0] = mean[g * step + c];
            coef[ch] = gamma[c] / sqrtf(var[g * step + c] + epsilon);
            coef[2 * ch] = beta[c];
        }
#pragma omp parallel for num_threads(n->dev->threads) schedule(static) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++) {
        const slice s = slice_at(n, t);
        apply(y, x, n->coef + s.group * 4 * ch, s.first, s.rows, ch, relu, bf16);
    }
}

void het_cpu_norm_forward(het_norm *n, void *y, float *mean, float *var, const void *x, const float *gamma,
                          const float *beta)
{
    const int64_t ch = n->spec.channels, tasks = n->spec.groups * n->slices;
    const int bf16 = n->dev->precision == HET_BF16;
#pragma omp parallel for num_threads(n->dev->threads) schedule(static) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++) {
        const slice s = slice_at(n, t);
        float *part = n->partial + t * 2 * ch;
        moments(part, part + ch, x, s.first, s.rows, ch, bf16);
    }
    join_moments(n, mean, var);
    if (n->spec.joined > 1) join_channels(n, mean, var);
    normalise(n, y, x, gamma, beta, mean, var, ch);
}

void het_cpu_norm_infer(het_norm *n, void *y, const void *x, const float *gamma, const float *beta,
                        const float *mean, const float *var)
{
    normalise(n, y, x, gamma, beta, mean, var, 0);
}

/* Join the slices' sums into the parameters' gradients and the coefficients of dx:
   dx = 1/sd (gamma dy - mean(gamma dy) - (x - mean) mean(gamma dy (x - mean)) / sd^2),
   means over joined channels too */
static void join_sums(const het_norm *n, float *dgamma, float *dbeta, const float *gamma, const float *mean,
                      const float *var)
{
    const int64_t ch = n->spec.channels, k = n->spec.joined;
    for (int64_t g = 0; g < n->spec.groups; g++) {
        float *coef = n->coef + g * 4 * ch;
        double all1 = 0.0, all2 = 0.0;
        for (int64_t c = 0; c < ch; c++) {
            const float *part = n->partial + g * n->slices * 2 * ch + c;
            double s1 = 0.0, s2 = 0.0;
            for (int64_t s = 0; s < n->slices; s++) {
                s1 += part[2 * s * ch];
                s2 += part[(2 * s + 1) * ch];
            }
            const double inverse = 1.0 / sqrt((double)var[g * ch + c] + epsilon);
            const double a = gamma[c] * inverse;
            dgamma[c] += (float)(s2 * inverse);
            dbeta[c] += (float)s1;
            coef[c] = (float)a;
            coef[3 * ch + c] = mean[g * ch + c];
            all1 = (c % k == 0 ? 0.0 : all1) + a * s1;
            all2 = (c % k == 0 ? 0.0 : all2) + a * inverse * inverse * s2;
            for (int64_t j = c - k + 1; j <= c && c % k == k - 1; j++) {
                coef[ch + j] = (float)(-all2 / (double)(n->rows * k));
                coef[2 * ch + j] = (float)(-all1 / (double)(n->rows * k));
            }
        }
    }
}

void het_cpu_norm_backward(het_norm *n, void *dx, float *dgamma, float *dbeta, const void *dy, const void *x,
                           const void *y, const float *gamma, const float *beta, const float *mean,
                           const float *var)
{
    (void)beta;
    const int64_t ch = n->spec.channels, tasks = n->spec.groups * n->slices;
    const int bf16 = n->dev->precision == HET_BF16, relu = n->spec.relu;
#pragma omp parallel for num_threads(n->dev->threads) schedule(static) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++) {
        const slice s = slice_at(n, t);
        float *part = n->partial + t * 2 * ch;
        sums(part, part + ch, dy, x, y, mean + s.group * ch, s.first, s.rows, ch, relu, bf16);
    }
    join_sums(n, dgamma, dbeta, gamma, mean, var);
#pragma omp parallel for num_threads(n->dev->threads) schedule(static) if (tasks > 1)
    for (int64_t t = 0; t < tasks; t++) {
        const slice s = slice_at(n, t);
        spread(dx, dy, x, y, n->coef + s.group * 4 * ch, s.first, s.rows, ch, relu, bf16);
    }
}
