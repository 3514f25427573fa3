/* Checkpoints written in the background: the file holds what was copied, whatever becomes of the source; what fails leaves the
 * files before; which files stay. */
#include <math.h>
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

#include "../src/arena.h"
#include "../src/data/checkpoint_writer.h"
#include "../src/log.h"

enum { N = 300000 };

static char folder[64];
static float *source;
static het_checkpoint_writer *writer;

static const char *file_of(int step)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/step-%d.h5", folder, step);
    return path;
}

static int open_writer(void **state)
{
    (void)state;
    char log[128];
    het_log_init(HET_LOG_ERROR, 1);
    signal(SIGXFSZ, SIG_IGN);
    strcpy(folder, "/tmp/het-writer-XXXXXX");
    source = het_alloc(N * sizeof *source);
    if (source == NULL || mkdtemp(folder) == NULL) return 1;
    snprintf(log, sizeof log, "%s/log.jsonl", folder);
    return het_checkpoint_writer_new(&writer, folder, log, 2, 100) != HET_OK;
}

static int close_writer(void **state)
{
    (void)state;
    char command[100];
    het_checkpoint_writer_free(writer);
    het_release(source);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0 || het_arena_live() != 0;
}

static void fill(float value)
{
    for (int i = 0; i < N; i++) source[i] = value + (float)i;
}

/* A copy of the first `count` numbers and of one more field. */
static void copy(int64_t count)
{
    const het_tensor like = {.data = source, .type = HET_F32, .rank = 1, .shape = {count}};
    const int64_t seven = 7;
    void *to;
    het_checkpoint_writer_begin(writer);
    assert_int_equal(het_checkpoint_writer_add(writer, "model/numbers", &like, &to), HET_OK);
    memcpy(to, source, (size_t)count * sizeof *source);
    assert_int_equal(het_checkpoint_writer_add(writer, "seven", &(het_tensor){NULL, HET_I64, 1, {1}}, &to), HET_OK);
    memcpy(to, &seven, sizeof seven);
}

static void assert_holds(int step, int64_t count, float value)
{
    float *found = het_alloc((size_t)count * sizeof *found);
    int64_t seven = 0;
    const het_field fields[] = {{"model/numbers", {found, HET_F32, 1, {count}}}, {"seven", {&seven, HET_I64, 1, {1}}}};
    if (het_checkpoint_load(file_of(step), fields, 2) != HET_OK) fail_msg("%s", het_status_message());
    for (int64_t i = 0; i < count; i++)
        if (found[i] != value + (float)i) fail_msg("%g at %d, expected %g", found[i], (int)i, value + (float)i);
    assert_int_equal(seven, 7);
    het_release(found);
}

static void the_copy_is_written(void **state)
{
    (void)state;
    for (int round = 1; round <= 5; round++) { /* each begin waits for the file before */
        const int64_t count = round == 3 ? N / 2 : N;
        fill((float)round);
        copy(count);
        het_checkpoint_writer_start(writer, round, strdup("{}"));
        fill(-1.0F); /* training goes on */
    }
    het_checkpoint_writer_wait(writer);
    assert_true(het_checkpoint_writer_seconds(writer) >= 0.0);
    assert_holds(5, N, 5.0F);
    assert_holds(4, N, 4.0F);
    assert_int_equal(access(file_of(3), F_OK), -1);
    fill(6.0F);
    copy(N / 2);
    assert_int_equal(het_checkpoint_writer_write(writer, 100, strdup("{}")), HET_OK);
    assert_holds(100, N / 2, 6.0F);
    for (int step = 101; step < 104; step++) {
        copy(10);
        het_checkpoint_writer_start(writer, step, strdup("{}"));
    }
    het_checkpoint_writer_wait(writer);
    assert_int_equal(access(file_of(101), F_OK), -1);
    assert_holds(100, N / 2, 6.0F); /* kept for good */
    assert_holds(103, 10, 6.0F);
}

static void a_full_disk(void **state)
{
    (void)state;
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 65536;
    fill(1.0F);
    copy(N);
    het_checkpoint_writer_start(writer, 1, strdup("{}"));
    het_checkpoint_writer_wait(writer);
    setrlimit(RLIMIT_FSIZE, &small);
    copy(N);
    het_checkpoint_writer_start(writer, 2, strdup("{}"));
    het_checkpoint_writer_wait(writer);
    assert_true(isnan(het_checkpoint_writer_seconds(writer)));
    copy(N);
    assert_int_equal(het_checkpoint_writer_write(writer, 3, strdup("{}")), HET_E_IO);
    assert_non_null(strstr(het_status_message(), "File too large"));
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(access(file_of(2), F_OK), -1);
    assert_holds(1, N, 1.0F);
    copy(N);
    het_checkpoint_writer_start(writer, 4, strdup("{}"));
    het_checkpoint_writer_wait(writer);
    assert_holds(4, N, 1.0F);
}

int main(void)
{
#define WRITER(test) cmocka_unit_test_setup_teardown(test, open_writer, close_writer)
    const struct CMUnitTest tests[] = {WRITER(the_copy_is_written), WRITER(a_full_disk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
