#pragma once
#include "volume.h"

/** Put a reconstruction into the truth's frame: with A, hand and u of align.h,
 *      out(x) = in(B (x - u)),  B = A (hand +1) or diag(1,1,-1) A (hand -1)
 *  by mirroring z -> (D - z) mod D for hand -1, rotating (het_volume_rotate) and moving by +u voxels (Fourier phases).
 *  a (9), u (3) px of the box (NULL: no move). out is allocated with in's box; may not share data with in.
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. Test: tests/test_place.c */
het_status het_place_volume(het_volume *out, const het_volume *in, const double a[9], int hand, const double u[3]);

/** volume(x) becomes volume(x - u), u in voxels, periodic. The Nyquist planes become 0. Errors: HET_E_MEMORY. */
het_status het_place_shift(het_volume *volume, const double u[3]);
