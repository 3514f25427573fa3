#pragma once
#include "backproject.h"
#include "points.h"
#include "slicer.h"

/** Images at known poses as sums of a few maps: with e_0 = c, e_k = z_k,
 *      X = C T_t S_R(sum_k e_k V_k) + noise,   c ~ N(1, 0.09),  z_k ~ N(0, 1),  k = 1 .. K
 *  by expectation-maximisation (Tipping & Bishop 1999, J. R. Stat. Soc. B 61:611; of particle images: Punjani & Fleet 2021, J. Struct.
 *  Biol. 213:107702): every image's e has a normal posterior, solved from K+1 slices, and in every Fourier voxel the maps solve
 *      sum_i b_i <e e^T>_i V = sum_i a_i <e>_i,   a = C conj(T) X, b = C^2.
 *  c takes up what images differ by in contrast, which is no conformation, and so do five more unknowns of each image with small errors
 *  of its pose, to first order: turns about its axes, slices of V_0 turned by little, and moves. The noise is what images have left that the
 *  maps were not made from: what a map lacks would else be told apart as conformations where images have little noise. Test: tests/test_components.c */

enum { HET_COMPONENTS_MOST = 8 };

/** Images as their Fourier points. */
typedef struct het_components_images {
    const het_points *points;
    int64_t count, p;           /* of images; of points, the first ones */
    float *a, *b;               /* (count,p,2) C conj(T) X; (count,p) C^2 */
    const float *rotation;      /* (count,9) */
} het_components_images;

typedef struct het_components {
    int count;                  /* K */
    double *noise;              /* (box/2 + 1) variance of a Fourier point by shells round(|k|): of noise and what the maps lack */
    double turn, shift;         /* standard deviations of poses: rad about each axis, px */
    double slice_scale;         /* times a slicer's numbers: those of the images */
    het_volume map[HET_COMPONENTS_MOST + 1];
    het_slicer slicer[HET_COMPONENTS_MOST + 1];
    het_backproject sum[(HET_COMPONENTS_MOST + 1) * (HET_COMPONENTS_MOST + 2) / 2]; /* of e_k e_l, l <= k: at k (k + 1)/2 + l */
    double *prior;              /* (box/2 + 1) */
} het_components;

/** An image's posterior of e, (K+1) and (K+1,K+1), and the covariance that its noise alone gives `mean`. */
typedef struct het_components_answer {
    double mean[HET_COMPONENTS_MOST + 1];
    double covariance[(HET_COMPONENTS_MOST + 1) * (HET_COMPONENTS_MOST + 1)], noise[(HET_COMPONENTS_MOST + 1) * (HET_COMPONENTS_MOST + 1)];
} het_components_answer;

/** Maps of `box` voxels (backproject.h) for images of image_box pixels; noise: of all shells at first; turn, shift: as above. Free with het_components_free, also after an error. Errors:
 *  HET_E_MEMORY. */
het_status het_components_new(het_components *components, int count, int64_t box, int64_t image_box, double noise, double turn, double shift);
void het_components_free(het_components *components);
/** How many sums there are, each a piece of work of its own. */
int het_components_sums(const het_components *components);
/** a, b of an image: transform (p,2), ctf (p), shift (2) px. One that holds NaN says nothing: all 0. */
void het_components_observe(float *a, float *b, const float *transform, const float *ctf, const float *shift, const het_points *points,
                            int64_t p);
/** The prior of the maps, noise over signal by shells: S = (sum |a|^2 - noise sum b) / sum b^2, of the noise as it is now. Errors: HET_E_MEMORY. */
het_status het_components_measure(het_components *components, const het_components_images *images);
/** What an image has left: left (box/2 + 1, 2), by shells sum w <|X - C T_t S_R(..)|^2> over its posterior, and sum w. */
int het_components_lefts(const het_components *components);
/** answer[first .. first + n) of these images, and left (n, het_components_lefts), or NULL. Errors: HET_E_MEMORY. */
het_status het_components_expect(const het_components *components, het_components_answer *answer, double *left, const het_components_images *images,
                                 int64_t first, int64_t n, int threads);
/** The noise from now on: what n images have left. */
void het_components_set_noise(het_components *components, const double *left, int64_t n);
/** z of n answers to mean 0 and <z z^T> = 1, as their prior has it (`noise` stays as it was); the maps that are made of them next have the scale instead (parameter
 *  expansion: Liu, Rubin & Wu 1998, Biometrika 85:755). */
void het_components_whiten(const het_components *components, het_components_answer *answer, int64_t n);
/** The one sum `which` over all images. Errors: HET_E_MEMORY. */
het_status het_components_add(het_components *components, int which, const het_components_answer *answer, const het_components_images *images);
/** Maps and slicers of the sums. Errors: HET_E_MEMORY. */
het_status het_components_solve(het_components *components);
/** K axes by which images differ, of answers that are uncorrelated with variance 1 along them: z' = turn z - mean. told: which share of that
 *  variance is not their noise, descending: about 1 where images tell z' exactly, 0 where they know nothing of it. That is so for images that the maps were not made
 *  from; maps fit the noise of their own. */
typedef struct het_components_axis {
    double turn[HET_COMPONENTS_MOST], mean, told;
} het_components_axis;
void het_components_axes(het_components_axis *axis, const het_components *components, const het_components_answer *answer, int64_t n);
/** z' of an image. */
double het_components_along(const het_components_axis *axis, const het_components *components, const het_components_answer *answer);
