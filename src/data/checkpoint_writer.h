#pragma once
#include "checkpoint.h"

/** Checkpoints that are written while training goes on.
 *
 *  The caller copies what is to be saved into the writer's memory (the only time training waits, but for a file that is
 *  still being written), and a thread writes the copy: checksums, file, fsync, rename, then the removal of files that
 *  are not kept. Rank 0 alone has a writer: all ranks hold the same, so nobody else is needed, there is no collective
 *  operation in the thread that could get in the way of those of training, and no error that ranks would have to agree
 *  upon - a checkpoint that fails costs nothing but the checkpoint.
 *
 *  HDF5 is not thread-safe: from het_checkpoint_writer_start to het_checkpoint_writer_wait the process must not call it
 *  elsewhere. Training does not: images are read with pread(). Test: tests/test_checkpoint_writer.c */
typedef struct het_checkpoint_writer het_checkpoint_writer;

/** For files in `directory`, of which the newest `keep` and every `every`-th step's stay (het_checkpoint_prune). `log` is a file
 *  that grows beside them: it is made durable before each checkpoint, so that none ever stands there without the lines
 *  before it. Free with het_checkpoint_writer_free, which waits. Errors: HET_E_MEMORY. */
het_status het_checkpoint_writer_new(het_checkpoint_writer **writer, const char *directory, const char *log, int64_t keep,
                                     int64_t every);
void het_checkpoint_writer_free(het_checkpoint_writer *writer);

/** Begin a copy; waits until the file before is written. */
void het_checkpoint_writer_begin(het_checkpoint_writer *writer);
/** Memory for one more field of the copy, in *data, to be filled before the start. It is kept from copy to copy; `name` is
 *  borrowed. Errors: HET_E_MEMORY. */
het_status het_checkpoint_writer_add(het_checkpoint_writer *writer, const char *name, const het_tensor *like, void **data);
/** Write the copy as step-N.h5 in the background. json is taken over. What fails is a warning of the
 *  wait or of het_checkpoint_writer_is_done, and the files before stay. */
void het_checkpoint_writer_start(het_checkpoint_writer *writer, int64_t step, char *json);
/** Write it now. Errors: those of het_checkpoint_save. */
het_status het_checkpoint_writer_write(het_checkpoint_writer *writer, int64_t step, char *json);
/** Wait until nothing is being written, and warn of what failed; NULL is accepted. */
void het_checkpoint_writer_wait(het_checkpoint_writer *writer);
/** Whether a file that was started has been written, or has failed, since it was asked last; the warning comes here then. NULL
 *  is accepted. */
int het_checkpoint_writer_is_done(het_checkpoint_writer *writer);
/** Seconds that the last file took to be written; NAN where it was not. After a wait. */
double het_checkpoint_writer_seconds(const het_checkpoint_writer *writer);
