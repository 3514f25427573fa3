#pragma once
#include "start.h"
#include "start_volume.h"

/** The start's poses, which were searched to a small radius, made as fine as the images allow (init.fine_rounds): in each round the
 *  images give a map at their poses (reconstruct.h), to at most twice the radius so far, and each image's pose goes to its
 *  nearest minimum against that map (physics/fit.h) within the radius to which half maps agree (FSC 0.143). It ends when poses hardly
 *  move any more at the largest radius. No network takes part. What is done is kept round by round; a signal that comes within one undoes it. A box of few
 *  pixels more than the start has seen is left as it is; so are poses where memory is too small for a map, with a warning.
 *  reached [out]: the radius that poses are right to. Collective. Errors: HET_E_STOPPED, those of reading. Test: tests/cli_start_fine.sh */
het_status het_start_fine(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec,
                          double *reached);
/** What it takes on the host, about; parts: of sums in a fixed order (mpi/fold.h) on this rank. */
size_t het_start_fine_bytes(const het_config_init *init, int64_t images, int64_t box, int64_t parts);
