#pragma once
#include "volume.h"

/** Where a reconstruction lies in the truth's frame, as align.h finds it. */
typedef struct het_pose3 {
    double a[9]; /* rotation */
    int hand;    /* +1 or -1 */
    double u[3]; /* origin, voxels */
} het_pose3;

/** Put a reconstruction into the truth's frame:
 *      out(x) = in(B (x - u)),  B = A (hand +1) or diag(1,1,-1) A (hand -1)
 *  by mirroring z -> (D - z) mod D for hand -1, rotating (het_volume_rotate) and moving by +u voxels (Fourier
 *  phases; the Nyquist planes become 0). out is allocated with in's box; may not share data with in.
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. Test: tests/test_place.c */
het_status het_place_volume(het_volume *out, const het_volume *in, const het_pose3 *pose);

/** Turn and move `pose` (not its hand) to a local maximum of the correlation of the placed map with `truth`,
 *  over whitened Fourier shells 1 .. D/4, from steps of 4 degrees and 1 voxel down to 0.05 degrees and 0.01
 *  voxels; for what is a few degrees and a voxel off. truth has in's box.
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. Test: tests/test_place.c */
het_status het_place_refine(het_pose3 *pose, const het_volume *in, const het_volume *truth);

/** The same for what is far off: turns within `most` (rad, at most pi) of pose->a and moves of up to D/8 voxels,
 *  over whitened shells 1 .. reach, reach < D/2. A grid of 8 degrees (15 for all turns) at the lowest shells, where all moves of a
 *  turn are compared by one Fourier transform; then climbing from its peaks and from the pose given, for the best.
 *  Whitened, the largest part that both maps have in common decides, not a compromise of all parts.
 *  correlations [out] (2): at the pose given, at the best. truth has in's box.
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. Test: tests/test_place.c */
het_status het_place_search(het_pose3 *pose, double correlations[2], const het_volume *in,
                            const het_volume *truth, double most, int64_t reach);
