#pragma once
#include <stdint.h>

#include "../status.h"
#include "points.h"

/** Poses brought to the nearest minimum of the loss against any source of slices V_R, by Levenberg-Marquardt.
 *
 *  With T_t(k) = exp(-2 pi i k.t/D), an image X and its CTF C, the residuals are r_p = X_p - C_p T_t V_R(p), the
 *  loss is
 *      L(R,t) = 1/D^2 sum_p weight_p |r_p|^2                                       (METHOD eq. 4).
 *  A step (omega, dt), R <- exp([omega]x) R about the axes of the image, t <- t + dt, solves
 *      (J^T J + lambda diag(J^T J)) step = J^T r,
 *  where J has five columns: those of t are exact, those of omega differences of slices HET_FIT_TURN Fourier
 *  pixels apart at the rim of the disc, 0 at points that change their half-space in between: a network that is
 *  folded there (kernels/ops.h) may jump. So an iteration takes a slice, three more where J is taken anew, and no
 *  backward pass, and needs no step length. J serves as long as the pose stays near where it was taken; a step too small to
 *  matter ends the iteration. lambda falls after a step that lowered the loss, and rises where it did not, which is then
 *  undone. Test: tests/test_fit.c */

#define HET_FIT_TURN 0.05

/** slices [out] (n,p,2) [host] of points 0..p-1 for rotations rot (n,9); image (n): which image each row is of. */
typedef void (*het_fit_slices)(void *context, float *slices, const float *rot, const int64_t *image,
                               int64_t n, int64_t p);

typedef struct het_fit_pose {
    int64_t image;                     /* row of transform and ctf */
    float rotation[9], shift[2], loss; /* px; loss is an answer only */
} het_fit_pose;

typedef struct het_fit_spec {
    const het_points *points;
    int64_t row;   /* points in a row of transform (.,row,2) and ctf (.,row) */
    double radius; /* of the disc that is compared, Fourier pixels; its points must not exceed row */
    int steps;     /* iterations; 0: only the losses */
    int threads;
    het_fit_slices slices;
    void *context;
} het_fit_spec;

/** Bring n poses to their minima. No pose's loss is higher afterwards. Not finite: loss INFINITY.
 *  Errors: HET_E_MEMORY. */
het_status het_fit_run(const het_fit_spec *spec, het_fit_pose *poses, int64_t n, const float *transform,
                       const float *ctf);

/** J^T J (5,5) and J^T r (5), times 1/D^2, at one pose: order omega_x, omega_y, omega_z, t_x, t_y. The gradient
 *  of the loss is -2 J^T r. Errors: HET_E_MEMORY. */
het_status het_fit_normal(const het_fit_spec *spec, double jtj[25], double jtr[5], const het_fit_pose *pose,
                          const float *transform, const float *ctf);
