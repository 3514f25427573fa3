#pragma once
#include "config.h"
#include "data/stack.h"
#include "first_volume.h"
#include "mpi/comm.h"

/** A first volume without a model: random starts of some images that have to agree (start_search.h), and from
 *  the likeliest one expectation-maximisation (first_volume.h) on init.images images, all shared by the ranks, to
 *  spec's radius. The result does not depend on the number of ranks. Test: tests/cli_start.sh */
typedef struct het_start_volume_spec {
    const het_config_init *init;
    uint64_t seed;
    double radius;         /* Fourier pixels, of the volume in the end */
    double shift_range;    /* px */
    double noise_variance; /* per pixel of the standardised images */
    const char *folder, *about; /* where finished pieces are kept, and all that they depend on (run_stage.h) */
} het_start_volume_spec;

/** Whether a stack of so many images is enough. Errors: HET_E_USAGE. */
het_status het_start_volume_check(const het_config_init *init, int64_t images);
/** The volume, the same on every rank, without poses. Free with het_first_volume_free.
 *  Collective. Errors: HET_E_MEMORY, those of reading. */
het_status het_start_volume(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack,
                            const het_start_volume_spec *spec);
