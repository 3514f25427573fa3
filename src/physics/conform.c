#include "conform.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "solve.h"

enum { CHUNK = 32 };
static const double LAMBDA_FIRST = 1e-2, LAMBDA_LEAST = 1e-6, LAMBDA_MOST = 1e6;
static const double LINEAR = 0.1; /* J serves on where a step lowered L by what it promised, to this share of it */
static const double REST = 1e-4;  /* of minus the logarithm of the posterior: a step that promises less is not taken */

/* Of one image: the best z so far, where it is tried next, and the normal equations at the best. */
typedef struct search {
    float now[HET_SOLVE_MOST], trial[HET_SOLVE_MOST];
    double cost, loss, lambda, jtr[HET_SOLVE_MOST]; /* cost: with the prior */
    double jtj[HET_SOLVE_MOST * HET_SOLVE_MOST];    /* J: as it was last taken */
    double promised; /* by how much the trial is to lower the cost */
    int wants_j, at_rest;
} search;

typedef struct bench {
    const het_conform_spec *spec;
    float *data;    /* (CHUNK,row,2) X conj(T) sqrt(weight)/D */
    float *scale;   /* (CHUNK,row) C sqrt(weight)/D */
    float *z;       /* (CHUNK,Z,Z) */
    float *rot;     /* (CHUNK,Z,9) */
    float *slice;   /* (CHUNK,row,2) at the trials */
    float *beside;  /* (CHUNK,Z,row,2) */
    float *matrix;  /* (CHUNK,1+Z,row,2): residuals, then the columns of J */
    int64_t slot[CHUNK]; /* of each image's slice */
    search *searches; /* (CHUNK) */
} bench;

/* The shift is taken out of the image instead of into each slice. */
static void take_image(const bench *b, int64_t j, const float *transform, const float *ctf, const float shift[2])
{
    const het_points *points = b->spec->points;
    const double unit = 2.0 * M_PI / (double)points->box;
    float *data = b->data + j * 2 * b->spec->row, *scale = b->scale + j * b->spec->row;
    for (int64_t i = 0; i < b->spec->row; i++) {
        const double angle = unit * ((double)points->kxy[2 * i] * (double)shift[0] + (double)points->kxy[2 * i + 1] * (double)shift[1]);
        const float root = sqrtf(points->weight[i]) / (float)points->box, c = root * (float)cos(angle), s = root * (float)sin(angle);
        data[2 * i] = c * transform[2 * i] - s * transform[2 * i + 1];
        data[2 * i + 1] = c * transform[2 * i + 1] + s * transform[2 * i];
        scale[i] = root * ctf[i];
    }
}

static float *matrix_of(const bench *b, int64_t j)
{
    return b->matrix + j * (1 + b->spec->z_dim) * 2 * b->spec->row;
}

/* Slices and residuals at the trials of all images that are not at rest. */
static void look(bench *b, const float *rot, int64_t count)
{
    const int dim = b->spec->z_dim;
    const int64_t row = b->spec->row;
    int64_t list[CHUNK], n = 0;
    for (int64_t j = 0; j < count; j++) {
        if (b->searches[j].at_rest) continue;
        memcpy(b->z + n * dim, b->searches[j].trial, (size_t)dim * sizeof *b->z);
        memcpy(b->rot + 9 * n, rot + 9 * j, 9 * sizeof *rot);
        b->slot[j] = n;
        list[n++] = j;
    }
    if (n > 0) b->spec->slices(b->spec->context, b->slice, b->rot, b->z, n, row);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t k = 0; k < n; k++) {
        const float *v = b->slice + k * 2 * row, *data = b->data + list[k] * 2 * row, *scale = b->scale + list[k] * row;
        float *r = matrix_of(b, list[k]);
        for (int64_t i = 0; i < 2 * row; i++) r[i] = data[i] - scale[i / 2] * v[i];
    }
}

static void gradient_of(const bench *b, search *s, const float *matrix)
{
    const int64_t n = 2 * b->spec->row;
    for (int i = 0; i < b->spec->z_dim; i++)
        s->jtr[i] = het_dot(matrix + (1 + i) * n, matrix, n) - 0.5 * b->spec->prior * (double)s->now[i];
}

