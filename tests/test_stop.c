/* Signals: noted, and never taken by a thread that computes. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "../kernels/ops.h"
#include "../src/stop.h"
#include "../src/thread.h"

static int takes_signals(void)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return !sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGUSR1);
}

static void computing_threads_take_none(void **state)
{
    (void)state;
    int taking = takes_signals();
#pragma omp parallel num_threads(4) reduction(+ : taking)
    taking += takes_signals();
    assert_int_equal(taking, 0);
}

static atomic_int is_over;

static void *send_signals(void *context)
{
    const struct timespec pause = {.tv_nsec = 20000};
    while (!atomic_load(&is_over)) {
        kill(getpid(), SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return context;
}

/* Gradients of a convolution that are oneDNN's products are the same bits again and again under a hail of signals. */
static void results_do_not_depend_on_signals(void **state)
{
    (void)state;
    enum { TIMES = 3000, BATCH = 16, PIXELS = 1, IN = 128, OUT = 128, KERNEL = 3 };
    enum { X = BATCH * PIXELS * IN, Y = BATCH * OUT, W = OUT * KERNEL * KERNEL * IN };
    const het_conv_spec spec = {.batch = BATCH, .in_h = 1, .in_w = 1, .in_c = IN, .out_c = OUT, .kernel = KERNEL, .stride = 1, .pad = 1};
    static float x[X], dx[X], dy[Y], w[W], dw[W], first_dx[X], first_dw[W];
    het_device dev;
    het_conv *conv;
    pthread_t sender;
    for (int i = 0; i < X; i++) x[i] = (float)(i % 7 - 3);
    for (int i = 0; i < Y; i++) dy[i] = (float)(i % 11 - 5);
    for (int i = 0; i < W; i++) w[i] = (float)(i % 13 - 6);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    assert_int_equal(dev.ops->conv_new(&dev, &conv, &spec), HET_OK);
    assert_int_equal(het_thread_start(&sender, send_signals, NULL), HET_OK);
    for (int i = 0; i < TIMES; i++) {
        memset(dw, 0, sizeof dw);
        dev.ops->conv_backward(conv, dx, dw, dy, x, w);
        if (i == 0) memcpy(first_dx, dx, sizeof dx);
        if (i == 0) memcpy(first_dw, dw, sizeof dw);
        assert_memory_equal(first_dx, dx, sizeof dx);
        assert_memory_equal(first_dw, dw, sizeof dw);
    }
    atomic_store(&is_over, 1);
    pthread_join(sender, NULL);
    assert_int_equal(het_stop_signal(), SIGUSR1);
    dev.ops->conv_free(conv);
    het_device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(computing_threads_take_none), cmocka_unit_test(results_do_not_depend_on_signals)};
    if (het_stop_on_signals() != HET_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
