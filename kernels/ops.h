#pragma once
#include "device.h"
#include "sums.h"

/** Every device operation: its formula and its shapes.
 *
 *  Shape letters: B images, D box (even), P Fourier points, F frequencies, H width, Z latent size, C channels,
 *                 N, K sizes of plain products, G batch-norm groups.
 *  Order of arguments: device or plan, outputs, inputs, sizes. Arrays are row-major, on the device, never owned.
 *  Forward overwrites its outputs. Backward adds to parameter gradients and overwrites activation gradients.
 *  `act` marks encoder activations: void* of device->precision (fp32 or bf16); everything else is fp32.
 *  What can fail or takes time happens in *_new; the operations themselves cannot fail on the CPU.
 *  Tests: tests/test_ops_*.c against tests/ref (double) and finite differences.
 *
 *  Fourier points. Images I[y][x], DC-centred at (D/2, D/2), have the orthonormal transform
 *      F(kx,ky) = 1/D sum_{y,x} I[y][x] exp(-2 pi i (kx (x-D/2) + ky (y-D/2)) / D).
 *  Only an exact half of the disc is kept: kx > 0, or kx = 0 and ky >= 0 (the rest is the conjugate), with integer
 *  kx^2+ky^2 <= r^2, r <= D/2-1, sorted by radius (het_points, src/physics/points.h): a disc of any smaller radius is a
 *  prefix, so frequency marching only changes P. weight[p] is 1 at DC and 2 elsewhere, so that by Parseval
 *      sum_{y,x} I^2 = sum_p weight[p] |F_p|^2.
 *  Buffers (B,P,2) are compact for the P of the call: row length 2P, (re, im) interleaved. */

typedef struct het_conv het_conv;
typedef struct het_norm het_norm;
typedef struct het_decode het_decode;
typedef struct het_fourier het_fourier;
typedef struct het_graph het_graph;

/** 2D convolution without bias, NHWC. Out = (in + 2 pad - kernel)/stride + 1. w (out_c, kernel, kernel, in_c) fp32. */
typedef struct het_conv_spec {
    int64_t batch, in_h, in_w, in_c, out_c, kernel, stride, pad;
} het_conv_spec;

/** Normalisation, eps 1e-5: statistics over B/G images x H x W x K channels, of each of G groups of consecutive images and
 *  each K consecutive channels; `relu` fuses max(0, .). Batch norm has K = 1, and groups of its own so that a batch split
 *  over ranks gives the same numbers; group norm (Wu & He 2018) has G = B and K > 1, and needs no running statistics. */
typedef struct het_norm_spec {
    int64_t batch, hw, channels, groups;
    int relu;
    int64_t joined; /* K, divides the channels */
} het_norm_spec;

enum { HET_DECODE_LAYERS_MAX = 8, HET_GRAPH_KEY = 256, HET_GRAPH_CALLS = 15 };

/** The coordinate network (METHOD 3). For image b and point p = (kx,ky), with the plane offset kz_b (0 for slices):
 *      q     = (kx R_b[0,:] + ky R_b[1,:] + kz_b R_b[2,:]) / D              cycles/pixel in the volume's frame
 *      s     = +1/-1 by the sign of q_z (of q_y where q_z = 0, of q_x where both are), 0 at q = 0     (Hermitian fold)
 *      phase = 2 pi freq q (F);   x = [cos(phase) (F), s sin(phase) (F)]
 *      h_0   = relu(x W_0 + bias_b)            W_0 (2F,H); bias_b (H) per image carries the layer's bias and W_z z
 *      h_l   = h_{l-1} + relu(h_{l-1} W_l + b_l)    l = 1 .. layers-1, W_l (H,H); without h_{l-1} + where `plain`
 *      out   = h W_out + b_out (2);   slice[b,p] = (out_re, s out_im)
 *  The phase is separable: cos/sin tables over kx and ky per image, products per point.
 *  params is one contiguous block: W_0 | W_1 b_1 | .. | W_out (H,2) b_out (2): het_decode_params_count() floats. */
