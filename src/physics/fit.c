#include "fit.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"
#include "rotation.h"
#include "solve.h"

enum { CHUNK = 64, UNKNOWNS = 5, ROWS = UNKNOWNS + 1, TURNED = 3 }; /* rows of J, then r; turned slices */
enum { SLICES = 1 + TURNED };
static const double LAMBDA_FIRST = 1e-2, LAMBDA_LEAST = 1e-6, LAMBDA_MOST = 1e6, TURN_MOST = 0.3,
                    SHIFT_MOST = 1.0;

typedef struct fit {
    het_fit_pose now, trial;                                /* the best so far, and where it is tried next */
    double lambda, jtj[UNKNOWNS * UNKNOWNS], jtr[UNKNOWNS]; /* at `now` */
} fit;

typedef struct bench {
    const het_fit_spec *spec;
    const float *transform, *ctf;
    int64_t p;
    double turn;     /* rad between a slice and the turned ones */
    float *rotation; /* (CHUNK,SLICES,9) */
    int64_t *image;  /* (CHUNK,SLICES) */
    float *slice;    /* (CHUNK,SLICES,p,2), or without the turned ones */
    float *matrix; /* (CHUNK,ROWS,2p): J and r, times sqrt(weight)/D; J without rotations where no slices were
                      turned */
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

/* Rows of J and r, from a slice and those turned about the image's axes. */
static void fill_matrix(const bench *b, float *matrix, const het_fit_pose *pose, const float *slice,
                        const float *rotation, int turned_slices)
{
    const het_points *points = b->spec->points;
    const float *x = b->transform + pose->image * 2 * b->spec->row,
                *ctf = b->ctf + pose->image * b->spec->row;
    const float unit = (float)(2.0 * M_PI / (double)points->box), per_turn = (float)(1.0 / b->turn);
    for (int64_t i = 0; i < b->p; i++) {
        const float kx = (float)points->kxy[2 * i], ky = (float)points->kxy[2 * i + 1];
        const float angle = -unit * (kx * pose->shift[0] + ky * pose->shift[1]);
        const float scale = ctf[i] * sqrtf(points->weight[i]) / (float)points->box, c = scale * cosf(angle),
                    s = scale * sinf(angle), data = sqrtf(points->weight[i]) / (float)points->box;
        const float *v = slice + 2 * i;
        const float re = c * v[0] - s * v[1], im = c * v[1] + s * v[0];
        for (int a = 0; a < turned_slices; a++) {
            const float *turned = slice + 2 * ((a + 1) * b->p + i);
            const float step =
                side_of(rotation, kx, ky) == side_of(rotation + 9 * (a + 1), kx, ky) ? per_turn : 0.0f;
            const float dre = step * (turned[0] - v[0]), dim = step * (turned[1] - v[1]);
            matrix[2 * (a * b->p + i)] = c * dre - s * dim;
            matrix[2 * (a * b->p + i) + 1] = c * dim + s * dre;
        }
        for (int a = 0; a < 2; a++) { /* d/dt = -2 pi i k/D times the model */
            const float k = unit * (a == 0 ? kx : ky);
            matrix[2 * ((3 + a) * b->p + i)] = k * im;
            matrix[2 * ((3 + a) * b->p + i) + 1] = -k * re;
        }
        matrix[2 * (UNKNOWNS * b->p + i)] = data * x[2 * i] - re;
        matrix[2 * (UNKNOWNS * b->p + i) + 1] = data * x[2 * i + 1] - im;
    }
}

static void normal_of(const bench *b, double *jtj, double *jtr, const float *matrix)
{
    const int64_t n = 2 * b->p;
    for (int i = 0; i < UNKNOWNS; i++) {
        for (int j = 0; j <= i; j++)
            jtj[UNKNOWNS * i + j] = jtj[UNKNOWNS * j + i] = het_dot(matrix + i * n, matrix + j * n, n);
        jtr[i] = het_dot(matrix + i * n, matrix + UNKNOWNS * n, n);
    }
}

/* Slices of `count` poses and, TURNED or 0, their turned ones, and the matrices made of them. */
static void measure(bench *b, const het_fit_pose *const *poses, int64_t count, int turned)
{
    const int64_t each = 1 + turned;
    for (int64_t j = 0; j < count; j++) {
        for (int a = 0; a < each; a++) {
            float *r = b->rotation + 9 * (j * each + a);
            const double omega[3] = {a == 1 ? b->turn : 0.0, a == 2 ? b->turn : 0.0, a == 3 ? b->turn : 0.0};
            memcpy(r, poses[j]->rotation, sizeof poses[j]->rotation);
            turn_by(r, omega);
            b->image[j * each + a] = poses[j]->image;
        }
    }
    b->spec->slices(b->spec->context, b->slice, b->rotation, b->image, count * each, b->p);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t j = 0; j < count; j++)
        fill_matrix(b, b->matrix + j * ROWS * 2 * b->p, poses[j], b->slice + j * each * 2 * b->p,
                    b->rotation + 9 * j * each, turned);
}

