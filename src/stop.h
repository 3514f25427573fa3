#pragma once
#include "status.h"

/** When the program should stop before its end: a signal came, or its time is up. It is asked between pieces of work; ranks agree
 *  and keep what they have. Test: tests/cli_stages.sh */

/** SIGINT, SIGTERM, SIGUSR1 are noted from now on, not acted upon, by a thread that does nothing else: this thread and those that it
 *  starts never take one. They must not: oneDNN 2.6.3's products use the stack pointer as a pointer into their matrices, and a signal's
 *  frame is written there (docs/cluster.md, "Signals"). Before the first parallel region, as OpenMP's threads keep the mask of the thread
 *  that starts them. Errors: HET_E_MEMORY. Test: tests/test_stop.c */
het_status het_stop_on_signals(void);
/** The time is up after so many seconds from now. */
void het_stop_after(double seconds);
/** The first signal noted so far, 0 when none. */
int het_stop_signal(void);
/** Whether a signal was noted or the time is up. */
int het_stop_asked(void);
/** HET_E_STOPPED then: for long work before the first checkpoint. Ranks agree on it as on errors. Asked for after a piece of
 *  work rather than before, as every start of the program gets on then, however little time it is given. */
het_status het_stop_check(void);
/** That status itself: some rank was asked to stop. */
het_status het_stop_status(void);
