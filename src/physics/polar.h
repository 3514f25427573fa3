#pragma once
#include "../../kernels/ops.h"

/** Transforms of images on a polar grid of Fourier points: 36 directions theta = 2 pi a / 72 over a
 * half-plane (the other half is the conjugate) and radii r = 1 .. radius Fourier pixels. Point p has
 * direction p % 36 and radius p / 36 + 1. Test: tests/test_lines.c */
enum {
    HET_POLAR_ANGLES = 72,
    HET_POLAR_HALF = HET_POLAR_ANGLES / 2,
    HET_POLAR_SHELLS = 12 /* the largest radius */
};

/** Orthonormal transforms of images (n,D,D) under a soft circular window, 1 within 0.85 and 0 beyond 0.99 of
 * half the box, and the CTF at the same points. transform (n,2,points): re, im; ctf (n,points); apix A per
 * pixel. Errors: HET_E_MEMORY. */
het_status het_polar_images(float *transform, float *ctf, het_device *dev, const float *images,
                            const het_ctf_row *rows, int64_t n, int64_t box, int radius, double apix);
/** Variance per point of white noise of `variance` per pixel: the window takes its share away. */
double het_polar_noise(double variance, int64_t box);
/** exp(+2 pi i k.t) at point p: moves a particle that sits at +t px back to the centre. */
void het_polar_phase(float *re, float *im, int64_t p, const float shift[2], int64_t box);
