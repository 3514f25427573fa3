#pragma once
#include <fftw3.h>

#include "../ops.h"

/** Fourier points of images on the CPU: transforms, mirror, CTF, projection loss, noise. kernels/ops.h has
 *  formulas and shapes; every image is worked on by one thread, so results do not depend on the number of
 *  threads. Arguments must not overlap. Test: tests/test_ops_physics.c */

/** What is known about a set of points before any image comes, and FFT buffers for each thread. */
struct het_fourier {
    het_device *dev;           /* borrowed */
    int64_t box, max_points;
    fftwf_plan forward, inverse;
    float **real;              /* (threads): (D,D) */
    fftwf_complex **spectrum;  /* (threads): (D, D/2+1), row ky mod D, column kx */
    int32_t *bin;              /* (P) place in `spectrum` */
    float *factor;             /* (P) (-1)^(kx+ky) / D: origin at (D/2,D/2), normalisation */
    int32_t *mirror;           /* (P) point of (-kx,ky), or ~point of (kx,-ky): its conjugate */
    int32_t *turn;             /* (P) the same of (ky,-kx) */
    int32_t *kx, *ky;          /* (P) */
    float *k2, *kc, *ks;       /* (P) k^2, and k^2 times cos and sin of twice k's direction: exact integers */
};

/** Errors: HET_E_SHAPE for an odd box or points outside the half-disc, repeated, or without their
 *  mirror or turned image; HET_E_MEMORY. */
het_status het_cpu_fourier_new(het_device *dev, het_fourier **plan, int64_t box, int64_t max_points,
                               const int32_t *kxy_host);
void het_cpu_fourier_free(het_fourier *plan);

void het_cpu_image_to_points(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p);
void het_cpu_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                             const float *scale, int64_t b, int64_t p);
/** p must end a ring: the mirror image of every point is then among the first p. */
void het_cpu_turn_points(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters, int64_t b,
                         int64_t p);
void het_cpu_mirror_pairs(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p);

void het_cpu_ctf(het_fourier *plan, float *ctf, const het_ctf_row *rows, const uint8_t *mirrored,
                 const float *envelope, float apix, int64_t b, int64_t p);

void het_cpu_project(het_fourier *plan, float *model, const float *slice, const float *ctf,
                     const float *shift, int64_t b, int64_t p);
void het_cpu_project_loss(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                          const float *ctf, const float *shift, const float *target, int64_t b, int64_t p);
void het_cpu_points_power(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p,
                          int64_t groups);

void het_cpu_add_noise(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                       int64_t b, int64_t p, int64_t groups);
