#pragma once
#include <stdint.h>

#include "../status.h"
#include "../whitening.h"

/** Whitens images, and finds out how: S(k), the power of their noise, is that of the pixels outside the inscribed circle,
 *      c(d) = sum_x m(x) m(x+d) X(x) X(x+d) / sum_x m(x) m(x+d),   S(k) = sum_d h(|d|) c(d) cos(2 pi k.d/D),
 *  m the rim, X less the plane that fits it there, S(|k|) its mean over directions, h a taper that ends at D/2 (Blackman & Tukey 1958);
 *  below |k| = 3 the value there is taken, as the plane took what was lower. Test: tests/test_whitener.c */
typedef struct het_whitener het_whitener;

enum { HET_WHITENER_BOX = 2048 }; /* half of what physics/fft.h transforms */
/** For images of box pixels, even, at most HET_WHITENER_BOX. Free with het_whitener_free, which accepts NULL. Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_whitener_new(het_whitener **whitener, int64_t box);
void het_whitener_free(het_whitener *whitener);
/** Take the noise of one image (D,D) into account. */
void het_whitener_add(het_whitener *whitener, const float *image);
/** W of the images added; none where their noise is white already, or there is none. */
void het_whitener_find(het_whitener *whitener, het_whitening *whitening);
/** Whiten one image (D,D), in place, without the plane of its rim; with no whitening nothing is done, and the whitener may be NULL. Not for two threads at a time. */
void het_whitener_apply(het_whitener *whitener, const het_whitening *whitening, float *image);
