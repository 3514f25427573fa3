#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"
#include "eigen.h"
#include "lines.h"

enum {
    VECTORS = 8, /* of the subspace iteration: three wanted, the others for its speed */
    SWEEPS = 60
};

/* y (2m,VECTORS) = S x, S of blocks c_ij c_ji^T. */
static void multiply(double *y, const double *x, const float *direction, int64_t m, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < m; i++) {
        double sum[2 * VECTORS] = {0};
        for (int64_t j = 0; j < m; j++) {
            const float *c = direction + 2 * (i * m + j), *d = direction + 2 * (j * m + i);
            const double c0 = c[0], c1 = c[1], d0 = d[0], d1 = d[1];
            for (int v = 0; v < VECTORS; v++) {
                const double along = d0 * x[2 * j * VECTORS + v] + d1 * x[(2 * j + 1) * VECTORS + v];
                sum[v] += c0 * along;
                sum[VECTORS + v] += c1 * along;
            }
        }
        memcpy(y + 2 * i * VECTORS, sum, sizeof sum);
    }
}

static double column_product(const double *x, const double *y, int64_t rows, int a, int b)
{
    double sum = 0.0;
    for (int64_t i = 0; i < rows; i++) sum += x[i * VECTORS + a] * y[i * VECTORS + b];
    return sum;
}

/* Gram-Schmidt, twice for the digits that the first pass loses. */
static void orthonormalise(double *x, int64_t rows)
{
    for (int b = 0; b < VECTORS; b++)
        for (int pass = 0; pass < 2; pass++) {
            for (int a = 0; a < b; a++) {
                const double overlap = column_product(x, x, rows, a, b);
                for (int64_t i = 0; i < rows; i++) x[i * VECTORS + b] -= overlap * x[i * VECTORS + a];
            }
            const double norm = sqrt(column_product(x, x, rows, b, b)) + 1e-300;
            for (int64_t i = 0; i < rows; i++) x[i * VECTORS + b] /= norm;
        }
}

/* x <- the leading eigenvectors of S, from any x of full rank: subspace iteration with Rayleigh-Ritz (Golub &
 * Van Loan 8.2.4, 8.3), until the three largest eigenvalues stand. y is scratch of the same size. */
static void leading_vectors(double *x, double *y, const float *direction, int64_t m, int threads)
{
    const int64_t rows = 2 * m;
    double last = 0.0;
    orthonormalise(x, rows);
    for (int step = 0; step < 300; step++) {
        double t[VECTORS * VECTORS], value[VECTORS], vector[VECTORS * VECTORS];
        multiply(y, x, direction, m, threads);
        for (int a = 0; a < VECTORS; a++)
            for (int b = 0; b <= a; b++)
                t[a * VECTORS + b] = t[b * VECTORS + a] = column_product(x, y, rows, a, b);
        het_eigen_symmetric(t, value, vector, VECTORS);
        for (int64_t i = 0; i < rows; i++)
            for (int v = 0; v < VECTORS; v++) {
                double sum = 0.0;
                for (int u = 0; u < VECTORS; u++) sum += vector[v * VECTORS + u] * y[i * VECTORS + u];
                x[i * VECTORS + v] = sum;
            }
        orthonormalise(x, rows);
        const double now = value[0] + value[1] + value[2];
        if (fabs(now - last) < 1e-9 * fabs(now)) break;
        last = now;
    }
}

/* The symmetric Q (3,3) with u^T Q v = 1, 1, 0 for (u,v) = (x,x), (y,y), (x,y) of every view, by least
 * squares over its six entries; rows 2i and 2i+1 of `vectors` are x and y of view i. */
static void fit_metric(double q[9], const double *vectors, int64_t m)
{
    static const int first[6] = {0, 1, 2, 0, 0, 1}, second[6] = {0, 1, 2, 1, 2, 2};
    double normal[36] = {0}, right[6] = {0}, value[6], vector[36], entry[6] = {0};
    for (int64_t i = 0; i < m; i++)
        for (int kind = 0; kind < 3; kind++) {
            const double *u = vectors + (2 * i + (kind == 1)) * VECTORS,
                         *v = vectors + (2 * i + (kind != 0)) * VECTORS;
            double row[6];
            for (int e = 0; e < 6; e++)
                row[e] = e < 3 ? u[e] * v[e] : u[first[e]] * v[second[e]] + u[second[e]] * v[first[e]];
            for (int e = 0; e < 6; e++) {
                right[e] += kind < 2 ? row[e] : 0.0;
                for (int f = 0; f < 6; f++) normal[6 * e + f] += row[e] * row[f];
            }
        }
    het_eigen_symmetric(normal, value, vector, 6);
    for (int s = 0; s < 6; s++) {
        if (!(value[s] > 1e-12 * value[0])) continue;
        double along = 0.0;
        for (int e = 0; e < 6; e++) along += vector[6 * s + e] * right[e];
        for (int e = 0; e < 6; e++) entry[e] += along / value[s] * vector[6 * s + e];
    }
    for (int e = 0; e < 6; e++) q[3 * first[e] + second[e]] = q[3 * second[e] + first[e]] = entry[e];
}

