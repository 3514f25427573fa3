#pragma once
#include "../ops.h"

/* CPU implementations of the members of het_ops with the same names: see kernels/ops.h.
   Errors of het_cpu_norm_new: HET_E_SHAPE (groups that do not divide the batch), HET_E_MEMORY. */
het_status het_cpu_norm_new(het_device *dev, het_norm **norm, const het_norm_spec *spec);
void het_cpu_norm_free(het_norm *norm);
void het_cpu_norm_forward(het_norm *norm, void *y, float *mean, float *var, const void *x, const float *gamma,
                          const float *beta);
void het_cpu_norm_infer(het_norm *norm, void *y, const void *x, const float *gamma, const float *beta,
                        const float *mean, const float *var);
void het_cpu_norm_backward(het_norm *norm, void *dx, float *dgamma, float *dbeta, const void *dy,
                           const void *x, const void *y, const float *gamma, const float *beta,
                           const float *mean, const float *var);
