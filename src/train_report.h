#pragma once
#include "model.h"
#include "mpi/coordinator.h"
#include "physics/collapse.h"
#include "run.h"
#include "train_step.h"
#include "watch.h"

/** What training says of itself: the progress line, log.jsonl, and the words when it fails (METHOD 6). */
typedef struct het_report {
    het_tally tally;      /* sums since the last report */
    het_health health;
    int said;             /* findings already put into words */
    double since;         /* monotonic seconds of the last report */
    double earlier;       /* images of the tally that came with a checkpoint, seen before `since` */
    double started;
    int64_t first_step;
    const het_times *times; /* the stepper's */
    het_times past;         /* as of the last report */
} het_report;

/** Say what is being trained on what. times are borrowed. */
void het_report_start(het_report *report, const het_model *model, const het_survey *survey,
                      const het_coordinator *coordinator, int64_t step, const het_times *times);
/** A run that goes on: judge the health of the reports in the log once more, so that it goes on too and nothing is said twice,
 *  and take from them whether the SNR was at its floor. Root rank. */
void het_report_recall(het_report *report, het_survey *survey, const het_run_log *log);
void het_report_add(het_report *report, const het_tally *tally);
/** Write the line and the JSON object, judge the health (the root rank), and start a new tally (all). */
void het_report_write(het_report *report, het_run *run, het_model *model, const het_survey *survey,
                      const het_coordinator *coordinator, const het_decision *decision, het_watch *watch);
