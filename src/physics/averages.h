#pragma once
#include "../../kernels/ops.h"

/** Averages of images that show the same view, without any volume: each of the first m images is a reference, and the k
 *  images most like it - turned, mirrored and moved - are averaged with it (reference-based 2D classification as in Penczek
 *  et al. 1996, Ultramicroscopy 63:205; the mirror of a projection is the projection from behind).
 *
 *  Everything happens on a polar grid of Fourier points: 36 directions theta = 2 pi a / 72 over a half-plane (the other half
 *  is the conjugate) and radii r = 1 .. radius Fourier pixels. With X_j = C_j F_j exp(+2 pi i k.t) the image moved back,
 *  A_i = C_i F_i / (C_i^2 + noise/P) the Wiener estimate of the reference and G the turn (or mirror and turn),
 *      score(i,j) = max over G, t of  sum_k w_r ( Re[conj A_i(G k) X_j(k)] - 1/2 C_j^2 |A_i(G k)|^2 ),
 *      w_r = r / (noise + 0.2 P C^2)          (0.2: what neighbours and conformations differ by)
 *  over 72 angles, both mirrors, and a square grid of shifts at most D/32 px apart. All angles at once come from the
 *  correlation theorem on the circle. Memory: 8 averages x images bytes and 4 kB an image. Test: tests/test_lines.c */

enum {
    HET_POLAR_ANGLES = 72,
    HET_POLAR_HALF = HET_POLAR_ANGLES / 2,
    HET_POLAR_SHELLS = 12 /* the most */
};

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

/** images (n,D,D) standardised, ctf (n). A soft circular window (1 within 0.85, 0 beyond 0.99 of half the box) is applied
 *  here. Errors: HET_E_USAGE for sizes out of range, HET_E_MEMORY. Not collective. */
het_status het_averages_new(het_averages *averages, het_device *dev, const het_averages_spec *spec, const float *images,
                            const het_ctf_row *ctf);
void het_averages_free(het_averages *averages);
