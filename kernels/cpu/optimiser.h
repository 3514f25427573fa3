#pragma once
#include "../ops.h"

/** Adam and the gradient norm on the CPU; formulas in kernels/ops.h. Both work in blocks of fixed size, so
 *  results are the same bits for any number of threads. Test: tests/test_ops_pose.c */

void het_cpu_adam(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate,
                  float beta1, float beta2, float eps, int64_t step);
/** The sum is over the finite numbers. */
void het_cpu_norm2(het_device *dev, double *sum_of_squares, int64_t *non_finite, const float *x, int64_t n);
