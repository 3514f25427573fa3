#include "signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t pending;

static void note(int number)
{
    if (pending == 0) pending = number;
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
    return (int)pending;
}

het_status het_signal_check(void)
{
    if (het_signal_pending() == 0) return HET_OK;
    return het_fail(HET_E_STOPPED, "stopped before the training began");
}