/* A with Q = A^T A, negative eigenvalues of Q lifted to almost 0. */
static void metric_root(double a[9], const double q[9])
{
    double copy[9], value[3], vector[9];
    memcpy(copy, q, sizeof copy);
    het_eigen_symmetric(copy, value, vector, 3);
    for (int s = 0; s < 3; s++)
        for (int e = 0; e < 3; e++) a[3 * s + e] = sqrt(fmax(value[s], 1e-6 * value[0])) * vector[3 * s + e];
}

/* The orthonormal pair nearest to (x,y) as rows 0, 1 of r: B (B^T B)^(-1/2) for the 3x2 matrix B of both, by
 * the root of a 2x2 matrix. Parallel x and y say nothing: r stays. */
static void nearest_frame(float r[9], const double x[3], const double y[3])
{
    double xx = 0.0, yy = 0.0, xy = 0.0;
    for (int e = 0; e < 3; e++) {
        xx += x[e] * x[e];
        yy += y[e] * y[e];
        xy += x[e] * y[e];
    }
    const double s = sqrt(fmax(xx * yy - xy * xy, 0.0)), t = sqrt(xx + yy + 2.0 * s);
    if (!(s > 1e-6 * (xx + yy))) return;
    const double det = s * t; /* the root is [xx + s, xy; xy, yy + s] / t, of determinant s */
    for (int e = 0; e < 3; e++) {
        r[e] = (float)(((yy + s) * x[e] - xy * y[e]) / det);
        r[3 + e] = (float)(((xx + s) * y[e] - xy * x[e]) / det);
    }
    for (int e = 0; e < 3; e++) {
        const int f = (e + 1) % 3, g = (e + 2) % 3;
        r[6 + e] = r[f] * r[3 + g] - r[g] * r[3 + f];
    }
}

static void rotations_of(float *rotation, const double *vectors, int64_t m)
{
    double q[9], a[9];
    fit_metric(q, vectors, m);
    metric_root(a, q);
    for (int64_t i = 0; i < m; i++) {
        double frame[2][3];
        for (int k = 0; k < 2; k++)
            for (int e = 0; e < 3; e++) {
                const double *v = vectors + (2 * i + k) * VECTORS;
                frame[k][e] = a[3 * e] * v[0] + a[3 * e + 1] * v[1] + a[3 * e + 2] * v[2];
            }
        for (int e = 0; e < 9; e++) rotation[9 * i + e] = e % 4 == 0;
        nearest_frame(rotation + 9 * i, frame[0], frame[1]);
    }
}

/* Cosine of the angle between the line of i and j as each of them sees it in the volume. */
static double agreement(const float *direction, const float *rotation, int64_t m, int64_t i, int64_t j)
{
    const float *c = direction + 2 * (i * m + j), *d = direction + 2 * (j * m + i);
    const float *p = rotation + 9 * i, *q = rotation + 9 * j;
    double sum = 0.0;
    for (int e = 0; e < 3; e++)
        sum += (double)((c[0] * p[e] + c[1] * p[3 + e]) * (d[0] * q[e] + d[1] * q[3 + e]));
    return sum;
}

/* |cos| of the angle between the axes of two views */
static double parallel(const float *rotation, int64_t i, int64_t j)
{
    const float *p = rotation + 9 * i + 6, *q = rotation + 9 * j + 6;
    return fabs((double)(p[0] * q[0] + p[1] * q[1] + p[2] * q[2]));
}

static int agrees(const float *direction, const float *rotation, int64_t m, int64_t i, int64_t j)
{
    return i != j && agreement(direction, rotation, m, i, j) > 0.9659258262890683; /* cos 15 degrees */
}

/* View by view the best rotation for the lines as the other views have them now, in each step
 *     max over P_i of sum_j w_ij (P_i^T c_ij).(P_j^T c_ji).
 * The scale of the weights shrinks from sweep to sweep, so that the many right lines lead before the wrong
 * ones are dropped. */
static void refine_rotations(float *rotation, const float *direction, int64_t m)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        const double scale = fmax(0.03, pow(0.9, sweep));
        for (int64_t i = 0; i < m; i++) {
            double frame[2][3] = {{0.0}};
            for (int64_t j = 0; j < m; j++) {
                if (j == i) continue;
                const float *c = direction + 2 * (i * m + j), *d = direction + 2 * (j * m + i),
                            *q = rotation + 9 * j;
                const double along = parallel(rotation, i, j);
                const double apart = fmax(0.0, 2.0 - 2.0 * agreement(direction, rotation, m, i, j));
                const double w = fmax(0.0, 1.0 - along * along) / (apart + scale);
                for (int e = 0; e < 3; e++) {
                    const double line = w * (d[0] * q[e] + d[1] * q[3 + e]);
                    frame[0][e] += c[0] * line;
                    frame[1][e] += c[1] * line;
                }
            }
            nearest_frame(rotation + 9 * i, frame[0], frame[1]);
        }
    }
}

