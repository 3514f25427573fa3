#pragma once
#include "fourier.h"

/** Fourier points by cuFFT, loaded at run time where it is found; fourier.cu has the sums that serve without.
 *  HET_CUDA_FFT=sums leaves it out, =cufft takes it wherever it can be, not only where it is worth it; HET_CUFFT_LIBRARY names
 *  another file than libcufft.so.12 or .11. */

/** c->cufft stays NULL where there is no such library, which is no error; a warning, where it was asked for. Errors: HET_E_USAGE
 *  for another word in HET_CUDA_FFT. */
het_status het_cufft_open(het_cuda *c);
void het_cufft_close(het_cuda *c);
/** "cuFFT 12.0", or "" where there is none. */
void het_cufft_name(const het_cuda *c, char *text, size_t size);

/** At the end of a plan's making, and at its end. plan->fft stays NULL where the library takes no such plan. */
void het_cufft_plan(het_fourier *plan);
void het_cufft_unplan(het_fourier *plan);
/** As the operations of the same names, of n <= HET_FOURIER_IMAGES images. 0: declined, and the sums must serve. */
int het_cufft_image_to_points(het_fourier *plan, float *points, const float *image, int64_t n, int64_t p);
int het_cufft_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                              const float *scale, int64_t n, int64_t p);
