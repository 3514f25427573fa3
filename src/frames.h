#pragma once
#include "physics/place.h"

/** One frame for all conformations. Poses that were found with one map for images of several conformations may
 *  put each of these into a frame of its own, a compromise between what they have in common and what not. Here
 *  the maps of clusters of z are laid on each other: along the maximum spanning tree of their likenesses, each
 *  map is registered to its parent's over whitened Fourier shells, in which the largest part that both have in
 *  common decides (het_place_search). Where that is not clearly better than as they lie, they stay. Where a map is much less
 *  like its parent's than others are, its mirror image is tried too, in any turn, on every map so far: one map for all may
 *  hold one conformation in each hand, or the images of one conformation may have come out in both. The maps come from the images (physics/backproject.h): the decoder's at one z show a ghost of the
 *  conformations at others, in the frame of those, and that holds the registration where it is.
 *  Tests: tests/test_frames.c, tests/cli_hands.sh */

enum { HET_FRAMES = 8 };        /* clusters of z, at most */
enum { HET_FRAMES_REACH = 16 }; /* Fourier pixels, of maps that are compared: enough to tell a part's turn by a degree */

/** The pose of an image of V_old in the frame of V_new, V_new(x) = V_old(B (x - u)) (place.h; u in px):
 *      R_new = R A, for hand -1 M R M A with M = diag(1,1,-1);   t_new = t - rows 0,1 of R_new u. */
void het_frames_move(float rotation[9], float shift[2], const het_pose3 *frame);
/** The frame that comes from `first` and then `second`:
 *      V_1(x) = V_0(B_1 (x - u_1)),   V_2(x) = V_1(B_2 (x - u_2)) */
het_pose3 het_frames_then(const het_pose3 *first, const het_pose3 *second);
/** parent [out] (n): maximum spanning tree of the likenesses alike[i stride + j], symmetric, from `root`, whose parent is -1;
 *  order [out] (n): the root, then whichever is most like any before it. n <= HET_FRAMES. */
void het_frames_tree(int *parent, int *order, const double *alike, int64_t stride, int n, int root);

/** Whether a registered volume truly lies otherwise, by the correlations of het_place_search: the turn is no
 *  trifle, and the correlation grows by more than noise can give. */
int het_frames_differ(const het_pose3 *pose, const double correlations[2], int64_t reach);

/** frame [out] (n): from each map's to that of the largest, by size (n) its images; u in px of images of `box` pixels. Compared to `reach` Fourier
 *  pixels. Errors: HET_E_MEMORY. */
het_status het_frames_register(het_pose3 *frame, const het_volume *map, const int64_t *size, int n, int64_t reach, int64_t box);
/** The poses of all images, rotation (count,9), shift (count,2) px, by the frame of their cluster, label (count); says what was done. */
void het_frames_move_all(float *rotation, float *shift, const int64_t *label, int64_t count, const het_pose3 *frame, int n);
