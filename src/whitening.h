#pragma once
#include <stdint.h>

/** Images whose noise has the same power at all frequencies. Recorded noise has not: ice, molecules beside the particle and the camera give more to the
 *  low ones, and likelihoods, losses and weights that take noise for white trust these too much. Fourier points F(k) of images become
 *      F'(k) = W(|k|) F(k),   W = sqrt(mean of S / S(|k|)),
 *  S the power of the noise (physics/whitener.h), and their CTFs C' = W C: slices, and so maps, stay what they were. Test: tests/test_whitener.c */

enum { HET_WHITENING_KNOTS = 17 };

/** W at |k| = (i/16)^2 D/2, linear between them and constant beyond; at[0] = 0: images are as recorded, W = 1. */
typedef struct het_whitening {
    double at[HET_WHITENING_KNOTS];
} het_whitening;

int het_whitening_is(const het_whitening *whitening);
int het_whitening_equal(const het_whitening *a, const het_whitening *b);
/** |k| of a knot, as a share of D/2. */
double het_whitening_knot(int i);
/** radius: |k| in Fourier pixels of the box. */
double het_whitening_at(const het_whitening *whitening, double radius, int64_t box);
