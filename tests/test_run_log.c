/* log.jsonl: whole lines only, none lost on a full disk, those of later steps dropped. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/log.h"
#include "../src/run_log.h"

static char folder[64];
static het_run_log lines;

static int begin(void **state)
{
    (void)state;
    het_log_init(HET_LOG_ERROR, 1);
    signal(SIGXFSZ, SIG_IGN);
    strcpy(folder, "/tmp/het-log-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    het_run_log_open(&lines, folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(lines.path);
    het_run_log_close(&lines);
    return rmdir(folder); /* nothing else is left there */
}

static void assert_file(const char *expected)
{
    char text[1024] = "";
    FILE *file = fopen(lines.path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text - 1, file), strlen(expected));
    fclose(file);
    assert_string_equal(text, expected);
}

static void lines_wait_for_room(void **state)
{
    (void)state;
    struct rlimit before, small;
    het_run_log_add(&lines, "{\"step\": 1}");
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 20; /* room for half a line */
    setrlimit(RLIMIT_FSIZE, &small);
    het_run_log_add(&lines, "{\"step\": 2}");
    het_run_log_add(&lines, "{\"step\": 3}");
    const het_status status = het_run_log_flush(&lines);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, HET_E_IO);
    assert_non_null(strstr(het_status_message(), "File too large"));
    assert_file("{\"step\": 1}\n");
    het_run_log_add(&lines, "{\"step\": 4}");
    assert_file("{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"step\": 4}\n");
    assert_int_equal(het_run_log_flush(&lines), HET_OK);
}

static void later_steps_are_dropped(void **state)
{
    (void)state;
    assert_int_equal(het_run_log_trim(&lines, 5), HET_OK); /* no file yet */
    for (int step = 1; step < 8; step += 2) {
        char line[32];
        snprintf(line, sizeof line, "{\"step\": %d}", step);
        het_run_log_add(&lines, line);
    }
    FILE *file = fopen(lines.path, "a");
    fputs("{\"step\": 3, \"lo", file); /* killed while it wrote */
    fclose(file);
    assert_int_equal(het_run_log_trim(&lines, 5), HET_OK);
    assert_file("{\"step\": 1}\n{\"step\": 3}\n{\"step\": 5}\n");
    assert_int_equal(het_run_log_trim(&lines, 0), HET_OK);
    assert_file("");
}

int main(void)
{
#define LOG(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {LOG(lines_wait_for_room), LOG(later_steps_are_dropped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
