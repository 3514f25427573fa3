#include "thread.h"

#include <signal.h>
#include <string.h>

het_status het_thread_start(pthread_t *thread, void *(*function)(void *), void *context)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(thread, NULL, function, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? HET_OK : het_fail(HET_E_MEMORY, "cannot start a thread: %s", strerror(code));
}
