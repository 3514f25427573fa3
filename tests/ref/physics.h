#pragma once
#include "../../kernels/ops.h"

/** Plain double-precision image formation, one point at a time: what the operations on Fourier points are
 *  tested against. Arrays as in kernels/ops.h, in double. */

/** points (P,2) = 1/D sum I[y][x] exp(-2 pi i (kx (x-D/2) + ky (y-D/2))/D). */
void ref_image_to_points(double *points, const double *image, const int32_t *kxy, int64_t box, int64_t p);
/** image (D,D) = the real image whose transform has these points and their conjugates, and nothing else. */
void ref_points_to_image(double *image, const double *points, const int32_t *kxy, int64_t box, int64_t p);
/** Wavelength in A of electrons at `volt` V, from the constants of nature. */
double ref_wavelength(double volt);
/** CTF of METHOD 2 at the frequency (kx,ky)/(D apix) per A. */
double ref_ctf(const het_ctf_row *row, double kx, double ky, int64_t box, double apix);
/** model (P,2) = ctf slice exp(-2 pi i k.t/D) */
void ref_project(double *model, const double *slice, const double *ctf, const double *shift,
                 const int32_t *kxy, int64_t box, int64_t p);
/** 1/D^2 sum_p weight_p |target - project(slice)|^2, weight 1 at DC and 2 elsewhere. */
double ref_project_loss(const double *slice, const double *ctf, const double *shift, const double *target,
                        const int32_t *kxy, int64_t box, int64_t p);

/** rot (9) from v (6) by Gram-Schmidt. */
void ref_s2s2(double *rot, const double *v);
/** z (Z) and the return value KL, from head (2Z) and eps (Z). */
double ref_latent(double *z, const double *head, const double *eps, int64_t zdim);
/** 1/(2Z) sum ((z - mu)^2/v + log v), head (2Z) */
double ref_conformation_loss(const double *head, const double *z, int64_t zdim);
/** 1/9 |R-R'|_F^2 + 1/2 |t-t'|_1 */
double ref_pose_loss(const double *rot, const double *shift, const double *rot_true,
                     const double *shift_true);
