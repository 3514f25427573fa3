#pragma once
#include "data/checkpoint.h"
#include "model.h"
#include "mpi/comm.h"

/** Pieces of long work beside the steps of training - the start, the refinement - kept in the run's folder when they are done, as
 *  stages/NAME.h5: after a stop or a kill the same command finds them there, and ends where it would have ended anyway, bit
 *  for bit. They go when the whole of what they are pieces of is saved. Tests: tests/cli_stages.sh */
typedef struct het_stage {
    het_comm *comm;
    const char *folder;     /* of the run */
    const char *name;
    const char *about;      /* JSON: all that the piece depends on; another one is not this piece */
    const het_field *field; /* [host] the piece: all ranks have the same */
    int count;
    het_model *model;       /* with it: its parameters, Adam's moments, running statistics; NULL: nothing of a model */
} het_stage;

/** Whether the piece is there, and if so fill in the fields and the model on all ranks. What cannot be used is left alone: a damaged
 *  file is a warning. Collective. Errors: HET_E_MEMORY, those of the ranks. */
het_status het_stage_recall(const het_stage *stage, int *there);
/** Keep the piece; where that fails, a warning says so. Not collective: the root rank writes. */
void het_stage_keep(const het_stage *stage);
/** Remove all pieces of a folder. Not collective: the root rank does. */
void het_stage_forget(const het_comm *comm, const char *folder);
/** A number for the bytes of a file, 0 where it cannot be read, and for those of an array, for `about`. */
uint64_t het_stage_file(const char *path);
uint64_t het_stage_bytes(const void *data, size_t bytes);
