#include "components.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "eigen.h"
#include "rotation.h"
#include "solve.h"

/* Columns of an image's model: slices of the K+1 maps, and what errors of its pose change of that of V_0. */
enum { TURNS = 3, SHIFTS = 2, POSE = TURNS + SHIFTS, ORDER = HET_COMPONENTS_MOST + 1, COLUMNS = ORDER + POSE };
static const double NOISE_LEAST = 1e-3;    /* of images of variance 1 */
static const double CONTRAST = 0.3;        /* standard deviation of c: more than images have, lest the maps take up a part */
static const double SHARE = 0.1;           /* of the signal's variance in a component, at most, as its prior has it */
static const double SIGNAL_LEAST = 0.01;   /* of the noise */
static const double TOLD_MOST = 0.999;
static const double STEP = 0.1;            /* of the deviation of turns: between slices whose difference is a derivative */

/* An image's normal equations in one shell, n columns v: A_kl = sum w b Re(conj(v_k) v_l), y_k = sum w Re(conj(v_k) a); sum w |X|^2, sum w. */
typedef struct shell {
    double a[COLUMNS * COLUMNS], y[COLUMNS], power, weight;
} shell;

static int64_t shells_of(const het_components *c)
{
    return c->map[0].box / 2 + 1;
}

static int64_t shell_at(const int32_t *kxy)
{
    return lround(hypot((double)kxy[0], (double)kxy[1]));
}

/* Where the sums of e_k begin. */
static int place(int k)
{
    return k * (k + 1) / 2;
}

int het_components_sums(const het_components *c)
{
    return place(c->count + 1);
}