static void normal_equations(const bench *b, search *s, const float *matrix)
{
    const int dim = b->spec->z_dim;
    const int64_t n = 2 * b->spec->row;
    for (int i = 0; i < dim; i++) {
        for (int j = 0; j <= i; j++)
            s->jtj[dim * i + j] = s->jtj[dim * j + i] = het_dot(matrix + (1 + i) * n, matrix + (1 + j) * n, n);
        s->jtj[dim * i + i] += 0.5 * b->spec->prior;
    }
    gradient_of(b, s, matrix);
}

/* J where it is wanted, from slices HET_CONFORM_STEP beside the last ones looked at, along each axis of z. */
static void take_jacobians(bench *b, const float *rot, int64_t count)
{
    const int dim = b->spec->z_dim;
    const int64_t row = b->spec->row;
    int64_t list[CHUNK], n = 0;
    for (int64_t j = 0; j < count; j++) {
        if (!b->searches[j].wants_j) continue;
        for (int a = 0; a < dim; a++) {
            float *z = b->z + (n * dim + a) * dim;
            memcpy(z, b->searches[j].now, (size_t)dim * sizeof *z);
            z[a] += HET_CONFORM_STEP;
            memcpy(b->rot + 9 * (n * dim + a), rot + 9 * j, 9 * sizeof *rot);
        }
        list[n++] = j;
    }
    if (n > 0) b->spec->slices(b->spec->context, b->beside, b->rot, b->z, n * dim, row);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t k = 0; k < n; k++) {
        search *s = b->searches + list[k];
        const float *v = b->slice + b->slot[list[k]] * 2 * row, *w = b->beside + k * dim * 2 * row, *scale = b->scale + list[k] * row;
        float *matrix = matrix_of(b, list[k]);
        for (int a = 0; a < dim; a++)
            for (int64_t i = 0; i < 2 * row; i++)
                matrix[(1 + a) * 2 * row + i] = scale[i / 2] * (w[a * 2 * row + i] - v[i]) / HET_CONFORM_STEP;
        normal_equations(b, s, matrix);
        s->wants_j = 0;
    }
}

/* Judge the trial by its residuals. */
static void judge(const bench *b, search *s, const float *matrix)
{
    const double loss = het_dot(matrix, matrix, 2 * b->spec->row),
                 cost = loss + 0.5 * b->spec->prior * het_dot(s->trial, s->trial, b->spec->z_dim);
    if (!(cost < s->cost)) {
        s->lambda = fmin(s->lambda * 8.0, LAMBDA_MOST);
        return;
    }
    s->wants_j = !(fabs(s->cost - cost - s->promised) <= LINEAR * s->promised); /* the first time it is infinite */
    s->cost = cost;
    s->loss = loss;
    memcpy(s->now, s->trial, sizeof s->now);
    s->lambda = fmax(s->lambda / 4.0, LAMBDA_LEAST);
    if (!s->wants_j) gradient_of(b, s, matrix);
}

/* L(z) - L(z + step) = 2 step.(J^T r) - step.(J^T J) step where slices are linear in z. */
static void propose(const bench *b, search *s)
{
    const int dim = b->spec->z_dim;
    const double pixels = (double)(b->spec->points->box * b->spec->points->box);
    double step[HET_SOLVE_MOST];
    memcpy(s->trial, s->now, sizeof s->trial);
    s->promised = 0.0;
    if (isfinite(s->cost) && het_solve_damped(step, s->jtj, s->jtr, dim, s->lambda)) {
        for (int i = 0; i < dim; i++) {
            s->trial[i] += (float)step[i];
            s->promised += 2.0 * step[i] * s->jtr[i];
            for (int j = 0; j < dim; j++) s->promised -= step[i] * s->jtj[dim * i + j] * step[j];
        }
    }
    s->at_rest = !(0.5 * pixels / b->spec->noise_variance * s->promised > REST);
}

static void look_and_judge(bench *b, const float *rot, int64_t count)
{
    look(b, rot, count);
#pragma omp parallel for num_threads(b->spec->threads) schedule(static)
    for (int64_t j = 0; j < count; j++)
        if (!b->searches[j].at_rest) judge(b, b->searches + j, matrix_of(b, j));
}

