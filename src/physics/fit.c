#include "fit.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"
#include "rotation.h"
#include "solve.h"

enum { CHUNK = 64, UNKNOWNS = 5, ROWS = UNKNOWNS + 1, TURNED = 3 }; /* rows of J, then r; turned slices */
static const double LAMBDA_FIRST = 1e-2, LAMBDA_LEAST = 1e-6, LAMBDA_MOST = 1e6, TURN_MOST = 0.3,
                    SHIFT_MOST = 1.0;
static const double EXTENT = 0.3; /* of the box: about the particle's radius */
static const double FRESH = 0.2;  /* rad, see way_of: so far J serves (docs/poses.md, "Fewer slices") */
static const double REST = 2e-3;  /* rad: a step of less is not taken */

typedef struct fit {
    het_fit_pose now, trial; /* the best so far, and where it is tried next */
    double lambda, jtj[UNKNOWNS * UNKNOWNS], jtr[UNKNOWNS]; /* at `now`; J: `way` from there */
    double way, step;        /* rad: from where J was taken to `now`, and from `now` to the trial */
    int wants_j, at_rest;
} fit;

typedef struct bench {
    const het_fit_spec *spec;
    const float *transform, *ctf;
    int64_t p;
    double turn;     /* rad between a slice and the turned ones */
    int64_t count;   /* poses in `fits` */
    fit fits[CHUNK];
    int64_t slot[CHUNK]; /* of each pose's slice */
    float *rotation; /* (CHUNK,TURNED,9) */
    int64_t *image;  /* (CHUNK,TURNED) */
    float *slice;    /* (CHUNK,p,2) at the trials */
    float *turned;   /* (CHUNK,TURNED,p,2) */
    float *matrix;   /* (CHUNK,ROWS,2p): J and r, times sqrt(weight)/D */
} bench;

/* R <- exp([omega]x) R */
static void turn_by(float rotation[9], const double omega[3])
{
    const double angle = sqrt(omega[0] * omega[0] + omega[1] * omega[1] + omega[2] * omega[2]);
    double turn[9], r[9], turned[9];
    if (angle < 1e-12) return;
    het_rotation_about(turn, omega, angle);
    for (int i = 0; i < 9; i++) r[i] = rotation[i];
    het_rotation_multiply(turned, turn, r);
    for (int i = 0; i < 9; i++) rotation[i] = (float)turned[i];
}

/* The half-space of a point of a slice: +1 or -1 by the sign of q_z, or where that is 0 of q_y, of q_x. */
static HET_INLINE float side_of(const float *rotation, float kx, float ky)
{
    for (int i = 2; i >= 0; i--) {
        const float q = kx * rotation[i] + ky * rotation[3 + i];
        if (q != 0.0f) return q > 0.0f ? 1.0f : -1.0f;
    }
    return 0.0f;
}

/* How far a step takes the image's phases at the rim of the disc, about: rad. */
static double way_of(const bench *b, double turn, double shift)
{
    return 2.0 * M_PI * b->spec->radius * (EXTENT * turn + shift / (double)b->spec->points->box);
}

/* C T_t sqrt(weight)/D at point i. */
static HET_INLINE void factor_of(const bench *b, const het_fit_pose *pose, int64_t i, float *c, float *s)
{
    const het_points *points = b->spec->points;
    const float unit = (float)(2.0 * M_PI / (double)points->box), kx = (float)points->kxy[2 * i], ky = (float)points->kxy[2 * i + 1];
    const float angle = -unit * (kx * pose->shift[0] + ky * pose->shift[1]);
    const float scale = b->ctf[pose->image * b->spec->row + i] * sqrtf(points->weight[i]) / (float)points->box;
    *c = scale * cosf(angle);
    *s = scale * sinf(angle);
}

/* r (p,2) */
static void fill_residuals(const bench *b, float *r, const het_fit_pose *pose, const float *slice)
{
    const het_points *points = b->spec->points;
    const float *x = b->transform + pose->image * 2 * b->spec->row;
    for (int64_t i = 0; i < b->p; i++) {
        const float data = sqrtf(points->weight[i]) / (float)points->box, *v = slice + 2 * i;
        float c, s;
        factor_of(b, pose, i, &c, &s);
        r[2 * i] = data * x[2 * i] - (c * v[0] - s * v[1]);
        r[2 * i + 1] = data * x[2 * i + 1] - (c * v[1] + s * v[0]);
    }
}

