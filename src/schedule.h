#pragma once
#include "config.h"

/** What changes over a run, as functions of the step alone, so that a restart needs no state.
 *  A step is one optimiser step of one task; a cycle is one step of task one and then train.pose_steps of task two. */

/** Steps in a cycle. */
int64_t het_schedule_cycle(const het_config *config);
/** Passes over the stack done before `step`. */
double het_schedule_epoch(const het_config *config, int64_t step, int64_t steps_per_epoch);
/** First step that is not run any more. */
int64_t het_schedule_end(const het_config *config, int64_t steps_per_epoch);
/** Every that many steps a checkpoint is due that stays (run.keep_every); 0: none is. */
int64_t het_schedule_keep(const het_config *config, int64_t steps_per_epoch);
/** Frequency marching: radius in Fourier pixels at `epoch`, at most box/2-1. */
double het_schedule_radius(const het_config *config, double epoch, int64_t box);
/** FCH: whether the conformation head is still frozen after `epoch` passes over `count` images. */
int het_schedule_frozen(const het_config *config, double epoch, int64_t count);
/** Whether task one at `epoch` uses poses known for the images: of the start, or of the last search. */
int het_schedule_given(const het_config *config, double epoch);
/** Whether poses are searched before image step `step`, and used until the next search: again and again (train.method =
 *  cryodrgn2), or those of the start (init.join_epoch). */
int het_schedule_search(const het_config *config, int64_t step, int64_t steps_per_epoch, int64_t count);
/** Factor of the learning rates at `epoch`: cosine from 1 to train.rate_final over train.epochs. */
double het_schedule_rate(const het_config *config, double epoch);
