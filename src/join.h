#pragma once
#include "start.h"
#include "watch.h"

/** What the start's poses lack, repaired once z tells conformations apart and the decoder knows the
 *  volumes (init.join_epoch): poses that were lost are found together with the conformation by a search against the decoder
 *  (het_poses_relocate), unless other conformations confirm nearly all that the start's linear model gave; and the conformations' frames become one (frames.h). Collective; a noted
 *  signal sets *stopped on all ranks: nothing is changed then, and what was done of the search is kept in the run's folder. watch is told how far it is.
 *  Errors: HET_E_MEMORY, those of reading. */
het_status het_join(het_start *start, het_comm *comm, het_model *model, const het_stack *stack, double noise_variance,
                    const char *folder, het_watch *watch, int *stopped);
/** Which of the start's poses other conformations confirm in the end (het_poses_confirm): confirmed [out] (images). Collective; *stopped as
 *  above. Errors: HET_E_MEMORY, those of reading. */
het_status het_join_confirm(float *confirmed, const het_start *start, het_comm *comm, het_model *model, const het_stack *stack,
                            double noise_variance, int *stopped);
