#pragma once
#include "../ops.h"

/** Rotation, latent and pose loss on the CPU; formulas and shapes in kernels/ops.h.
 *  Test: tests/test_ops_pose.c */

/** Lengths below 1e-12 count as 1e-12: a degenerate v gives zero rows instead of NaN. */
void het_cpu_s2s2(het_device *dev, float *rot, const float *v, int64_t b);
void het_cpu_s2s2_backward(het_device *dev, float *dv, const float *drot, const float *v, int64_t b);

void het_cpu_turn_poses(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back,
                        int64_t b);

/** KL (eq. 6) = 1/2 sum_z (mu^2 + exp(logvar) - 1 - logvar). The gradient of a clamped logvar is 0;
 *  NaN passes through. */
void het_cpu_latent(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b,
                    int64_t zdim);
void het_cpu_latent_backward(het_device *dev, float *dhead, const float *dz, const float *dkl,
                             const float *head, const float *eps, int64_t b, int64_t zdim);

void het_cpu_pose_loss(het_device *dev, float *loss, float *drot, float *dshift, const float *rot,
                       const float *shift, const float *rot_true, const float *shift_true, float scale,
                       int64_t b);
void het_cpu_conformation_loss(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                               int64_t b, int64_t zdim);
