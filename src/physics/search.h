#pragma once
#include "../../kernels/ops.h"

/** Pose search of images against any source of slices: a grid over all rotations and shifts, then refinement.
 *
 *  With T_t(k) = exp(-2 pi i k.t/D), g_p = weight_p / (2 noise_p) and slices V_R, an image X with CTF C has
 *      L(R,t) = sum_p g_p (2 C_p Re(conj(X_p) T_t V_R) - C_p^2 |V_R|^2),
 *  the log-likelihood less that of no particle at all, for Gaussian noise of variance noise_p per point.
 *  Base grid: DIRECTIONS on a Fibonacci sphere x TURNS in the plane (15 degrees), turned by a rotation of the
 *  caller's, x a square grid of shifts at most D/(5 base_radius) px apart; L comes from matrix products
 *  (ops->linear). Each level of refinement splits a candidate into the 8 rotations half a step to both sides
 *  about the image's three axes (steps of 7.5, 3.75, .. degrees) and 3x3 shifts at half the step, as projection
 *  matching does (Scheres 2012, J. Struct. Biol. 180:519; Zhong et al. 2021, CryoDRGN2, ICCV). The disc of
 *  Fourier points doubles its radius from level to level; the last level has it in full.
 *  Test: tests/test_search.c */

enum {
    HET_SEARCH_DIRECTIONS = 192,
    HET_SEARCH_TURNS = 24,
    HET_SEARCH_BASE = HET_SEARCH_DIRECTIONS * HET_SEARCH_TURNS,
    HET_SEARCH_KEEP_MAX = 64,
    HET_SEARCH_CHUNK = 32
};

/** slices (n,p,2) for rotations rot (n,9), points 0..p-1 of het_points; both [host]. In refinement the rows
 *  belong to HET_SEARCH_CHUNK consecutive images of a run (in the end to those that are left), equally many to
 *  each in turn. */
typedef void (*het_search_slices)(void *context, float *slices, const float *rot, int64_t n, int64_t p);

typedef struct het_search_spec {
    int64_t box;
    double base_radius; /* of the base grid's disc, Fourier pixels; 4 to 6 suit its step */
    double radius;      /* of the last level */
    double shift_range; /* px, shifts of the base grid within +-range; below 0.2: only t = 0, at every level */
    int levels;         /* of refinement, 0 .. 8 */
    int keep;           /* candidates of the base grid, 1 .. HET_SEARCH_KEEP_MAX; level l hands on keep >> l */
    int result;         /* candidates given back for each image, 1 .. keep; no level keeps fewer */
} het_search_spec;

typedef struct het_search_pose {
    float rotation[9], shift[2]; /* px */
    float loglik;                /* L; -INFINITY: no candidate (the image holds NaN) */
} het_search_pose;

typedef struct het_search het_search;

/** About how many bytes a search of `points` Fourier points takes on the host. */
size_t het_search_bytes(int keep, int64_t points);
/** Errors: HET_E_SHAPE (sizes out of range), HET_E_MEMORY. dev must outlive it. Free with het_search_free. */
het_status het_search_new(het_search **search, het_device *dev, const het_search_spec *spec);
/** Accepts NULL. */
void het_search_free(het_search *search);
/** Points of the last level: the row length of what het_search_run is given. */
int64_t het_search_points(const het_search *search);
/** Take the base grid's slices: before the first run and whenever the source has changed. slices and context are
 *  kept for refinement. turn (9) turns the grid, R = R_grid turn; NULL: not. */
void het_search_load(het_search *search, het_search_slices slices, void *context, const double *turn);
/** Search n images.
 *  poses      [out]  (n,result), the likeliest first
 *  transform  [in]   [host] (n,P,2) Fourier points, P = het_search_points(); ctf (n,P)
 *  noise      [in]   [host] (P) > 0, variance per Fourier point */
void het_search_run(het_search *search, het_search_pose *poses, const float *transform, const float *ctf,
                    const float *noise, int64_t n);
