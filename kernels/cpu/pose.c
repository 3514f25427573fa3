#include "pose.h"

#include "../pose_row.h"

void het_cpu_s2s2(het_device *dev, float *rot, const float *v, int64_t b)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++) het_pose_s2s2(rot + 9 * n, v + 6 * n);
}

void het_cpu_s2s2_backward(het_device *dev, float *dv, const float *drot, const float *v, int64_t b)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++) het_pose_s2s2_backward(dv + 6 * n, drot + 9 * n, v + 6 * n);
}

void het_cpu_turn_poses(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back,
                        int64_t b)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++) het_pose_turn(rot + 9 * n, shift + 2 * n, quarters[n], back);
}

void het_cpu_latent(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b,
                    int64_t zdim)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++) het_pose_latent(z + n * zdim, kl + n, head + 2 * n * zdim, eps + n * zdim, zdim);
}

void het_cpu_latent_backward(het_device *dev, float *dhead, const float *dz, const float *dkl,
                             const float *head, const float *eps, int64_t b, int64_t zdim)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++)
        het_pose_latent_backward(dhead + 2 * n * zdim, dz + n * zdim, dkl[n], head + 2 * n * zdim, eps + n * zdim, zdim);
}

void het_cpu_pose_loss(het_device *dev, float *loss, float *drot, float *dshift, const float *rot,
                       const float *shift, const float *rot_true, const float *shift_true, float scale,
                       int64_t b)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++)
        het_pose_loss(loss + n, drot + 9 * n, dshift + 2 * n, rot + 9 * n, shift + 2 * n, rot_true + 9 * n,
                      shift_true + 2 * n, scale);
}

void het_cpu_conformation_loss(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                               int64_t b, int64_t zdim)
{
    (void)dev;
    for (int64_t n = 0; n < b; n++)
        het_pose_conformation(loss + n, dhead + 2 * n * zdim, head + 2 * n * zdim, z + n * zdim, scale, zdim);
}
