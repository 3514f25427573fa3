#pragma once
#include "mpi/comm.h"
#include "start_groups.h"
#include "../kernels/device.h"

/** The poses of images into one frame for all their conformations (frames.h), by maps of groups of what a linear model has said of them, answer
 *  (count): from images whose poses were found with one map it may have each conformation in a frame of its own, where a part keeps still that
 *  is not the largest. Collective. Errors: HET_E_MEMORY. Test: tests/cli_start.sh */
het_status het_start_frames(het_comm *comm, het_device *dev, const het_components *model, const het_components_images *images, int64_t count,
                            het_components_answer *answer, const het_groups *groups);
