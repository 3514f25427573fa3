#pragma once
#include "refine_poses.h"

/** Move the poses of all images into one frame (frames.h), by maps of clusters of their conformations z; says what was done. Collective;
 *  *stopped as in refine_poses.h: nothing is moved then. Errors: HET_E_MEMORY, those of reading. Test: tests/cli_hands.sh */
het_status het_join_frames(het_poses *poses, int *stopped);
