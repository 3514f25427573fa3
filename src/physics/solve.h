#pragma once
#include <stdint.h>

/** Small linear algebra of the fits (fit.h, conform.h, components.h). */

enum { HET_SOLVE_MOST = 64 };

/** sum a_i b_i, in double. */
double het_dot(const float *a, const float *b, int64_t n);
/** L (n,n), lower, with L L^T = A + lambda diag(A), A (n,n) symmetric. Returns 0, and leaves L undefined, where that is not positive definite. */
int het_cholesky(double *lower, const double *a, int n, double lambda);
/** x (n) <- L^-1 x, and L^-T x. */
void het_cholesky_forward(double *x, const double *lower, int n);
void het_cholesky_backward(double *x, const double *lower, int n);
/** x (n) of (A + lambda diag(A)) x = y by Cholesky's factors, A (n,n) symmetric, n <= HET_SOLVE_MOST; lambda = 0: of A itself.
 *  Returns 0, and leaves x undefined, where that is not positive definite. Tests: test_fit.c, test_conform.c */
int het_solve_damped(double *x, const double *a, const double *y, int n, double lambda);
