#pragma once
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/** log.jsonl of a run: one JSON object per line, whole lines only. When the disk is full, lines wait in memory and training
 *  goes on. Root rank only. Test: tests/test_run_log.c */
typedef struct het_run_log {
    char path[1100];
    char *waiting; /* lines not yet in the file; malloc'ed */
    size_t length; /* of them */
    int said;      /* that they wait */
} het_run_log;

void het_run_log_open(het_run_log *log, const char *folder);
/** Forgets what still waits. Accepts a zeroed log. */
void het_run_log_close(het_run_log *log);
/** Drop the lines of steps after `step`, and what a killed run left of a line. Errors: HET_E_IO. */
het_status het_run_log_trim(const het_run_log *log, int64_t step);
/** Append a line and those that wait; where that fails it waits too, and a warning says so once. */
void het_run_log_add(het_run_log *log, const char *json);
/** Write what waits. Errors: HET_E_IO; the file then ends with a whole line as before. */
het_status het_run_log_flush(het_run_log *log);
