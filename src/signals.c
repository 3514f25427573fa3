#include "signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_int pending; /* the system may hand a signal to any thread; lock-free, so a handler may set it */

static void note(int number)
{
    int none = 0;
    atomic_compare_exchange_strong(&pending, &none, number);
}

void het_signals_note(void)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

int het_signal_pending(void)
{
    return atomic_load(&pending);
}

het_status het_signal_stopped(void)
{
    return het_fail(HET_E_STOPPED, "stopped before the training began");
}

het_status het_signal_check(void)
{
    return het_signal_pending() == 0 ? HET_OK : het_signal_stopped();
}
