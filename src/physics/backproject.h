#pragma once
#include "fft.h"
#include "volume.h"

/** A map from images with known poses: averages of their Fourier points on a grid of half a Fourier pixel,
 *      V = sum a / (sum b + prior),   a = C conj(T) X,  b = C^2 at (kx,ky) of the slice R (kernels/ops.h),
 *  both spread to the 8 neighbours with trilinear weights; the map is divided by that kernel's transform.
 *  Or n maps of which images are sums, e_1 V_1 + .. + e_n V_n, with what is known of each image's e: in every point of the grid
 *      sum_l (sum b <e_k e_l> + delta_kl prior_k) V_l = sum a <e_k>.
 *  Test: tests/test_first_volume.c, tests/test_components.c */
enum { HET_BACKPROJECT_MAPS = 9 };

typedef struct het_backproject {
    int64_t box, image_box, rank, ranks;
    int maps;        /* n; 1 */
    het_fft *fft;    /* of side 2 box */
    double *sum;     /* (2 box, 2 box, box + 1, 2 n + n (n + 1)/2): re, im of sum a <e_k> for each k, then sum b <e_k e_l>, l <= k, at k (k + 1)/2 + l */
    float *spectrum; /* (2 box, 2 box, box + 1, 2) */
    float *real;     /* (2 box, 2 box, 2 box) */
    uint8_t *mine;   /* (box + 1, box + 1) |z|, |y|: what this process adds to */
    uint8_t *row;    /* (box + 1) |z|: where there is any of it */
} het_backproject;

/** Voxels that hold points with |k| <= radius, with a margin. */
int64_t het_backproject_box(double radius);
/** For maps of `box` voxels over the same length as images of image_box pixels; what is added must have
 *  |k| <= box/2 - 1. Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_backproject_new(het_backproject *back, int64_t box, int64_t image_box);
/** The same for n maps, 1 .. HET_BACKPROJECT_MAPS, at once. */
het_status het_backproject_new_joint(het_backproject *back, int maps, int64_t box, int64_t image_box);
void het_backproject_free(het_backproject *back);
/** Several processes that add the same slices share the work: from now on this one, number `rank` of `ranks`, adds to its own part of
 *  the grid alone and leaves the rest. All parts united (het_backproject_numbers) are the sums of one process, to the bit. */
void het_backproject_share(het_backproject *back, int64_t rank, int64_t ranks);
/** The same for threads: parts [out] (n) add to what is this process's of the grid of `back`, each to its own part of it, and may do so at a
 *  time. They last as long as `back`; free with het_backproject_parts_free, also after an error. Errors: HET_E_MEMORY. */
het_status het_backproject_parts(het_backproject *parts, int n, const het_backproject *back);
void het_backproject_parts_free(het_backproject *parts, int n);
/** How many doubles `sum` has for so many maps of `box` voxels, and the bytes that het_backproject_new_joint takes. */
int64_t het_backproject_numbers(int64_t box, int maps);
int64_t het_backproject_bytes(int64_t box, int maps);
/** Forget all sums. */
void het_backproject_clear(het_backproject *back);
/** Add one slice: a (P,2), b (P) at the points kxy (P,2), rotation (9), times `weight`. */
void het_backproject_add(het_backproject *back, const float *a, const float *b, const float *rotation,
                         double weight, const int32_t *kxy, int64_t p);
/** Add one slice of n maps: e (n), ee (n,n) the means <e_k>, <e_k e_l>. */
void het_backproject_add_joint(het_backproject *back, const float *a, const float *b, const float *rotation, const double *e, const double *ee,
                               const int32_t *kxy, int64_t p);
/** What an image adds: a (P,2), b (P) [out] of its points `transform` (P,2) and CTF (P), moved back by its shift (2) px:
 *      a = C exp(2 pi i k.t / image_box) X,  b = C^2. */
void het_backproject_terms(float *a, float *b, const float *transform, const float *ctf, const float *shift, int64_t image_box,
                           const int32_t *kxy, int64_t p);
/** Add the slice that an image's terms are. */
void het_backproject_image(het_backproject *back, const float *transform, const float *ctf, const float *rotation,
                           const float *shift, double weight, const int32_t *kxy, int64_t p);
/** mean (box/2 + 1) [out]: the mean of sum b over the grid's points of each shell round(|k|). */
void het_backproject_weights(const het_backproject *back, double *mean);
/** The map (allocated, box voxels), within a soft sphere that touches the box. prior (box/2 + 1) per shell
 *  round(|k|): noise over signal variance per point. The density is such that its slices on a grid of image_box
 *  voxels are those of the images (slicer.h); on its own grid they are (box / image_box)^2 times that. */
void het_backproject_solve(het_backproject *back, het_volume *map, const double *prior);
/** The n maps, on so many threads: prior_k = prior/share_k, share (n). The sums are lost. */
void het_backproject_solve_joint(het_backproject *back, het_volume *maps, const double *prior, const double *share, int threads);
