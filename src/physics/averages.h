#pragma once
#include "polar.h"

/** Averages of images that show the same view, without any volume: each of the first m images is a reference,
 *  and the k images most like it - turned, mirrored and moved - are averaged with it (reference-based 2D
 *  classification as in Penczek et al. 1996, Ultramicroscopy 63:205; the mirror of a projection is the
 *  projection from behind).
 *
 *  On the polar grid of polar.h, with X_j = C_j F_j exp(+2 pi i k.t) the image moved back, G the turn (or
 *  mirror and turn) and A_i = C_i F_i / (C_i^2 + noise/P) the Wiener estimate of the reference,
 *      score(i,j) = max over G, t of  sum_k w_r ( Re[conj A_i(G k) X_j(k)] - 1/2 C_j^2 |A_i(G k)|^2 ),
 *      w_r = r / (noise + 0.2 P C^2)          (0.2: what neighbours and conformations differ by)
 *  over 72 angles, both mirrors, and a square grid of shifts D/32 px apart or closer (wider only where the
 *  range asks for more than 9 x 9). All angles at once come from the correlation theorem on the circle.
 *  Memory: 8 m n bytes, and 5 kB an image. Test: tests/test_lines.c */

typedef struct het_averages_spec {
    int64_t box, images, averages; /* the first `averages` images are the references */
    int neighbours;                /* members of an average, itself included */
    int radius;                    /* Fourier pixels, 2 .. min(HET_POLAR_SHELLS, box/2-1) */
    double apix;                   /* A per pixel */
    double shift_range;            /* px: shifts searched in each direction; below 0.2 px only t = 0 */
    double noise_variance;         /* per Fourier point of the images as given */
} het_averages_spec;

/** One image in an average. A point k of the image lies at G k in the average,
 *      G = [c s; -s c], or mirrored [c s; s -c],   c, s = cos, sin of `angle`,
 *  after the particle was moved by -shift. */
typedef struct het_member {
    int64_t image;
    float score, angle, shift[2]; /* rad, px */
    int mirrored;
} het_member;

typedef struct het_averages {
    het_averages_spec spec;
    double noise;                   /* per Fourier point after the window */
    double power[HET_POLAR_SHELLS]; /* (radius) signal power per Fourier point before the CTF */
    het_member *member;             /* (averages, neighbours), best first */
    float *sum;                     /* (averages, 2, radius, HALF): re, im of sum C F exp(+2 pi i k.t) */
    float *weight;                  /* (averages, radius, HALF): sum C^2 */
} het_averages;

/** Find the members and average them. images (n,D,D) standardised, not yet windowed; ctf (n). Free with
 *  het_averages_free. Errors: HET_E_USAGE for sizes out of range, HET_E_MEMORY. Not collective. */
het_status het_averages_new(het_averages *averages, het_device *dev, const het_averages_spec *spec,
                            const float *images, const het_ctf_row *ctf);
void het_averages_free(het_averages *averages);
