#pragma once
#include "../kernels/device.h"
#include "config.h"
#include "mpi/comm.h"

typedef struct het_train_options {
    const char *stack, *run;
    const char *prometheus; /* file of numbers for Prometheus, or NULL (watch.h) */
    double max_hours; /* <= 0: no limit */
    int64_t memory;   /* bytes that it may take of each node; 0: what is free there; < 0: no check */
    int dry_run;      /* print what memory it takes, and leave */
    int refine;       /* the refinement stage follows (refine.h) */
} het_train_options;

/** Train, or go on with, the run in options->run. Collective. *interrupted: stopped early, with a checkpoint unless it
 *  was before the first step. */
het_status het_train(het_comm *comm, het_device *dev, het_config *config, const het_train_options *options,
                     int *interrupted);
