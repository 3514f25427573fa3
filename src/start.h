#pragma once
#include "../kernels/device.h"
#include "config.h"
#include "data/loader.h"
#include "model.h"
#include "mpi/comm.h"
#include "run.h"
#include "survey.h"

/** The start of a training without any model (init.method = lines): a pose for every image of the stack, good enough to
 *  teach the decoder a first volume and to tell conformations apart, from
 *    1. averages of similar images, aligned in the plane           (physics/averages.h)
 *    2. common lines between the averages, synchronised            (physics/lines.h)
 *    3. expectation-maximisation from these poses                  (physics/first_volume.h)
 *  by rank 0 on some thousand images; then all ranks search the poses of all images. The hand of the volume stays open, as
 *  always without a model. */
typedef struct het_start {
    int64_t count;                       /* images of the stack */
    float *rotation, *shift;             /* (count,9), (count,2) px */
    int64_t batch;
    float *batch_rotation, *batch_shift; /* (batch,9), (batch,2): of the batch given last */
} het_start;

/** Find the poses. Free with het_start_free, also after an error. Collective.
 *  Errors: HET_E_MEMORY, HET_E_USAGE (too few images), those of reading. */
het_status het_start_find(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack,
                          const het_survey *survey, const het_config *config, const het_model_spec *model);
/** Keep the poses as start.h5 in the run's folder; read them again. Collective. Errors: those of files; HET_E_INPUT when the
 *  file does not fit a stack of `images`. */
het_status het_start_save(const het_start *start, het_run *run);
het_status het_start_load(het_start *start, const het_run *run, const het_model_spec *model, int64_t images);
void het_start_free(het_start *start);
/** Set the poses of a batch. Valid until the next call. */
void het_start_give(het_start *start, het_batch *batch);
