#pragma once
#include <stdint.h>

/** The phases of a shift t, exp(2 pi i k.t / D) at integer k with kx >= 0: a product of one number for each axis, so that a disc of radius r takes
 *  2 r sines and cosines, not pi r^2 / 2. Test: tests/test_first_volume.c, tests/test_search.c */
enum { HET_PHASES_MOST = 2048 }; /* of a half disc of the largest box (points.h) */

typedef struct het_phases {
    double x[HET_PHASES_MOST][2], y[HET_PHASES_MOST][2]; /* exp(2 pi i k t_x / D), exp(2 pi i k t_y / D) of k = 0 .. reach */
} het_phases;

/** For the p points kxy (P,2), sorted by their radius, of a box of D pixels; shift px. */
void het_phases_set(het_phases *phases, const float shift[2], int64_t box, const int32_t *kxy, int64_t p);

/** out = exp(2 pi i k.t / D) */
static inline void het_phases_at(double out[2], const het_phases *phases, const int32_t k[2])
{
    const double *x = phases->x[k[0]], *y = phases->y[k[1] < 0 ? -k[1] : k[1]], sine = k[1] < 0 ? -y[1] : y[1];
    out[0] = x[0] * y[0] - x[1] * sine;
    out[1] = x[0] * sine + x[1] * y[0];
}
