#pragma once
#include <limits.h>
#include <pthread.h>

#include "mpi/comm.h"

/** What others see of a run while it goes, from its folder alone (docs/formats.md): RUN/state.json, RUN/warnings.jsonl
 *  and, where asked for, a file for Prometheus. Rank 0 writes them; they appear whole. A thread of rank 0 touches
 *  state.json every HET_WATCH_BEAT seconds, so that a killed run is told from one that goes on. Nothing here stops or
 *  changes a training: what cannot be written is said once. On other ranks, and before the opening, every call does
 *  nothing. Tests: cli_status.sh */

#define HET_WATCH_STATE "state.json"
#define HET_WATCH_WARNINGS "warnings.jsonl"
enum { HET_WATCH_BEAT = 15, HET_WATCH_LOST = 120 }; /* seconds; without a sign for so long a run is lost */

/** Numbers of a report; not finite: unknown. */
typedef struct het_watch_numbers {
    int64_t step, steps; /* done, of all */
    double epoch, epochs;
    double image_loss, zero_loss, pose_loss, radius, z_rms, images_per_second, seconds_left;
    int findings;        /* het_health_finding */
} het_watch_numbers;

typedef struct het_watch {
    int listens, is_open;        /* on rank 0: from listen, from open, to close */
    int ranks;
    char *early;                 /* lines of warnings before the opening */
    char run[PATH_MAX];          /* the folder, absolute */
    char state_file[PATH_MAX + 32], warnings_file[PATH_MAX + 32], prometheus[PATH_MAX];
    char stack[PATH_MAX];
    const char *state, *stage;
    char detail[128], progress[96], reason[1024];
    double started, stage_since, reported, report_seconds; /* Unix times; seconds from one report to the next */
    het_watch_numbers now;
    int64_t warnings;
    int failed[2];               /* writing state.json, the Prometheus file: said already */
    het_comm *comm;              /* borrowed */
    pthread_mutex_t own;         /* of all the above: warnings may come from other threads */
    pthread_t thread;            /* that touches the file */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int has_thread, stop;
} het_watch;

/** Listen to warnings from now on; those that come before the opening are kept for it. Until the close `watch` must
 *  stay where it is. */
void het_watch_listen(het_watch *watch, het_comm *comm);
/** Begin: state "running", stage "start". run: its folder, there already; prometheus: a file, or NULL. To be called when
 *  nothing speaks against the run any more: a refused command leaves its state as it is. */
void het_watch_open(het_watch *watch, const char *run, const char *stack, const char *prometheus);
/** What the run is at now: "training", "search" or "refinement"; more words in `detail`. */
void het_watch_stage(het_watch *watch, const char *stage, const char *detail);
/** How far a search of poses within the stage is: `left` of `images`. Until the next het_watch_stage. */
void het_watch_search(het_watch *watch, const char *what, int64_t left, int64_t images);
/** The training begins, or goes on, at this step of `steps`, and epoch of `epochs`. */
void het_watch_training(het_watch *watch, int64_t step, int64_t steps, double epoch, double epochs);
/** The numbers of a report. */
void het_watch_report(het_watch *watch, const het_watch_numbers *numbers);
/** A checkpoint was written. */
void het_watch_saved(het_watch *watch);
/** The end: "failed" with the status's message, else "stopped" or "finished". Without an opening it only frees. */
void het_watch_close(het_watch *watch, het_status status, int interrupted);
