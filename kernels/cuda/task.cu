/* What the two tasks need beside the networks: the better of image and mirror, shifts, standardised images. */
#include "fourier.h"
#include "members.h"

__global__ void winners(float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                        const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group)
{
    HET_FOR(j, b / group)
    {
        int64_t best = j * group;
        for (int64_t i = j * group; i < (j + 1) * group; i++) {
            total[i] = loss[i] + lambda_z * kl[i] + 0.5f * lambda_t * (fabsf(shift[2 * i]) + fabsf(shift[2 * i + 1]));
            if (total[i] < total[best]) best = i;
        }
        for (int64_t i = j * group; i < (j + 1) * group; i++) weight[i] = i == best ? scale : 0.0f;
        which[j] = (int32_t)best;
    }
}

__global__ void shift_backward(float *dshift, const float *dshift_px, const float *shift, const float *weight,
                               float lambda_t, float pixels, int64_t b)
{
    HET_FOR(i, 2 * b)
    {
        const float sign = (float)((shift[i] > 0.0f) - (shift[i] < 0.0f));
        dshift[i] = weight[i / 2] * (pixels * dshift_px[i] + 0.5f * lambda_t * sign);
    }
}

__global__ void unit_scale(float *scale, const float *power, int64_t b, int64_t per_group)
{
    HET_FOR(i, b) scale[i] = 1.0f / sqrtf(fmaxf(power[i / per_group], 1e-12f));
}

/* Grid (images). */
__global__ void standardise(float *image, const float *window, int64_t n)
{
    float *at = image + blockIdx.x * n;
    double sums[2] = {0.0, 0.0}, square = 0.0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        sums[0] += window[j];
        sums[1] += at[j];
    }
    het_block_sums(sums, 2);
    const float mean = (float)(sums[1] / sums[0]);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        const float centred = at[j] - mean * window[j];
        at[j] = centred;
        square += (double)centred * centred;
    }
    het_block_sums(&square, 1);
    const float scale = (float)(1.0 / sqrt(fmax(square / (double)n, 1e-12)));
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) at[j] *= scale;
}

void het_cuda_winners(het_device *dev, float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                      const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group)
{
    HET_LAUNCH(het_cuda_of(dev), winners, het_blocks(b / group), HET_BLOCK, total, which, weight, loss, kl, shift, lambda_z,
               lambda_t, scale, b, group);
}

void het_cuda_shift_backward(het_device *dev, float *dshift, const float *dshift_px, const float *shift,
                             const float *weight, float lambda_t, float pixels, int64_t b)
{
    HET_LAUNCH(het_cuda_of(dev), shift_backward, het_blocks(2 * b), HET_BLOCK, dshift, dshift_px, shift, weight, lambda_t,
               pixels, b);
}

void het_cuda_unit_scale(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups)
{
    HET_LAUNCH(het_cuda_of(dev), unit_scale, het_blocks(b), HET_BLOCK, scale, power, b, b / groups);
}

void het_cuda_standardise(het_device *dev, float *image, const float *window, int64_t b, int64_t n)
{
    HET_LAUNCH_MEET(het_cuda_of(dev), standardise, (unsigned)b, HET_BLOCK, image, window, n);
}