typedef struct het_decode_spec {
    int64_t box, frequencies, width, layers;
    int64_t max_points;
    const int32_t *kxy; /* [host] (max_points, 2); copied */
    int plain;          /* no residual sums */
} het_decode_spec;

static inline int64_t het_decode_params_count(int64_t frequencies, int64_t width, int64_t layers)
{
    return 2 * frequencies * width + (layers - 1) * (width * width + width) + 2 * width + 2;
}

/** One row of the CTF (METHOD 2). voltage = 0 means "no CTF": C(k) = 1. */
typedef struct het_ctf_row {
    float defocus_u, defocus_v; /* A, underfocus positive */
    float angle;                /* rad, of defocus_u from the x axis */
    float voltage;              /* V */
    float cs;                   /* A */
    float amplitude;            /* amplitude contrast, 0..1 */
    float phase;                /* phase shift, rad */
} het_ctf_row;

struct het_ops {
    const char *name;

    /* memory */
    void *(*alloc)(het_device *dev, size_t bytes); /* zeroed, 64-byte aligned; NULL where there is none */
    void (*release)(het_device *dev, void *memory);
    /* bytes free on a device with memory of its own; NULL where its memory is the host's */
    size_t (*available)(het_device *dev);
    /* the host's bytes are taken before it returns; where they are pinned, once something has synchronised */
    void (*upload)(het_device *dev, void *to_device, const void *from_host, size_t bytes);
    void (*download)(het_device *dev, void *to_host, const void *from_device, size_t bytes); /* synchronises */
    void (*zero)(het_device *dev, void *memory, size_t bytes);
    void (*fill)(het_device *dev, float *y, float value, int64_t n);
    /* Host memory that copies to and from the device are faster with while it is pinned. 0: it stays as it is. NULL where
       device memory is the host's. */
    int (*pin)(het_device *dev, void *host, size_t bytes);
    void (*unpin)(het_device *dev, void *host);
    het_status (*sync)(het_device *dev); /* wait; device faults show here */

    /* ---- encoder -------------------------------------------------------------------------------------------- */
    het_status (*conv_new)(het_device *dev, het_conv **conv, const het_conv_spec *spec);
    void (*conv_free)(het_conv *conv);
    /* y = x * w */
    void (*conv_forward)(het_conv *conv, void *y_act, const void *x_act, const float *w);
    /* dw += d(x*w)/dw dy;  dx = d(x*w)/dx dy (skipped when dx is NULL); w as in this plan's last conv_forward, whose
       converted copy may serve again. In bf16 a device may round what it adds to dw, once */
    void (*conv_backward)(het_conv *conv, void *dx_act, float *dw, const void *dy_act, const void *x_act,
                          const float *w);

    het_status (*norm_new)(het_device *dev, het_norm **norm, const het_norm_spec *spec);
    void (*norm_free)(het_norm *norm);
    /* y = [relu](gamma (x - mean_g)/sqrt(var_g + eps) + beta); mean, var (G,C) are computed (biased variance), the same
       for joined channels */
    void (*norm_forward)(het_norm *norm, void *y_act, float *mean, float *var, const void *x_act, const float *gamma,
                         const float *beta);
    /* the same with given statistics mean, var (C) */
    void (*norm_infer)(het_norm *norm, void *y_act, const void *x_act, const float *gamma, const float *beta,
                       const float *mean, const float *var);
    /* dgamma, dbeta += ; dx = ; y is the forward's output (gives the relu's mask) */
    void (*norm_backward)(het_norm *norm, void *dx_act, float *dgamma, float *dbeta, const void *dy_act,
                          const void *x_act, const void *y_act, const float *gamma, const float *beta,
                          const float *mean, const float *var);

