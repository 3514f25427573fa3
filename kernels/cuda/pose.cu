/* Rotation, latent and pose loss: one thread for each image, in double as on the CPU (kernels/pose_row.h). */
#include "../pose_row.h"
#include "members.h"

__global__ void s2s2(float *rot, const float *v, int64_t b)
{
    HET_FOR(n, b) het_pose_s2s2(rot + 9 * n, v + 6 * n);
}

__global__ void s2s2_backward(float *dv, const float *drot, const float *v, int64_t b)
{
    HET_FOR(n, b) het_pose_s2s2_backward(dv + 6 * n, drot + 9 * n, v + 6 * n);
}

__global__ void turn_poses(float *rot, float *shift, const uint8_t *quarters, int back, int64_t b)
{
    HET_FOR(n, b) het_pose_turn(rot + 9 * n, shift + 2 * n, quarters[n], back);
}

__global__ void latent(float *z, float *kl, const float *head, const float *eps, int64_t b, int64_t zdim)
{
    HET_FOR(n, b) het_pose_latent(z + n * zdim, kl + n, head + 2 * n * zdim, eps + n * zdim, zdim);
}

__global__ void latent_backward(float *dhead, const float *dz, const float *dkl, const float *head, const float *eps,
                                int64_t b, int64_t zdim)
{
    HET_FOR(n, b)
        het_pose_latent_backward(dhead + 2 * n * zdim, dz + n * zdim, dkl[n], head + 2 * n * zdim, eps + n * zdim, zdim);
}

__global__ void pose_loss(float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                          const float *rot_true, const float *shift_true, float scale, int64_t b)
{
    HET_FOR(n, b)
        het_pose_loss(loss + n, drot + 9 * n, dshift + 2 * n, rot + 9 * n, shift + 2 * n, rot_true + 9 * n,
                      shift_true + 2 * n, scale);
}

__global__ void conformation_loss(float *loss, float *dhead, const float *head, const float *z, float scale, int64_t b,
                                  int64_t zdim)
{
    HET_FOR(n, b)
        het_pose_conformation(loss + n, dhead + 2 * n * zdim, head + 2 * n * zdim, z + n * zdim, scale, zdim);
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

void het_cuda_conformation_loss(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                                int64_t b, int64_t zdim)
{
    HET_LAUNCH(het_cuda_of(dev), conformation_loss, het_blocks(b), HET_BLOCK, loss, dhead, head, z, scale, b, zdim);
}
