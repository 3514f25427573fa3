#include "align.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"
#include "eigen.h"
#include "rotation.h"
#include "stats.h"

static const double DEGREES = 57.29577951308232;

/* Conjugation by diag(1,1,-1) negates the four entries with exactly one index 2. */
void het_align_relative(double q[9], const float *predicted, const float *truth, int hand)
{
    static const double conjugate[9] = {1, 1, -1, 1, 1, -1, -1, -1, 1};
    double p[9], t[9];
    for (int k = 0; k < 9; k++) {
        p[k] = hand > 0 ? (double)predicted[k] : conjugate[k] * (double)predicted[k];
        t[k] = (double)truth[k];
    }
    het_rotation_multiply_ta(q, p, t);
}

/* |R_true - R~ A| = |R~^T R_true - A|: R~ is orthogonal. */
static double distance2(const double *q, const double *a)
{
    double sum = 0.0;
    for (int k = 0; k < 9; k++) sum += (q[k] - a[k]) * (q[k] - a[k]);
    return sum;
}

/* The first `take` entries of `index` become a draw without repetition from 0..count-1. */
static void draw(int64_t *index, int64_t count, int64_t take, uint64_t seed, uint64_t which)
{
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 0, which);
    for (int64_t i = 0; i < count; i++) index[i] = i;
    het_rng_choose(&rng, index, count, take);
}

typedef struct search {
    const float *predicted, *truth;
    int64_t *anchor, *subset;
    int64_t anchors, images;
    double *q;       /* (images,9) of the subset, one hand */
    double *cost;    /* (anchors) */
    double *scratch; /* (anchors, images) */
} search;

/* Least median cost of one hand; returns the anchor's place in the list. */
static int64_t best_anchor(search *s, int hand)
{
    for (int64_t j = 0; j < s->images; j++)
        het_align_relative(s->q + 9 * j, s->predicted + 9 * s->subset[j], s->truth + 9 * s->subset[j], hand);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->anchors; i++) {
        double a[9], *d = s->scratch + i * s->images;
        het_align_relative(a, s->predicted + 9 * s->anchor[i], s->truth + 9 * s->anchor[i], hand);
        for (int64_t j = 0; j < s->images; j++) d[j] = distance2(s->q + 9 * j, a);
        s->cost[i] = het_median(d, s->images);
    }
    int64_t best = 0;
    for (int64_t i = 1; i < s->anchors; i++)
        if (s->cost[i] < s->cost[best]) best = i;
    return best;
}

/* Average the relative rotations of the images within `limit` of the present A; 0 when there are none. */
static int average_step(double a[9], const het_align *align, const float *predicted, const float *truth,
                        int64_t count, double limit)
{
    double sum[9] = {0}, q[9];
    int64_t inside = 0;
    for (int64_t i = 0; i < count; i++) {
        het_align_relative(q, predicted + 9 * i, truth + 9 * i, align->hand);
        if (distance2(q, a) >= limit) continue;
        for (int k = 0; k < 9; k++) sum[k] += q[k];
        inside++;
    }
    if (inside == 0) return 0;
    het_rotation_nearest(a, sum);
    return 1;
}

/* d of all images for one A. */
static void all_distances(double *d, const double a[9], int hand, const float *predicted, const float *truth,
                          int64_t count)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) {
        double q[9];
        het_align_relative(q, predicted + 9 * i, truth + 9 * i, hand);
        d[i] = distance2(q, a);
    }
}

/* All numbers over all images; d and angle are (count) scratch, d keeps the distances in the images'
 * order. */
static void measure(het_align *align, double *d, double *angle, const float *predicted, const float *truth,
                    int64_t count)
{
    memcpy(align->refined, align->a, sizeof align->refined);
    all_distances(angle, align->a, align->hand, predicted, truth, count);
    align->median = het_median(angle, count);
    const double limit = fmin(1.0, fmax(9.0 * align->median, 1e-12));
    for (int round = 0; round < 3; round++)
        if (!average_step(align->refined, align, predicted, truth, count, limit)) break;
    all_distances(angle, align->refined, align->hand, predicted, truth, count);
    align->median_refined = het_median(angle, count);
    if (align->median_refined > align->median) { /* too few images agree for a mean to be worth more */
        memcpy(align->refined, align->a, sizeof align->refined);
        align->median_refined = align->median;
    }

    all_distances(d, align->a, align->hand, predicted, truth, count);
    align->mean = het_mean_std(d, count, NULL);
    int64_t near = 0;
    for (int64_t i = 0; i < count; i++) {
        near += d[i] < 0.1;
        angle[i] = DEGREES * het_rotation_angle(d[i]);
    }
    align->within = (double)near / (double)count;
    align->mean_degrees = het_mean_std(angle, count, NULL);
    align->median_degrees = het_median(angle, count);
}

