#pragma once
#include <stdint.h>

#include "../status.h"
#include "points.h"

/** Conformations brought to the nearest minimum at given poses, by Levenberg-Marquardt, as poses are (fit.h).
 *
 *      L(z) = 1/D^2 sum_p weight_p |X_p - C_p T_t V_z(p)|^2 + prior/2 |z|^2
 *  with slices V_z in the image's pose. The Jacobian's Z columns are differences of slices HET_CONFORM_STEP apart in
 *  z: an iteration takes a slice an image, Z more where J is taken anew, and no backward pass. J serves on where L fell as J had
 *  promised, and a step that promises next to nothing ends the iteration. With noise of variance v per pixel D^2 L/(2 v) is minus the
 *  logarithm of the posterior up to a constant; the deviations of z are those of its curvature at the minimum. Test: test_conform.c */

#define HET_CONFORM_STEP 0.02f

/** slices [out] (n,p,2) [host] of points 0..p-1 for rotations rot (n,9) and conformations z (n,Z). */
typedef void (*het_conform_slices)(void *context, float *slices, const float *rot, const float *z, int64_t n, int64_t p);

typedef struct het_conform_spec {
    const het_points *points;
    int64_t row;           /* points compared, and in a row of transform (.,row,2) and ctf (.,row) */
    int z_dim;             /* at most HET_SOLVE_MOST */
    double prior, noise_variance; /* v: per pixel */
    int steps;             /* iterations */
    int threads;
    het_conform_slices slices;
    void *context;
} het_conform_spec;

/** Bring n conformations z (n,Z) to their minima; no image's L is higher afterwards.
 *  zstd [out] (n,Z) deviations; loss [out] (n) without the prior; rot (n,9), shift (n,2) px: the poses. Not finite: loss INFINITY, z as it was.
 *  Errors: HET_E_MEMORY. */
het_status het_conform_run(const het_conform_spec *spec, float *z, float *zstd, float *loss, const float *transform,
                           const float *ctf, const float *rot, const float *shift, int64_t n);
