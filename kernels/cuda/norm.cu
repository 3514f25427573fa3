/* Normalisation over rows of channels, in groups: batch norm, and with joined channels group norm.
 *
 * cuDNN's batch norm knows no groups of images, hence kernels of our own. As on the CPU a group's rows are cut into
 * slices; within a slice sums are fp32 of deviations from its first row (no cancellation of E[x^2] - mean^2),
 * slices are joined in double, in order, by the rule of Chan, Golub and LeVeque (1979). Blocks are 32 channels
 * wide (neighbours in memory) and 8 rows high. No atomics: every sum has one order. */
#include "act.h"
#include "members.h"

enum { WIDE = 32, HIGH = 8, SLICE_ROWS_MIN = 64, SLICES_MAX = 256 };

struct het_norm {
    het_cuda *cuda;
    het_norm_spec spec;
    int64_t rows, slices; /* of one group */
    float *partial;       /* (groups, slices, 2, C) */
    double *sums;         /* (groups, C, 2) */
    float *coef;          /* (groups, 3, C) */
};

/* What a kernel needs to know of a plan. */
typedef struct norm_view {
    int64_t rows, slices, channels, groups, joined;
    int relu;
    float *partial, *coef;
    double *sums;
} norm_view;

__device__ static inline float epsilon()
{
    return 1e-5f;
}

__device__ static inline int64_t slice_begin(const norm_view &n, int64_t s)
{
    return n.rows * s / n.slices;
}

/* dy where the relu let through */
template <class T> __device__ static inline float masked(const void *dy, const void *y, int64_t i, int relu)
{
    return relu && !(het_load((const T *)y, i) > 0.0f) ? 0.0f : het_load((const T *)dy, i);
}

/* The block's two sums of every channel, over its rows of threads in order: valid in row 0. */
__device__ static inline void add_rows(float *a, float *b)
{
    __shared__ float part[2][HIGH][WIDE];
    part[0][threadIdx.y][threadIdx.x] = *a;
    part[1][threadIdx.y][threadIdx.x] = *b;
    __syncthreads();
    if (threadIdx.y != 0) return;
    *a = *b = 0.0f;
    for (int i = 0; i < HIGH; i++) {
        *a += part[0][i][threadIdx.x];
        *b += part[1][i][threadIdx.x];
    }
}

/* partial = mean and sum of squared deviations of one slice; grid (slices, groups, channel tiles) */
template <class T> __global__ void moments(norm_view n, const void *x)
{
    const int64_t c = (int64_t)blockIdx.z * WIDE + threadIdx.x, ch = n.channels, s = blockIdx.x, g = blockIdx.y;
    const int64_t first = g * n.rows + slice_begin(n, s), rows = slice_begin(n, s + 1) - slice_begin(n, s);
    float sum = 0.0f, square = 0.0f, origin = 0.0f;
    if (c < ch) {
        origin = het_load((const T *)x, first * ch + c);
        for (int64_t r = threadIdx.y; r < rows; r += HIGH) {
            const float d = het_load((const T *)x, (first + r) * ch + c) - origin;
            sum += d;
            square += d * d;
        }
    }
    add_rows(&sum, &square);
    if (threadIdx.y != 0 || c >= ch) return;
    float *part = n.partial + (g * n.slices + s) * 2 * ch + c;
    part[0] = origin + sum / (float)rows;
    part[ch] = square - sum * (sum / (float)rows);
}

/* mean, var (G,C) of each channel from its slices */
__global__ void join_moments(norm_view n, float *mean, float *var)
{
    HET_FOR(i, n.groups * n.channels)
    {
        const int64_t ch = n.channels;
        const float *part = n.partial + i / ch * n.slices * 2 * ch + i % ch;
        double m = 0.0, m2 = 0.0;
        for (int64_t s = 0; s < n.slices; s++)
            m += (double)(slice_begin(n, s + 1) - slice_begin(n, s)) * part[2 * s * ch];
        m /= (double)n.rows;
        for (int64_t s = 0; s < n.slices; s++) {
            const double d = part[2 * s * ch] - m;
            m2 += part[(2 * s + 1) * ch] + (double)(slice_begin(n, s + 1) - slice_begin(n, s)) * d * d;
        }
        mean[i] = (float)m;
        var[i] = m2 < 0.0 ? 0.0f : (float)(m2 / (double)n.rows);
    }
}

/* mean, var over every `joined` channels from those of each; in place */
__global__ void join_channels(norm_view n, float *mean, float *var)
{
    HET_FOR(i, n.groups * n.channels / n.joined)
    {
        const int64_t k = n.joined, first = i * k;
        double m = 0.0, v = 0.0;
        for (int64_t c = first; c < first + k; c++) m += mean[c] / (double)k;
        for (int64_t c = first; c < first + k; c++) v += (var[c] + (mean[c] - m) * (mean[c] - m)) / (double)k;
        for (int64_t c = first; c < first + k; c++) {
            mean[c] = (float)m;
            var[c] = (float)v;
        }
    }
}

