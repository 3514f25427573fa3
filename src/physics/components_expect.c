#include <math.h>
#include <string.h>

#include "../arena.h"
#include "components.h"
#include "phases.h"
#include "rotation.h"
#include "solve.h"

/* Columns of an image's model: slices of the K+1 maps, and what errors of its pose change of their sum. */
enum { TURNS = 3, SHIFTS = 2, POSE = HET_COMPONENTS_POSE, COLUMNS = HET_COMPONENTS_MOST + 1 + POSE };
static const double CONTRAST = 0.3; /* standard deviation of c: more than images have, lest the maps take up a part */

/* An image's normal equations in one shell, of n columns v: A_kl = sum w b Re(conj(v_k) v_l), y_k = sum w Re(conj(v_k) a); sum w |X|^2, sum w. */
typedef struct shell {
    double a[COLUMNS * COLUMNS], y[COLUMNS], power, weight;
} shell;

/* A thread's. */
typedef struct desk {
    float *column, *gradient, *work; /* (n,p,2); (3,p,2) of the sum of slices; (p,2) */
    shell *shells;                /* (shells) */
} desk;

static int columns_of(const het_components *c)
{
    return c->count + 1 + POSE;
}

void het_components_observe(float *a, float *b, const float *transform, const float *ctf, const float *shift, const het_points *points,
                            int64_t p)
{
    float sum = 0.0F;
    het_backproject_terms(a, b, transform, ctf, shift, points->box, points->kxy, p);
    for (int64_t i = 0; i < p; i++) sum += a[2 * i] + a[2 * i + 1] + b[i];
    if (isfinite(sum)) return;
    memset(a, 0, (size_t)(2 * p) * sizeof *a);
    memset(b, 0, (size_t)p * sizeof *b);
}

/* to (p,2) = sum_k e_k of n slices (n,p,2). */
static void add_up(float *to, const float *slice, const double *e, int n, int64_t p)
{
    memset(to, 0, (size_t)(2 * p) * sizeof *to);
    for (int k = 0; k < n; k++)
        for (int64_t j = 0; j < 2 * p; j++) to[j] += (float)e[k] * slice[k * 2 * p + j];
}

/* d/d(angle) about the image's three axes of a sum of slices, from how it changes along them: a turn about n moves k by -n x k. */
static void fill_turns(float *to, const float *gradient, const het_components_images *images)
{
    const int64_t p = images->p;
    const float *gx = gradient, *gy = gradient + 2 * p, *gz = gradient + 4 * p;
    float *about_x = to, *about_y = to + 2 * p, *about_z = to + 4 * p;
    for (int64_t j = 0; j < 2 * p; j++) {
        const float kx = (float)images->points->kxy[2 * (j / 2)], ky = (float)images->points->kxy[2 * (j / 2) + 1];
        about_x[j] = -ky * gz[j];
        about_y[j] = kx * gz[j];
        about_z[j] = ky * gx[j] - kx * gy[j];
    }
}

/* d/dt of exp(-2 pi i k.t/D) times it. */
static void fill_shifts(float *to, const desk *d, const het_components_images *images)
{
    const int64_t p = images->p;
    const float unit = (float)(2.0 * M_PI / (double)images->points->box);
    for (int a = 0; a < SHIFTS; a++) {
        for (int64_t j = 0; j < p; j++) {
            const float k = unit * (float)images->points->kxy[2 * j + a];
            to[2 * (a * p + j)] = k * d->work[2 * j + 1];
            to[2 * (a * p + j) + 1] = -k * d->work[2 * j];
        }
    }
}

/* e: the image's, as far as it is known. */
static void fill_columns(const desk *d, const het_components *c, const het_components_images *images, int64_t image, const double *e)
{
    const int n = c->count + 1;
    const int64_t p = images->p;
    double r[9];
    for (int i = 0; i < 9; i++) r[i] = (double)images->rotation[9 * image + i];
    het_slicer_slice_joint(&c->slicer, d->column, d->gradient, r, e, images->points->kxy, p);
    add_up(d->work, d->column, e, n, p);
    fill_turns(d->column + n * 2 * p, d->gradient, images);
    fill_shifts(d->column + (n + TURNS) * 2 * p, d, images);
    for (int64_t j = 0; j < (n + POSE) * 2 * p; j++) d->column[j] *= (float)c->slice_scale;
}

