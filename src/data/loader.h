#pragma once
#include "stack.h"

/** Batches for training: a keyed permutation of the whole stack per epoch (HET_STREAM_SHUFFLE), cut into
 *  global batches of which each rank reads its contiguous part; one batch is read ahead by a thread. The
 *  images of a step are a function of (seed, step, global batch) alone, not of the number of ranks. The last,
 *  incomplete batch of an epoch is dropped. */

/** How images reach the device that trains. Where they are does not change a bit of any result. */
typedef struct het_images {
    het_device *device; /* copies from the loader's memory to it are to be fast; NULL: it is the host */
    het_dtype type;     /* HET_F32 or HET_F16 */
    void *stored;       /* those of the whole stack (N,D,D) in the device's memory; NULL: the loader reads each batch */
} het_images;

/** Standardised images, as every batch has them: (stored - mean)/std in fp32, then rounded to the type (beyond fp16's largest
 *  number, 65504, to that). `images` has room for fp32. Errors: those of het_stack_read. */
het_status het_images_read(const het_stack *stack, void *images, het_dtype type, const int64_t *index, int64_t n);

typedef struct het_batch {
    int64_t count;             /* images of this rank */
    int64_t first;             /* position of the first one in the global batch */
    const void *images;        /* (count,D,D) [host], het_images_read(); NULL where they are stored: */
    const void *stored;        /* (N,D,D) on the device: rows `index` of it */
    het_dtype type;            /* of images: HET_F32 or HET_F16 */
    const het_ctf_row *ctf;    /* (count) */
    const int64_t *index;      /* (count) in the stack */
    /* Answers known from elsewhere, z only with a pose. NULL, as the loader leaves them: the encoder's. */
    const float *rotation, *shift, *z; /* (count,9), (count,2) px, (count,Z) */
} het_batch;

typedef struct het_loader het_loader;

/** batch: images per step over all ranks, >= size of comm and <= the stack's count. Not collective.
 *  stack, and what images names, are borrowed. */
het_status het_loader_new(het_loader **loader, const het_stack *stack, const het_comm *comm, uint64_t seed,
                          int64_t batch, het_images images);
/** Bytes that a loader of `count` images a step holds for them. */
size_t het_loader_bytes(int64_t count, int64_t box, int stored);
void het_loader_free(het_loader *loader);
/** Steps (global batches) in one epoch. */
int64_t het_loader_steps_per_epoch(const het_loader *loader);
/** The batch of task-one step `step` (0, 1, ...), valid until the next call, by when copies from it to the device must be
 *  done; starts reading step+1. */
het_status het_loader_next(het_loader *loader, int64_t step, het_batch *batch);
