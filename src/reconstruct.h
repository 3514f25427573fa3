#pragma once
#include "../kernels/device.h"
#include "data/stack.h"
#include "mpi/comm.h"
#include "physics/volume.h"

/** Maps from the images of a stack by back-projection (physics/backproject.h) at poses that are known.
 *  Test: tests/test_reconstruct.c, tests/cli_reconstruct.sh */

typedef struct het_reconstruction {
    int64_t images[2]; /* in either half; maps are as long as the images' box */
    het_volume half[2];
    het_volume map;    /* of all; its shells are weighted as those of the halves agree: noise/signal = (1 - F)/F,
                          F = 2 FSC/(1 + FSC) (Rosenthal & Henderson 2003) */
    double *fsc;       /* (box/2) of the halves, box: the maps' */
    double slice_scale; /* times the numbers of a map's slices (physics/slicer.h): those of the images */
} het_reconstruction;

/** What every map of a stack needs. */
typedef struct het_reconstructor het_reconstructor;

/** Collective. rotation (N,9), shift (N,2) px of the stack's images, which may change between maps; borrowed, as stack and device are.
 *  radius: of the images' points that are used, Fourier pixels, at most D/2 - 1; maps have the voxels that this takes, at D/2 - 1 the
 *  images' own. Errors, the same on every rank: HET_E_MEMORY where the machine has too little, with need and have. */
het_status het_reconstructor_new(het_reconstructor **made, het_comm *comm, het_device *dev, const het_stack *stack, const float *rotation,
                                 const float *shift, double radius);
void het_reconstructor_free(het_reconstructor *made);
/** What it and the maps take on the host, for images of a box; parts: of sums in a fixed order (mpi/fold.h) on this rank. */
size_t het_reconstructor_bytes(int64_t box, double radius, int64_t parts);
/** How many of a group's images are in either half: a map needs some in both. group NULL: all are of it. */
void het_reconstruct_count(int64_t images[2], const het_reconstructor *from, const int64_t *group, int64_t number);
/** The map of the images of one group, group (N); each of them belongs to a half by chance, always the same one. Ranks share the
 *  images, and sum in the fixed order where the communicator has one; progress is told as `what`. Collective; free with het_reconstruction_free, also after an error. Errors: HET_E_INPUT where a half has no images,
 *  those of reading, HET_E_MEMORY. */
het_status het_reconstruct(het_reconstruction *made, het_reconstructor *from, const int64_t *group, int64_t number,
                           const char *what);
void het_reconstruction_free(het_reconstruction *made);
