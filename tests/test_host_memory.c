#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/resource.h>

#include "../src/host_memory.h"

static char root[64];

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/host_memory.XXXXXX");
    return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void nothing_is_known(void **state)
{
    (void)state;
    assert_true(het_host_memory(root) == INT64_MAX);
}

static void the_kernel_says(void **state)
{
    (void)state;
    put("proc/meminfo", "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    700 kB\n");
    assert_int_equal(het_host_memory(root), 700 * 1024);
}

static void groups_of_v2(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:    700 kB\n");
    put("proc/self/cgroup", "0::/job/step\n");
    put("sys/fs/cgroup/job/step/memory.max", "max\n");
    put("sys/fs/cgroup/job/step/memory.current", "1000\n");
    assert_int_equal(het_host_memory(root), 700 * 1024);
    put("sys/fs/cgroup/job/memory.max", "500000\n"); /* the group above */
    put("sys/fs/cgroup/job/memory.current", "300000\n");
    assert_int_equal(het_host_memory(root), 200000);
    put("sys/fs/cgroup/job/memory.stat", "anon 5\ninactive_file 100000\n");
    assert_int_equal(het_host_memory(root), 300000);
    put("sys/fs/cgroup/job/memory.current", "900000\n");
    assert_int_equal(het_host_memory(root), 0);
    put("proc/meminfo", "MemAvailable:    0 kB\n");
    put("sys/fs/cgroup/job/memory.current", "0\n");
    assert_int_equal(het_host_memory(root), 0);
}

static void groups_of_v1(void **state)
{
    (void)state;
    put("proc/meminfo", "MemAvailable:    700 kB\n");
    put("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n");
    put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "400000\n");
    put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "150000\n");
    assert_int_equal(het_host_memory(root), 250000);
}

static void this_machine(void **state)
{
    (void)state;
    const int64_t left = het_host_memory("");
    assert_true(left > 1 << 20 && left < INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(the_kernel_says, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_of_v2, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_of_v1, setup, teardown),
        cmocka_unit_test(this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
