#pragma once
#include <hdf5.h>

#include "../mpi/comm.h"
#include "../tensor.h"

/** What stacks and checkpoints share of parallel HDF5: files that appear whole or not at all, errors as het_status.
 *
 *  Output: all ranks write PATH.tmp together, or (comm NULL) one process alone through HDF5's serial driver, without MPI;
 *  het_h5_end closes it, makes it durable and renames it. Every function on an output of a communicator is collective and
 *  returns the same status and message on every rank.
 *  Input: one process reads a finished file through HDF5's serial driver. HDF5 is not thread-safe: only one thread of a
 *  process at a time may use these; data sets are contiguous, so that others can pread() at their offset.
 *  Tests: test_stack.c, test_checkpoint.c, mpi_stack.c */

typedef struct het_h5_output {
    hid_t file;
    het_comm *comm; /* borrowed; NULL: this process alone */
    char *path, *temporary;
    const char *before; /* what the rank was at (het_comm_phase) */
} het_h5_output;

typedef struct het_h5_input {
    hid_t file;
    int fd;        /* the same file, for pread */
    int64_t size;  /* bytes */
    char *path;
} het_h5_input;

/** Name and version of the library in use. */
void het_h5_version(char *text, size_t size);
/** A message with HDF5's innermost reason: "PATH: cannot WHAT: REASON"; clears HDF5's error stack; returns `code`. */
het_status het_h5_fail(het_status code, const char *path, const char *what, const char *name);
/** The type on disk, little-endian; float16 and bfloat16 are stored as such. Close with H5Tclose. */
hid_t het_h5_type(het_dtype type);

/** Create PATH.tmp and reserve disk space of about `bytes`, so that a full disk shows before hours of writing. Create all
 *  data sets and attributes next, then het_h5_settle, then write. Errors: HET_E_IO, HET_E_MEMORY. */
het_status het_h5_begin(het_h5_output *output, het_comm *comm, const char *path, int64_t bytes);
/** Create a contiguous data set, with the groups in its name; `fill` (one element, NULL: undefined) is what unwritten
 *  elements hold. Errors: HET_E_IO. */
het_status het_h5_create(het_h5_output *output, hid_t *dataset, const char *name, hid_t type, int rank,
                         const int64_t *shape, const void *fill);
/** Write HDF5's own records to the disk. Errors: HET_E_IO. */
het_status het_h5_settle(het_h5_output *output);
/** Write rows [first, first+count) of the first dimension, row_bytes each; count may be 0 on some ranks. */
het_status het_h5_write(het_h5_output *output, hid_t dataset, const char *name, hid_t type, int64_t first,
                        int64_t count, int64_t row_bytes, const void *data);
/** Create or set a scalar attribute of a data set or (object < 0) of the file; the same value on every rank. */
het_status het_h5_set(het_h5_output *output, hid_t object, const char *name, hid_t type, const void *value);
/** The same of a row of `count` float64. */
het_status het_h5_set_row(het_h5_output *output, hid_t object, const char *name, int64_t count, const double *values);
/** Close; when every rank's status is HET_OK: fsync, rename to the final name, fsync of the folder; otherwise remove the
 *  .tmp. Returns the agreed status. Accepts an output whose begin failed. */
het_status het_h5_end(het_h5_output *output, het_status mine);

/** Open for reading. Errors: HET_E_IO; HET_E_INPUT when it is no complete HDF5 file. Not collective. */
het_status het_h5_open(het_h5_input *input, const char *path);
void het_h5_close(het_h5_input *input);
/** Read a scalar attribute as H5T_NATIVE_DOUBLE, H5T_NATIVE_INT64, ...; object < 0: of the file. Errors: HET_E_INPUT. */
het_status het_h5_get(const het_h5_input *input, hid_t object, const char *name, hid_t type, void *value);
/** The same of a row of `count` float64. */
het_status het_h5_get_row(const het_h5_input *input, hid_t object, const char *name, int64_t count, double *values);
/** Open a contiguous data set of that rank and tell its shape and place: checks that it lies within the file.
 *  Errors: HET_E_INPUT naming it. Close with H5Dclose. */
het_status het_h5_dataset(const het_h5_input *input, hid_t *dataset, const char *name, int rank, int64_t *shape,
                          int64_t *offset);
/** Whether a data set or group of that name (no intermediate groups missing) exists. */
int het_h5_exists(const het_h5_input *input, const char *name);
/** pread exactly `bytes` at `offset`; thread-safe. Errors: HET_E_IO. */
het_status het_h5_pread(const het_h5_input *input, void *data, int64_t bytes, int64_t offset);