het_status het_align_rotations(het_align *align, double *distances, const float *predicted,
                               const float *truth, int64_t count, int anchors, uint64_t seed)
{
    het_status status = HET_OK;
    *align = (het_align){.hand = 1};
    if (count < 1 || anchors < 1)
        return het_fail(HET_E_SHAPE, "alignment of rotations needs at least one image");
    search s = {.predicted = predicted, .truth = truth};
    s.anchors = anchors < count ? anchors : count;
    s.images = count < HET_ALIGN_SUBSET ? count : HET_ALIGN_SUBSET;
    double *d = het_alloc((size_t)(2 * count) * sizeof *d);
    s.anchor = het_alloc((size_t)count * sizeof *s.anchor);
    s.subset = het_alloc((size_t)count * sizeof *s.subset);
    s.q = het_alloc((size_t)(9 * s.images) * sizeof *s.q);
    s.cost = het_alloc((size_t)s.anchors * sizeof *s.cost);
    s.scratch = het_alloc((size_t)(s.anchors * s.images) * sizeof *s.scratch);
    if (!d || !s.anchor || !s.subset || !s.q || !s.cost || !s.scratch) {
        status = het_fail(HET_E_MEMORY, "no memory to align %lld rotations", (long long)count);
        goto done;
    }
    draw(s.anchor, count, s.anchors, seed, 0);
    draw(s.subset, count, s.images, seed, 1);
    const int64_t same = best_anchor(&s, 1);
    const double cost_same = s.cost[same];
    const int64_t other = best_anchor(&s, -1);
    const double cost_other = s.cost[other];
    align->hand = cost_other < cost_same ? -1 : 1;
    align->median_other = align->hand > 0 ? cost_other : cost_same;
    align->anchor = s.anchor[align->hand > 0 ? same : other];
    het_align_relative(align->a, predicted + 9 * align->anchor, truth + 9 * align->anchor, align->hand);
    measure(align, d, d + count, predicted, truth, count);
    if (distances != NULL) memcpy(distances, d, (size_t)count * sizeof *d);
done:
    het_release(d);
    het_release(s.anchor);
    het_release(s.subset);
    het_release(s.q);
    het_release(s.cost);
    het_release(s.scratch);
    return status;
}

/* Solve n u = v for a symmetric non-negative 3x3 n; directions with no weight get 0. */
static void solve_visible(double u[3], double n[9], const double v[3])
{
    double values[3], vectors[9];
    het_eigen_symmetric(n, values, vectors, 3);
    for (int k = 0; k < 3; k++) u[k] = 0.0;
    for (int e = 0; e < 3; e++) {
        const double *axis = vectors + 3 * e;
        if (values[e] <= 1e-9 * values[0]) continue;
        const double along = (axis[0] * v[0] + axis[1] * v[1] + axis[2] * v[2]) / values[e];
        for (int k = 0; k < 3; k++) u[k] += along * axis[k];
    }
}

/* Residual |t_pred - t_true - P R u|^2 of one image. */
static double shift_residual(const float *predicted, const float *truth, const float *r, const double u[3])
{
    double sum = 0.0;
    for (int row = 0; row < 2; row++) {
        double e = (double)predicted[row] - (double)truth[row];
        for (int k = 0; k < 3; k++) e -= (double)r[3 * row + k] * u[k];
        sum += e * e;
    }
    return sum;
}

het_status het_align_shifts(het_origin *origin, const float *predicted, const float *truth,
                            const float *rotation, int64_t count)
{
    static const double nowhere[3] = {0.0, 0.0, 0.0};
    *origin = (het_origin){0};
    if (count < 1) return het_fail(HET_E_SHAPE, "comparison of shifts needs at least one image");
    double *d = het_alloc((size_t)count * sizeof *d);
    if (d == NULL) return het_fail(HET_E_MEMORY, "no memory to compare %lld shifts", (long long)count);
    double normal[9] = {0}, right[3] = {0};
    for (int64_t i = 0; i < count; i++) {
        for (int row = 0; row < 2; row++) {
            const float *r = rotation + 9 * i + 3 * row;
            const double e = (double)predicted[2 * i + row] - (double)truth[2 * i + row];
            for (int j = 0; j < 3; j++) {
                right[j] += (double)r[j] * e;
                for (int k = 0; k < 3; k++) normal[3 * j + k] += (double)r[j] * (double)r[k];
            }
        }
    }
    solve_visible(origin->u, normal, right);
    for (int64_t i = 0; i < count; i++)
        d[i] = shift_residual(predicted + 2 * i, truth + 2 * i, rotation + 9 * i, nowhere);
    origin->raw = het_median(d, count);
    for (int64_t i = 0; i < count; i++)
        d[i] = shift_residual(predicted + 2 * i, truth + 2 * i, rotation + 9 * i, origin->u);
    origin->corrected = het_median(d, count);
    het_release(d);
    return HET_OK;
}
