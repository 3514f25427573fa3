#pragma once
#include "../mpi/comm.h"
#include "stack.h"

/** What a run says about every image of a stack: predictions.h5 (docs/formats.md) with data sets
 *    /rotation (N,3,3)  x_image = R x_volume       /shift (N,2) px of the stack      /loss (N) eq. 4
 *    /z (N,Z), /zstd (N,Z)  posterior mean and standard deviation
 *    /confirmed (N) share of the poses of the image's conformation that other conformations confirm; -1: not asked
 *    /particle (N) 1: likelier a particle than nothing, 0: not; -1: not asked
 *    /mirrored (N) uint8: the mirror image won, eq. 5
 *  float32 where not said, and attributes version, box, apix of the stack. Tests: tests/test_predictions.c */

/** The least /confirmed with which a pose counts as confirmed. */
#define HET_CONFIRMED 0.8F

typedef struct het_predictions {
    int64_t count, z_dim;
    int64_t box;         /* of the stack they were made from */
    double apix;
    float *rotation;     /* (count,9) */
    float *shift;        /* (count,2) */
    float *z, *zstd;     /* (count,z_dim) */
    float *loss;         /* (count) */
    float *confirmed;    /* (count) */
    float *particle;     /* (count) */
    uint8_t *mirrored;   /* (count) */
} het_predictions;

/** Zeroed arrays, confirmed and particle -1; box and apix are left for the caller to set. count >= 0, z_dim 1..64. Errors: HET_E_SHAPE,
 *  HET_E_MEMORY. */
het_status het_predictions_new(het_predictions *predictions, int64_t count, int64_t z_dim);
void het_predictions_free(het_predictions *predictions);
/** z and its deviations are 0, as while conformations are frozen: there are none then, whatever the encoder says. */
void het_predictions_freeze(het_predictions *predictions);
/** Images [first, first + count) of `all`: a view of its arrays, which is not freed. */
het_predictions het_predictions_rows(const het_predictions *all, int64_t first, int64_t count);

/** Row `from` over row `to`. */
void het_predictions_move(het_predictions *predictions, int64_t to, int64_t from);

/** Write a whole file from the ranks' parts: this rank holds images [first, first + part->count) of `total`;
 *  z_dim, box and apix are the same everywhere. `mine`: a failure makes every rank give up with it, nothing
 *  is written. Collective.
 *  Errors: HET_E_IO; an older file stays. */
het_status het_predictions_save(het_comm *comm, const char *path, int64_t total, int64_t first,
                                const het_predictions *part, het_status mine);
/** Read a file; one without /confirmed or /particle, of an older version, has -1. Errors: HET_E_IO; HET_E_INPUT for one that is damaged, of other sizes, not finite, or whose
 *  rotations are none, naming data set and image. Not collective. */
het_status het_predictions_load(het_predictions *predictions, const char *path);