    /* y = relu(a + b), n elements;   backward: dsum = dy where y > 0 else 0 (the gradient of both a and b) */
    void (*add_relu)(het_device *dev, void *y_act, const void *a_act, const void *b_act, int64_t n);
    void (*add_relu_backward)(het_device *dev, void *dsum_act, const void *dy_act, const void *y_act, int64_t n);
    /* a += b */
    void (*accumulate)(het_device *dev, void *a_act, const void *b_act, int64_t n);
    /* 3x3 stride 2 pad 1 maximum; x (B,H,W,C) -> y (B,ceil(H/2),ceil(W/2),C); argmax (0..8) per output */
    void (*maxpool)(het_device *dev, void *y_act, uint8_t *argmax, const void *x_act, int64_t batch, int64_t h, int64_t w,
                    int64_t c);
    void (*maxpool_backward)(het_device *dev, void *dx_act, const void *dy_act, const uint8_t *argmax, int64_t batch,
                             int64_t h, int64_t w, int64_t c);
    /* y (B,C) fp32 = mean over hw of x (B,HW,C); backward spreads dy / HW */
    void (*avgpool)(het_device *dev, float *y, const void *x_act, int64_t batch, int64_t hw, int64_t c);
    void (*avgpool_backward)(het_device *dev, void *dx_act, const float *dy, int64_t batch, int64_t hw, int64_t c);
    /* element type conversion between activations and fp32 */
    void (*to_float)(het_device *dev, float *y, const void *x_act, int64_t n);
    void (*from_float)(het_device *dev, void *y_act, const float *x, int64_t n);

    /* y (B,N) = [relu](x (B,K) w^T + b), w (N,K), b (N) or NULL. In bf16 a device may round what enters products of large layers to TF32 */
    void (*linear)(het_device *dev, float *y, const float *x, const float *w, const float *b, int64_t batch, int64_t n,
                   int64_t k, int relu);
    /* dx = (dy masked by y > 0 if relu) w (NULL: skip);  dw += dy^T x;  db += sum dy (NULL: skip).
       dy is overwritten by its masked self when relu. */
    void (*linear_backward)(het_device *dev, float *dx, float *dw, float *db, float *dy, const float *x, const float *y,
                            const float *w, int64_t batch, int64_t n, int64_t k, int relu);

    /* ---- decoder -------------------------------------------------------------------------------------------- */
    het_status (*decode_new)(het_device *dev, het_decode **dec, const het_decode_spec *spec);
    void (*decode_free)(het_decode *dec);
    /* take new parameters: repack, convert; once after every change of params. freq (F,3) in pixels */
    void (*decode_load)(het_decode *dec, const float *params, const float *freq);
    /* slice (B,P,2); rot (B,9); bias (B,H); kz (B) or NULL (= 0), points 0..P-1 of the spec */
    void (*decode_forward)(het_decode *dec, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                           int64_t p);
    /* For the n images listed in which (NULL: all 0..n-1), from dslice (B,P,2): dparams += (layout of params);
       drot (B,9; row 2 is 0) = ; dbias (B,H) = ; rows of images not listed are set to 0 up to B. Recomputes forward. */
    void (*decode_backward)(het_decode *dec, float *dparams, float *drot, float *dbias, const float *dslice,
                            const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p);

    /* ---- pose and latent ------------------------------------------------------------------------------------ */
    /* S2S2 (Gram-Schmidt): v (B,6) = (a,b); e1 = a/|a|, e2 = (b-(e1.b)e1)/|..|, e3 = e1 x e2; rot (B,9) rows e1,e2,e3 */
    void (*s2s2)(het_device *dev, float *rot, const float *v, int64_t b);
    void (*s2s2_backward)(het_device *dev, float *dv, const float *drot, const float *v, int64_t b);
    /* in place: the pose of an image that is turned (turn_points), rot (B,9) = diag(Q,1) rot, shift (B,2) = Q shift; back
       (`back`): with Q^T. The gradients turn like the poses. */
    void (*turn_poses)(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back, int64_t b);
    /* z = mu + exp(logvar/2) eps, head (B,2Z) = [mu | logvar], logvar clamped to [-10,10]; kl (B) = eq. 6 */
    void (*latent)(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b, int64_t zdim);
    /* dhead = from dz and dkl (B) */
    void (*latent_backward)(het_device *dev, float *dhead, const float *dz, const float *dkl, const float *head,
                            const float *eps, int64_t b, int64_t zdim);

