#pragma once
#include "latents.h"
#include "run.h"
#include "train_step.h"
#include "watch.h"

/** The stage after the amortised training (train --refine; beyond the paper): in each of refine.rounds rounds the
 *  pose of every image is improved against the decoder (refine_poses.h), then the decoder alone learns the images
 *  at these poses. Conformations are those of training (HET_RUN_KEPT), or the encoder's means, and stay; but where
 *  training learned one for each image (latents.h), they go on learning with the decoder, and the first round begins with
 *  a search of all poses anew (het_poses_place).
 *
 *  Results are a run folder of their own, RUN/refined: configuration, a checkpoint of the run's step with the
 *  refined decoder, predictions.h5 with the refined poses, written last: the stage is done when it is there. After an
 *  interruption it goes on with the last finished round (run_stage.h). Tests: tests/test_refine.c, tests/cli_refine.sh */
typedef struct het_refine_job {
    het_comm *comm;
    const het_stack *stack;
    het_loader *loader;   /* of its images, as training had it */
    het_stepper *stepper; /* with the trained model, which changes */
    const het_survey *survey;
    const het_run *run;
    const het_run_state *state;
    het_latents *latents; /* what training learned, which changes; NULL: it learned none */
    het_watch *watch;     /* is told of every round */
} het_refine_job;

/** Refine, or say that it is done. *interrupted: by a signal, finished pieces are kept. Collective.
 *  Errors: HET_E_MEMORY, HET_E_IO, those of reading. */
het_status het_refine(const het_refine_job *job, int *interrupted);
