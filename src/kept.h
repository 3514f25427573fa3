#pragma once
#include "config.h"
#include "data/predictions.h"
#include "run.h"

/** What training has found of every image of its stack, image by image: RUN/kept.h5, which is there at its end, and of a run that is on
 *  its way, was stopped or killed what its newest checkpoint holds (and it says so). z is 0 while conformations are frozen.
 *  kept->count is 0 where nothing is kept: a run without a start, or whose init.keep_epochs have passed; and before the end of one of
 *  train.method=cryodrgn2. Errors: those of reading; HET_E_MEMORY. Not collective. Test: tests/cli_stages.sh */
het_status het_kept_load(het_predictions *kept, const char *run, const het_config *config, const het_run_state *state);
