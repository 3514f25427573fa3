/* Rotation, latent and pose loss: one thread for each image, in double as in kernels/cpu/pose.c, whose notes hold here. */
#include "members.h"

__device__ static inline double dot3(const double *a, const double *b)
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

__device__ static inline void cross3(double *out, const double *a, const double *b)
{
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

__device__ static inline double length3(const double *a)
{
    const double length = sqrt(dot3(a, a));
    return length < 1e-12 ? 1e-12 : length; /* NaN stays NaN */
}

typedef struct frame {
    double b[3], e1[3], e2[3], e3[3];
    double a_length, u_length; /* of a, and of u = b - (e1.b) e1 */
} frame;

__device__ static inline void gram_schmidt(frame *f, const float *v)
{
    double a[3], u[3];
    for (int i = 0; i < 3; i++) {
        a[i] = v[i];
        f->b[i] = v[3 + i];
    }
    f->a_length = length3(a);
    for (int i = 0; i < 3; i++) f->e1[i] = a[i] / f->a_length;
    const double along = dot3(f->e1, f->b);
    for (int i = 0; i < 3; i++) u[i] = f->b[i] - along * f->e1[i];
    f->u_length = length3(u);
    for (int i = 0; i < 3; i++) f->e2[i] = u[i] / f->u_length;
    cross3(f->e3, f->e1, f->e2);
}

__global__ void s2s2(float *rot, const float *v, int64_t b)
{
    HET_FOR(n, b)
    {
        frame f;
        gram_schmidt(&f, v + 6 * n);
        for (int i = 0; i < 3; i++) {
            rot[9 * n + i] = (float)f.e1[i];
            rot[9 * n + 3 + i] = (float)f.e2[i];
            rot[9 * n + 6 + i] = (float)f.e3[i];
        }
    }
}

/* e3 = e1 x e2 gives g1 += e2 x g3, g2 += g3 x e1; u and both normalisations give the rest. */
__global__ void s2s2_backward(float *dv, const float *drot, const float *v, int64_t b)
{
    HET_FOR(n, b)
    {
        frame f;
        double g1[3], g2[3], g3[3], through1[3], through2[3], du[3];
        gram_schmidt(&f, v + 6 * n);
        for (int i = 0; i < 3; i++) {
            g1[i] = drot[9 * n + i];
            g2[i] = drot[9 * n + 3 + i];
            g3[i] = drot[9 * n + 6 + i];
        }
        cross3(through1, f.e2, g3);
        cross3(through2, g3, f.e1);
        for (int i = 0; i < 3; i++) {
            g1[i] += through1[i];
            g2[i] += through2[i];
        }
        const double g2_along = dot3(g2, f.e2);
        for (int i = 0; i < 3; i++) du[i] = (g2[i] - g2_along * f.e2[i]) / f.u_length;
        const double along = dot3(f.e1, f.b), du_along = dot3(du, f.e1);
        for (int i = 0; i < 3; i++) g1[i] -= along * du[i] + du_along * f.b[i];
        const double g1_along = dot3(g1, f.e1);
        for (int i = 0; i < 3; i++) {
            dv[6 * n + i] = (float)((g1[i] - g1_along * f.e1[i]) / f.a_length);
            dv[6 * n + 3 + i] = (float)(du[i] - du_along * f.e1[i]);
        }
    }
}

/* (x, y) -> (c x - s y, s x + c y) of rows and shift alike, with c, s = 0, 1 or -1: exact */
__global__ void turn_poses(float *rot, float *shift, const uint8_t *quarters, int back, int64_t b)
{
    HET_FOR(n, b)
    {
        const int quarter = quarters[n];
        const float c = quarter == 0 ? 1.0f : quarter == 2 ? -1.0f : 0.0f;
        const float forward = quarter == 1 ? 1.0f : quarter == 3 ? -1.0f : 0.0f, s = back ? -forward : forward;
        for (int i = 0; i < 4; i++) {
            float *x = i < 3 ? rot + 9 * n + i : shift + 2 * n, *y = i < 3 ? x + 3 : x + 1;
            const float old = *x;
            *x = c * old - s * *y;
            *y = s * old + c * *y;
        }
    }
}

/* Not fminf/fmaxf, which would hide a NaN. */
__device__ static inline float clamp_logvar(float logvar)
{
    return logvar < -10.0f ? -10.0f : logvar > 10.0f ? 10.0f : logvar;
}

__global__ void latent(float *z, float *kl, const float *head, const float *eps, int64_t b, int64_t zdim)
{
    HET_FOR(n, b)
    {
        const float *mu = head + 2 * n * zdim, *logvar = mu + zdim;
        double sum = 0.0;
        for (int64_t i = 0; i < zdim; i++) {
            const float lv = clamp_logvar(logvar[i]);
            z[n * zdim + i] = mu[i] + expf(0.5f * lv) * eps[n * zdim + i];
            sum += (double)mu[i] * mu[i] + (expm1((double)lv) - lv);
        }
        kl[n] = (float)(0.5 * sum);
    }
}

__global__ void latent_backward(float *dhead, const float *dz, const float *dkl, const float *head, const float *eps,
                                int64_t b, int64_t zdim)
{
    HET_FOR(n, b)
    {
        const float *mu = head + 2 * n * zdim, *logvar = mu + zdim;
        float *dmu = dhead + 2 * n * zdim, *dlogvar = dmu + zdim;
        for (int64_t i = 0; i < zdim; i++) {
            const float lv = logvar[i], g = dz[n * zdim + i];
            dmu[i] = g + dkl[n] * mu[i];
            dlogvar[i] = lv < -10.0f || lv > 10.0f
                             ? 0.0f
                             : 0.5f * (g * eps[n * zdim + i] * expf(0.5f * lv) + dkl[n] * expm1f(lv));
        }
    }
}

__global__ void pose_loss(float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                          const float *rot_true, const float *shift_true, float scale, int64_t b)
{
    HET_FOR(n, b)
    {
        double rotation = 0.0, translation = 0.0;
        for (int64_t i = 9 * n; i < 9 * n + 9; i++) {
            const float d = rot[i] - rot_true[i];
            rotation += (double)d * d;
            drot[i] = scale * (2.0f / 9.0f) * d;
        }
        for (int64_t i = 2 * n; i < 2 * n + 2; i++) {
            const float d = shift[i] - shift_true[i];
            translation += fabs((double)d);
            dshift[i] = scale * 0.5f * (float)((d > 0.0f) - (d < 0.0f));
        }
        loss[n] = (float)(rotation / 9.0 + 0.5 * translation);
    }
}

void het_cuda_s2s2(het_device *dev, float *rot, const float *v, int64_t b)
{
    HET_LAUNCH(het_cuda_of(dev), s2s2, het_blocks(b), HET_BLOCK, rot, v, b);
}

void het_cuda_s2s2_backward(het_device *dev, float *dv, const float *drot, const float *v, int64_t b)
{
    HET_LAUNCH(het_cuda_of(dev), s2s2_backward, het_blocks(b), HET_BLOCK, dv, drot, v, b);
}

void het_cuda_turn_poses(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back, int64_t b)
{
    HET_LAUNCH(het_cuda_of(dev), turn_poses, het_blocks(b), HET_BLOCK, rot, shift, quarters, back, b);
}

void het_cuda_latent(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b, int64_t zdim)
{
    HET_LAUNCH(het_cuda_of(dev), latent, het_blocks(b), HET_BLOCK, z, kl, head, eps, b, zdim);
}

void het_cuda_latent_backward(het_device *dev, float *dhead, const float *dz, const float *dkl, const float *head,
                              const float *eps, int64_t b, int64_t zdim)
{
    HET_LAUNCH(het_cuda_of(dev), latent_backward, het_blocks(b), HET_BLOCK, dhead, dz, dkl, head, eps, b, zdim);
}

void het_cuda_pose_loss(het_device *dev, float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                        const float *rot_true, const float *shift_true, float scale, int64_t b)
{
    HET_LAUNCH(het_cuda_of(dev), pose_loss, het_blocks(b), HET_BLOCK, loss, drot, dshift, rot, shift, rot_true, shift_true,
               scale, b);
}
