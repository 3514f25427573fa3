#pragma once
#include <stddef.h>

#include "../status.h"
#include "../tensor.h"

/** Checkpoint files: named arrays plus one JSON text, in HDF5, replaced atomically, free of the number of ranks.
 *  Every data set carries an XXH3 checksum (attribute "xxh3") over its bytes.
 *
 *  Every rank holds all of what is saved, so one process writes it alone: to PATH.tmp, H5Fclose, fsync, rename, fsync of the
 *  directory. There is no MPI in it, which lets a thread of its own do it while training goes on (checkpoint_writer.h).
 *  Nothing here is collective. */

typedef struct het_field {
    const char *name;  /* e.g. "model/parameters" */
    het_tensor tensor; /* 1-D or more */
} het_field;

/** Write. Errors: HET_E_IO with the system's reason; HET_E_MEMORY; an older file at `path` stays. */
het_status het_checkpoint_save(const char *path, const het_field *fields, int count, const char *json);
/** Read the JSON text; *json is malloc'ed. Errors: HET_E_IO, HET_E_INPUT (truncated, not one of ours). */
het_status het_checkpoint_json(const char *path, char **json);
/** Read the fields into the caller's arrays, checking type, shape and checksum; the name of what differs is in the
 *  message. */
het_status het_checkpoint_load(const char *path, const het_field *fields, int count);
/** The newest file step-N.h5 in `directory` that opens and whose checksums hold; names of damaged ones are logged as
 *  warnings. path gets "" when there is no file at all. Errors: HET_E_INPUT when there are some, but all are damaged;
 *  HET_E_IO. */
het_status het_checkpoint_newest(const char *directory, char *path, size_t size);
/** Step and time (Unix) of the file step-N.h5 with the largest N by its name alone; -1 where there is none. */
void het_checkpoint_last(const char *directory, int64_t *step, double *time);
/** Remove all but what is kept: of the files step-N.h5 up to `step`, the one written last, the newest `keep`, and where
 *  `every` > 0 those whose N is a multiple of it. Files of later steps were damaged, or the run would have gone on from
 *  them: they go too. */
het_status het_checkpoint_prune(const char *directory, int64_t step, int64_t keep, int64_t every);
/** Remove the files step-N.h5.tmp that killed runs left in `directory`. */
het_status het_checkpoint_clean(const char *directory);
