#pragma once
#include "volume.h"

/** Fourier shell correlation of two maps (Harauz & van Heel 1986):
 *      FSC(s) = sum Re(F1 conj F2) / sqrt(sum |F1|^2 sum |F2|^2)   over round(|k|) = s, k in cycles per box
 *  curve (D/2): shells 0 .. D/2-1; a shell in which a map has no power gives 0. mask (D,D,D) multiplies both maps first;
 *  NULL: none. Errors: HET_E_SHAPE for unequal boxes, HET_E_MEMORY. Test: tests/test_fsc.c */
het_status het_fsc(double *curve, const het_volume *a, const het_volume *b, const het_volume *mask);

/** Resolution as a Fourier shell: the first crossing below `threshold` among shells 1 .. D/2-1, linear between the shells
 *  around it (shell 0 counts as correlation 1). A curve that never crosses gives the largest frequency, box/2.
 *  In pixels: box/shell (floor 2.0); in A: box apix/shell. *crossed (NULL: not wanted) tells which it was. */
double het_fsc_shell(const double *curve, int64_t box, double threshold, int *crossed);
