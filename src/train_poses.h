#pragma once
#include "trainer.h"

/** Poses that task one is given instead of asking the encoder: those of the start (start.h), or, for
 *  train.method = cryodrgn2, those of searches (searched.h). All collective, but for give and fields. */

/** Whether a stack of so many images is enough for what the configuration wants. Errors: HET_E_USAGE. Not collective. */
het_status het_train_poses_check(const het_config *config, int64_t images);
/** The first poses, and the decoder taught at them; going_on: as the checkpoint has them. Nothing to do where
 *  poses are not given. Errors: those of the start, of files, HET_E_MEMORY. */
het_status het_train_poses_take(het_trainer *t, int going_on);
void het_train_poses_free(het_trainer *t);
/** Set the poses of a batch, and, unless frozen, the conformations that are kept with them. */
void het_train_poses_give(het_trainer *t, het_batch *batch, int frozen);
/** Search the poses of all images anew; conformations of a start are put into one frame (join.h). *stopped: by a signal;
 *  poses are then as before. */
het_status het_train_poses_search(het_trainer *t, int *stopped);
/** What changes from step to step, for checkpoints; returns the number of fields, at most HET_RUN_EXTRAS. */
int het_train_poses_fields(const het_trainer *t, het_field *fields);
/** With poses given to the end: write what is known of every image as RUN/kept.h5, unless it is there. */
het_status het_train_poses_keep(het_trainer *t, int *interrupted);
/** Remove it: what was kept at an earlier end is no longer what training knows. */
void het_train_poses_drop(const het_trainer *t);
/** What training learned of every image's conformation, to the end; or NULL. Borrowed. */
het_latents *het_train_poses_latents(het_trainer *t);
