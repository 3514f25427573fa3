#pragma once
#include "backproject.h"
#include "points.h"
#include "slicer.h"

/** Images as sums of a few maps: with e_0 = c, e_k = z_k,
 *      X = C T_t S_R(sum_k e_k V_k) + noise,   c ~ N(1, 0.09),  z_k ~ N(0, 1),  k = 1 .. K
 *  by expectation-maximisation (Tipping & Bishop 1999, J. R. Stat. Soc. B 61:611; of particle images: Punjani & Fleet 2021, J. Struct.
 *  Biol. 213:107702): every image's e has a normal posterior, solved from K+1 slices, and in every Fourier voxel the maps solve
 *      sum_i b_i <e e^T>_i V = sum_i a_i <e>_i,   a = C conj(T) X, b = C^2.
 *  c takes up what images differ by in contrast, which is no conformation, and so do five more unknowns of each image with small errors
 *  of its pose, to first order: turns about its axes, slices of sum_k e_k V_k turned by little, and moves. Poses may follow these
 *  (het_components_move): a step of Gauss and Newton for e and pose together. The noise is what images have left that the
 *  maps were not made from: what maps lack would else be told apart as conformations where images have little noise.
 *  Maps: components.c, their frame: components_hold.c, images: components_expect.c, axes: components_axes.c. Test: tests/test_components.c */

enum { HET_COMPONENTS_MOST = 8, HET_COMPONENTS_POSE = 5, HET_COMPONENTS_SHELLS = 513 }; /* maps have at most 1024 voxels (volume.h) */

/** Images as their Fourier points, at poses. */
typedef struct het_components_images {
    const het_points *points;
    int64_t count, p;        /* of images; of points, the first ones */
    float *a, *b;            /* (count,p,2) C conj(T) X; (count,p) C^2 */
    float *rotation, *shift; /* (count,9); (count,2) px, of T */
} het_components_images;

typedef struct het_components {
    int count;                  /* K */
    double *noise;              /* (box/2 + 1) variance of a Fourier point by shells round(|k|): of noise and what the maps lack */
    double *power;              /* (box/2 + 1, 3) of the images that maps are made from, by shells: sum |a|^2, sum b, sum b^2 */
    double turn, shift;         /* standard deviations of poses: rad about each axis, px */
    double slice_scale;         /* times a slicer's numbers: those of the images */
    het_volume map[HET_COMPONENTS_MOST + 1];
    het_slicer slicer;          /* of all of them */
    het_backproject sum;
} het_components;

/** An image's posterior: of e, (K+1) and (K+1,K+1), and by how much its pose should turn and move (rad, px); and the log-likelihood of what
 *  there is at its pose, whatever e and the small errors of the pose, less that of no particle. */
typedef struct het_components_answer {
    double mean[HET_COMPONENTS_MOST + 1], covariance[(HET_COMPONENTS_MOST + 1) * (HET_COMPONENTS_MOST + 1)];
    double pose[HET_COMPONENTS_POSE];
    double loglik;
} het_components_answer;

/** Maps of `box` voxels (backproject.h) for images of image_box pixels; count may be 0; noise: of all shells at first; turn, shift: as above. Free with
 *  het_components_free, also after an error. Errors: HET_E_MEMORY. */
het_status het_components_new(het_components *components, int count, int64_t box, int64_t image_box, double noise, double turn, double shift);
void het_components_free(het_components *components);
/** Shells round(|k|), and the end of one among an image's points. */
int64_t het_components_shells(const het_components *components);
int64_t het_components_shell_end(const het_components_images *images, int64_t shell);
/** The power of the images that maps are made from. */
void het_components_measure(het_components *components, const het_components_images *images);
/** prior (box/2 + 1) [out] of a map, noise over signal by shells: S = (sum |a|^2 - noise sum b) / sum b^2. */
void het_components_prior(const het_components *components, double *prior);
/** The sums over all images, this process's part of them (het_backproject_share of components->sum). Errors: HET_E_MEMORY. */
het_status het_components_add(het_components *components, const het_components_answer *answer, const het_components_images *images, int threads);
/** Maps and slicer of the sums, in one frame (het_components_hold). Errors: HET_E_MEMORY. */
het_status het_components_solve(het_components *components, int threads);
/** V_1 .. V_K without what turns or moves V_0 as a whole, to first order: poses can say that. What is left is least where each shell of V_0
 *  counts alike, so that the frame of all conformations is that of the parts which are sharp, for they keep still. Errors: HET_E_MEMORY. */
het_status het_components_hold(het_components *components);

/** a, b of one image: transform (p,2), ctf (p), shift (2) px. One that holds NaN says nothing: all 0. */
void het_components_observe(float *a, float *b, const float *transform, const float *ctf, const float *shift, const het_points *points,
                            int64_t p);
/** What an image has left: left (box/2 + 1, 2), by shells sum w <|X - C T_t S_R(..)|^2> over its posterior, and sum w. */
int het_components_lefts(const het_components *components);
/** answer[first .. first + n) of these images, and left (n, het_components_lefts), or NULL. What answers' means were before is what turns are
 *  slices of: {1, 0 ..} where nothing is known. Errors: HET_E_MEMORY. */
het_status het_components_expect(const het_components *components, het_components_answer *answer, double *left, const het_components_images *images,
                                 int64_t first, int64_t n, int threads);
/** The poses of images [first, first + n) to where their answers have them; these have nothing more to say then. */
void het_components_move(const het_components_images *images, het_components_answer *answer, int64_t first, int64_t n, int threads);
/** The noise from now on: what n images have left. */
void het_components_set_noise(het_components *components, const double *left, int64_t n);

/** z of all n answers to where the first `of` have mean 0 and <z z^T> = 1, as their prior has it; the maps that are made of them next have
 *  the scale instead (parameter expansion: Liu, Rubin & Wu 1998, Biometrika 85:755), and until then covariances are not those of het_components_expect. */
void het_components_whiten(const het_components *components, het_components_answer *answer, int64_t of, int64_t n);
/** K axes along which images differ, descending: z = mean + sum_j z'_j direction_j, z' with mean 0 and covariance 1. An image i whose z has the
 *  information A_i = covariance^-1 - 1 beside its contrast and pose, and y_i = covariance^-1 <z>_i, has by its noise <y y^T> = A; what there is more is
 *      sum_i (y_i - A_i mean)(y_i - A_i mean)^T - A_i = sum_i A_i S A_i,   sum_i y_i = sum_i A_i mean,
 *  which gives the covariance S of z without a prior. told: S/(S + 1/<A>) along the axis, about 1 where images tell z' exactly, 0 (or below)
 *  where it is none. That is so of images that the maps were not made from; maps fit the noise of their own. */
typedef struct het_components_axes {
    double mean[HET_COMPONENTS_MOST], direction[HET_COMPONENTS_MOST][HET_COMPONENTS_MOST], told[HET_COMPONENTS_MOST];
} het_components_axes;
void het_components_find_axes(het_components_axes *axes, const het_components *components, const het_components_answer *answer, int64_t n);
/** The first `count` of these axes are the components from now on, as many as have told > 0 at most; what images lie around is the mean map. Answers must be found anew. Errors: HET_E_MEMORY. */
het_status het_components_keep(het_components *components, const het_components_axes *axes, int count);
