#pragma once
#include <stdint.h>

#include "mpi/comm.h"

/** A progress line for long work, from the root rank: rewritten in place every second on a terminal, a plain
 *  line every 30 s elsewhere; nothing for work that ends sooner. */
typedef struct het_progress {
    const char *what; /* e.g. "import"; borrowed */
    int64_t total;
    int speaks, terminal, shown;
    double start, last;
} het_progress;

void het_progress_start(het_progress *progress, const het_comm *comm, const char *what, int64_t total);
/** `done` of `total` items (of all ranks). */
void het_progress_step(het_progress *progress, int64_t done);
/** Clear the line. */
void het_progress_end(het_progress *progress);
