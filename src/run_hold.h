#pragma once
#include <jansson.h>
#include <pthread.h>

#include "mpi/comm.h"

/** One training for a run folder: who writes to it holds it by RUN/holder.json, which says who that is (docs/formats.md) and has a
 *  number that a thread of the holder counts up every HET_HOLD_BEAT seconds. Rank 0 holds for all ranks.
 *
 *  A file, since locks of network file systems are absent here and outlive their node there. Who finds one watches it by a clock
 *  of its own (clocks of nodes differ, and so do those that file systems stamp files with):
 *  - its process was of this machine and is gone: the folder is taken over at once;
 *  - the number changes: somebody works there, the command is refused. But an earlier start of the same Slurm job, which was queued
 *    again while its process is still ending, is waited for;
 *  - nothing changes for HET_HOLD_SILENT seconds: the holder is dead, killed or with its node, and the folder is taken over;
 *    unless its process is there, stopped perhaps: then the command is refused.
 *  A holder that was only stopped, or cut off from its files, finds another's name in the file when it comes back, and ends at
 *  once; it looks there before it begins a checkpoint. Test: tests/cli_hold.sh */

#define HET_HOLD_FILE "holder.json"
enum { HET_HOLD_BEAT = 5, HET_HOLD_SILENT = 30, HET_HOLD_PATIENCE = 600, HET_HOLD_RECORD = 1024 };

typedef struct het_run_hold {
    char folder[1024], file[1100]; /* file: "" where nothing is held */
    char id[20];                   /* of this start */
    json_t *record;
    int64_t beat;
    int made;                      /* the folder was made for this */
    pthread_mutex_t own;           /* of the file's content */
    pthread_cond_t changed;
    pthread_t thread;
    int has_thread, stop;
} het_run_hold;

/** Make a folder if it is not there; *made: it was not. Errors: HET_E_IO. Not collective. */
het_status het_run_folder(const char *path, int *made);
/** Make the folder if it is not there, and hold it: the root rank alone; the others have nothing to do. Waits as said above, at most
 *  HET_HOLD_PATIENCE seconds. Until the release `hold` must stay where it is. Errors: HET_E_IO, when another one holds it too; HET_E_STOPPED
 *  when a signal came while it waited. Not collective. */
het_status het_run_hold_take(het_run_hold *hold, const char *folder, int ranks);
/** Show now that the holder lives. Where the folder was taken over by another process, this one ends, with exit code 1.
 *  Nothing to do where nothing is held. */
void het_run_hold_renew(het_run_hold *hold);
/** Let others have it; a folder that was made for this and is still empty goes. Accepts a zeroed hold. */
void het_run_hold_release(het_run_hold *hold);