/* One shell: points [from, end) of n columns. */
static void add_shell(shell *to, int n, const desk *d, const het_components_images *images, int64_t image, int64_t from, int64_t end)
{
    const int64_t p = images->p;
    const float *a = images->a + image * 2 * p, *b = images->b + image * p, *w = images->points->weight;
    *to = (shell){0};
    for (int64_t j = from; j < end; j++) {
        if (!(b[j] > 0.0F)) continue;
        to->power += (double)(w[j] * (a[2 * j] * a[2 * j] + a[2 * j + 1] * a[2 * j + 1]) / b[j]);
        to->weight += (double)w[j];
    }
    for (int k = 0; k < n; k++) {
        const float *v = d->column + k * 2 * p;
        for (int64_t j = from; j < end; j++) {
            to->y[k] += (double)(w[j] * (v[2 * j] * a[2 * j] + v[2 * j + 1] * a[2 * j + 1]));
            d->work[2 * j] = w[j] * b[j] * v[2 * j];
            d->work[2 * j + 1] = w[j] * b[j] * v[2 * j + 1];
        }
        for (int l = 0; l <= k; l++)
            to->a[k * n + l] = to->a[l * n + k] = het_dot(d->work + 2 * from, d->column + l * 2 * p + 2 * from, 2 * (end - from));
    }
}

/* Points are sorted by their radius. */
static void fill_shells(const desk *d, const het_components *c, const het_components_images *images, int64_t image)
{
    int64_t from = 0;
    for (int64_t s = 0; s < het_components_shells(c); s++) {
        const int64_t end = het_components_shell_end(images, s);
        add_shell(d->shells + s, columns_of(c), d, images, image, from, end);
        from = end;
    }
}

/* The prior's inverse variance of each column's coefficient. */
static double sure_of(const het_components *c, int column)
{
    if (column > 0 && column <= c->count) return 1.0;
    const double deviation = column == 0 ? CONTRAST : column <= c->count + TURNS ? c->turn : c->shift;
    return 1.0 / (deviation * deviation);
}

/* found (n), covariance (n,n): of all coefficients, that of V_0 beside 1. With A, y the sums over shells, P the prior's precision, e_0 = (1, 0 ..),
 *      found = M^-1 (y - A e_0), M = A + P,   log-likelihood = y_0 - A_00/2 + |L^-1 (y - A e_0)|^2/2 + log(det P / det M)/2, L L^T = M. */
static double solve(double *found, double *covariance, const het_components *c, const shell *shells)
{
    const int n = columns_of(c);
    double matrix[COLUMNS * COLUMNS] = {0}, lower[COLUMNS * COLUMNS], loglik = 0.0;
    for (int64_t s = 0; s < het_components_shells(c); s++) {
        for (int k = 0; k < n * n; k++) matrix[k] += shells[s].a[k] / c->noise[s];
        for (int k = 0; k < n; k++) found[k] += (shells[s].y[k] - shells[s].a[k * n]) / c->noise[s];
    }
    loglik += found[0] + 0.5 * matrix[0];
    for (int k = 0; k < n; k++) matrix[k * n + k] += sure_of(c, k);
    const int definite = het_cholesky(lower, matrix, n, 0.0);
    HET_ASSERT(definite); /* by the prior */
    het_cholesky_forward(found, lower, n);
    for (int k = 0; k < n; k++) loglik += 0.5 * found[k] * found[k] + 0.5 * log(sure_of(c, k)) - log(lower[k * n + k]);
    het_cholesky_backward(found, lower, n);
    for (int k = 0; k < n; k++) {
        covariance[k * n + k] = 1.0;
        het_cholesky_forward(covariance + k * n, lower, n);
        het_cholesky_backward(covariance + k * n, lower, n);
    }
    return loglik;
}

