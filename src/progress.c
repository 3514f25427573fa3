#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

void het_progress_start(het_progress *progress, const het_comm *comm, const char *what, int64_t total)
{
    *progress = (het_progress){.what = what,
                               .total = total,
                               .speaks = het_comm_rank(comm) == 0,
                               .terminal = isatty(STDERR_FILENO),
                               .start = het_seconds()};
    progress->last = progress->start;
}

void het_progress_step(het_progress *progress, int64_t done)
{
    const double time = het_seconds(), spent = time - progress->start;
    if (!progress->speaks || done <= 0 || time - progress->last < (progress->terminal ? 1.0 : 30.0)) return;
    progress->last = time;
    progress->shown = 1;
    const double rate = (double)done / spent;
    const double left = (double)(progress->total - done) / rate;
    char line[200];
    snprintf(line, sizeof line, "%s: %lld of %lld (%.0f %%), %.0f/s, %.0f s left", progress->what,
             (long long)done, (long long)progress->total, 100.0 * (double)done / (double)progress->total,
             rate, left);
    if (progress->terminal) fprintf(stderr, "\r\033[Khetacumn: %s", line);
    else het_info("%s", line);
}

void het_progress_end(het_progress *progress)
{
    if (progress->speaks && progress->terminal && progress->shown) fprintf(stderr, "\r\033[K");
}
