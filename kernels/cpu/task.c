#include "task.h"

#include <math.h>
#include <string.h>

void het_cpu_winners(het_device *dev, float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                     const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group)
{
    (void)dev;
    for (int64_t i = 0; i < b; i++)
        total[i] = loss[i] + lambda_z * kl[i] + 0.5f * lambda_t * (fabsf(shift[2 * i]) + fabsf(shift[2 * i + 1]));
    for (int64_t j = 0; j < b / group; j++) {
        int64_t best = j * group;
        for (int64_t i = best + 1; i < (j + 1) * group; i++)
            if (total[i] < total[best]) best = i;
        for (int64_t i = j * group; i < (j + 1) * group; i++) weight[i] = i == best ? scale : 0.0f;
        which[j] = (int32_t)best;
    }
}

void het_cpu_shift_backward(het_device *dev, float *dshift, const float *dshift_px, const float *shift,
                            const float *weight, float lambda_t, float pixels, int64_t b)
{
    (void)dev;
    for (int64_t i = 0; i < 2 * b; i++) {
        const float sign = (float)((shift[i] > 0.0f) - (shift[i] < 0.0f));
        dshift[i] = weight[i / 2] * (pixels * dshift_px[i] + 0.5f * lambda_t * sign);
    }
}

void het_cpu_scale_rows(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < n; j++) y[i * n + j] = scale[i] * x[i * n + j];
}

void het_cpu_fill(het_device *dev, float *y, float value, int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) y[i] = value;
}

void het_cpu_unit_scale(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups)
{
    (void)dev;
    for (int64_t i = 0; i < b; i++) scale[i] = 1.0f / sqrtf(fmaxf(power[i / (b / groups)], 1e-12f));
}

void het_cpu_sum_rows(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < n; j++) y[j] += factor * x[i * n + j];
}

void het_cpu_blend(het_device *dev, float *y, const float *x, float a, int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < n; i++) y[i] = (1.0f - a) * y[i] + a * x[i];
}

void het_cpu_gather_rows(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows, int64_t repeat,
                         int64_t n)
{
    (void)dev;
    for (int64_t j = 0; j < rows; j++) {
        const int64_t from = index == NULL ? j / repeat : index[j / repeat];
        memcpy(y + j * n, x + from * n, (size_t)n * sizeof *y);
    }
}

void het_cpu_take_images(het_device *dev, float *image, const void *images, int half, const int64_t *index, int64_t b,
                         int64_t n)
{
    (void)dev;
    for (int64_t i = 0; i < b; i++) {
        const int64_t from = (index == NULL ? i : index[i]) * n;
        if (!half) memcpy(image + i * n, (const float *)images + from, (size_t)n * sizeof *image);
        else
            for (int64_t j = 0; j < n; j++) image[i * n + j] = (float)((const _Float16 *)images)[from + j];
    }
}

void het_cpu_standardise(het_device *dev, float *image, const float *window, int64_t b, int64_t n)
{
    double area = 0.0;
    for (int64_t j = 0; j < n; j++) area += window[j];
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < b; i++) {
        float *at = image + i * n;
        double sum = 0.0, square = 0.0;
        for (int64_t j = 0; j < n; j++) sum += at[j];
        const float mean = (float)(sum / area);
        for (int64_t j = 0; j < n; j++) {
            at[j] -= mean * window[j];
            square += (double)at[j] * at[j];
        }
        const float scale = (float)(1.0 / sqrt(fmax(square / (double)n, 1e-12)));
        for (int64_t j = 0; j < n; j++) at[j] *= scale;
    }
}