/* What is left of a shell by coefficients e (n) of this covariance (n,n). */
static double left_of(const shell *at, const double *e, const double *covariance, int n)
{
    double sum = at->power;
    for (int k = 0; k < n; k++) {
        sum -= 2.0 * e[k] * at->y[k];
        for (int l = 0; l < n; l++) sum += at->a[k * n + l] * (e[k] * e[l] + covariance[k * n + l]);
    }
    return sum;
}

/* left: NULL, or of this image. */
static void expect_one(const het_components *c, het_components_answer *answer, double *left, const shell *shells)
{
    const int order = c->count + 1, n = columns_of(c);
    double found[COLUMNS] = {0}, covariance[COLUMNS * COLUMNS] = {0};
    *answer = (het_components_answer){.loglik = solve(found, covariance, c, shells)};
    found[0] += 1.0;
    memcpy(answer->mean, found, (size_t)order * sizeof *found);
    memcpy(answer->pose, found + order, POSE * sizeof *found);
    for (int r = 0; r < order; r++) memcpy(answer->covariance + r * order, covariance + r * n, (size_t)order * sizeof *covariance);
    for (int64_t s = 0; left != NULL && s < het_components_shells(c); s++) {
        left[2 * s] = left_of(shells + s, found, covariance, n);
        left[2 * s + 1] = shells[s].weight;
    }
}

int het_components_lefts(const het_components *c)
{
    return 2 * (int)het_components_shells(c);
}

het_status het_components_expect(const het_components *c, het_components_answer *answer, double *left, const het_components_images *images,
                                 int64_t first, int64_t n, int threads)
{
    const int64_t columns = columns_of(c), p = images->p, row = (columns + 4) * 2 * p, shells = het_components_shells(c);
    float *number = het_alloc((size_t)(threads * row) * sizeof *number);
    shell *shell_of = het_alloc((size_t)(threads * shells) * sizeof *shell_of);
    const int complete = number != NULL && shell_of != NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads * complete; t++) {
        float *column = number + t * row;
        const desk d = {.column = column, .gradient = column + columns * 2 * p, .work = column + (columns + 3) * 2 * p, .shells = shell_of + t * shells};
        for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++) {
            fill_columns(&d, c, images, first + i, answer[first + i].mean);
            fill_shells(&d, c, images, first + i);
            expect_one(c, answer + first + i, left != NULL ? left + i * het_components_lefts(c) : NULL, d.shells);
        }
    }
    het_release(number);
    het_release(shell_of);
    return complete ? HET_OK : het_fail(HET_E_MEMORY, "no memory for slices");
}

/* a times exp(2 pi i k.by / D): moved back by so many pixels more. */
static void move_back(float *a, const float by[2], const het_points *points, int64_t p)
{
    het_phases phases;
    het_phases_set(&phases, by, points->box, points->kxy, p);
    for (int64_t j = 0; j < p; j++) {
        double phase[2];
        het_phases_at(phase, &phases, points->kxy + 2 * j);
        const float re = (float)phase[0], im = (float)phase[1], x = a[2 * j], y = a[2 * j + 1];
        a[2 * j] = re * x - im * y;
        a[2 * j + 1] = re * y + im * x;
    }
}

void het_components_move(const het_components_images *images, het_components_answer *answer, int64_t first, int64_t n, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = first; i < first + n; i++) {
        const float shift[SHIFTS] = {(float)answer[i].pose[TURNS], (float)answer[i].pose[TURNS + 1]};
        const double *turn = answer[i].pose, angle = sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2]);
        float *rotation = images->rotation + 9 * i;
        double about[9], r[9], turned[9];
        if (angle > 0.0) {
            for (int j = 0; j < 9; j++) r[j] = (double)rotation[j];
            het_rotation_about(about, turn, angle);
            het_rotation_multiply(turned, about, r);
            for (int j = 0; j < 9; j++) rotation[j] = (float)turned[j];
        }
        for (int j = 0; j < SHIFTS; j++) images->shift[2 * i + j] += shift[j];
        move_back(images->a + i * 2 * images->p, shift, images->points, images->p);
        memset(answer[i].pose, 0, sizeof answer[i].pose);
    }
}