/* Rows of J, from the slice at a pose and those turned about the image's axes. */
static void fill_jacobian(const bench *b, float *matrix, const het_fit_pose *pose, const float *slice, const float *turned,
                          const float *turned_rotation)
{
    const het_points *points = b->spec->points;
    const float unit = (float)(2.0 * M_PI / (double)points->box), per_turn = (float)(1.0 / b->turn);
    for (int64_t i = 0; i < b->p; i++) {
        const float kx = (float)points->kxy[2 * i], ky = (float)points->kxy[2 * i + 1], *v = slice + 2 * i;
        float c, s;
        factor_of(b, pose, i, &c, &s);
        for (int a = 0; a < TURNED; a++) {
            const float *w = turned + 2 * (a * b->p + i);
            const float step = side_of(pose->rotation, kx, ky) == side_of(turned_rotation + 9 * a, kx, ky) ? per_turn : 0.0f;
            const float dre = step * (w[0] - v[0]), dim = step * (w[1] - v[1]);
            matrix[2 * (a * b->p + i)] = c * dre - s * dim;
            matrix[2 * (a * b->p + i) + 1] = c * dim + s * dre;
        }
        const float re = c * v[0] - s * v[1], im = c * v[1] + s * v[0];
        for (int a = 0; a < 2; a++) { /* d/dt = -2 pi i k/D times the model */
            const float k = unit * (a == 0 ? kx : ky);
            matrix[2 * ((3 + a) * b->p + i)] = k * im;
            matrix[2 * ((3 + a) * b->p + i) + 1] = -k * re;
        }
    }
}

static float *matrix_of(const bench *b, int64_t j)
{
    return b->matrix + j * ROWS * 2 * b->p;
}

static void gradient_of(const bench *b, double *jtr, const float *matrix)
{
    const int64_t n = 2 * b->p;
    for (int i = 0; i < UNKNOWNS; i++) jtr[i] = het_dot(matrix + i * n, matrix + UNKNOWNS * n, n);
}

static void normal_of(const bench *b, double *jtj, const float *matrix)
{
    const int64_t n = 2 * b->p;
    for (int i = 0; i < UNKNOWNS; i++)
        for (int j = 0; j <= i; j++)
            jtj[UNKNOWNS * i + j] = jtj[UNKNOWNS * j + i] = het_dot(matrix + i * n, matrix + j * n, n);
}

/* Slices and residuals at the trials of all poses that are not at rest. */
static void look(bench *b)
{
    int64_t list[CHUNK], count = 0;
    for (int64_t j = 0; j < b->count; j++) {
        const het_fit_pose *trial = &b->fits[j].trial;
        if (b->fits[j].at_rest) continue;
        memcpy(b->rotation + 9 * count, trial->rotation, sizeof trial->rotation);
        b->image[count] = trial->image;
        b->slot[j] = count;
        list[count++] = j;
    }
    if (count > 0) b->spec->slices(b->spec->context, b->slice, b->rotation, b->image, count, b->p);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t k = 0; k < count; k++)
        fill_residuals(b, matrix_of(b, list[k]) + UNKNOWNS * 2 * b->p, &b->fits[list[k]].trial, b->slice + k * 2 * b->p);
}

/* J where it is wanted: at poses whose slices and residuals are the last ones looked at. */
static void take_jacobians(bench *b)
{
    int64_t list[CHUNK], count = 0;
    for (int64_t j = 0; j < b->count; j++) {
        if (!b->fits[j].wants_j) continue;
        for (int a = 0; a < TURNED; a++) {
            float *r = b->rotation + 9 * (count * TURNED + a);
            const double omega[3] = {a == 0 ? b->turn : 0.0, a == 1 ? b->turn : 0.0, a == 2 ? b->turn : 0.0};
            memcpy(r, b->fits[j].now.rotation, 9 * sizeof *r);
            turn_by(r, omega);
            b->image[count * TURNED + a] = b->fits[j].now.image;
        }
        list[count++] = j;
    }
    if (count > 0) b->spec->slices(b->spec->context, b->turned, b->rotation, b->image, count * TURNED, b->p);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t k = 0; k < count; k++) {
        fit *f = &b->fits[list[k]];
        float *matrix = matrix_of(b, list[k]);
        fill_jacobian(b, matrix, &f->now, b->slice + b->slot[list[k]] * 2 * b->p, b->turned + k * TURNED * 2 * b->p,
                      b->rotation + 9 * k * TURNED);
        normal_of(b, f->jtj, matrix);
        gradient_of(b, f->jtr, matrix);
        f->wants_j = 0;
        f->way = 0.0;
    }
}

