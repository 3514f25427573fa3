#pragma once
#include "config.h"
#include "data/stack.h"
#include "mpi/comm.h"
#include "physics/first_volume.h"

/** A first volume without a model: rough poses of some images, and expectation-maximisation from them
 *  (physics/first_volume.h) by rank 0 on init.images images, to spec's radius.
 *
 *  The rough poses come from common lines (start_lines.c) or from random starts that have to agree
 *  (start_search.c). init.method = auto tries the lines first, which cost as little as one start and see
 *  finer detail at once, and turns to the starts where the lines do not agree. The result does not depend on
 *  the number of ranks. Test: tests/cli_start.sh */
typedef struct het_start_volume_spec {
    const het_config_init *init;
    uint64_t seed;
    double radius;         /* Fourier pixels, of the volume in the end */
    double shift_range;    /* px */
    double noise_variance; /* per pixel of the standardised images */
} het_start_volume_spec;

/** The volume, the same on every rank (its poses on rank 0 alone). Free with het_first_volume_free.
 *  Collective. Errors: HET_E_USAGE (too few images), HET_E_MEMORY, those of reading. */
het_status het_start_volume(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack,
                            const het_start_volume_spec *spec);
