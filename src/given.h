#pragma once
#include "data/loader.h"

/** Answers given to the images of a batch from what is known of every image of the stack: copies, in the
 *  batch's order. Test: tests/test_given.c */
typedef struct het_given {
    int64_t batch, z_dim;
    float *rotation, *shift, *z; /* (batch,9), (batch,2) px, (batch,Z) */
} het_given;

/** For batches of at most `batch` images. Free with het_given_free, also after an error.
 *  Errors: HET_E_MEMORY. */
het_status het_given_new(het_given *given, int64_t batch, int64_t z_dim);
void het_given_free(het_given *given);
/** Set rotation, shift and z of a batch from rows batch->index[] of rotation (count,9), shift (count,2) and
 *  z (count,Z; NULL: z is not given). Valid until the next call. */
void het_given_set(het_given *given, het_batch *batch, const float *rotation, const float *shift,
                   const float *z);
