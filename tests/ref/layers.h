#pragma once
#include "../../kernels/ops.h"

/** Plain double-precision layers of the encoder, written from the formulas: what the operations are tested
 * against. Arrays as in kernels/ops.h, in double. Backward functions overwrite activation gradients and add
 * to parameter gradients. */

void ref_conv_out(const het_conv_spec *s, int64_t *out_h, int64_t *out_w);
void ref_conv(double *y, const double *x, const double *w, const het_conv_spec *s);
void ref_conv_backward(double *dx, double *dw, const double *dy, const double *x, const double *w,
                       const het_conv_spec *s);

/** mean, var (G,C) are computed. */
void ref_norm(double *y, double *mean, double *var, const double *x, const double *gamma, const double *beta,
              const het_norm_spec *s);
/** mask: the relu let through where it is > 0; not read without relu. */
void ref_norm_backward(double *dx, double *dgamma, double *dbeta, const double *dy, const double *x,
                       const double *mask, const double *gamma, const het_norm_spec *s);

void ref_maxpool(double *y, int *argmax, const double *x, int64_t batch, int64_t h, int64_t w, int64_t c);
void ref_maxpool_backward(double *dx, const double *dy, const int *argmax, int64_t batch, int64_t h,
                          int64_t w, int64_t c);

/** y (B,N) = [relu](x (B,K) w^T + b) */
void ref_linear(double *y, const double *x, const double *w, const double *b, int64_t batch, int64_t n,
                int64_t k, int relu);
