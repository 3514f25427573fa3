#pragma once
#include "stack.h"

/** Batches for training: a keyed permutation of the whole stack per epoch (HET_STREAM_SHUFFLE), cut into
 *  global batches of which each rank reads its contiguous part; one batch is read ahead by a thread. The
 *  images of a step are a function of (seed, step, global batch) alone, not of the number of ranks. The last,
 *  incomplete batch of an epoch is dropped. */

typedef struct het_batch {
    int64_t count;             /* images of this rank */
    int64_t first;             /* position of the first one in the global batch */
    const float *images;       /* (count,D,D), standardised: (stored - mean)/std */
    const het_ctf_row *ctf;    /* (count) */
    const int64_t *index;      /* (count) in the stack */
    /* Answers known from elsewhere, z only with a pose. NULL, as the loader leaves them: the encoder's. */
    const float *rotation, *shift, *z; /* (count,9), (count,2) px, (count,Z) */
} het_batch;

typedef struct het_loader het_loader;

/** batch: images per step over all ranks, >= size of comm and <= the stack's count. Not collective.
 *  stack is borrowed. */
het_status het_loader_new(het_loader **loader, const het_stack *stack, const het_comm *comm, uint64_t seed,
                          int64_t batch);
void het_loader_free(het_loader *loader);
/** Steps (global batches) in one epoch. */
int64_t het_loader_steps_per_epoch(const het_loader *loader);
/** The batch of task-one step `step` (0, 1, ...), valid until the next call; starts reading step+1. */
het_status het_loader_next(het_loader *loader, int64_t step, het_batch *batch);
