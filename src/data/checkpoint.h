#pragma once
#include "../mpi/comm.h"
#include "../tensor.h"

/** Checkpoint files: named arrays plus one JSON text, in HDF5, replaced atomically, free of the number of ranks.
 *  Every data set carries an XXH3 checksum (attribute "xxh3") over its bytes. Protocol (SERVICE 3): collective write to
 *  PATH.tmp, H5Fclose, errors reduced over ranks, rank 0: fsync, rename, fsync of the directory, result broadcast. */

typedef struct het_field {
    const char *name;  /* e.g. "model/parameters" */
    het_tensor tensor; /* 1-D or more; the same values on every rank: each rank writes its share */
} het_field;

/** Write. Collective. Errors (the same on every rank): HET_E_IO with the system's reason; an older file at `path` stays. */
het_status het_checkpoint_save(het_comm *comm, const char *path, const het_field *fields, int count, const char *json);
/** Read the JSON text; *json is malloc'ed. Not collective. Errors: HET_E_IO, HET_E_INPUT (truncated, not one of ours). */
het_status het_checkpoint_json(const char *path, char **json);
/** Read the fields into the caller's arrays, checking type, shape and checksum; the name of what differs is in the
 *  message. Not collective. */
het_status het_checkpoint_load(const char *path, const het_field *fields, int count);
/** The newest file step-N.h5 in `directory` that opens and whose checksums hold; names of damaged ones are logged as
 *  warnings. path gets "" when there is none. */
het_status het_checkpoint_newest(const char *directory, char *path, size_t size);
/** Remove all but the newest `keep` step-N.h5 files, and step-N.h5.tmp that killed runs left. Rank 0 only. */
het_status het_checkpoint_prune(const char *directory, int64_t keep);