/* y = [relu](gamma (x - mean)/sd + beta); step: C for statistics per group, 0 for one set. Grid (row tiles, channel
   tiles); y may be x. */
template <class T>
__global__ void normalise(norm_view n, void *y, const void *x, const float *gamma, const float *beta, const float *mean,
                          const float *var, int64_t step)
{
    const int64_t c = (int64_t)blockIdx.y * WIDE + threadIdx.x, r = (int64_t)blockIdx.x * HIGH + threadIdx.y;
    if (c >= n.channels || r >= n.rows * n.groups) return;
    const int64_t g = r / n.rows * step + c, i = r * n.channels + c;
    const float scale = gamma[c] / sqrtf(var[g] + epsilon());
    const float v = (het_load((const T *)x, i) - mean[g]) * scale + beta[c];
    het_store((T *)y, i, n.relu && v <= 0.0f ? 0.0f : v);
}

/* partial = sum dy and sum dy (x - mean) of one slice, of masked dy; grid as moments */
template <class T>
__global__ void gradient_sums(norm_view n, const void *dy, const void *x, const void *y, const float *mean)
{
    const int64_t c = (int64_t)blockIdx.z * WIDE + threadIdx.x, ch = n.channels, s = blockIdx.x, g = blockIdx.y;
    const int64_t first = g * n.rows + slice_begin(n, s), rows = slice_begin(n, s + 1) - slice_begin(n, s);
    float s1 = 0.0f, s2 = 0.0f;
    if (c < ch) {
        for (int64_t r = threadIdx.y; r < rows; r += HIGH) {
            const int64_t i = (first + r) * ch + c;
            const float d = masked<T>(dy, y, i, n.relu);
            s1 += d;
            s2 += d * (het_load((const T *)x, i) - mean[g * ch + c]);
        }
    }
    add_rows(&s1, &s2);
    if (threadIdx.y != 0 || c >= ch) return;
    float *part = n.partial + (g * n.slices + s) * 2 * ch + c;
    part[0] = s1;
    part[ch] = s2;
}

__global__ void join_sums(norm_view n)
{
    HET_FOR(i, n.groups * n.channels)
    {
        const int64_t ch = n.channels;
        const float *part = n.partial + i / ch * n.slices * 2 * ch + i % ch;
        double s1 = 0.0, s2 = 0.0;
        for (int64_t s = 0; s < n.slices; s++) {
            s1 += part[2 * s * ch];
            s2 += part[(2 * s + 1) * ch];
        }
        n.sums[2 * i] = s1;
        n.sums[2 * i + 1] = s2;
    }
}

/* The coefficients a, b, c of dx = a dy + b (x - mean) + c:
   dx = 1/sd (gamma dy - mean(gamma dy) - (x - mean) mean(gamma dy (x - mean)) / sd^2), means over joined channels too;
   and, by the first group's threads, the parameters' gradients. */
__global__ void gradient_coefficients(norm_view n, float *dgamma, float *dbeta, const float *gamma, const float *var)
{
    HET_FOR(i, n.groups * n.channels)
    {
        const int64_t ch = n.channels, k = n.joined, g = i / ch, c = i % ch, first = c / k * k;
        const double *sums = n.sums + 2 * g * ch;
        float *coef = n.coef + g * 3 * ch + c;
        double all1 = 0.0, all2 = 0.0;
        for (int64_t j = first; j < first + k; j++) {
            const double inverse = 1.0 / sqrt((double)var[g * ch + j] + epsilon()), a = gamma[j] * inverse;
            all1 += a * sums[2 * j];
            all2 += a * inverse * inverse * sums[2 * j + 1];
        }
        coef[0] = (float)(gamma[c] * (1.0 / sqrt((double)var[g * ch + c] + epsilon())));
        coef[ch] = (float)(-all2 / (double)(n.rows * k));
        coef[2 * ch] = (float)(-all1 / (double)(n.rows * k));
        for (int64_t of = 0; g == 0 && of < n.groups; of++) {
            const double *its = n.sums + 2 * (of * ch + c);
            dgamma[c] += (float)(its[1] / sqrt((double)var[of * ch + c] + epsilon()));
            dbeta[c] += (float)its[0];
        }
    }
}

template <class T>
__global__ void spread_gradient(norm_view n, void *dx, const void *dy, const void *x, const void *y, const float *mean)
{
    const int64_t c = (int64_t)blockIdx.y * WIDE + threadIdx.x, r = (int64_t)blockIdx.x * HIGH + threadIdx.y;
    const int64_t ch = n.channels, i = r * ch + c;
    if (c >= ch || r >= n.rows * n.groups) return;
    const float *coef = n.coef + r / n.rows * 3 * ch + c;
    const float d = masked<T>(dy, y, i, n.relu), from_mean = het_load((const T *)x, i) - mean[r / n.rows * ch + c];
    het_store((T *)dx, i, coef[0] * d + coef[ch] * from_mean + coef[2 * ch]);
}