static float share_of_agreeing(const float *direction, const float *rotation, int64_t m, int64_t i)
{
    int64_t count = 0;
    for (int64_t j = 0; j < m; j++)
        count += agrees(direction, rotation, m, i, j) &&
                 parallel(rotation, i, j) < 0.8660254037844386; /* cos 30 degrees */
    return (float)count / (float)(m - 1);
}

het_status het_lines_synchronise(float *rotation, float *consistency, const float *direction, int64_t m,
                                 int threads)
{
    if (2 * m < VECTORS)
        return het_fail(HET_E_SHAPE, "poses of %lld views from common lines: at least %d are needed",
                        (long long)m, VECTORS / 2);
    const int64_t size = 2 * m * VECTORS;
    double *x = het_alloc((size_t)(2 * size) * sizeof *x);
    if (x == NULL) return het_fail(HET_E_MEMORY, "no memory for the rotations of %lld views", (long long)m);
    het_rng rng = het_rng_at(0, HET_STREAM_SEARCH, 0, 0);
    for (int64_t i = 0; i < size; i++) x[i] = het_rng_normal(&rng);
    leading_vectors(x, x + size, direction, m, threads);
    rotations_of(rotation, x, m);
    refine_rotations(rotation, direction, m);
    for (int64_t i = 0; i < m && consistency != NULL; i++)
        consistency[i] = share_of_agreeing(direction, rotation, m, i);
    het_release(x);
    return HET_OK;
}

/* ---- centres ---- */

/* The normal equations of the centres: y = sum over agreeing lines of c_ij (c_ij.d_i - c_ji.d_j), or of c_ij
 * shift_ij. */
static void centre_equations(double *y, const double *d, const float *shift, const float *direction,
                             const float *rotation, int64_t m, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < m; i++) {
        y[2 * i] = y[2 * i + 1] = 0.0;
        for (int64_t j = 0; j < m; j++) {
            if (!agrees(direction, rotation, m, i, j)) continue;
            const float *c = direction + 2 * (i * m + j), *e = direction + 2 * (j * m + i);
            const double along = d == NULL ? (double)shift[i * m + j]
                                           : c[0] * d[2 * i] + c[1] * d[2 * i + 1] - e[0] * d[2 * j] -
                                                 e[1] * d[2 * j + 1];
            y[2 * i] += c[0] * along;
            y[2 * i + 1] += c[1] * along;
        }
    }
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Remove from d what a move u of the volume explains, d_i = P_i u: the equations hardly see it, so that is
 * where errors gather. */
static void remove_move(double *d, const float *rotation, int64_t m)
{
    double normal[9] = {0}, right[3] = {0}, value[3], vector[9], u[3] = {0};
    for (int64_t row = 0; row < 2 * m; row++) {
        const float *p = rotation + 9 * (row / 2) + 3 * (row % 2);
        for (int e = 0; e < 3; e++) {
            right[e] += p[e] * d[row];
            for (int f = 0; f < 3; f++) normal[3 * e + f] += (double)(p[e] * p[f]);
        }
    }
    het_eigen_symmetric(normal, value, vector, 3);
    for (int s = 0; s < 3; s++) {
        if (!(value[s] > 1e-6 * value[0])) continue; /* no view shows this direction */
        const double *v = vector + 3 * s, along = v[0] * right[0] + v[1] * right[1] + v[2] * right[2];
        for (int e = 0; e < 3; e++) u[e] += along / value[s] * v[e];
    }
    for (int64_t row = 0; row < 2 * m; row++) {
        const float *p = rotation + 9 * (row / 2) + 3 * (row % 2);
        d[row] -= p[0] * u[0] + p[1] * u[1] + p[2] * u[2];
    }
}

/* Conjugate gradients from 0 (Golub & Van Loan 11.3): they stay where the equations say something. */
het_status het_lines_centre(float *centre, const float *direction, const float *shift, const float *rotation,
                            int64_t m, int threads)
{
    const int64_t n = 2 * m;
    double *x = het_alloc((size_t)(4 * n) * sizeof *x);
    if (x == NULL) return het_fail(HET_E_MEMORY, "no memory for the centres of %lld views", (long long)m);
    double *rest = x + n, *step = rest + n, *y = step + n;
    centre_equations(rest, NULL, shift, direction, rotation, m, threads);
    memcpy(step, rest, (size_t)n * sizeof *step);
    double now = dot(rest, rest, n);
    const double start = now;
    for (int k = 0; k < 50 && now > 1e-8 * start; k++) {
        centre_equations(y, step, shift, direction, rotation, m, threads);
        const double length = now / dot(step, y, n), before = now;
        for (int64_t i = 0; i < n; i++) {
            x[i] += length * step[i];
            rest[i] -= length * y[i];
        }
        now = dot(rest, rest, n);
        for (int64_t i = 0; i < n; i++) step[i] = rest[i] + now / before * step[i];
    }
    remove_move(x, rotation, m);
    for (int64_t i = 0; i < n; i++) centre[i] = (float)x[i];
    het_release(x);
    return HET_OK;
}
