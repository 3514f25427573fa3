/* Errors with messages, and what reaches stderr: log levels, silent ranks, assertions. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/log.h"
#include "../src/status.h"

/* Run `work` with stderr going to a pipe; what it wrote, as text (less than a pipe's buffer). */
static void captured_stderr(char *text, size_t size, void (*work)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    const int kept = dup(STDERR_FILENO);
    assert_true(kept >= 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    work();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    const ssize_t got = read(ends[0], text, size - 1);
    text[got > 0 ? got : 0] = '\0';
    close(ends[0]);
}

static het_status failing_reader(int *cleaned)
{
    het_status status = HET_OK;
    HET_TRY(HET_OK);
    HET_TRY(het_fail(HET_E_INPUT, "particles.star: line %d: %s", 7, "no images; name a stack"));
    fail_msg("HET_TRY went on after an error");
done:
    *cleaned = 1;
    return het_context(status, "rank %d", 3);
}

static void failure_carries_code_and_message(void **state)
{
    (void)state;
    int cleaned = 0;
    assert_int_equal(failing_reader(&cleaned), HET_E_INPUT);
    assert_int_equal(cleaned, 1);
    assert_string_equal(het_status_message(), "rank 3: particles.star: line 7: no images; name a stack");
    assert_int_equal(het_fail(HET_E_IO, "second"), HET_E_IO);
    assert_string_equal(het_status_message(), "second");
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    het_fail(HET_E_IO, "%s", text);
    const size_t length = strlen(het_status_message());
    assert_true(length >= 500 && length < sizeof text - 1);
    het_context(HET_E_IO, "context %s", text);
    assert_true(strlen(het_status_message()) <= length);
    assert_memory_equal(het_status_message(), "context xxx", 11);
}

static void *fail_elsewhere(void *message)
{
    het_fail(HET_E_MEMORY, "of another thread");
    snprintf(message, 64, "%s", het_status_message());
    return NULL;
}

static void messages_belong_to_their_thread(void **state)
{
    (void)state;
    pthread_t thread;
    char other[64] = "";
    het_fail(HET_E_IO, "of this thread");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, other), 0);
    pthread_join(thread, NULL);
    assert_string_equal(other, "of another thread");
    assert_string_equal(het_status_message(), "of this thread");
}

static void log_at_every_level(void)
{
    het_log(HET_LOG_ERROR, "e%d", 1);
    het_warn("w%d", 2);
    het_info("i%d", 3);
    het_log(HET_LOG_DEBUG, "d%d", 4);
}

static void log_levels(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "hetacumn: error: e1\n",
        "hetacumn: error: e1\nhetacumn: warning: w2\n",
        "hetacumn: error: e1\nhetacumn: warning: w2\nhetacumn: i3\n",
        "hetacumn: error: e1\nhetacumn: warning: w2\nhetacumn: i3\nhetacumn: debug: d4\n",
    };
    char text[512];
    for (int level = HET_LOG_ERROR; level <= HET_LOG_DEBUG; level++) {
        het_log_init((het_log_level)level, 1);
        captured_stderr(text, sizeof text, log_at_every_level);
        assert_string_equal(text, expected[level]);
    }
    het_log_init(HET_LOG_INFO, 1);
}

static void other_ranks_are_silent(void **state)
{
    (void)state;
    char text[512];
    het_log_init(HET_LOG_DEBUG, 0);
    captured_stderr(text, sizeof text, log_at_every_level);
    assert_string_equal(text, "");
    het_log_init(HET_LOG_INFO, 1);
}

static int ended_by; /* the signal that stopped the child */

static void assert_in_a_child(void)
{
    const pid_t child = fork();
    if (child == 0) {
        const int sheep = 2;
        signal(SIGABRT, SIG_DFL);
        HET_ASSERT(sheep == 2);
        HET_ASSERT(sheep == 3);
        _exit(0);
    }
    int result = 0;
    waitpid(child, &result, 0);
    ended_by = WIFSIGNALED(result) ? WTERMSIG(result) : 0;
}

static void assertion_prints_and_aborts(void **state)
{
    (void)state;
    char text[512];
    captured_stderr(text, sizeof text, assert_in_a_child);
    assert_int_equal(ended_by, SIGABRT);
    assert_non_null(strstr(text, "sheep == 3"));
    assert_non_null(strstr(text, "test_status.c"));
    assert_null(strstr(text, "sheep == 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_carries_code_and_message), cmocka_unit_test(long_messages_are_cut),
        cmocka_unit_test(messages_belong_to_their_thread),  cmocka_unit_test(log_levels),
        cmocka_unit_test(other_ranks_are_silent),           cmocka_unit_test(assertion_prints_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
