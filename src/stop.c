#include "stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "clock.h"
#include "thread.h"

static atomic_int pending; /* the system may hand a signal to any thread; lock-free, so a handler may set it */
static double deadline;    /* 0: none */

static void note(int number)
{
    int none = 0;
    atomic_compare_exchange_strong(&pending, &none, number);
}

static void noted_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGUSR1);
}

/* To the end of the process. */
static void *take_signals(void *context)
{
    sigset_t noted;
    noted_signals(&noted);
    pthread_sigmask(SIG_UNBLOCK, &noted, NULL);
    for (;;) pause();
    return context;
}

het_status het_stop_on_signals(void)
{
    pthread_t thread;
    sigset_t noted;
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    noted_signals(&noted);
    pthread_sigmask(SIG_BLOCK, &noted, NULL);
    const het_status status = het_thread_start(&thread, take_signals, NULL);
    if (status != HET_OK) {
        pthread_sigmask(SIG_UNBLOCK, &noted, NULL);
        return status;
    }
    pthread_detach(thread);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    return HET_OK;
}

void het_stop_after(double seconds)
{
    deadline = het_seconds() + seconds;
}

int het_stop_signal(void)
{
    return atomic_load(&pending);
}

int het_stop_asked(void)
{
    return het_stop_signal() != 0 || (deadline > 0.0 && het_seconds() >= deadline);
}

het_status het_stop_status(void)
{
    return het_fail(HET_E_STOPPED, "stopped before the training began");
}

het_status het_stop_check(void)
{
    return het_stop_asked() ? het_stop_status() : HET_OK;
}
