#pragma once
#include <stdint.h>

#include "../status.h"

/** Real Fourier transforms of square images and cubic volumes on the host (FFTW), for any even box.
 *
 *  The origin of real space is the pixel (D/2, D/2[, D/2]) and the transforms are orthonormal:
 *      F(k) = D^(-rank/2) sum_x f(x) exp(-2 pi i k.(x - D/2)/D),   f(x) = D^(-rank/2) sum_k F(k) exp(+2 pi i ..)
 *  Layout of a spectrum: (D, D/2+1, 2) or (D, D, D/2+1, 2) float32, (re, im) interleaved; the last axis holds
 *  kx = 0 .. D/2; the others hold k = 0 .. D/2-1, -D/2 .. -1 (index k mod D). Planning is serialised; a plan may be
 *  executed by many threads at once. Test: tests/test_volume.c */
typedef struct het_fft het_fft;

/** rank 2 or 3; box even, 4..4096. Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_fft_new(het_fft **fft, int rank, int64_t box);
/** Accepts NULL. */
void het_fft_free(het_fft *fft);
/** Floats of one spectrum: 2 (D/2+1) D^(rank-1). */
int64_t het_fft_size(const het_fft *fft);
/** spectrum = F(real); real is left as it is. */
void het_fft_forward(const het_fft *fft, float *spectrum, const float *real);
/** real = inverse of spectrum; the spectrum is destroyed. */
void het_fft_inverse(const het_fft *fft, float *real, float *spectrum);
