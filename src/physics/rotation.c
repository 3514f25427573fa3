#include "rotation.h"

#include <math.h>

#include "eigen.h"

void het_rotation_multiply(double c[9], const double a[9], const double b[9])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

void het_rotation_multiply_ta(double c[9], const double a[9], const double b[9])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) c[3 * i + j] = a[i] * b[j] + a[3 + i] * b[3 + j] + a[6 + i] * b[6 + j];
}

void het_rotation_multiply_tb(double c[9], const double a[9], const double b[9])
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            c[3 * i + j] = a[3 * i] * b[3 * j] + a[3 * i + 1] * b[3 * j + 1] + a[3 * i + 2] * b[3 * j + 2];
}

void het_rotation_from_euler(double r[9], double rot, double tilt, double psi)
{
    const double cr = cos(rot), sr = sin(rot), ct = cos(tilt), st = sin(tilt), cp = cos(psi), sp = sin(psi);
    const double first[9] = {cr, sr, 0.0, -sr, cr, 0.0, 0.0, 0.0, 1.0};
    const double second[9] = {ct, 0.0, -st, 0.0, 1.0, 0.0, st, 0.0, ct};
    const double third[9] = {cp, sp, 0.0, -sp, cp, 0.0, 0.0, 0.0, 1.0};
    double inner[9];
    het_rotation_multiply(inner, second, first);
    het_rotation_multiply(r, third, inner);
}

void het_rotation_to_euler(const double r[9], double *rot, double *tilt, double *psi)
{
    const double sine = hypot(r[6], r[7]); /* row 2 is (sin tilt cos rot, sin tilt sin rot, cos tilt) */
    *tilt = atan2(sine, r[8]);
    if (sine < 1e-9) { /* rot and psi turn about the same axis: all of it goes to psi */
        *rot = 0.0;
        *psi = atan2(r[1], r[4]);
        return;
    }
    *rot = atan2(r[7], r[6]);
    *psi = atan2(r[5], -r[2]);
}

void het_rotation_from_quaternion(double r[9], const double q[4])
{
    const double norm2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
    const double s = norm2 > 0.0 ? 2.0 / norm2 : 0.0;
    const double w = q[0], x = q[1], y = q[2], z = q[3];
    r[0] = 1.0 - s * (y * y + z * z);
    r[1] = s * (x * y - w * z);
    r[2] = s * (x * z + w * y);
    r[3] = s * (x * y + w * z);
    r[4] = 1.0 - s * (x * x + z * z);
    r[5] = s * (y * z - w * x);
    r[6] = s * (x * z - w * y);
    r[7] = s * (y * z + w * x);
    r[8] = 1.0 - s * (x * x + y * y);
}

void het_rotation_about(double r[9], const double axis[3], double angle)
{
    const double length = sqrt(axis[0] * axis[0] + axis[1] * axis[1] + axis[2] * axis[2]);
    const double s = length > 0.0 ? sin(angle / 2.0) / length : 0.0;
    const double q[4] = {cos(angle / 2.0), s * axis[0], s * axis[1], s * axis[2]};
    het_rotation_from_quaternion(r, q);
}

void het_rotation_uniform(double r[9], double u1, double u2, double u3)
{
    const double two_pi = 6.283185307179586;
    const double a = sqrt(1.0 - u1), b = sqrt(u1);
    const double q[4] = {b * cos(two_pi * u3), a * sin(two_pi * u2), a * cos(two_pi * u2), b * sin(two_pi * u3)};
    het_rotation_from_quaternion(r, q);
}

void het_rotation_draw(double r[9], het_rng *rng)
{
    const double u1 = het_rng_uniform(rng), u2 = het_rng_uniform(rng), u3 = het_rng_uniform(rng);
    het_rotation_uniform(r, u1, u2, u3);
}

double het_rotation_distance2(const double a[9], const double b[9])
{
    double sum = 0.0;
    for (int i = 0; i < 9; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

double het_rotation_angle(double distance2)
{
    const double sine = sqrt(fmax(distance2, 0.0) / 8.0);
    return 2.0 * asin(fmin(sine, 1.0));
}

/* Max over unit quaternions of q^T K q (Davenport's K matrix, written for right-handed q -> R of
 * het_rotation_from_quaternion). */
void het_rotation_nearest(double r[9], const double m[9])
{
    const double xx = m[0], xy = m[1], xz = m[2], yx = m[3], yy = m[4], yz = m[5], zx = m[6], zy = m[7],
                 zz = m[8];
    double k[16] = {xx + yy + zz, zy - yz,      xz - zx,      yx - xy,
                    zy - yz,      xx - yy - zz, xy + yx,      xz + zx,
                    xz - zx,      xy + yx,      yy - xx - zz, yz + zy,
                    yx - xy,      xz + zx,      yz + zy,      zz - xx - yy};
    double values[4], vectors[16];
    het_eigen_symmetric(k, values, vectors, 4);
    het_rotation_from_quaternion(r, vectors);
}
