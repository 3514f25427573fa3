#pragma once
#include "../kernels/device.h"
#include "config.h"
#include "data/loader.h"
#include "given.h"
#include "latents.h"
#include "model.h"
#include "mpi/comm.h"
#include "run.h"
#include "survey.h"

/** The start of a training without any model (init.method): a pose for every image of the stack, good
 *  enough to teach the decoder a first volume and to tell conformations apart: a first volume (start_volume.h),
 *  against which all ranks search the poses of all images. The
 *  hand of the volume stays open, as always without a model. */
typedef struct het_start {
    int64_t count;           /* images of the stack */
    float *rotation, *shift; /* (count,9), (count,2) px */
    float *particle;         /* (count) 1, 0 where the log-likelihood of its pose less that of no particle is below HET_PARTICLE */
    het_latents latents;     /* every image's conformation */
    het_given given;         /* the batch given last */
} het_start;

/** Of pictures of nothing the best of some 10^5 poses fits noise as well as that, exp(11). */
#define HET_PARTICLE 11.0

enum { HET_START_FIELDS = HET_LATENTS_FIELDS + 3 };

/** Room for the poses of `count` images. Free with het_start_free, also after an error. Not collective. */
het_status het_start_new(het_start *start, int64_t count, const het_config *config, const het_model_spec *model);
/** het_start_new, and find the poses; kept as start.h5 in the run's folder with all that they depend on, so that a training
 *  that was killed before its first checkpoint, or is begun anew with other networks, finds them there. Collective.
 *  Errors: HET_E_MEMORY, those of files. */
het_status het_start_find(het_start *start, het_run *run, het_device *dev, const het_stack *stack,
                          const het_survey *survey, const het_config *config, const het_model_spec *model);
void het_start_free(het_start *start);
/** How many images are particles. */
int64_t het_start_particles(const het_start *start);
/** What changes in training, for checkpoints: poses may, once (join.h). */
void het_start_fields(het_field fields[HET_START_FIELDS], const het_start *start);
/** Set the poses of a batch and, unless frozen, its conformations. Valid until the next call. */
void het_start_give(het_start *start, het_batch *batch, int frozen);
/** Write the poses and conformations (0 while they are frozen) as PATH in the form of predictions.h5, with which of them are confirmed
 *  (images; NULL: not asked). Collective. */
het_status het_start_answers(const het_start *start, int frozen, const float *confirmed, het_comm *comm, const char *path, double apix,
                             int64_t box);
