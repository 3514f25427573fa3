#include "solve.h"

#include <math.h>

#include "../../kernels/cpu/clones.h"

HET_CLONES double het_dot(const float *restrict a, const float *restrict b, int64_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

int het_cholesky(double *lower, const double *a, int n, double lambda)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[n * i + j] * (i == j ? 1.0 + lambda : 1.0);
            for (int k = 0; k < j; k++) sum -= lower[n * i + k] * lower[n * j + k];
            if (i == j && !(sum > 0.0)) return 0;
            lower[n * i + j] = i == j ? sqrt(sum) : sum / lower[n * j + j];
        }
    }
    return 1;
}

void het_cholesky_forward(double *x, const double *lower, int n)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) x[i] -= lower[n * i + k] * x[k];
        x[i] /= lower[n * i + i];
    }
}

void het_cholesky_backward(double *x, const double *lower, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) x[i] -= lower[n * k + i] * x[k];
        x[i] /= lower[n * i + i];
    }
}

int het_solve_damped(double *x, const double *a, const double *y, int n, double lambda)
{
    double lower[HET_SOLVE_MOST * HET_SOLVE_MOST];
    if (!het_cholesky(lower, a, n, lambda)) return 0;
    for (int i = 0; i < n; i++) x[i] = y[i];
    het_cholesky_forward(x, lower, n);
    het_cholesky_backward(x, lower, n);
    return 1;
}
