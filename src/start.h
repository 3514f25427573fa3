#pragma once
#include "../kernels/device.h"
#include "config.h"
#include "data/checkpoint.h"
#include "data/loader.h"
#include "given.h"
#include "model.h"
#include "mpi/comm.h"
#include "run.h"
#include "survey.h"

/** The start of a training without any model (init.method): a pose for every image of the stack, good
 *  enough to teach the decoder a first volume and to tell conformations apart: a first volume (start_volume.h),
 *  against which all ranks search the poses of all images. The
 *  hand of the volume stays open, as always without a model. */
typedef struct het_start {
    int64_t count;                         /* images of the stack */
    int64_t z_dim, global_batch;
    float *rotation, *shift;               /* (count,9), (count,2) px */
    float *z, *moment1, *moment2, *visits; /* (count,Z), .., (count): every image's conformation, its Adam */
    float *loss;                           /* (count): of the last visit */
    het_given given;                       /* the batch given last */
    float *batch_dz, *batch_loss;          /* (batch,Z), (batch) */
    int64_t *shared_index;                 /* (global_batch) */
    float *shared;                         /* (global_batch, 3 Z + 1): z, moments, loss, as changed */
} het_start;

enum { HET_START_FIELDS = 5 };

/** Find the poses. Free with het_start_free, also after an error. Collective.
 *  Errors: HET_E_MEMORY, HET_E_USAGE (too few images), those of reading. */
het_status het_start_find(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack,
                          const het_survey *survey, const het_config *config, const het_model_spec *model);
/** Keep the poses as start.h5 in the run's folder; read them again. Collective. Errors: those of files;
 *  HET_E_INPUT when the file does not fit a stack of `images`. */
het_status het_start_save(const het_start *start, het_run *run);
het_status het_start_load(het_start *start, const het_run *run, const het_config *config,
                          const het_model_spec *model, int64_t images);
void het_start_free(het_start *start);
/** What changes from step to step, for checkpoints. */
void het_start_fields(het_field fields[HET_START_FIELDS], const het_start *start);
/** Set the poses of a batch and, unless frozen, its conformations. Valid until the next call. */
void het_start_give(het_start *start, het_batch *batch, int frozen);
/** After the step of task one on such a batch: one step of Adam on the conformation of each of its images,
 *      dL/dz_i (of the image's own loss) + lambda_z z_i,
 *  an auto-decoder (as for the heterogeneous stage of DRGN-AI: Levy et al. 2025, Nat. Methods): at rough
 *  poses an image tells its decoder more than an encoder learns from a few thousand noisy images.
 *  Collective. */
het_status het_start_learn(het_start *start, het_comm *comm, const het_batch *batch, het_model *model,
                           double rate);
/** Write the poses and conformations as PATH in the form of predictions.h5. Collective. */
het_status het_start_answers(const het_start *start, het_comm *comm, const char *path, double apix,
                             int64_t box);
