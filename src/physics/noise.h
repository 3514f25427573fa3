#pragma once
#include <stdint.h>

/** Noise level, SNR and radial amplitudes of a stack (METHOD 5, eq. 9). Everything accumulated is a plain double that ranks
 *  can add. Test: tests/test_noise.c */

/** Sums over all pixels and over those outside the inscribed circle, (x-D/2)^2 + (y-D/2)^2 > (D/2)^2. Start from {0}. */
typedef struct het_noise_tally {
    double count, sum, square;
    double rim_count, rim_sum, rim_square;
} het_noise_tally;

enum { HET_NOISE_TALLY_DOUBLES = 6 }; /* for het_comm_sum_f64((double *)tally, ..) */

/** Add n images (n,D,D); they should be standardised, which keeps the sums of squares exact enough. */
void het_noise_tally_add(het_noise_tally *tally, const float *images, int64_t n, int64_t box);
/** Noise variance per pixel: that of the rim. */
double het_noise_variance(const het_noise_tally *tally);
/** SNR = (var(I) - var(noise)) / var(noise), linear (eq. 9). Where it comes out below `floor` (> 0), `floor` is returned
 *  and *floored is 1: the images show no signal, or the particle fills the corners. */
double het_noise_snr(const het_noise_tally *tally, double floor, int *floored);

/** Add the power of n transforms to shells round(|k|) < D/2: power[s] += sum |F|^2, count[s] += points. points (n,P,2)
 *  orthonormal as in kernels/ops.h, kxy (P,2); power, count (D/2). */
void het_noise_power_add(double *power, double *count, const float *points, const int32_t *kxy, int64_t p, int64_t n,
                         int64_t box);
/** Radial amplitude of the signal before the CTF, for the decoder's envelope:
 *      s(r) = sqrt( max(power/count - noise, 0) / max(ctf2, 0.05) ), smoothed over 5 shells ([1 2 3 2 1]/9),
 *  at least `least` (for example 0.02) of its largest value, and 1 everywhere if there is no signal at all.
 *  Shell 0 takes shell 1's value: the mean of an image says nothing about the particle.
 *  envelope (shells); power, count (shells); ctf2 (shells) mean C^2 per shell or NULL for 1. */
void het_noise_envelope(float *envelope, const double *power, const double *count, const double *ctf2, double noise,
                        double least, int64_t shells);
