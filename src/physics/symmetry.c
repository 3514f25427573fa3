#include "symmetry.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "align.h"
#include "rotation.h"
#include "stats.h"

static const double NEAR = 0.1363;   /* |A-B|^2 of 15 degrees */
static const double CHANCE = 0.00095; /* of a turn to lie so near to another one */
static const double CLEAR = 12.0;    /* times what chance gives, the images of a cluster */
static const double LEAST = 8.0;     /* images of a cluster */
static const double EVEN = 0.25;     /* of the largest cluster's images, */
static const double EVEN_TWO = 0.5;  /* where there are two: by itself a turn by 180 degrees tells little */

static double between(const float *a, const double *b)
{
    double sum = 0.0;
    for (int k = 0; k < 9; k++) sum += ((double)a[k] - b[k]) * ((double)a[k] - b[k]);
    return sum;
}

/* The turn with the most others near it, of those that are left; -1: none is left. */
static int64_t densest(const float *turn, const uint8_t *left, int64_t n, int64_t *most)
{
    int64_t best = -1;
    *most = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t near = 0;
        double a[9];
        if (!left[i]) continue;
        for (int k = 0; k < 9; k++) a[k] = turn[9 * i + k];
        for (int64_t j = 0; j < n; j++) near += left[j] && between(turn + 9 * j, a) < NEAR;
        if (near > *most) {
            *most = near;
            best = i;
        }
    }
    return best;
}

/* a becomes the mean of those that are left and near it; they no longer are. */
static void take_mean(double a[9], const float *turn, uint8_t *left, int64_t n)
{
    double sum[9] = {0};
    for (int64_t i = 0; i < n; i++) {
        if (!left[i] || between(turn + 9 * i, a) >= NEAR) continue;
        for (int k = 0; k < 9; k++) sum[k] += turn[9 * i + k];
        left[i] = 0;
    }
    het_rotation_nearest(a, sum);
}

static int is_closed(const het_symmetry *s)
{
    for (int i = 0; i < s->order; i++) {
        for (int j = 0; j < s->order; j++) {
            double both[9], least = INFINITY;
            het_rotation_multiply(both, s->turn[i], s->turn[j]);
            for (int k = 0; k < s->order; k++) least = fmin(least, het_rotation_distance2(both, s->turn[k]));
            if (least >= NEAR) return 0;
        }
    }
    return 1;
}

static double nearest(const het_symmetry *s, const float *turn)
{
    double least = INFINITY, a[9];
    for (int k = 0; k < s->order; k++) {
        het_rotation_multiply(a, s->base, s->turn[k]);
        least = fmin(least, between(turn, a));
    }
    return least;
}

/* share and apart */
static void measure(het_symmetry *s, const float *turn, int64_t n, double *distance)
{
    int64_t near = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = nearest(s, turn + 9 * i);
        if (d < NEAR) distance[near++] = d;
    }
    s->share = n > 0 ? (double)near / (double)n : 0.0;
    s->apart = near > 0 ? 57.29577951308232 * het_rotation_angle(het_median(distance, near)) : 0.0;
}

het_status het_symmetry_find(het_symmetry *s, const float *turn, int64_t count)
{
    het_status status = HET_OK;
    const int64_t n = count < HET_SYMMETRY_SUBSET ? count : HET_SYMMETRY_SUBSET;
    int64_t first = 0, last = 0, most;
    uint8_t *left = het_alloc((size_t)(n > 0 ? n : 1));
    double *distance = het_alloc((size_t)(n > 0 ? n : 1) * sizeof *distance);
    *s = (het_symmetry){.hand = 1};
    if (left == NULL || distance == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory to compare %lld poses", (long long)count));
    memset(left, 1, (size_t)n);
    while (s->order < HET_SYMMETRY_MOST) { /* larger groups are not looked for */
        double a[9];
        const int64_t at = densest(turn, left, n, &most);
        const double least = fmax(CLEAR * CHANCE * (double)n, fmax(EVEN * (double)first, LEAST));
        if (at < 0 || (double)most < least) break;
        if (s->order == 0) first = most;
        last = most;
        for (int k = 0; k < 9; k++) a[k] = turn[9 * at + k];
        take_mean(a, turn, left, n);
        if (s->order == 0) memcpy(s->base, a, sizeof a);
        het_rotation_multiply_ta(s->turn[s->order++], s->base, a);
    }
    if (s->order > 1 && (!is_closed(s) || (s->order == 2 && (double)last < EVEN_TWO * (double)first))) s->order = 1;
    measure(s, turn, n, distance);
done:
    het_release(left);
    het_release(distance);
    return status;
}

void het_symmetry_turn(float *turn, const float *predicted, const float *other, int hand)
{
    double a[9];
    het_align_relative(a, predicted, other, hand);
    for (int k = 0; k < 9; k++) turn[k] = (float)a[k];
}

het_status het_symmetry_between(het_symmetry *s, const float *predicted, const float *others, int64_t count)
{
    het_status status = HET_OK;
    const int64_t n = count < HET_SYMMETRY_SUBSET ? count : HET_SYMMETRY_SUBSET;
    float *turn = het_alloc((size_t)(9 * (n > 0 ? n : 1)) * sizeof *turn);
    *s = (het_symmetry){.hand = 1};
    if (turn == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory to compare %lld poses", (long long)count));
    for (int hand = 1; hand >= -1; hand -= 2) {
        het_symmetry found;
        for (int64_t i = 0; i < n; i++) het_symmetry_turn(turn + 9 * i, predicted + 9 * i, others + 9 * i, hand);
        HET_TRY(het_symmetry_find(&found, turn, n));
        found.hand = hand;
        if (hand > 0 || found.share > s->share) *s = found;
    }
done:
    het_release(turn);
    return status;
}

double het_symmetry_distance2(const het_symmetry *s, const float *r, const float *other)
{
    float turn[9];
    double least = INFINITY;
    het_symmetry_turn(turn, other, r, 1);
    for (int k = 0; k < s->order; k++) least = fmin(least, between(turn, s->turn[k]));
    return least;
}
