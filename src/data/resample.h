#pragma once
#include <stdint.h>

#include "../status.h"

/** Fourier cropping of images from box D0 (even or odd) to an even box D <= D0, and shifts by fractions of a
 *  pixel.
 *
 *  The output is the trigonometric polynomial through the input's pixels, cut at the new Nyquist frequency,
 *  sampled on the new grid; pixel values keep their scale, the pixel (D0/2, D0/2) goes to (D/2, D/2), apix
 *  becomes apix D0 / D:
 *      F(k)   = sum_x I[x] exp(-2 pi i k (x - D0/2) / D0)                       (per axis; D0/2 rounded down)
 *      I'[x'] = 1/D0 sum_{|k| <= D/2} w_k F(k) exp(-2 pi i k t / D0) exp(2 pi i k (x' - D/2) / D)
 *  with w = 1/2 at k = +-D/2, which share one frequency of the new grid, and 1 elsewhere: a real image stays
 *  real and its mirror image stays its mirror image. Test: tests/test_resample.c */
typedef struct het_resample het_resample;

/** Errors: HET_E_SHAPE (D odd, below 4 or above D0), HET_E_MEMORY. */
het_status het_resample_new(het_resample **resample, int64_t from, int64_t to);
void het_resample_free(het_resample *resample);
/** out (to, to) from image (from, from); may not overlap. shift (2): the content moves by +shift pixels of
 *  the input (x, y); NULL: not at all. Uses buffers of `resample`: one per thread. */
void het_resample_run(het_resample *resample, float *out, const float *image, const double *shift);