het_status het_cuda_norm_new(het_device *dev, het_norm **norm, const het_norm_spec *spec)
{
    het_cuda *cuda = het_cuda_of(dev);
    *norm = NULL;
    if (spec->batch < 1 || spec->hw < 1 || spec->channels < 1 || spec->groups < 1 || spec->batch % spec->groups != 0 ||
        spec->groups > 65535)
        return cuda->host->fail(HET_E_SHAPE, "batch norm of %lld images in %lld groups: the groups must divide the batch",
                                (long long)spec->batch, (long long)spec->groups);
    if (spec->joined < 1 || spec->channels % spec->joined != 0)
        return cuda->host->fail(HET_E_SHAPE, "norm of %lld channels, %lld at a time: these must divide the channels",
                                (long long)spec->channels, (long long)spec->joined);
    het_norm *n = new het_norm();
    n->cuda = cuda;
    n->spec = *spec;
    n->rows = spec->batch / spec->groups * spec->hw;
    n->slices = (n->rows + SLICE_ROWS_MIN - 1) / SLICE_ROWS_MIN;
    if (n->slices > SLICES_MAX) n->slices = SLICES_MAX;
    const size_t gc = (size_t)(spec->groups * spec->channels);
    n->partial = (float *)het_cuda_alloc(cuda, gc * (size_t)n->slices * 2 * sizeof(float));
    n->sums = (double *)het_cuda_alloc(cuda, gc * 2 * sizeof(double));
    n->coef = (float *)het_cuda_alloc(cuda, gc * 3 * sizeof(float));
    if (n->partial == NULL || n->sums == NULL || n->coef == NULL) {
        het_cuda_norm_free(n);
        return cuda->host->fail(HET_E_MEMORY, "no memory on the GPU for batch norm of %lld channels",
                                (long long)spec->channels);
    }
    *norm = n;
    return HET_OK;
}

void het_cuda_norm_free(het_norm *norm)
{
    if (norm == NULL) return;
    het_cuda_free(norm->cuda, norm->partial);
    het_cuda_free(norm->cuda, norm->sums);
    het_cuda_free(norm->cuda, norm->coef);
    delete norm;
}

static norm_view view(const het_norm *n)
{
    return {n->rows, n->slices, n->spec.channels, n->spec.groups, n->spec.joined, n->spec.relu, n->partial, n->coef, n->sums};
}

static dim3 slice_grid(const het_norm *n)
{
    return dim3((unsigned)n->slices, (unsigned)n->spec.groups, het_tiles(n->spec.channels, WIDE));
}

static dim3 element_grid(const het_norm *n)
{
    return dim3(het_tiles(n->rows * n->spec.groups, HIGH), het_tiles(n->spec.channels, WIDE));
}

void het_cuda_norm_forward(het_norm *n, void *y, float *mean, float *var, const void *x, const float *gamma,
                           const float *beta)
{
    const int64_t gc = n->spec.groups * n->spec.channels;
    HET_LAUNCH_ACT_MEET(n->cuda, moments, slice_grid(n), dim3(WIDE, HIGH), view(n), x);
    HET_LAUNCH(n->cuda, join_moments, het_blocks(gc), HET_BLOCK, view(n), mean, var);
    if (n->spec.joined > 1)
        HET_LAUNCH(n->cuda, join_channels, het_blocks(gc / n->spec.joined), HET_BLOCK, view(n), mean, var);
    HET_LAUNCH_ACT(n->cuda, normalise, element_grid(n), dim3(WIDE, HIGH), view(n), y, x, gamma, beta, mean, var,
                   n->spec.channels);
}

void het_cuda_norm_infer(het_norm *n, void *y, const void *x, const float *gamma, const float *beta, const float *mean,
                         const float *var)
{
    HET_LAUNCH_ACT(n->cuda, normalise, element_grid(n), dim3(WIDE, HIGH), view(n), y, x, gamma, beta, mean, var,
                   (int64_t)0);
}

void het_cuda_norm_backward(het_norm *n, void *dx, float *dgamma, float *dbeta, const void *dy, const void *x,
                            const void *y, const float *gamma, const float *beta, const float *mean, const float *var)
{
    (void)beta;
    const int64_t ch = n->spec.channels;
    HET_LAUNCH_ACT_MEET(n->cuda, gradient_sums, slice_grid(n), dim3(WIDE, HIGH), view(n), dy, x, y, mean);
    HET_LAUNCH(n->cuda, join_sums, het_blocks(n->spec.groups * ch), HET_BLOCK, view(n));
    HET_LAUNCH(n->cuda, gradient_coefficients, het_blocks(n->spec.groups * ch), HET_BLOCK, view(n), dgamma, dbeta, gamma, var);
    HET_LAUNCH_ACT(n->cuda, spread_gradient, element_grid(n), dim3(WIDE, HIGH), view(n), dx, dy, x, y, mean);
}
