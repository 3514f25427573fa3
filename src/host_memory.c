#include "host_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH = 4500 };

/* The number after `key` (NULL: the first) in a file; -1 where there is none, as for "max". */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t number = -1;
    FILE *file = fopen(path, "r");
    if (file == NULL) return -1;
    while (number < 0 && fgets(line, sizeof line, file) != NULL) {
        const size_t skip = key == NULL ? 0 : strlen(key);
        if (key == NULL || strncmp(line, key, skip) == 0) sscanf(line + skip, " %" SCNd64, &number);
    }
    fclose(file);
    return number;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What is left to the group in this folder. */
static int64_t left_to(const char *folder, const char *most, const char *used, const char *cache)
{
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/%s", folder, most);
    const int64_t limit = number_in(path, NULL);
    snprintf(path, sizeof path, "%s/%s", folder, used);
    const int64_t taken = number_in(path, NULL);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    const int64_t reclaimable = number_in(path, cache);
    if (limit < 0 || taken < 0) return INT64_MAX;
    const int64_t left = limit - taken + (reclaimable > 0 ? reclaimable : 0);
    return left > 0 ? left : 0;
}

/* The group's own limit and those of all groups above it: a line of /proc/self/cgroup is NUMBER:CONTROLLERS:PATH. */
static int64_t left_to_groups(const char *root)
{
    char path[PATH], line[PATH - 256];
    int64_t left = INT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *kind = strchr(line, ':'), *group = kind == NULL ? NULL : strchr(kind + 1, ':');
        if (group == NULL) continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        const int v2 = kind[1] == '\0';
        if (!v2 && strcmp(kind + 1, "memory") != 0) continue;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, v2 ? "" : "/memory", group);
        for (size_t shortest = strlen(path) - strlen(group);;) {
            left = least(left, v2 ? left_to(path, "memory.max", "memory.current", "inactive_file ")
                                  : left_to(path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "));
            char *slash = strrchr(path, '/');
            if (slash == NULL || (size_t)(slash - path) < shortest) break;
            *slash = '\0';
        }
    }
    if (file != NULL) fclose(file);
    return left;
}

int64_t het_host_memory(const char *root)
{
    char path[PATH];
    struct rlimit limit;
    int64_t left = left_to_groups(root);
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    const int64_t available = number_in(path, "MemAvailable:");
    if (available >= 0) left = least(left, 1024 * available);
    snprintf(path, sizeof path, "%s/proc/self/statm", root);
    const int64_t pages = number_in(path, NULL);
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && pages >= 0) {
        const int64_t rest = (int64_t)limit.rlim_cur - pages * sysconf(_SC_PAGESIZE);
        left = least(left, rest > 0 ? rest : 0);
    }
    return left;
}
