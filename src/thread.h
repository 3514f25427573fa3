#pragma once
#include <pthread.h>

#include "status.h"

/** Start a thread that no signal is delivered to: those are the main thread's. Errors: HET_E_MEMORY. */
het_status het_thread_start(pthread_t *thread, void *(*function)(void *), void *context);
