#pragma once
#include "averages.h"

/** Poses from common lines, without any volume. The slices of two views share a line through the origin: with
 *  R_i, R_j and unit vectors c_ij, c_ji in the two image planes (kx R[0,:] + ky R[1,:] is where a point of an
 *  image lies),
 *      P_i^T c_ij = P_j^T c_ji,   P = rows 0, 1 of R.
 *  Found between all pairs of averages, many of them wrong, they still fix all rotations together. The
 *  volume's mirror image explains the same lines with R -> diag(1,1,-1) R diag(1,1,-1): the hand stays open,
 *  and one global rotation.
 *  Test: tests/test_lines.c */

/** The line each pair of averages shares: the highest correlation of two rays - normalised, weighted by the
 *  signal over the noise of each shell - over 72 x 36 directions and over shifts along the line.
 *  direction [out] (m,m,2) unit vectors c_ij; the diagonal is 0
 *  shift     [out] (m,m) px: d_i.c_ij - d_j.c_ji for views that sit at +d; antisymmetric
 *  Errors: HET_E_MEMORY. */
het_status het_lines_find(float *direction, float *shift, het_device *dev, const het_averages *averages);

/** Rotations from lines: the three leading eigenvectors of the (2m,2m) matrix of blocks c_ij c_ji^T, made
 *  orthonormal by a common linear map (Singer & Shkolnisky 2011, SIAM J. Imaging Sci. 4:543, section 3), then
 *  refined view by view with weights
 *      w_ij = sin^2(angle between the views) / (|P_i^T c_ij - P_j^T c_ji|^2 + s), s shrinking from 1 to 0.03:
 *  wrong lines count little, as with least unsquared deviations (Wang, Singer & Wen 2013, SIAM J. Imaging
 *  Sci. 6:2450), and the sine keeps the views from gathering around one axis, where any line between them
 *  would do.
 *  rotation    [out] (m,9)
 *  consistency [out] (m): of each view the share of its lines that agree with the rotations within 15 degrees
 *                    and join views more than 30 degrees apart: at most about 0.87, near 0 for images of pure
 *                    noise. NULL: not wanted
 *  direction   [in]  (m,m,2), m >= 4; threads: OpenMP threads
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_lines_synchronise(float *rotation, float *consistency, const float *direction, int64_t m,
                                 int threads);

/** Where the views sit: d (m,2) px that minimises sum (d_i.c_ij - d_j.c_ji - shift_ij)^2 over the lines that
 *  agree with the rotations within 15 degrees; of the solutions, which differ by a move of the volume, the
 *  smallest.
 *  Errors: HET_E_MEMORY. */
het_status het_lines_centre(float *centre, const float *direction, const float *shift, const float *rotation,
                            int64_t m, int threads);

/** Poses of all images that are members of an average with pose rotation (m,9), centre (m,2): with G of
 *  het_member,
 *      P_image = G^T P,   t = shift + G^T centre,
 *  row 2 by the cross product: a mirrored member looks from behind. Averages of less than half the mean
 *  consistency (m) are left out: they are mostly wrong. Of several memberships the one with the best score
 *  counts.
 *  images_rotation [out] (n,9), images_shift (n,2) px: rows of images without a pose are left as they are
 *  average         [out] (n): the average that gave the pose, -1 for an image without */
void het_lines_poses(float *images_rotation, float *images_shift, int64_t *average,
                     const het_averages *averages, const float *rotation, const float *centre,
                     const float *consistency);
