#pragma once
#include <stdint.h>

#include "../status.h"

/** A cubic density map: data[z][y][x] float32, origin at the voxel (D/2, D/2, D/2). Test: tests/test_volume.c */
typedef struct het_volume {
    int64_t box;
    double apix; /* A per voxel */
    float *data; /* (D,D,D); owned */
} het_volume;

/** Zeroed map. box even, 4..1024; apix > 0. Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_volume_new(het_volume *volume, int64_t box, double apix);
void het_volume_free(het_volume *volume);

/** out = in on another grid of the same physical size, by cropping or zero-padding its Fourier transform: exact for a
 *  band-limited map; density values are kept. Frequencies |k_i| >= min(D)/2 are dropped. out->box is given (allocated),
 *  out->apix becomes in->apix in->box / out->box. */
het_status het_volume_resize(het_volume *out, const het_volume *in);

/** out(x) = in(R^T x), x in A from each map's centre, on out's own box and apix (allocated), by interpolation in the
 *  padded Fourier transform (slicer.h). Frequencies |k| >= D/2 of out or of in are 0. What lies outside out's box wraps
 *  around: mask first when a map is cut smaller. r = NULL: no rotation. */
het_status het_volume_resample(het_volume *out, const het_volume *in, const double r[9]);

/** out(x) = in(R^T x) on the same grid: het_volume_resample for equal boxes. out and in may not share data.
 *  Errors: HET_E_SHAPE for unequal boxes. */
het_status het_volume_rotate(het_volume *out, const het_volume *in, const double r[9]);

/** Multiply by a soft sphere about the centre: 1 up to `radius` voxels, falling as a raised cosine to 0 at
 *  radius + edge. */
void het_volume_mask_sphere(het_volume *volume, double radius, double edge);
