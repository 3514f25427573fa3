#pragma once
#include "../rng.h"

/** Rotations. R (3x3, row-major) takes volume coordinates to image coordinates: x_image = R x_volume; the slice of an
 *  image is V^(R^T (kx,ky,0)) (METHOD 2). Angles in rad. Test: tests/test_rotation.c */

/** RELION's ZYZ Euler angles (rot, tilt, psi) to R: R = Rz(psi) Ry(tilt) Rz(rot) with
 *  Rz(a) = [c s 0; -s c 0; 0 0 1], Ry(a) = [c 0 -s; 0 1 0; s 0 c]. */
void het_rotation_from_euler(double r[9], double rot, double tilt, double psi);
/** The inverse, tilt in [0, pi]; for tilt = 0 or pi: rot = 0. */
void het_rotation_to_euler(const double r[9], double *rot, double *tilt, double *psi);
/** Unit or not, a quaternion (w,x,y,z) to R. */
void het_rotation_from_quaternion(double r[9], const double q[4]);
/** Axis-angle: right-handed by `angle` about `axis` (normalised here). */
void het_rotation_about(double r[9], const double axis[3], double angle);
/** Uniform on SO(3) from three uniforms in (0,1) (Shoemake 1992). */
void het_rotation_uniform(double r[9], double u1, double u2, double u3);
/** The same from the next three numbers of a stream. */
void het_rotation_draw(double r[9], het_rng *rng);
/** c = a b; c = a^T b; c = a b^T. c may not overlap. */
void het_rotation_multiply(double c[9], const double a[9], const double b[9]);
void het_rotation_multiply_ta(double c[9], const double a[9], const double b[9]);
void het_rotation_multiply_tb(double c[9], const double a[9], const double b[9]);
/** |a - b|_F^2 = 8 sin^2(theta/2). */
double het_rotation_distance2(const double a[9], const double b[9]);
/** The rotation nearest to m (9) in Frobenius norm. */
void het_rotation_nearest(double r[9], const double m[9]);
/** Geodesic angle in rad from a distance2. */
double het_rotation_angle(double distance2);