het_status het_components_new(het_components *c, int count, int64_t box, int64_t image_box, double noise, double turn, double shift)
{
    het_status status = HET_OK;
    const double finer = (double)image_box / (double)box;
    *c = (het_components){.count = count, .turn = turn, .shift = shift, .slice_scale = finer * finer};
    HET_ASSERT(count >= 1 && count <= HET_COMPONENTS_MOST);
    c->prior = het_alloc((size_t)(box / 2 + 1) * sizeof *c->prior);
    c->noise = het_alloc((size_t)(box / 2 + 1) * sizeof *c->noise);
    if (c->prior == NULL || c->noise == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %d components", count));
    for (int64_t s = 0; s <= box / 2; s++) c->noise[s] = fmax(noise, NOISE_LEAST);
    for (int k = 0; k <= count; k++) HET_TRY(het_volume_new(&c->map[k], box, 1.0));
    for (int i = 0; i < het_components_sums(c); i++) HET_TRY(het_backproject_new(&c->sum[i], box, image_box));
done:
    return status;
}

void het_components_free(het_components *c)
{
    for (int k = 0; k <= c->count; k++) {
        het_slicer_free(&c->slicer[k]);
        het_volume_free(&c->map[k]);
    }
    for (int i = 0; i < het_components_sums(c); i++) het_backproject_free(&c->sum[i]);
    het_release(c->prior);
    het_release(c->noise);
    *c = (het_components){0};
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

het_status het_components_measure(het_components *c, const het_components_images *images)
{
    const int64_t shells = shells_of(c);
    double *sum = het_alloc((size_t)(3 * shells) * sizeof *sum), *data = sum, *weight = sum + shells, *square = sum + 2 * shells;
    if (sum == NULL) return het_fail(HET_E_MEMORY, "no memory for the images' power");
    for (int64_t i = 0; i < images->count; i++) {
        for (int64_t j = 0; j < images->p; j++) {
            const int64_t s = shell_at(images->points->kxy + 2 * j);
            const double re = (double)images->a[2 * (i * images->p + j)], im = (double)images->a[2 * (i * images->p + j) + 1],
                         b = (double)images->b[i * images->p + j];
            data[s] += re * re + im * im;
            weight[s] += b;
            square[s] += b * b;
        }
    }
    for (int64_t s = 0; s < shells; s++) {
        const double signal = square[s] > 0.0 ? (data[s] - c->noise[s] * weight[s]) / square[s] : 0.0;
        c->prior[s] = c->noise[s] / fmax(signal, SIGNAL_LEAST * c->noise[s]);
    }
    het_release(sum);
    return HET_OK;
}

/* The columns (K+1+POSE, p, 2) of an image. */
static void fill_columns(float *column, const het_components *c, const het_components_images *images, const float *rotation)
{
    const int n = c->count + 1;
    const int64_t p = images->p;
    const int32_t *kxy = images->points->kxy;
    const double unit = 2.0 * M_PI / (double)images->points->box, step = STEP * c->turn;
    double r[9], turn[9], turned[9];
    float *pose = column + n * 2 * p;
    for (int i = 0; i < 9; i++) r[i] = (double)rotation[i];
    for (int k = 0; k < n; k++) het_slicer_slice(&c->slicer[k], column + k * 2 * p, r, kxy, p);
    for (int a = 0; a < TURNS; a++) {
        const double axis[3] = {a == 0, a == 1, a == 2};
        het_rotation_about(turn, axis, step);
        het_rotation_multiply(turned, turn, r);
        het_slicer_slice(&c->slicer[0], pose + a * 2 * p, turned, kxy, p);
        for (int64_t j = 0; j < 2 * p; j++) pose[a * 2 * p + j] = (pose[a * 2 * p + j] - column[j]) / (float)step;
    }
    for (int a = 0; a < SHIFTS; a++) {
        float *to = pose + (TURNS + a) * 2 * p;
        for (int64_t j = 0; j < p; j++) { /* d/dt of exp(-2 pi i k.t/D) V_0 */
            const float k = (float)unit * (float)kxy[2 * j + a];
            to[2 * j] = k * column[2 * j + 1];
            to[2 * j + 1] = -k * column[2 * j];
        }
    }
    for (int64_t j = 0; j < (n + POSE) * 2 * p; j++) column[j] *= (float)c->slice_scale;
}

/* One shell: points j, up to `end`, of n columns of p points. */
static void add_shell(shell *to, int n, const het_components_images *images, int64_t image, const float *column, float *weighted, int64_t j, int64_t end)
{
    const int64_t p = images->p, from = j;
    const float *a = images->a + image * 2 * p, *b = images->b + image * p, *w = images->points->weight;
    *to = (shell){0};
    for (; j < end; j++) {
        if (!(b[j] > 0.0F)) continue;
        to->power += (double)(w[j] * (a[2 * j] * a[2 * j] + a[2 * j + 1] * a[2 * j + 1]) / b[j]);
        to->weight += (double)w[j];
    }
    for (int k = 0; k < n; k++) {
        const float *v = column + k * 2 * p;
        for (j = from; j < end; j++) {
            to->y[k] += (double)(w[j] * (v[2 * j] * a[2 * j] + v[2 * j + 1] * a[2 * j + 1]));
            weighted[2 * j] = w[j] * b[j] * v[2 * j];
            weighted[2 * j + 1] = w[j] * b[j] * v[2 * j + 1];
        }
        for (int l = 0; l <= k; l++) to->a[k * n + l] = to->a[l * n + k] = het_dot(weighted + 2 * from, column + l * 2 * p + 2 * from, 2 * (end - from));
    }
}

/* The shells (box/2 + 1) of an image: points are sorted by their radius. */
static void fill_shells(shell *to, const het_components *c, int n, const het_components_images *images, int64_t image, const float *column,
                        float *weighted)
{
    int64_t j = 0;
    for (int64_t s = 0; s < shells_of(c); s++) {
        const int64_t from = j;
        while (j < images->p && shell_at(images->points->kxy + 2 * j) == s) j++;
        add_shell(to + s, n, images, image, column, weighted, from, j);
    }
}

/* The prior's inverse variance of each column's coefficient. */
static double sure_of(const het_components *c, int column)
{
    if (column > 0 && column <= c->count) return 1.0;
    const double deviation = column == 0 ? CONTRAST : column <= c->count + TURNS ? c->turn : c->shift;
    return 1.0 / (deviation * deviation);
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
    const int order = c->count + 1, n = order + POSE;
    double matrix[COLUMNS * COLUMNS] = {0}, found[COLUMNS] = {0}, lower[COLUMNS * COLUMNS], covariance[COLUMNS * COLUMNS] = {0};
    *answer = (het_components_answer){.mean = {1.0}};
    for (int64_t s = 0; s < shells_of(c); s++) {
        for (int k = 0; k < n * n; k++) matrix[k] += shells[s].a[k] / c->noise[s];
        for (int k = 0; k < n; k++) found[k] += (shells[s].y[k] - shells[s].a[k * n]) / c->noise[s]; /* beside V_0 */
    }
    for (int k = 0; k < n; k++) matrix[k * n + k] += sure_of(c, k);
    const int definite = het_cholesky(lower, matrix, n, 0.0);
    HET_ASSERT(definite); /* by the prior */
    het_cholesky_forward(found, lower, n);
    het_cholesky_backward(found, lower, n);
    for (int k = 0; k < order; k++) answer->mean[k] += found[k];
    for (int k = 0; k < n; k++) {
        covariance[k * n + k] = 1.0;
        het_cholesky_forward(covariance + k * n, lower, n);
        het_cholesky_backward(covariance + k * n, lower, n);
    }
    for (int r = 0; r < order; r++) {
        for (int s = 0; s < order; s++) {
            double noise = covariance[r * n + s]; /* C A C = C - C P C, P the prior's inverse */
            for (int k = 0; k < n; k++) noise -= covariance[r * n + k] * sure_of(c, k) * covariance[k * n + s];
            answer->covariance[r * order + s] = covariance[r * n + s];
            answer->noise[r * order + s] = noise;
        }
    }
    found[0] += 1.0;
    for (int64_t s = 0; left != NULL && s < shells_of(c); s++) {
        left[2 * s] = left_of(shells + s, found, covariance, n);
        left[2 * s + 1] = shells[s].weight;
    }
}

int het_components_lefts(const het_components *c)
{
    return 2 * (int)shells_of(c);
}

het_status het_components_expect(const het_components *c, het_components_answer *answer, double *left, const het_components_images *images,
                                 int64_t first, int64_t n, int threads)
{
    const int columns = c->count + 1 + POSE;
    const int64_t row = (columns + 1) * 2 * images->p;
    float *work = het_alloc((size_t)(threads * row) * sizeof *work);
    shell *shells = het_alloc((size_t)(threads * shells_of(c)) * sizeof *shells);
    const int complete = work != NULL && shells != NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads * complete; t++) {
        float *column = work + t * row;
        shell *own = shells + t * shells_of(c);
        for (int64_t i = first + n * t / threads; i < first + n * (t + 1) / threads; i++) {
            fill_columns(column, c, images, images->rotation + 9 * i);
            fill_shells(own, c, columns, images, i, column, column + columns * 2 * images->p);
            expect_one(c, answer + i, left != NULL ? left + (i - first) * het_components_lefts(c) : NULL, own);
        }
    }
    het_release(work);
    het_release(shells);
    return complete ? HET_OK : het_fail(HET_E_MEMORY, "no memory for slices");
}

void het_components_set_noise(het_components *c, const double *left, int64_t n)
{
    const int each = het_components_lefts(c);
    for (int64_t s = 0; s < shells_of(c); s++) {
        double sum = 0.0, weight = 0.0;
        for (int64_t i = 0; i < n; i++) {
            sum += left[i * each + 2 * s];
            weight += left[i * each + 2 * s + 1];
        }
        if (weight > 0.0) c->noise[s] = fmax(sum / weight, NOISE_LEAST);
    }
}

het_status het_components_add(het_components *c, int which, const het_components_answer *answer, const het_components_images *images)
{
    int k = 0;
    while (place(k + 1) <= which) k++;
    const int l = which - place(k), n = c->count + 1;
    const int64_t p = images->p;
    float *one = het_alloc((size_t)(3 * p) * sizeof *one);
    if (one == NULL) return het_fail(HET_E_MEMORY, "no memory for an image");
    het_backproject_clear(&c->sum[which]);
    for (int64_t i = 0; i < images->count; i++) {
        const double ek = answer[i].mean[k], both = ek * answer[i].mean[l] + answer[i].covariance[k * n + l];
        for (int64_t j = 0; j < 2 * p; j++) one[j] = l == 0 ? (float)ek * images->a[i * 2 * p + j] : 0.0F;
        for (int64_t j = 0; j < p; j++) one[2 * p + j] = (float)both * images->b[i * p + j];
        het_backproject_add(&c->sum[which], one, one + 2 * p, images->rotation + 9 * i, 1.0, images->points->kxy, p);
    }
    het_release(one);
    return HET_OK;
}

het_status het_components_solve(het_components *c)
{
    het_status status = HET_OK;
    double share[ORDER];
    for (int k = 0; k <= c->count; k++) share[k] = k == 0 ? 1.0 : SHARE;
    het_backproject_solve_joint(c->sum, c->count + 1, c->map, c->prior, share);
    for (int k = 0; k <= c->count; k++) {
        het_slicer_free(&c->slicer[k]);
        HET_TRY(het_slicer_new(&c->slicer[k], &c->map[k]));
    }
done:
    return status;
}

/* A (n,n), symmetric, becomes L^-1 A L^-T, for the last n of `order` rows and columns; of the others the rows become A L^-T, the columns L^-1 A. */
static void change_base(double *a, int order, const double *lower, int n)
{
    const int before = order - n;
    for (int r = 0; r < order; r++) het_cholesky_forward(a + r * order + before, lower, n);
    for (int s = 0; s < order; s++) {
        double column[HET_COMPONENTS_MOST];
        for (int r = 0; r < n; r++) column[r] = a[(before + r) * order + s];
        het_cholesky_forward(column, lower, n);
        for (int r = 0; r < n; r++) a[(before + r) * order + s] = column[r];
    }
}

void het_components_whiten(const het_components *c, het_components_answer *answer, int64_t n)
{
    const int k = c->count, order = k + 1;
    double mean[HET_COMPONENTS_MOST] = {0}, spread[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST] = {0},
           lower[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int r = 0; r < k; r++) mean[r] += answer[i].mean[1 + r] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        for (int r = 0; r < k; r++) answer[i].mean[1 + r] -= mean[r];
        for (int r = 0; r < k; r++)
            for (int s = 0; s < k; s++)
                spread[r * k + s] += (answer[i].mean[1 + r] * answer[i].mean[1 + s] + answer[i].covariance[(1 + r) * order + 1 + s]) / (double)n;
    }
    const int definite = het_cholesky(lower, spread, k, 0.0);
    HET_ASSERT(definite); /* by the covariances */
    for (int64_t i = 0; i < n; i++) {
        het_cholesky_forward(answer[i].mean + 1, lower, k);
        change_base(answer[i].covariance, order, lower, k);
    }
}