    /* ---- images --------------------------------------------------------------------------------------------- */
    het_status (*fourier_new)(het_device *dev, het_fourier **plan, int64_t box, int64_t max_points,
                              const int32_t *kxy_host);
    void (*fourier_free)(het_fourier *plan);
    /* image (B,N) = rows index[b] (NULL: b) of images (.,N): fp32, or fp16 where `half` */
    void (*take_images)(het_device *dev, float *image, const void *images, int half, const int64_t *index, int64_t b,
                        int64_t n);
    /* points (B,P,2) = F of image (B,D,D) */
    void (*image_to_points)(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p);
    /* image (B,D,D) = window (D,D) x inverse of points x scale[b]; everything outside the P points is 0 */
    void (*points_to_image)(het_fourier *plan, float *image, const float *points, const float *window,
                            const float *scale, int64_t b, int64_t p);
    /* every image (N) made of mean 0 and variance 1 within the window (N) it has been multiplied with, in place:
       y = image - window sum image / sum window;  image = y / sqrt(mean y^2) */
    void (*standardise)(het_device *dev, float *image, const float *window, int64_t b, int64_t n);
    /* both (2B,P,2): row 2b = points[b], row 2b+1 = its horizontal mirror x -> (D-x) mod D, (kx,ky) -> (-kx,ky) */
    void (*mirror_pairs)(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p);
    /* turned (B,P,2): images turned about the DC pixel by quarters[b] (0..3) times 90 degrees from x to y, I'(Q u) = I(u),
       so F'(k) = F(Q^T k): exact on the grid */
    void (*turn_points)(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters, int64_t b,
                        int64_t p);
    /* ctf (B,P) = C_b(k_p) envelope[p] (envelope NULL: 1), METHOD 2; apix A per pixel.
       mirrored[b] != 0 (NULL: none): the astigmatism angle is mirrored, angle -> pi - angle */
    void (*ctf)(het_fourier *plan, float *ctf, const het_ctf_row *rows, const uint8_t *mirrored, const float *envelope,
                float apix, int64_t b, int64_t p);
    /* model (B,P,2) = ctf slice exp(-2 pi i (kx tx + ky ty)/D), shift (B,2) in pixels */
    void (*project)(het_fourier *plan, float *model, const float *slice, const float *ctf, const float *shift, int64_t b,
                    int64_t p);
    /* loss[b] = 1/D^2 sum_p weight_p |target - project(slice)|^2 (eq. 4, per pixel);
       dslice (B,P,2) and dshift (B,2, per pixel) = its gradient; double accumulation */
    void (*project_loss)(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                         const float *ctf, const float *shift, const float *target, int64_t b, int64_t p);
    /* power[g] = mean over the b/g images of a group of 1/D^2 sum_p weight_p |points|^2: variance per pixel */
    void (*points_power)(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p, int64_t groups);
    /* points += white noise of variance sigma2 = power[group]/snr per pixel (per Fourier point sigma2: sigma2/2 each in re
       and im, im(DC) = 0 and re(DC) of full variance); block p/2 of
       het_rng_at(seed, HET_STREAM_NOISE, at[0], at[1] + b), words 0,1 of it for even p, 2,3 for odd p, become u, v
       in (0,1) as in het_rng_uniform, and sigma/sqrt(2) sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v). at (2): the step, and the
       sample of image 0 */
    void (*add_noise)(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                      int64_t b, int64_t p, int64_t groups);
    /* scale[b] = 1/sqrt(max(power[group], 1e-12)): what makes images of that power ones of variance 1 */
    void (*unit_scale)(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups);

