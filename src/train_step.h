#pragma once
#include "model.h"
#include "mpi/comm.h"
#include "mpi/coordinator.h"
#include "mpi/fold.h"
#include "train_sums.h"

/** Seconds that this rank has spent: at work on its images; in sums over ranks that were not hidden behind it, waiting for
 *  other ranks among them; waiting for images. */
typedef struct het_times {
    double compute, sums, data;
} het_times;

/** One step of training on all ranks: of all their images at once, or, where the parts of the work are fixed (het_comm_fix),
 *  part by part, the sums along the tree of the parts. */
typedef struct het_stepper {
    het_comm *comm;
    het_model *model;
    het_fold grads, tallies; /* with fixed parts */
    het_sums sums;
    int64_t final, summed; /* gradients from `final` on are final, those from `summed` on being added up over ranks */
    int bad_steps;         /* in a row with NaN */
    double computed;       /* when this step's work on images was done: monotonic seconds */
    het_times times;       /* since it was opened; `data` by who waits for batches */
} het_stepper;

/** comm and model are borrowed. Close with het_stepper_close, also after an error. Collective. Errors: those of het_sums_open. */
het_status het_stepper_open(het_stepper *stepper, het_comm *comm, het_model *model);
void het_stepper_close(het_stepper *stepper);

/** Forward, backward, sum of gradients over ranks, update: one step of the decision's task. tally [in/out] +=
 *  the step's numbers of all ranks, a noted signal among them. Collective. Errors: HET_E_NUMERIC after many
 *  losses in a row that were not finite (nothing is learned from them); those of device and ranks. */
het_status het_step_once(het_stepper *stepper, const het_decision *decision, const het_batch *batch,
                         het_tally *tally);