/* Where to try next: one step from `now`, of bounded length. */
static void propose(const bench *b, fit *f)
{
    double step[UNKNOWNS];
    f->trial = f->now;
    f->step = 0.0;
    if (het_solve_damped(step, f->jtj, f->jtr, UNKNOWNS, f->lambda)) {
        const double turn = sqrt(step[0] * step[0] + step[1] * step[1] + step[2] * step[2]), shift = hypot(step[3], step[4]);
        const double scale = fmin(1.0, fmin(TURN_MOST / fmax(turn, 1e-12), SHIFT_MOST / fmax(shift, 1e-12)));
        for (int i = 0; i < UNKNOWNS; i++) step[i] *= scale;
        turn_by(f->trial.rotation, step);
        for (int i = 0; i < 2; i++) f->trial.shift[i] += (float)step[3 + i];
        f->step = way_of(b, scale * turn, scale * shift);
    }
    f->at_rest = f->step < REST;
}

/* Judge the trial by its residuals. */
static void judge(const bench *b, fit *f, const float *matrix)
{
    const float *r = matrix + UNKNOWNS * 2 * b->p;
    const float loss = (float)het_dot(r, r, 2 * b->p);
    if (!(loss < f->now.loss)) {
        f->lambda = fmin(f->lambda * 8.0, LAMBDA_MOST);
        return;
    }
    f->now = f->trial;
    f->now.loss = loss;
    f->lambda = fmax(f->lambda / 4.0, LAMBDA_LEAST);
    f->way += f->step;
    f->wants_j = f->way > FRESH;
    if (!f->wants_j) gradient_of(b, f->jtr, matrix);
}

static void look_and_judge(bench *b)
{
    look(b);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t j = 0; j < b->count; j++)
        if (!b->fits[j].at_rest) judge(b, &b->fits[j], matrix_of(b, j));
}

static void fit_chunk(bench *b, het_fit_pose *poses, int64_t count)
{
    b->count = count;
    for (int64_t j = 0; j < count; j++) {
        b->fits[j] = (fit){.now = poses[j], .trial = poses[j], .lambda = LAMBDA_FIRST, .way = INFINITY};
        b->fits[j].now.loss = INFINITY;
    }
    look_and_judge(b);
    for (int step = 0; step < b->spec->steps; step++) {
        take_jacobians(b);
        for (int64_t j = 0; j < count; j++) propose(b, &b->fits[j]);
        look_and_judge(b);
    }
    for (int64_t j = 0; j < count; j++) poses[j] = b->fits[j].now;
}

static het_status bench_new(bench *b, const het_fit_spec *spec, const float *transform, const float *ctf,
                            int64_t chunk)
{
    *b = (bench){.spec = spec,
                 .transform = transform,
                 .ctf = ctf,
                 .p = het_points_within(spec->points, spec->radius),
                 .turn = HET_FIT_TURN / spec->radius};
    HET_ASSERT(b->p <= spec->row);
    b->rotation = het_alloc((size_t)(chunk * TURNED) * 9 * sizeof *b->rotation);
    b->image = het_alloc((size_t)(chunk * TURNED) * sizeof *b->image);
    b->slice = het_alloc((size_t)(chunk * 2 * b->p) * sizeof *b->slice);
    b->turned = het_alloc((size_t)(chunk * TURNED * 2 * b->p) * sizeof *b->turned);
    b->matrix = het_alloc((size_t)(chunk * ROWS * 2 * b->p) * sizeof *b->matrix);
    if (b->rotation == NULL || b->image == NULL || b->slice == NULL || b->turned == NULL || b->matrix == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the refinement of %lld poses", (long long)chunk);
    return HET_OK;
}

static void bench_free(bench *b)
{
    void *const mine[] = {b->rotation, b->image, b->slice, b->turned, b->matrix};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

het_status het_fit_run(const het_fit_spec *spec, het_fit_pose *poses, int64_t n, const float *transform,
                       const float *ctf)
{
    het_status status = HET_OK;
    bench b;
    HET_TRY(bench_new(&b, spec, transform, ctf, n < CHUNK ? n : CHUNK));
    for (int64_t first = 0; first < n; first += CHUNK)
        fit_chunk(&b, poses + first, n - first < CHUNK ? n - first : CHUNK);
done:
    bench_free(&b);
    return status;
}

het_status het_fit_normal(const het_fit_spec *spec, double jtj[25], double jtr[5], const het_fit_pose *pose,
                          const float *transform, const float *ctf)
{
    het_status status = HET_OK;
    bench b;
    HET_TRY(bench_new(&b, spec, transform, ctf, 1));
    b.count = 1;
    b.fits[0] = (fit){.now = *pose, .trial = *pose, .wants_j = 1};
    look(&b);
    take_jacobians(&b);
    memcpy(jtj, b.fits[0].jtj, sizeof b.fits[0].jtj);
    memcpy(jtr, b.fits[0].jtr, sizeof b.fits[0].jtr);
done:
    bench_free(&b);
    return status;
}
