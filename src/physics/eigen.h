#pragma once

/** Eigenvalues (descending) and eigenvectors of a symmetric matrix by cyclic Jacobi rotations (Golub & Van
 *  Loan 8.5).
 *  a        [in,out] (n,n) row-major, symmetric; destroyed
 *  values   [out]    (n) descending
 *  vectors  [out]    (n,n), row i is the unit eigenvector of values[i], its largest component positive (the
 *                    sign is free: fixed here so that results repeat)
 *  n 1..64. Test: tests/test_latent.c */
void het_eigen_symmetric(double *a, double *values, double *vectors, int n);
