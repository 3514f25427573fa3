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

int het_solve_damped(double *x, const double *a, const double *y, int n, double lambda)
{
    double l[HET_SOLVE_MOST][HET_SOLVE_MOST];
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = a[n * i + j] * (i == j ? 1.0 + lambda : 1.0);
            for (int k = 0; k < j; k++) sum -= l[i][k] * l[j][k];
            if (i == j && !(sum > 0.0)) return 0;
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
        }
    }
    for (int i = 0; i < n; i++) {
        x[i] = y[i];
        for (int k = 0; k < i; k++) x[i] -= l[i][k] * x[k];
        x[i] /= l[i][i];
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int k = i + 1; k < n; k++) x[i] -= l[k][i] * x[k];
        x[i] /= l[i][i];
    }
    return 1;
}