/* Where to try next: one step from `now`, of bounded length. */
static void propose(fit *f)
{
    double step[UNKNOWNS];
    f->trial = f->now;
    if (!het_solve_damped(step, f->jtj, f->jtr, UNKNOWNS, f->lambda)) return;
    const double turn = sqrt(step[0] * step[0] + step[1] * step[1] + step[2] * step[2]),
                 shift = hypot(step[3], step[4]);
    const double scale = fmin(1.0, fmin(TURN_MOST / fmax(turn, 1e-12), SHIFT_MOST / fmax(shift, 1e-12)));
    for (int i = 0; i < UNKNOWNS; i++) step[i] *= scale;
    turn_by(f->trial.rotation, step);
    for (int i = 0; i < 2; i++) f->trial.shift[i] += (float)step[3 + i];
}

/* Judge the trial by its matrix, and propose the next one. */
static void advance(const bench *b, fit *f, const float *matrix)
{
    const float *r = matrix + UNKNOWNS * 2 * b->p;
    const float loss = (float)het_dot(r, r, 2 * b->p);
    if (loss < f->now.loss) {
        f->now = f->trial;
        f->now.loss = loss;
        normal_of(b, f->jtj, f->jtr, matrix);
        f->lambda = fmax(f->lambda / 4.0, LAMBDA_LEAST);
    } else {
        f->lambda = fmin(f->lambda * 8.0, LAMBDA_MOST);
    }
    propose(f);
}

static void fit_chunk(bench *b, fit *fits, het_fit_pose *poses, int64_t count)
{
    const het_fit_pose *trials[CHUNK];
    for (int64_t j = 0; j < count; j++) {
        fits[j] = (fit){.now = poses[j], .trial = poses[j], .lambda = LAMBDA_FIRST};
        fits[j].now.loss = INFINITY;
        trials[j] = &fits[j].trial;
    }
    for (int step = 0; step <= b->spec->steps; step++) {
        measure(b, trials, count, step < b->spec->steps ? TURNED : 0); /* in the end only the loss */
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
        for (int64_t j = 0; j < count; j++) advance(b, fits + j, b->matrix + j * ROWS * 2 * b->p);
    }
    for (int64_t j = 0; j < count; j++) poses[j] = fits[j].now;
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
    b->rotation = het_alloc((size_t)(chunk * SLICES) * 9 * sizeof *b->rotation);
    b->image = het_alloc((size_t)(chunk * SLICES) * sizeof *b->image);
    b->slice = het_alloc((size_t)(chunk * SLICES * 2 * b->p) * sizeof *b->slice);
    b->matrix = het_alloc((size_t)(chunk * ROWS * 2 * b->p) * sizeof *b->matrix);
    if (b->rotation == NULL || b->image == NULL || b->slice == NULL || b->matrix == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the refinement of %lld poses", (long long)chunk);
    return HET_OK;
}

static void bench_free(bench *b)
{
    het_release(b->rotation);
    het_release(b->image);
    het_release(b->slice);
    het_release(b->matrix);
}

het_status het_fit_run(const het_fit_spec *spec, het_fit_pose *poses, int64_t n, const float *transform,
                       const float *ctf)
{
    het_status status = HET_OK;
    bench b;
    fit fits[CHUNK];
    HET_TRY(bench_new(&b, spec, transform, ctf, n < CHUNK ? n : CHUNK));
    for (int64_t first = 0; first < n; first += CHUNK)
        fit_chunk(&b, fits, poses + first, n - first < CHUNK ? n - first : CHUNK);
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
    measure(&b, &pose, 1, TURNED);
    normal_of(&b, jtj, jtr, b.matrix);
done:
    bench_free(&b);
    return status;
}
