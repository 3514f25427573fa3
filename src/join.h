#pragma once
#include "start.h"

/** What the start's poses lack, repaired once z tells conformations apart and the decoder knows the
 *  volumes (init.join_epoch): poses that were lost are found by a search of all images against the decoder, each
 *  at its own z (refine_poses.h), and the conformations' frames become one (frames.h). z stays. Collective; a noted
 *  signal sets *stopped on all ranks: nothing is changed then. Errors: HET_E_MEMORY, those of reading. */
het_status het_join(het_start *start, het_comm *comm, het_model *model, const het_stack *stack,
                    double noise_variance, int *stopped);