    /* ---- the two tasks (kernels/cpu/task.c) ------------------------------------------------------------------- */
    /* Eq. 5 and 7: total[i] = loss[i] + lambda_z kl[i] + lambda_t/2 |t_i|_1 (t in the unit of the shift head). For each of the
       n = b/group winners: which[j] = the image of least total among the `group` (1 or 2) consecutive ones (the first of
       equals), weight[i] = scale for winners, 0 for losers. */
    void (*winners)(het_device *dev, float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                    const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group);
    /* dshift (B,2), gradient per unit of the shift head (`pixels`) = weight[i] (pixels dshift_px + lambda_t/2 sign(t)) */
    void (*shift_backward)(het_device *dev, float *dshift, const float *dshift_px, const float *shift,
                           const float *weight, float lambda_t, float pixels, int64_t b);
    /* y (B,N) = scale[b] x (B,N); y may be x */
    void (*scale_rows)(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n);
    /* y[j] = x[index[j / repeat]] for rows j of n numbers, j < rows; index NULL: row j / repeat */
    void (*gather_rows)(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows, int64_t repeat,
                        int64_t n);
    /* y (N) += factor sum over rows of x (B,N) */
    void (*sum_rows)(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n);
    /* y = (1-a) y + a x, n numbers: running averages */
    void (*blend)(het_device *dev, float *y, const float *x, float a, int64_t n);

    /* ---- losses --------------------------------------------------------------------------------------------- */
    /* eq. 8 per image: loss[b] = 1/9 |R-R'|_F^2 + 1/2 |t-t'|_1, shifts in the unit of the shift head;
       drot (B,9), dshift (B,2) = scale x gradient (subgradient 0 at t = t') */
    void (*pose_loss)(het_device *dev, float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                      const float *rot_true, const float *shift_true, float scale, int64_t b);

    /* The same for conformations: the log-likelihood of z (B,Z) under the posterior, head as in `latent`, v = exp(logvar):
           loss[b] = 1/(2 Z) sum_j ((z_j - mu_j)^2 / v_j + logvar_j);   dhead (B,2Z) = scale x gradient */
    void (*conformation_loss)(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                              int64_t b, int64_t zdim);

    /* ---- optimiser ------------------------------------------------------------------------------------------ */
    /* Adam (Kingma & Ba 2015) on n consecutive parameters, bias-corrected with step >= 1:
       m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w -= rate (m/(1-b1^step)) / (sqrt(v/(1-b2^step)) + eps) */
    void (*adam)(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate, float beta1,
                 float beta2, float eps, int64_t step);
    /* sum of squares and count of non-finite values of n numbers, into the host's memory; synchronises */
    void (*norm2)(het_device *dev, double *sum_of_squares, int64_t *non_finite, const float *x, int64_t n);

    /* ---- work launched as one (kernels/cuda/graph.cu); all NULL where nothing is gained by it ----------------- */
    /*     if (graph_begin(dev, &graph, &key, sizeof key))
               do { operations } while (!graph_end(dev));
       The operations must be the same ones with the same arguments whenever the key is (its bytes, HET_GRAPH_KEY at most), and
       neither wait, as downloads do, nor copy from the host. begin: 0 where they have been launched by what earlier calls have
       recorded. end: 0 where recording has failed, so that nothing has run. *graph: NULL at first; free it before the memory
       that its operations work on.
       call, among the operations (HET_GRAPH_CALLS times at most): say(context, value) whenever those before it have been launched
       and those after it have not, at once or from begin or end. It may do what operations may not. */
    int (*graph_begin)(het_device *dev, het_graph **graph, const void *key, size_t bytes);
    void (*graph_call)(het_device *dev, void (*say)(void *context, int64_t value), void *context, int64_t value);
    int (*graph_end)(het_device *dev);
    void (*graph_free)(het_graph *graph);

    const het_sum_ops *sums; /* over ranks, between devices; NULL: none */
};

/** The complete reference-speed backend of this machine. */
extern const het_ops het_ops_cpu;
