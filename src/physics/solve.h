#pragma once

enum { HET_SOLVE_MOST = 64 };

/** x (n) of (A + lambda diag(A)) x = y by Cholesky's factors, A (n,n) symmetric, n <= HET_SOLVE_MOST; lambda = 0: of A itself.
 *  Returns 0, and leaves x undefined, where that is not positive definite. Tests: test_fit.c, test_conform.c */
int het_solve_damped(double *x, const double *a, const double *y, int n, double lambda);
