#pragma once
#include "status.h"

/** SIGINT, SIGTERM, SIGUSR1 are noted, not acted upon: the training loop asks, all ranks agree, a checkpoint is written. */
void het_signals_note(void);
/** The first signal noted so far, 0 when none. */
int het_signal_pending(void);
/** HET_E_STOPPED when a signal was noted: for long work before the first checkpoint. Ranks agree on it as on errors. */
het_status het_signal_check(void);
/** That status itself: some rank noted one. */
het_status het_signal_stopped(void);
