/* For LD_PRELOAD: a file system that is slow now and then. Reading number $HET_SLOW_READ, of this process, of a file .../stack.h5 takes
 * $HET_SLOW_SECONDS, or without that number the first fsync (Test: tests/cli_slow.sh). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void wait_for_it(void)
{
    const char *seconds = getenv("HET_SLOW_SECONDS");
    if (seconds != NULL) usleep((useconds_t)(1e6 * atof(seconds)));
}

static int is_stack(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t n = readlink(link, path, sizeof path);
    return n > 9 && memcmp(path + n - 9, "/stack.h5", 9) == 0;
}

static ssize_t slow_pread(const char *name, int file, void *to, size_t bytes, off_t at)
{
    static atomic_int count;
    ssize_t (*next)(int, void *, size_t, off_t) = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    const char *which = getenv("HET_SLOW_READ");
    if (which != NULL && is_stack(file) && atomic_fetch_add(&count, 1) + 1 == atoi(which)) wait_for_it();
    return next(file, to, bytes, at);
}

ssize_t pread(int file, void *to, size_t bytes, off_t at)
{
    return slow_pread("pread", file, to, bytes, at);
}

ssize_t pread64(int file, void *to, size_t bytes, off_t at)
{
    return slow_pread("pread64", file, to, bytes, at);
}

int fsync(int file)
{
    static atomic_int count;
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (getenv("HET_SLOW_READ") == NULL && atomic_fetch_add(&count, 1) == 0) wait_for_it();
    return next(file);
}
