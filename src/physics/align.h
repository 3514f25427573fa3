#pragma once
#include <stdint.h>

#include "../status.h"

/** One global rotation and hand between predicted and true poses: the measures Rot and Trans of METHOD 8.
 *
 *  A reconstruction knows its molecule up to a rotation, a mirror image and an origin. With M = diag(1,1,-1)
 *  and h the hand, write R~ = R_pred (hand +1) or M R_pred M (hand -1): the slices of the mirrored volume
 *  V_pred(M x) at M R M are those of V_pred at R up to the view's own z, so both explain the images equally
 *  well. If R_true = R~ A for all images and the predicted molecule's origin lies at c, the same image point
 *  is
 *      P R_true x + t_true = P R~ (A x + c) + t_pred,  P = rows 0,1
 *  hence  t_pred - t_true = P R_true u,  u = -A^T c  (the same for both hands), and
 *      V_true(x) = V_pred(B (x - u)),  B = A (hand +1) or M A (hand -1).
 *  (place.h turns maps so.) Test: tests/test_align.c */

typedef struct het_align {
    double a[9];           /* A of the best anchor: R_true ~ R~ A */
    double refined[9];     /* A averaged over the images that agree with it; = a where that is no better */
    int hand;              /* +1: as predicted, -1: both conjugated by diag(1,1,-1) */
    double median;         /* Rot: median of d = |R_true - R~ A|_F^2 = 8 sin^2(theta/2), A of the anchor */
    double mean;           /* mean of d */
    double mean_degrees;   /* mean and median of theta, degrees */
    double median_degrees;
    double within;         /* share of the images with d < 0.1 (12.8 degrees) */
    double median_refined; /* median of d with the refined A */
    double median_other;   /* Rot of the other hand's best anchor over the subset: how sure the hand is */
    int64_t anchor;        /* image whose A was taken */
} het_align;

enum { HET_ALIGN_ANCHORS = 200, HET_ALIGN_SUBSET = 2000 };

/** Find A and the hand (METHOD 8, Rot): for each of `anchors` images i, drawn without repetition, A = R~_i^T
 *  R_true,i; its cost is the median of d over up to HET_ALIGN_SUBSET drawn images; the least cost over both
 *  hands wins; then all numbers over all images. The refined A maximises sum tr(A^T R~^T R_true) over the
 *  images with d < 9 median (at most 1).
 *  distance2  [out]  (count) d of every image with `a`; NULL: not wanted
 *  predicted  [in]   (count,9), truth (count,9): rotations, row-major, finite
 *  anchors    [in]   >= 1, HET_ALIGN_ANCHORS is usual; seed: of the draws
 *  The result does not depend on threads.
 *  Errors: HET_E_SHAPE when count < 1; HET_E_MEMORY. */
het_status het_align_rotations(het_align *align, double *distance2, const float *predicted,
                               const float *truth, int64_t count, int anchors, uint64_t seed);

/** q (9) = R~^T R_true of one image: the A that would make it fit exactly. */
void het_align_relative(double q[9], const float *predicted, const float *truth, int hand);

typedef struct het_origin {
    double u[3];      /* px, in the true volume's frame: t_pred - t_true ~ P R_true u */
    double raw;       /* Trans: median of |t_pred - t_true|^2, px^2 */
    double corrected; /* median of |t_pred - t_true - P R_true u|^2, px^2 */
} het_origin;

/** The origin by least squares over all images, and Trans with and without it (METHOD 8).
 *  predicted, truth (count,2) px; rotation (count,9) true. Directions that the views do not show stay 0.
 *  Errors: HET_E_SHAPE when count < 1; HET_E_MEMORY. */
het_status het_align_shifts(het_origin *origin, const float *predicted, const float *truth,
                            const float *rotation, int64_t count);
