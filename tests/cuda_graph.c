/* Work launched as one (kernels/ops.h): the same numbers as kernel by kernel; what ends a recording, and what does not. On the
 * device that HET_TEST_DEVICE names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ref/device.h"

enum { N = 1000 };

static het_device device;
static float *x, *y;

/* y += factor x */
static void add(float factor)
{
    device.ops->sum_rows(&device, y, x, factor, 1, N);
}

static void set(float *to, float value)
{
    device.ops->fill(&device, to, value, N);
}

static float first(const float *from)
{
    float value;
    device.ops->download(&device, &value, from, sizeof value);
    return value;
}

static int begin(het_graph **graph, int64_t key)
{
    return device.ops->graph_begin(&device, graph, &key, sizeof key);
}

/* Plain, recorded, and launched from then on, with what is in memory by then; a new key begins again. */
static void recorded_work_is_launched(void **state)
{
    (void)state;
    het_graph *graph = NULL;
    set(x, 1.0f), set(y, 0.0f);
    for (int i = 0; i < 2; i++) {
        assert_true(begin(&graph, 1));
        add(1.0f);
        assert_true(device.ops->graph_end(&device));
        assert_true(first(y) == (float)(i + 1));
    }
    for (int i = 0; i < 3; i++) {
        set(x, 10.0f);
        assert_false(begin(&graph, 1));
        assert_true(first(y) == 2.0f + 10.0f * (float)(i + 1));
    }
    for (int i = 0; i < 2; i++) {
        assert_true(begin(&graph, 2));
        add(-1.0f);
        assert_true(device.ops->graph_end(&device));
    }
    assert_false(begin(&graph, 2));
    assert_true(first(y) == 2.0f);
    assert_true(begin(&graph, 1));
    assert_true(device.ops->graph_end(&device));
    device.ops->graph_free(graph);
}

/* What the host is told between operations, and whether those before it, and no later ones, have been launched by then. */
static float told[3];
static int64_t tells;

static void tell(void *context, int64_t value)
{
    assert_ptr_equal(context, told);
    assert_int_equal(value, 10 * tells);
    told[tells++] = first(y);
}

/* y becomes 1, 3, 6 with calls after each; `waits`: one operation too many for a graph */
static void tell_of_sums(int waits)
{
    set(y, 0.0f);
    for (int64_t i = 0; i < 3; i++) {
        add((float)(i + 1));
        if (waits && i == 1) (void)first(y);
        device.ops->graph_call(&device, tell, told, 10 * i);
    }
}

static void check_told(void)
{
    assert_int_equal(tells, 3);
    assert_true(told[0] == 1.0f && told[1] == 3.0f && told[2] == 6.0f);
    tells = 0;
}

/* The host's calls come between the operations, which may wait, though recorded ones may not: plain, recorded and launched. */
static void the_host_is_told_in_between(void **state)
{
    (void)state;
    het_graph *graph = NULL;
    int recorded = 0;
    set(x, 1.0f);
    for (int i = 0; i < 5; i++, check_told()) {
        if (!begin(&graph, 1)) continue;
        tell_of_sums(0);
        assert_int_equal(tells, i == 0 ? 3 : 0);
        assert_true(device.ops->graph_end(&device));
        recorded++;
    }
    assert_int_equal(recorded, 2);
    device.ops->graph_free(graph);
}

/* Two graphs, as of two tasks, do not disturb each other. */
static void graphs_take_turns(void **state)
{
    (void)state;
    het_graph *graph[2] = {NULL, NULL};
    set(x, 1.0f), set(y, 0.0f);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) {
            if (!begin(&graph[k], k)) continue;
            add(k == 0 ? 1.0f : 100.0f);
            assert_true(device.ops->graph_end(&device));
        }
    assert_true(first(y) == 505.0f);
    for (int k = 0; k < 2; k++) device.ops->graph_free(graph[k]);
}

/* Scratch memory that a new plan moves is not what was recorded. */
static void moved_memory_is_noticed(void **state)
{
    (void)state;
    het_graph *graph = NULL;
    het_conv *conv;
    const het_conv_spec spec = {1, 11, 11, 2304, 1, 11, 1, 0}; /* one row of columns is more than all before took */
    for (int i = 0; i < 2; i++)
        if (begin(&graph, 1)) assert_true(device.ops->graph_end(&device));
    assert_false(begin(&graph, 1));
    assert_int_equal(device.ops->conv_new(&device, &conv, &spec), HET_OK);
    assert_true(begin(&graph, 1));
    assert_true(device.ops->graph_end(&device));
    device.ops->conv_free(conv);
    device.ops->graph_free(graph);
}

/* Waiting ends a recording, and so does allocating: nothing has run, nobody has been told, nothing is at fault, and all goes on kernel
   by kernel. */
static void what_cannot_be_recorded_runs(void **state)
{
    (void)state;
    het_graph *graph = NULL;
    int again = 0;
    set(x, 1.0f);
    for (int i = 0; i < 4; i++, check_told()) {
        assert_true(begin(&graph, 1));
        for (int done = 0; !done; again += !done) {
            tell_of_sums(1);
            done = device.ops->graph_end(&device);
        }
        assert_int_equal(device.ops->sync(&device), HET_OK);
    }
    assert_int_equal(again, 1);
    device.ops->graph_free(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_work_is_launched), cmocka_unit_test(graphs_take_turns),
        cmocka_unit_test(the_host_is_told_in_between), cmocka_unit_test(moved_memory_is_noticed),
        cmocka_unit_test(what_cannot_be_recorded_runs),
    };
    if (ref_device_open(&device, 1, HET_PRECISION_F32) != HET_OK) return 1;
    x = device.ops->alloc(&device, N * sizeof *x);
    y = device.ops->alloc(&device, N * sizeof *y);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device.ops->release(&device, x);
    device.ops->release(&device, y);
    het_device_close(&device);
    return failed;
}
