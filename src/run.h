#pragma once
#include "config.h"
#include "data/checkpoint_writer.h"
#include "model.h"
#include "physics/volume.h"
#include "run_hold.h"
#include "run_log.h"
#include "survey.h"

/** The folder of a run: config.yaml, log.jsonl, checkpoints/step-N.h5, predictions.h5 (docs/formats.md). */

typedef struct het_run {
    het_comm *comm;
    het_run_hold hold; /* root rank: others are kept out */
    char path[1024];
    char newest[1100]; /* checkpoint to go on from; "" at a first start */
    het_run_log log;   /* root rank */
    het_checkpoint_writer *writer; /* root rank, from the first copy on */
} het_run;

enum { HET_RUN_EXTRAS = 8, HET_RUN_BLOCKS = 4 };

/** What a checkpoint holds besides the parameters. */
typedef struct het_run_state {
    int64_t step;      /* steps done */
    int64_t count, box, global_groups;
    double apix, mean, std, shift_range, radius, epoch;
    int frozen;
    het_tally tally;   /* of the report in progress */
    het_field extra[HET_RUN_EXTRAS]; /* what else to save: borrowed; not restored (het_checkpoint_load reads it) */
    int extras;
} het_run_state;

/** What makes up a model's state, on its device: parameters, Adam's moments (a model for inference has none), running statistics.
 *  Borrowed. Returns how many. */
int het_run_blocks(const het_model *model, het_field blocks[HET_RUN_BLOCKS]);

/** Poses and conformations that training kept image by image to its end, in the form of predictions.h5; only then is it there. */
#define HET_RUN_KEPT "kept.h5"

/** Look into the folder, and with `hold` keep others out of it from now on (run_hold.h; a folder within one that is held needs no
 *  hold of its own). When it has a run, `config` is compared with the run's: keys that must not change are refused by
 *  name; train.shards = 0 takes the run's value. Nothing is written but the hold. Collective. Errors: also HET_E_INPUT when all
 *  checkpoints are damaged, those of het_run_hold_take. Close with het_run_close, also after an error. */
het_status het_run_open(het_run *run, het_comm *comm, const char *path, int hold, het_config *config);
/** Nothing speaks against the run: make its folders, save the resolved configuration, remove what killed runs left. Collective. */
het_status het_run_begin(het_run *run, const het_config *config);
/** Wait for a checkpoint that is being written, and free. Accepts a zeroed run. Not collective. */
void het_run_close(het_run *run);
/** After het_run_close and all else that is written there: let others have the folder. One that was new and never begun goes. */
void het_run_release(het_run *run);
/** Take the memory that copies for checkpoints need, so that the first one takes no longer than the others. Collective.
 *  Errors: HET_E_MEMORY. */
het_status het_run_ready(het_run *run, const het_model *model, const het_survey *survey, const het_run_state *state);
/** Copy the state and write it as checkpoints/step-N.h5 while the caller goes on; what fails there is a warning, as the next
 *  one may succeed (checkpoint_writer.h). Not collective: the root rank does it. Until the next het_run_save_last or
 *  het_run_close nothing else in the process may use HDF5. */
void het_run_save(het_run *run, const het_model *model, const het_survey *survey, const het_run_state *state);
/** Whether a file of het_run_save has appeared, or failed, since it was asked last. Not collective: never elsewhere than on
 *  the root rank. */
int het_run_saved(het_run *run);
/** Wait for a checkpoint that is being written: HDF5 may be used until the next one. Not collective. */
void het_run_settle(het_run *run);
/** het_run_save before training is left: on return the file and the log are durable. Collective. Errors: HET_E_IO, HET_E_MEMORY. */
het_status het_run_save_last(het_run *run, const het_model *model, const het_survey *survey, const het_run_state *state);
/** Load run->newest into model, survey and state; log lines of steps after it are dropped. Refuses a checkpoint of another
 *  stack. Collective. */
het_status het_run_restore(het_run *run, het_model *model, het_survey *survey, het_run_state *state,
                           const het_stack_info *stack);

/** A trained model for use: configuration and newest checkpoint of the folder, for batches of `batch` images.
 *  model, survey are the caller's to free. Not collective. */
het_status het_run_load(const char *path, het_device *dev, int64_t batch, het_model **model, het_survey *survey,
                        het_run_state *state);

/** Whether a stack is the one that was trained on: the same count, box, pixel size and, to the last digit, mean and
 *  standard deviation. */
int het_run_is_of(const het_run_state *state, const het_stack_info *stack);

/** Whether RUN/refined holds the finished refinement of the run's step `step` (refine.h). Not collective. */
int het_run_is_refined(const char *path, int64_t step);
/** The folder whose results are to be used: path/refined when it is the refinement of the run's newest checkpoint, else,
 *  or where `amortised` is set, path. Says so. Not collective. */
void het_run_results(char *folder, size_t size, const char *path, int amortised);

/** The map of one conformation from a loaded run: units of the stack's pixels, positive where the particle is, resized to
 *  `box` (0: the run's) at the same physical size. map is new; free it with het_volume_free. */
het_status het_run_map(het_model *model, const het_run_state *state, const float *z, int64_t box, het_volume *map);
