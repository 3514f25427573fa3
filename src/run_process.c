#include "run_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/json.h"

/* A name for this machine, as far as process numbers are concerned: they are of one boot and one PID namespace. */
static void name_machine(char *text, size_t size)
{
    char boot[64] = "", space[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file != NULL) {
        if (fgets(boot, sizeof boot, file) == NULL) boot[0] = '\0';
        fclose(file);
    }
    boot[strcspn(boot, "\n")] = '\0';
    if (readlink("/proc/self/ns/pid", space, sizeof space - 1) < 0) space[0] = '\0';
    snprintf(text, size, "%s %s", boot, space);
}

/* When a process was started, in ticks since the boot (proc(5), stat); 0: there is none, or it has ended and waits for its parent. */
static long long born(long long pid)
{
    char path[64], line[1024] = "", state;
    long long ticks;
    snprintf(path, sizeof path, "/proc/%lld/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    if (fgets(line, sizeof line, file) == NULL) line[0] = '\0';
    fclose(file);
    const char *rest = strrchr(line, ')'); /* of the program's name, which may hold anything */
    if (rest == NULL) return 0;
    if (sscanf(rest, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld", &state, &ticks) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : ticks;
}

void het_process_put(json_t *object, int ranks)
{
    char host[256] = "", machine[160];
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    gethostname(host, sizeof host - 1);
    name_machine(machine, sizeof machine);
    json_object_set_new(object, "host", json_string(host));
    json_object_set_new(object, "machine", json_string(machine));
    json_object_set_new(object, "pid", json_integer(getpid()));
    json_object_set_new(object, "born", json_integer(born(getpid())));
    json_object_set_new(object, "ranks", json_integer(ranks));
    if (job == NULL) return;
    json_object_set_new(object, "job", json_string(job));
    json_object_set_new(object, "restart", json_integer(restart != NULL ? atoll(restart) : 0));
}

int het_process_is_here(const json_t *object)
{
    char host[256] = "", machine[160];
    gethostname(host, sizeof host - 1);
    name_machine(machine, sizeof machine);
    return strcmp(machine, het_json_text(object, "machine")) == 0 && strcmp(host, het_json_text(object, "host")) == 0;
}

int het_process_is_gone(const json_t *object)
{
    const double pid = het_json_number(object, "pid"), was = het_json_number(object, "born");
    if (!(pid > 0.0) || !het_process_is_here(object)) return 0;
    const long long now = born((long long)pid);
    return now == 0 || (was > 0.0 && (double)now != was);
}

void het_process_words(const json_t *object, char *text, size_t size)
{
    const char *host = het_json_text(object, "host"), *job = het_json_text(object, "job");
    text[0] = '\0';
    if (*host == '\0') return;
    snprintf(text, size, "host %s, process %.0f, %.0f rank(s)%s%s", host, het_json_number(object, "pid"),
             het_json_number(object, "ranks"), *job != '\0' ? ", Slurm job " : "", job);
}
