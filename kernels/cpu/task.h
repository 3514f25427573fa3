#pragma once
#include "../ops.h"

/* CPU implementations of the members of het_ops with the same names: see kernels/ops.h. */
void het_cpu_winners(het_device *dev, float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                     const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group);
void het_cpu_shift_backward(het_device *dev, float *dshift, const float *dshift_px, const float *shift,
                            const float *weight, float lambda_t, float pixels, int64_t b);
void het_cpu_scale_rows(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n);
void het_cpu_sum_rows(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n);
void het_cpu_blend(het_device *dev, float *y, const float *x, float a, int64_t n);
void het_cpu_gather_rows(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows, int64_t repeat,
                         int64_t n);
void het_cpu_take_images(het_device *dev, float *image, const void *images, int half, const int64_t *index, int64_t b,
                         int64_t n);
void het_cpu_standardise(het_device *dev, float *image, const float *window, int64_t b, int64_t n);
void het_cpu_fill(het_device *dev, float *y, float value, int64_t n);
void het_cpu_unit_scale(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups);
