#pragma once
#include "data/checkpoint.h"
#include "given.h"
#include "refine_poses.h"

/** Poses by search instead of an encoder (train.method = cryodrgn2), as published for cryoDRGN2 (Zhong,
 *  Lerer, Davis, Berger 2021, ICCV, "CryoDRGN2: Ab initio neural reconstruction of 3D protein structures
 *  from real cryo-EM images", and the documented defaults of its program): the decoder first sees 10,000
 *  images at random rotations; then the poses of all images are searched against the decoder, in the first
 *  epoch and every fifth (here search.every, for sets of fewer images), and kept in between. An encoder
 *  gives the conformation; it and the decoder learn from the image at the pose found. Test:
 *  tests/cli_methods.sh */
typedef struct het_searched {
    het_poses poses;      /* of all images, the same on every rank */
    het_predictions kept; /* while a search is under way: the poses before */
    het_given given;
} het_searched;

enum { HET_SEARCHED_FIELDS = 2 };

/** Poses of all images, not yet known; the model counts as frozen. Free with het_searched_close, also
 *  after an error. Errors: HET_E_MEMORY. Not collective. */
het_status het_searched_open(het_searched *searched, het_comm *comm, het_model *model, const het_stack *stack,
                             double noise_variance);
void het_searched_close(het_searched *searched);
/** Rotations drawn anew, keyed by the seed and `pass`; shifts 0. */
void het_searched_scatter(het_searched *searched, int64_t pass);
/** Search the poses of all images. *stopped: by a signal; poses are then as before. Collective. */
het_status het_searched_find(het_searched *searched, int *stopped);
/** Set the poses of a batch. Valid until the next call. */
void het_searched_give(het_searched *searched, het_batch *batch);
/** What changes from step to step, for checkpoints. */
void het_searched_fields(het_field fields[HET_SEARCHED_FIELDS], const het_searched *searched);
/** A last search, and its poses with the encoder's conformations as PATH in the form of predictions.h5.
 *  *stopped as above: nothing is written. Collective. */
het_status het_searched_answers(het_searched *searched, const char *path, int *stopped);
