#pragma once
#include <stdint.h>

#include "../status.h"

/** The half-disc of Fourier points of a box, sorted by radius (kernels/ops.h says why).
 *  Order: kx^2+ky^2 ascending, then kx, then ky: a total order, the same on every machine. */
typedef struct het_points {
    int64_t box, count;
    int32_t *kxy;    /* (count, 2): integer kx >= 0, ky; cycles per box */
    float *weight;   /* (count): 1 at DC, else 2 */
    int64_t *prefix; /* (box/2): prefix[r] = number of points with kx^2+ky^2 <= r^2, r = 0 .. box/2-1 */
    int64_t *shells; /* (box/2): shells[s] = number of points of the shells round(|k|) = 0 .. s */
} het_points;

/** All points with radius <= box/2-1. box even, 4..4096. Errors: HET_E_MEMORY, HET_E_SHAPE. */
het_status het_points_new(het_points *points, int64_t box);
void het_points_free(het_points *points);
/** Points of the disc of a (fractional) radius in Fourier pixels, clamped to [1, box/2-1]: floor of the radius counts
 *  full rings only through kx^2+ky^2 <= radius^2. */
int64_t het_points_within(const het_points *points, double radius);
