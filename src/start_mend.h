#pragma once
#include "start_candidates.h"
#include "start_finder.h"

/** What poses that were found with one map lack, once a linear model tells conformations: the frames of all conformations become one
 *  (start_frames.h), and images whose view was mistaken find it in the maps of groups of conformations (start_candidates.h), in as many searches as
 *  move more than HET_START_LOST of the images. finder->lost: the share that the first moved. Collective. Errors: those of het_finder_round. Test: tests/cli_start.sh */
#define HET_START_LOST 0.01
het_status het_start_mend(het_finder *finder, const het_start_volume_spec *spec);
/** Answers and poses, in place, of n images of the stack; candidates: NULL, or other poses to try. n <= HET_OBSERVED; finder's images have to be read
 *  anew before its next round. Not collective. */
het_status het_finder_answer(het_finder *finder, het_candidates *candidates, het_components_answer *answer, float *rotation, float *shift,
                             const int64_t *index, int64_t n);