void het_components_axes(het_components_axis *axis, const het_components *c, const het_components_answer *answer, int64_t n)
{
    const int k = c->count, order = k + 1;
    double mean[HET_COMPONENTS_MOST] = {0}, lower[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST] = {0}, told[HET_COMPONENTS_MOST],
           spread[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST] = {0}, noise[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST] = {0},
           vector[HET_COMPONENTS_MOST * HET_COMPONENTS_MOST];
    for (int64_t i = 0; i < n; i++)
        for (int r = 0; r < k; r++) mean[r] += answer[i].mean[1 + r] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        for (int r = 0; r < k; r++) {
            for (int s = 0; s < k; s++) {
                spread[r * k + s] += (answer[i].mean[1 + r] - mean[r]) * (answer[i].mean[1 + s] - mean[s]) / (double)n;
                noise[r * k + s] += answer[i].noise[(1 + r) * order + 1 + s] / (double)n;
            }
        }
    }
    for (int j = 0; j < k; j++) axis[j] = (het_components_axis){0};
    if (!het_cholesky(lower, spread, k, 0.0)) return; /* all images say the same */
    change_base(noise, k, lower, k);
    for (int r = 0; r < k; r++)
        for (int s = 0; s < k; s++) noise[r * k + s] = (r == s ? 1.0 : 0.0) - noise[r * k + s];
    het_eigen_symmetric(noise, told, vector, k);
    for (int j = 0; j < k; j++) {
        double *turn = vector + j * k;
        het_cholesky_backward(turn, lower, k);
        axis[j].told = fmin(told[j], TOLD_MOST);
        for (int r = 0; r < k; r++) {
            axis[j].turn[r] = turn[r];
            axis[j].mean += turn[r] * mean[r];
        }
    }
}

double het_components_along(const het_components_axis *axis, const het_components *c, const het_components_answer *answer)
{
    double sum = -axis->mean;
    for (int k = 0; k < c->count; k++) sum += axis->turn[k] * answer->mean[1 + k];
    return sum;
}
