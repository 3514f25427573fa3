#pragma once
#include "../clock.h"
#include "../config.h"
#include "comm.h"

/** Rank 0 decides what all ranks do in a step - task, radius, rates, logging, checkpoint, stop - and broadcasts it, so that
 *  clocks and signals of single ranks never make them part ways. Collective. */

typedef struct het_decision {
    int64_t step;
    int64_t image_step;           /* batch number for the loader */
    int pose_task;                /* 0: task one, 1: task two */
    int given;                    /* task one at poses known for the images */
    int search;                   /* these are searched before this step */
    int frozen;                   /* FCH */
    int report, checkpoint, stop; /* after this step: log; save; leave (finished or interrupted) */
    int finished;                 /* the schedule's end is reached */
    double epoch, radius;
    double rate_encoder, rate_decoder; /* factors of the rates; 0: stays as it is */
} het_decision;

typedef struct het_coordinator {
    het_comm *comm;
    const het_config *config;
    int64_t box, count, steps_per_epoch, end;
    double next_checkpoint;       /* monotonic seconds; rank 0 */
} het_coordinator;

/** config is borrowed. */
void het_coordinator_init(het_coordinator *coordinator, het_comm *comm, const het_config *config, int64_t box,
                          int64_t count, int64_t steps_per_epoch);
/** The decision for a step; stop_asked: some rank is to stop (stop.h; as reduced over ranks in the step before). */
het_status het_coordinator_decide(het_coordinator *coordinator, int64_t step, int stop_asked, het_decision *decision);
