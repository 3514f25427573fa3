#pragma once
#include "../../kernels/ops.h"
#include "layout.h"

/** The decoder (METHOD 3): the coordinate network of kernels/ops.h with the conformation as a bias of its first layer,
 *      bias_b = W_z z_b + b_0   (H),
 *  which equals concatenating z to the features. Parameters: W_z (H,Z), b_0 (H), then the network's block.
 *  The Gaussian frequencies (F,3), in pixels, N(0, (sigma D/4)^2), are drawn once from the seed and never trained. */

typedef struct het_decoder_spec {
    int64_t box, frequencies, width, layers, z_dim, max_batch;
    double sigma; /* in units of D/4 pixels */
    int plain;    /* no residual sums */
} het_decoder_spec;

typedef struct het_decoder het_decoder;

het_status het_decoder_new(het_decoder **decoder, het_device *dev, const het_decoder_spec *spec, int64_t max_points,
                           const int32_t *kxy, uint64_t seed, het_layout *layout);
void het_decoder_free(het_decoder *decoder);
void het_decoder_bind(het_decoder *decoder, het_workspace *workspace);
/** Take changed parameters: call once after every change. */
void het_decoder_load(het_decoder *decoder, const float *params);
/** slice (B,P,2) from rot (B,9), z (B,Z), plane offsets kz (B) or NULL. */
void het_decoder_forward(het_decoder *decoder, float *slice, const float *params, const float *rot, const float *z,
                         const float *kz, int64_t b, int64_t p);
/** For the n images in which (NULL: all): grads += ; drot (B,9), dz (B,Z; NULL: not wanted) = . rot and z as in the
 *  forward's last call. */
void het_decoder_backward(het_decoder *decoder, float *grads, float *drot, float *dz, const float *dslice,
                          const float *params, const float *rot, const float *z, const int32_t *which, int64_t n,
                          int64_t b, int64_t p);
