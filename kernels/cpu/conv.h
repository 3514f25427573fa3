#pragma once
#include "../ops.h"

/* CPU implementations of the members of het_ops with the same names: see kernels/ops.h.
   Errors of het_cpu_conv_new: HET_E_SHAPE, HET_E_MEMORY, HET_E_DEVICE (oneDNN has no such convolution). */
het_status het_cpu_conv_new(het_device *dev, het_conv **conv, const het_conv_spec *spec);
void het_cpu_conv_free(het_conv *conv);
void het_cpu_conv_forward(het_conv *conv, void *y, const void *x, const float *w);
void het_cpu_conv_backward(het_conv *conv, void *dx, float *dw, const void *dy, const void *x,
                           const float *w);
