#pragma once
#include "../../kernels/ops.h"
#include "layout.h"

/** The encoder (METHOD 3): ResNet-18 (He et al. 2016) with one input channel and no final fully connected layer, then three
 *  parallel heads with one hidden layer each: rotation (6 numbers), shift (2), conformation
 *  (mean and log-variance, Z each). Activations are NHWC of the device's precision; heads are fp32.
 *
 *      images (B,D,D) -> stem 7x7 -> [max pool] -> 8 residual blocks of two 3x3 convolutions, widths W, 2W, 4W, 8W
 *             -> flatten or average -> heads
 *
 *  Tests: tests/test_ops_encoder.c; tests/test_model.c (PyTorch dump), tests/test_model_step.c (differences). */

enum { HET_ENCODER_ROTATION, HET_ENCODER_SHIFT, HET_ENCODER_LATENT, HET_ENCODER_HEADS };
enum { HET_STATS_REAL, HET_STATS_SYNTHETIC, HET_STATS_SETS };

typedef struct het_encoder_spec {
    int64_t box, width, head, z_dim;
    int flatten;          /* otherwise average over the image */
    int stem_pool, stem_stride;
    int64_t batch, groups; /* images per call and batch-norm groups among them, on this rank */
    int group_norm;       /* group norm of 16 channels each in place of batch norm; no statistics are kept then */
} het_encoder_spec;

typedef struct het_encoder het_encoder;

/** Called during backward when all gradients from `offset` up to the end of the encoder's range are final. */
typedef void (*het_ready)(void *context, int64_t offset);

/** Add the encoder's parameters to the layout (from input to output), then one segment for batch statistics of size
 *  het_encoder_stats(). Owned by the caller; free with het_encoder_free. Errors: HET_E_SHAPE for a box that the network
 *  reduces to nothing. */
het_status het_encoder_new(het_encoder **encoder, het_device *dev, const het_encoder_spec *spec, het_layout *layout);
void het_encoder_free(het_encoder *encoder);
/** Take buffers from the workspace; twice, see het_workspace. */
void het_encoder_bind(het_encoder *encoder, het_workspace *workspace);
/** Floats of one set of statistics: mean and variance of each normalised channel. Not used with group norm. */
int64_t het_encoder_stats(const het_encoder *encoder);
/** Offset of the statistics segment in the layout: the end of the encoder's trained parameters. */
int64_t het_encoder_stats_offset(const het_encoder *encoder);

/** head[i] (B, 6 | 2 | 2Z) from image (B,D,D); batch statistics are used and kept for the backward. */
void het_encoder_forward(het_encoder *encoder, float *head[HET_ENCODER_HEADS], const float *params, const float *image);
/** The same with given running statistics: for inference. */
void het_encoder_infer(het_encoder *encoder, float *head[HET_ENCODER_HEADS], const float *params, const float *stats,
                       const float *image);
/** Gradients of the forward's last call: grads += ; dhead rows of losers are 0; dhead[HET_ENCODER_LATENT] may be NULL
 *  (frozen). dhead arrays are kept. The statistics segment of grads += stats_factor x sum over groups. */
void het_encoder_backward(het_encoder *encoder, float *grads, float *const dhead[HET_ENCODER_HEADS], const float *params,
                          float stats_factor, het_ready ready, void *context);
