#pragma once
#include "context.h"

/* CUDA implementations of the members of het_ops with the same names: see kernels/ops.h. */
void het_cuda_fill(het_device *dev, float *y, float value, int64_t n);
het_status het_cuda_conv_new(het_device *dev, het_conv **conv, const het_conv_spec *spec);
void het_cuda_conv_free(het_conv *conv);
void het_cuda_conv_forward(het_conv *conv, void *y, const void *x, const float *w);
void het_cuda_conv_backward(het_conv *conv, void *dx, float *dw, const void *dy, const void *x, const float *w);
het_status het_cuda_norm_new(het_device *dev, het_norm **norm, const het_norm_spec *spec);
void het_cuda_norm_free(het_norm *norm);
void het_cuda_norm_forward(het_norm *norm, void *y, float *mean, float *var, const void *x, const float *gamma,
                           const float *beta);
void het_cuda_norm_infer(het_norm *norm, void *y, const void *x, const float *gamma, const float *beta,
                         const float *mean, const float *var);
void het_cuda_norm_backward(het_norm *norm, void *dx, float *dgamma, float *dbeta, const void *dy, const void *x,
                            const void *y, const float *gamma, const float *beta, const float *mean,
                            const float *var);
void het_cuda_add_relu(het_device *dev, void *y, const void *a, const void *b, int64_t n);
void het_cuda_add_relu_backward(het_device *dev, void *dsum, const void *dy, const void *y, int64_t n);
void het_cuda_accumulate(het_device *dev, void *a, const void *b, int64_t n);
void het_cuda_maxpool(het_device *dev, void *y, uint8_t *argmax, const void *x, int64_t batch, int64_t h,
                      int64_t w, int64_t c);
void het_cuda_maxpool_backward(het_device *dev, void *dx, const void *dy, const uint8_t *argmax, int64_t batch,
                               int64_t h, int64_t w, int64_t c);
void het_cuda_avgpool(het_device *dev, float *y, const void *x, int64_t batch, int64_t hw, int64_t c);
void het_cuda_avgpool_backward(het_device *dev, void *dx, const float *dy, int64_t batch, int64_t hw,
                               int64_t c);
void het_cuda_to_float(het_device *dev, float *y, const void *x, int64_t n);
void het_cuda_from_float(het_device *dev, void *y, const float *x, int64_t n);
void het_cuda_linear(het_device *dev, float *y, const float *x, const float *w, const float *b, int64_t batch,
                     int64_t n, int64_t k, int relu);
void het_cuda_linear_backward(het_device *dev, float *dx, float *dw, float *db, float *dy, const float *x,
                              const float *y, const float *w, int64_t batch, int64_t n, int64_t k, int relu);
het_status het_cuda_decode_new(het_device *dev, het_decode **dec, const het_decode_spec *spec);
void het_cuda_decode_free(het_decode *dec);
void het_cuda_decode_load(het_decode *dec, const float *params, const float *freq);
void het_cuda_decode_forward(het_decode *dec, float *slice, const float *rot, const float *bias, const float *kz,
                             int64_t b, int64_t p);
void het_cuda_decode_backward(het_decode *dec, float *dparams, float *drot, float *dbias, const float *dslice,
                              const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b,
                              int64_t p);
void het_cuda_s2s2(het_device *dev, float *rot, const float *v, int64_t b);
void het_cuda_s2s2_backward(het_device *dev, float *dv, const float *drot, const float *v, int64_t b);
void het_cuda_turn_poses(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back,
                         int64_t b);
void het_cuda_latent(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b,
                     int64_t zdim);
void het_cuda_latent_backward(het_device *dev, float *dhead, const float *dz, const float *dkl,
                              const float *head, const float *eps, int64_t b, int64_t zdim);
het_status het_cuda_fourier_new(het_device *dev, het_fourier **plan, int64_t box, int64_t max_points,
                                const int32_t *kxy_host);
void het_cuda_fourier_free(het_fourier *plan);
void het_cuda_take_images(het_device *dev, float *image, const void *images, int half, const int64_t *index,
                          int64_t b, int64_t n);
void het_cuda_image_to_points(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p);
void het_cuda_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                              const float *scale, int64_t b, int64_t p);
void het_cuda_standardise(het_device *dev, float *image, const float *window, int64_t b, int64_t n);
void het_cuda_mirror_pairs(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p);
void het_cuda_turn_points(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters,
                          int64_t b, int64_t p);
void het_cuda_ctf(het_fourier *plan, float *ctf, const het_ctf_row *rows, const uint8_t *mirrored,
                  const float *envelope, float apix, int64_t b, int64_t p);
void het_cuda_project(het_fourier *plan, float *model, const float *slice, const float *ctf, const float *shift,
                      int64_t b, int64_t p);
void het_cuda_project_loss(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                           const float *ctf, const float *shift, const float *target, int64_t b, int64_t p);
void het_cuda_points_power(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p,
                           int64_t groups);
void het_cuda_add_noise(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                        int64_t b, int64_t p, int64_t groups);
void het_cuda_unit_scale(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups);
void het_cuda_winners(het_device *dev, float *total, int32_t *which, float *weight, const float *loss,
                      const float *kl, const float *shift, float lambda_z, float lambda_t, float scale,
                      int64_t b, int group);
void het_cuda_shift_backward(het_device *dev, float *dshift, const float *dshift_px, const float *shift,
                             const float *weight, float lambda_t, float pixels, int64_t b);
void het_cuda_scale_rows(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n);
void het_cuda_gather_rows(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows,
                          int64_t repeat, int64_t n);
void het_cuda_sum_rows(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n);
void het_cuda_blend(het_device *dev, float *y, const float *x, float a, int64_t n);
void het_cuda_pose_loss(het_device *dev, float *loss, float *drot, float *dshift, const float *rot,
                        const float *shift, const float *rot_true, const float *shift_true, float scale,
                        int64_t b);
void het_cuda_conformation_loss(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                                int64_t b, int64_t zdim);
void het_cuda_adam(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate,
                   float beta1, float beta2, float eps, int64_t step);
void het_cuda_norm2(het_device *dev, double *sum_of_squares, int64_t *non_finite, const float *x, int64_t n);
int het_cuda_graph_begin(het_device *dev, het_graph **graph, const void *key, size_t bytes);
void het_cuda_graph_call(het_device *dev, void (*say)(void *context, int64_t value), void *context, int64_t value);
int het_cuda_graph_end(het_device *dev);
void het_cuda_graph_free(het_graph *graph);
extern const het_sum_ops het_cuda_sums; /* nccl.cu */
