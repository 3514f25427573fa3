#include "eigen.h"

#include <math.h>

#include "../status.h"

/* Zero a[p][q] by a rotation in the plane (p,q); v collects the rotations, one eigenvector a row. */
static void rotate_plane(double *a, double *v, int n, int p, int q)
{
    const double theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    const double t = copysign(1.0, theta) / (fabs(theta) + sqrt(theta * theta + 1.0));
    const double c = 1.0 / sqrt(t * t + 1.0), s = t * c;
    for (int k = 0; k < n; k++) {
        const double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for (int k = 0; k < n; k++) {
        const double x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
        const double z = v[p * n + k], w = v[q * n + k];
        v[p * n + k] = c * z - s * w;
        v[q * n + k] = s * z + c * w;
    }
}

static void swap_rows(double *values, double *v, int n, int i, int j)
{
    const double t = values[i];
    values[i] = values[j];
    values[j] = t;
    for (int k = 0; k < n; k++) {
        const double x = v[i * n + k];
        v[i * n + k] = v[j * n + k];
        v[j * n + k] = x;
    }
}

static void fix_sign(double *row, int n)
{
    int largest = 0;
    for (int k = 1; k < n; k++)
        if (fabs(row[k]) > fabs(row[largest])) largest = k;
    if (row[largest] < 0.0)
        for (int k = 0; k < n; k++) row[k] = -row[k];
}

void het_eigen_symmetric(double *a, double *values, double *vectors, int n)
{
    HET_ASSERT(n >= 1 && n <= 64);
    double total = 0.0;
    for (int i = 0; i < n * n; i++) {
        total += a[i] * a[i];
        vectors[i] = i % (n + 1) == 0 ? 1.0 : 0.0;
    }
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0.0;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++) off += a[p * n + q] * a[p * n + q];
        if (!(off > 1e-32 * total)) break;
        for (int p = 0; p < n; p++)
            for (int q = p + 1; q < n; q++)
                if (a[p * n + q] != 0.0) rotate_plane(a, vectors, n, p, q);
    }
    for (int i = 0; i < n; i++) values[i] = a[i * n + i];
    for (int i = 0; i < n; i++) {
        int best = i;
        for (int j = i + 1; j < n; j++)
            if (values[j] > values[best]) best = j;
        if (best != i) swap_rows(values, vectors, n, i, best);
        fix_sign(vectors + i * n, n);
    }
}
