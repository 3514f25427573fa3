/* Operations on each element, and on rows of them: kernels/ops.h has the formulas. */
#include <cuda_fp16.h>

#include "act.h"
#include "members.h"

/* The arguments of activations' kernels are void*, so that one launch serves both element types; n counts pieces (act.h). */

template <class P> __global__ void add_relu(void *y, const void *a, const void *b, int64_t n)
{
    HET_FOR(i, n)
    {
        float sum[het_piece<P>::count], of_b[het_piece<P>::count];
        het_load(sum, (const P *)a, i);
        het_load(of_b, (const P *)b, i);
        HET_UNROLL for (int j = 0; j < het_piece<P>::count; j++)
        {
            sum[j] += of_b[j];
            sum[j] = sum[j] <= 0.0f ? 0.0f : sum[j]; /* so that NaN passes */
        }
        het_store((P *)y, i, sum);
    }
}

template <class P> __global__ void mask_gradient(void *dx, const void *dy, const void *y, int64_t n)
{
    HET_FOR(i, n)
    {
        float d[het_piece<P>::count], out[het_piece<P>::count];
        het_load(d, (const P *)dy, i);
        het_load(out, (const P *)y, i);
        HET_UNROLL for (int j = 0; j < het_piece<P>::count; j++) d[j] = out[j] > 0.0f ? d[j] : 0.0f;
        het_store((P *)dx, i, d);
    }
}

template <class P> __global__ void accumulate(void *a, const void *b, int64_t n)
{
    HET_FOR(i, n)
    {
        float sum[het_piece<P>::count], of_b[het_piece<P>::count];
        het_load(sum, (const P *)a, i);
        het_load(of_b, (const P *)b, i);
        HET_UNROLL for (int j = 0; j < het_piece<P>::count; j++) sum[j] += of_b[j];
        het_store((P *)a, i, sum);
    }
}

template <class P> __global__ void to_float(float *y, const void *x, int64_t n)
{
    HET_FOR(i, n)
    {
        float v[het_piece<P>::count];
        het_load(v, (const P *)x, i);
        het_store((typename het_piece<P>::floats *)y, i, v);
    }
}

template <class P> __global__ void from_float(void *y, const float *x, int64_t n)
{
    HET_FOR(i, n)
    {
        float v[het_piece<P>::count];
        het_load(v, (const typename het_piece<P>::floats *)x, i);
        het_store((P *)y, i, v);
    }
}

__global__ void fill(float *y, float value, int64_t n)
{
    HET_FOR(i, n) y[i] = value;
}

__global__ void scale_rows(float *y, const float *x, const float *scale, int64_t b, int64_t n)
{
    HET_FOR(i, b * n) y[i] = scale[i / n] * x[i];
}

__global__ void gather_rows(float *y, const float *x, const int32_t *index, int64_t rows, int64_t repeat, int64_t n)
{
    HET_FOR(i, rows * n)
    {
        const int64_t j = i / n / repeat, from = index == NULL ? j : index[j];
        y[i] = x[from * n + i % n];
    }
}

__device__ static inline float value(const float *x, int64_t i)
{
    return x[i];
}

__device__ static inline float value(const __half *x, int64_t i)
{
    return __half2float(x[i]);
}

template <class T> __global__ void take_images(float *image, const void *images, const int64_t *index, int64_t b, int64_t n)
{
    HET_FOR(i, b * n)
    {
        const int64_t j = i / n, from = index == NULL ? j : index[j];
        image[i] = value((const T *)images, from * n + i % n);
    }
}

__global__ void sum_rows(float *y, const float *x, float factor, int64_t b, int64_t n)
{
    HET_FOR(j, n)
    {
        float sum = y[j];
        for (int64_t i = 0; i < b; i++) sum += factor * x[i * n + j];
        y[j] = sum;
    }
}

__global__ void blend(float *y, const float *x, float a, int64_t n)
{
    HET_FOR(i, n) y[i] = (1.0f - a) * y[i] + a * x[i];
}

void het_cuda_add_relu(het_device *dev, void *y, const void *a, const void *b, int64_t n)
{
    const int64_t wide = het_wide(n, y, a, b), pieces = n / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, add_relu, het_blocks(pieces), HET_BLOCK, y, a, b, pieces);
}

void het_cuda_add_relu_backward(het_device *dev, void *dsum, const void *dy, const void *y, int64_t n)
{
    const int64_t wide = het_wide(n, dsum, dy, y), pieces = n / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, mask_gradient, het_blocks(pieces), HET_BLOCK, dsum, dy, y, pieces);
}

void het_cuda_accumulate(het_device *dev, void *a, const void *b, int64_t n)
{
    const int64_t wide = het_wide(n, a, b), pieces = n / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, accumulate, het_blocks(pieces), HET_BLOCK, a, b, pieces);
}

void het_cuda_to_float(het_device *dev, float *y, const void *x, int64_t n)
{
    const int64_t wide = het_wide(n, y, x), pieces = n / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, to_float, het_blocks(pieces), HET_BLOCK, y, x, pieces);
}

void het_cuda_from_float(het_device *dev, void *y, const float *x, int64_t n)
{
    const int64_t wide = het_wide(n, y, x), pieces = n / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, from_float, het_blocks(pieces), HET_BLOCK, y, x, pieces);
}

void het_cuda_fill(het_device *dev, float *y, float value, int64_t n)
{
    HET_LAUNCH(het_cuda_of(dev), fill, het_blocks(n), HET_BLOCK, y, value, n);
}

void het_cuda_scale_rows(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n)
{
    HET_LAUNCH(het_cuda_of(dev), scale_rows, het_blocks(b * n), HET_BLOCK, y, x, scale, b, n);
}

void het_cuda_gather_rows(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows,
                          int64_t repeat, int64_t n)
{
    HET_LAUNCH(het_cuda_of(dev), gather_rows, het_blocks(rows * n), HET_BLOCK, y, x, index, rows, repeat, n);
}

void het_cuda_take_images(het_device *dev, float *image, const void *images, int half, const int64_t *index,
                          int64_t b, int64_t n)
{
    if (half) HET_LAUNCH(het_cuda_of(dev), take_images<__half>, het_blocks(b * n), HET_BLOCK, image, images, index, b, n);
    else HET_LAUNCH(het_cuda_of(dev), take_images<float>, het_blocks(b * n), HET_BLOCK, image, images, index, b, n);
}

void het_cuda_sum_rows(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n)
{
    HET_LAUNCH(het_cuda_of(dev), sum_rows, het_blocks(n), HET_BLOCK, y, x, factor, b, n);
}

void het_cuda_blend(het_device *dev, float *y, const float *x, float a, int64_t n)
{
    HET_LAUNCH(het_cuda_of(dev), blend, het_blocks(n), HET_BLOCK, y, x, a, n);
}