/* sqrt of the diagonal of (D^2/v J^T J)^-1, the prior within */
static void deviations(const bench *b, float *zstd, const search *s)
{
    const int dim = b->spec->z_dim;
    const double pixels = (double)(b->spec->points->box * b->spec->points->box);
    for (int i = 0; i < dim; i++) {
        double unit[HET_SOLVE_MOST] = {0}, column[HET_SOLVE_MOST];
        unit[i] = 1.0;
        zstd[i] = het_solve_damped(column, s->jtj, unit, dim, 0.0) ? (float)sqrt(column[i] * b->spec->noise_variance / pixels) : 0.0f;
    }
}

static int bench_new(bench *b, const het_conform_spec *spec)
{
    const size_t row = (size_t)spec->row, dim = (size_t)spec->z_dim, rows = CHUNK * dim;
    *b = (bench){.spec = spec,
                 .data = het_alloc(CHUNK * 2 * row * sizeof *b->data),
                 .scale = het_alloc(CHUNK * row * sizeof *b->scale),
                 .z = het_alloc(rows * dim * sizeof *b->z),
                 .rot = het_alloc(rows * 9 * sizeof *b->rot),
                 .slice = het_alloc(CHUNK * 2 * row * sizeof *b->slice),
                 .beside = het_alloc(rows * 2 * row * sizeof *b->beside),
                 .matrix = het_alloc(CHUNK * (1 + dim) * 2 * row * sizeof *b->matrix),
                 .searches = het_alloc(CHUNK * sizeof *b->searches)};
    return b->data != NULL && b->scale != NULL && b->z != NULL && b->rot != NULL && b->slice != NULL && b->beside != NULL && b->matrix != NULL &&
           b->searches != NULL;
}

static void bench_free(bench *b)
{
    void *const pieces[] = {b->data, b->scale, b->z, b->rot, b->slice, b->beside, b->matrix, b->searches};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_release(pieces[i]);
}

/* Images [first, first + count). */
static void conform_chunk(bench *b, float *z, float *zstd, float *loss, const float *transform, const float *ctf,
                          const float *rot, const float *shift, int64_t first, int64_t count)
{
    const het_conform_spec *spec = b->spec;
    const int64_t row = spec->row, dim = spec->z_dim;
    for (int64_t j = 0; j < count; j++) {
        search *s = b->searches + j;
        const int64_t at = first + j;
        *s = (search){.cost = INFINITY, .loss = INFINITY, .lambda = LAMBDA_FIRST};
        memcpy(s->now, z + at * dim, (size_t)dim * sizeof *z);
        memcpy(s->trial, s->now, sizeof s->trial);
        take_image(b, j, transform + at * 2 * row, ctf + at * row, shift + 2 * at);
    }
    look_and_judge(b, rot + 9 * first, count);
    for (int step = 0; step < spec->steps; step++) {
        take_jacobians(b, rot + 9 * first, count);
        for (int64_t j = 0; j < count; j++) propose(b, b->searches + j);
        look_and_judge(b, rot + 9 * first, count);
    }
    for (int64_t j = 0; j < count; j++) {
        const search *s = b->searches + j;
        memcpy(z + (first + j) * dim, s->now, (size_t)dim * sizeof *z);
        loss[first + j] = (float)s->loss;
        deviations(b, zstd + (first + j) * dim, s);
    }
}

het_status het_conform_run(const het_conform_spec *spec, float *z, float *zstd, float *loss, const float *transform,
                           const float *ctf, const float *rot, const float *shift, int64_t n)
{
    het_status status = HET_OK;
    bench b;
    HET_ASSERT(spec->z_dim <= HET_SOLVE_MOST && spec->row <= spec->points->count);
    if (!bench_new(&b, spec)) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the conformations of %lld images", (long long)n));
    for (int64_t first = 0; first < n; first += CHUNK)
        conform_chunk(&b, z, zstd, loss, transform, ctf, rot, shift, first, n - first < CHUNK ? n - first : CHUNK);
done:
    bench_free(&b);
    return status;
}
