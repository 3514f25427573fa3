#pragma once
#include "../ops.h"

/* CPU implementations of the members of het_ops with the same names: see kernels/ops.h. */
void het_cpu_add_relu(het_device *dev, void *y, const void *a, const void *b, int64_t n);
void het_cpu_add_relu_backward(het_device *dev, void *dsum, const void *dy, const void *y, int64_t n);
void het_cpu_accumulate(het_device *dev, void *a, const void *b, int64_t n);
void het_cpu_to_float(het_device *dev, float *y, const void *x, int64_t n);
void het_cpu_from_float(het_device *dev, void *y, const float *x, int64_t n);
void het_cpu_maxpool(het_device *dev, void *y, uint8_t *argmax, const void *x, int64_t batch, int64_t h,
                     int64_t w, int64_t c);
void het_cpu_maxpool_backward(het_device *dev, void *dx, const void *dy, const uint8_t *argmax, int64_t batch,
                              int64_t h, int64_t w, int64_t c);
void het_cpu_avgpool(het_device *dev, float *y, const void *x, int64_t batch, int64_t hw, int64_t c);
void het_cpu_avgpool_backward(het_device *dev, void *dx, const float *dy, int64_t batch, int64_t hw,
                              int64_t c);
void het_cpu_linear(het_device *dev, float *y, const float *x, const float *w, const float *b, int64_t batch,
                    int64_t n, int64_t k, int relu);
void het_cpu_linear_backward(het_device *dev, float *dx, float *dw, float *db, float *dy, const float *x,
                             const float *y, const float *w, int64_t batch, int64_t n, int64_t k, int relu);
