#pragma once
#include <math.h>
#include <stdint.h>

#include "../src/both.h"

/** One image's rotation, latent and pose loss (kernels/ops.h), the same for every backend. C and C++.
 *  Rows are three numbers long: double costs nothing here and keeps the backward pass exact. */

HET_BOTH double het_pose_dot(const double *a, const double *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

HET_BOTH void het_pose_cross(double *out, const double *a, const double *b)
{
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

HET_BOTH double het_pose_length(const double *a)
{
    const double length = sqrt(het_pose_dot(a, a));
    return length < 1e-12 ? 1e-12 : length; /* NaN stays NaN */
}

typedef struct het_frame {
    double b[3], e1[3], e2[3], e3[3];
    double a_length, u_length; /* of a, and of u = b - (e1.b) e1 */
} het_frame;

/** Gram-Schmidt of v (6) = (a, b). */
HET_BOTH void het_pose_frame(het_frame *f, const float *v)
{
    double a[3], u[3];
    for (int i = 0; i < 3; i++) {
        a[i] = v[i];
        f->b[i] = v[3 + i];
    }
    f->a_length = het_pose_length(a);
    for (int i = 0; i < 3; i++) f->e1[i] = a[i] / f->a_length;
    const double along = het_pose_dot(f->e1, f->b);
    for (int i = 0; i < 3; i++) u[i] = f->b[i] - along * f->e1[i];
    f->u_length = het_pose_length(u);
    for (int i = 0; i < 3; i++) f->e2[i] = u[i] / f->u_length;
    het_pose_cross(f->e3, f->e1, f->e2);
}

HET_BOTH void het_pose_s2s2(float *rot, const float *v)
{
    het_frame f;
    het_pose_frame(&f, v);
    for (int i = 0; i < 3; i++) {
        rot[i] = (float)f.e1[i];
        rot[3 + i] = (float)f.e2[i];
        rot[6 + i] = (float)f.e3[i];
    }
}

/** e3 = e1 x e2 gives g1 += e2 x g3, g2 += g3 x e1; u and both normalisations give the rest. */
HET_BOTH void het_pose_s2s2_backward(float *dv, const float *drot, const float *v)
{
    het_frame f;
    double g1[3], g2[3], g3[3], through1[3], through2[3], du[3];
    het_pose_frame(&f, v);
    for (int i = 0; i < 3; i++) {
        g1[i] = drot[i];
        g2[i] = drot[3 + i];
        g3[i] = drot[6 + i];
    }
    het_pose_cross(through1, f.e2, g3);
    het_pose_cross(through2, g3, f.e1);
    for (int i = 0; i < 3; i++) {
        g1[i] += through1[i];
        g2[i] += through2[i];
    }
    const double g2_along = het_pose_dot(g2, f.e2);
    for (int i = 0; i < 3; i++) du[i] = (g2[i] - g2_along * f.e2[i]) / f.u_length;
    const double along = het_pose_dot(f.e1, f.b), du_along = het_pose_dot(du, f.e1);
    for (int i = 0; i < 3; i++) g1[i] -= along * du[i] + du_along * f.b[i];
    const double g1_along = het_pose_dot(g1, f.e1);
    for (int i = 0; i < 3; i++) {
        dv[i] = (float)((g1[i] - g1_along * f.e1[i]) / f.a_length);
        dv[3 + i] = (float)(du[i] - du_along * f.e1[i]);
    }
}

/** (x, y) -> (c x - s y, s x + c y) of rows and shift alike, with c, s = 0, 1 or -1: exact */
HET_BOTH void het_pose_turn(float *rot, float *shift, int quarter, int back)
{
    const float c = quarter == 0 ? 1.0f : quarter == 2 ? -1.0f : 0.0f;
    const float forward = quarter == 1 ? 1.0f : quarter == 3 ? -1.0f : 0.0f, s = back ? -forward : forward;
    for (int i = 0; i < 4; i++) {
        float *x = i < 3 ? rot + i : shift, *y = i < 3 ? x + 3 : x + 1;
        const float old = *x;
        *x = c * old - s * *y;
        *y = s * old + c * *y;
    }
}

enum { HET_LOGVAR_LIMIT = 10 };

/** Not fminf/fmaxf, which would hide a NaN. */
HET_BOTH float het_pose_clamp_logvar(float logvar)
{
    const float limit = HET_LOGVAR_LIMIT;
    return logvar < -limit ? -limit : logvar > limit ? limit : logvar;
}

/** head (2Z) -> z (Z) and its KL term */
HET_BOTH void het_pose_latent(float *z, float *kl, const float *head, const float *eps, int64_t zdim)
{
    const float *mu = head, *logvar = head + zdim;
    double sum = 0.0;
    for (int64_t i = 0; i < zdim; i++) {
        const float lv = het_pose_clamp_logvar(logvar[i]);
        z[i] = mu[i] + expf(0.5f * lv) * eps[i];
        sum += (double)mu[i] * mu[i] + (expm1((double)lv) - lv);
    }
    *kl = (float)(0.5 * sum);
}

HET_BOTH void het_pose_latent_backward(float *dhead, const float *dz, float dkl, const float *head, const float *eps,
                                       int64_t zdim)
{
    const float *mu = head, *logvar = head + zdim, limit = HET_LOGVAR_LIMIT;
    for (int64_t i = 0; i < zdim; i++) {
        const float lv = logvar[i], g = dz[i];
        dhead[i] = g + dkl * mu[i];
        dhead[zdim + i] = lv < -limit || lv > limit ? 0.0f : 0.5f * (g * eps[i] * expf(0.5f * lv) + dkl * expm1f(lv));
    }
}

/** Eq. 8 of one image; drot (9), dshift (2) = scale x gradient. */
HET_BOTH void het_pose_loss(float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                            const float *rot_true, const float *shift_true, float scale)
{
    double rotation = 0.0, translation = 0.0;
    for (int i = 0; i < 9; i++) {
        const float d = rot[i] - rot_true[i];
        rotation += (double)d * d;
        drot[i] = scale * (2.0f / 9.0f) * d;
    }
    for (int i = 0; i < 2; i++) {
        const float d = shift[i] - shift_true[i];
        translation += fabs((double)d);
        dshift[i] = scale * 0.5f * (float)((d > 0.0f) - (d < 0.0f));
    }
    *loss = (float)(rotation / 9.0 + 0.5 * translation);
}

/** head (2Z) against z (Z): the loss, and dhead = scale x gradient. */
HET_BOTH void het_pose_conformation(float *loss, float *dhead, const float *head, const float *z, float scale, int64_t zdim)
{
    float sum = 0.0f;
    for (int64_t i = 0; i < zdim; i++) {
        const float given = head[zdim + i], logvar = het_pose_clamp_logvar(given), variance = expf(logvar);
        const float d = head[i] - z[i], limit = HET_LOGVAR_LIMIT;
        sum += (d * d / variance + logvar) / (2.0f * (float)zdim);
        dhead[i] = scale / (float)zdim * d / variance;
        dhead[zdim + i] = fabsf(given) < limit ? scale / (2.0f * (float)zdim) * (1.0f - d * d / variance) : 0.0f;
    }
    *loss = sum;
}
