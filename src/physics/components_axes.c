#include <math.h>
#include <string.h>

#include "components.h"
#include "eigen.h"
#include "solve.h"

enum { MOST = HET_COMPONENTS_MOST };
static const double TOLD_MOST = 0.999;

/* A (n,n), symmetric, becomes L^-1 A L^-T, for the last n of `order` rows and columns; of the others the rows become A L^-T, the columns L^-1 A. */
static void change_base(double *a, int order, const double *lower, int n)
{
    const int before = order - n;
    for (int r = 0; r < order; r++) het_cholesky_forward(a + r * order + before, lower, n);
    for (int s = 0; s < order; s++) {
        double column[MOST];
        for (int r = 0; r < n; r++) column[r] = a[(before + r) * order + s];
        het_cholesky_forward(column, lower, n);
        for (int r = 0; r < n; r++) a[(before + r) * order + s] = column[r];
    }
}

void het_components_whiten(const het_components *c, het_components_answer *answer, int64_t of, int64_t n)
{
    const int k = c->count, order = k + 1;
    double mean[MOST] = {0}, spread[MOST * MOST] = {0}, lower[MOST * MOST] = {0};
    for (int64_t i = 0; i < of; i++)
        for (int r = 0; r < k; r++) mean[r] += answer[i].mean[1 + r] / (double)of;
    for (int64_t i = 0; i < n; i++)
        for (int r = 0; r < k; r++) answer[i].mean[1 + r] -= mean[r];
    for (int64_t i = 0; i < of; i++)
        for (int r = 0; r < k; r++)
            for (int s = 0; s < k; s++)
                spread[r * k + s] += (answer[i].mean[1 + r] * answer[i].mean[1 + s] + answer[i].covariance[(1 + r) * order + 1 + s]) / (double)of;
    const int definite = het_cholesky(lower, spread, k, 0.0);
    HET_ASSERT(definite); /* by the covariances */
    for (int64_t i = 0; i < n; i++) {
        het_cholesky_forward(answer[i].mean + 1, lower, k);
        change_base(answer[i].covariance, order, lower, k);
    }
}

/* What an image says of z (k): information (k,k), y = (information + 1) <z>. */
static void said(double *information, double *y, const het_components_answer *answer, int k)
{
    const int order = k + 1;
    double covariance[MOST * MOST] = {0}, lower[MOST * MOST];
    for (int r = 0; r < k; r++)
        for (int s = 0; s < k; s++) covariance[r * k + s] = answer->covariance[(1 + r) * order + 1 + s];
    const int definite = het_cholesky(lower, covariance, k, 0.0);
    HET_ASSERT(definite);
    memcpy(y, answer->mean + 1, (size_t)k * sizeof *y);
    het_cholesky_forward(y, lower, k);
    het_cholesky_backward(y, lower, k);
    for (int r = 0; r < k; r++) {
        double *row = information + r * k;
        for (int s = 0; s < k; s++) row[s] = r == s;
        het_cholesky_forward(row, lower, k);
        het_cholesky_backward(row, lower, k);
        row[r] -= 1.0;
    }
}

/* Sums over images: A, y, A x A, and what y has more than its noise (k,k). */
typedef struct sums {
    double information[MOST * MOST], y[MOST], square[MOST * MOST * MOST * MOST], more[MOST * MOST];
} sums;

static void add_image(sums *to, const double *a, const double *y, int k)
{
    const int kk = k * k;
    for (int r = 0; r < k; r++) to->y[r] += y[r];
    for (int i = 0; i < kk; i++) to->information[i] += a[i];
    for (int r = 0; r < k; r++) /* (A S A)_rs = sum_tu A_rt A_us S_tu */
        for (int s = 0; s < k; s++)
            for (int t = 0; t < k; t++)
                for (int u = 0; u < k; u++) to->square[(r * k + s) * kk + t * k + u] += a[r * k + t] * a[u * k + s];
}

static void add_more(sums *to, const double *a, const double *y, const double *mean, int k)
{
    double beside[MOST];
    for (int r = 0; r < k; r++) {
        beside[r] = y[r];
        for (int s = 0; s < k; s++) beside[r] -= a[r * k + s] * mean[s];
    }
    for (int r = 0; r < k; r++)
        for (int s = 0; s < k; s++) to->more[r * k + s] += beside[r] * beside[s] - a[r * k + s];
}

void het_components_find_axes(het_components_axes *axes, const het_components *c, const het_components_answer *answer, int64_t n)
{
    const int k = c->count;
    sums sum = {0};
    double a[MOST * MOST], y[MOST], s[MOST * MOST], lower[MOST * MOST], vector[MOST * MOST];
    *axes = (het_components_axes){0};
    if (k == 0) return;
    for (int64_t i = 0; i < n; i++) {
        said(a, y, answer + i, k);
        add_image(&sum, a, y, k);
    }
    if (!het_solve_damped(axes->mean, sum.information, sum.y, k, 0.0)) return; /* images say nothing */
    for (int64_t i = 0; i < n; i++) {
        said(a, y, answer + i, k);
        add_more(&sum, a, y, axes->mean, k);
    }
    if (!het_solve_damped(s, sum.square, sum.more, k * k, 0.0)) return;
    for (int i = 0; i < k * k; i++) sum.information[i] /= (double)n;
    if (!het_cholesky(lower, sum.information, k, 0.0)) return;
    /* L^T S L: along its eigenvectors u both are diagonal, w = u^T L^T z */
    double turned[MOST * MOST] = {0}, values[MOST];
    for (int p = 0; p < k; p++)
        for (int q = 0; q < k; q++)
            for (int r = p; r < k; r++)
                for (int t = q; t < k; t++) turned[p * k + q] += lower[r * k + p] * s[r * k + t] * lower[t * k + q];
    for (int p = 0; p < k; p++)
        for (int q = 0; q < p; q++) turned[p * k + q] = turned[q * k + p] = 0.5 * (turned[p * k + q] + turned[q * k + p]);
    het_eigen_symmetric(turned, values, vector, k);
    for (int j = 0; j < k; j++) {
        double *direction = axes->direction[j];
        axes->told[j] = fmin(values[j] / (1.0 + fmax(values[j], 0.0)), TOLD_MOST);
        memcpy(direction, vector + j * k, (size_t)k * sizeof *direction);
        het_cholesky_backward(direction, lower, k);
        for (int r = 0; r < k; r++) direction[r] *= sqrt(fmax(values[j], 0.0));
    }
}
