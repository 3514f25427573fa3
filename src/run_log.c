#include "run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

void het_run_log_open(het_run_log *log, const char *folder)
{
    *log = (het_run_log){0};
    snprintf(log->path, sizeof log->path, "%s/log.jsonl", folder);
}

void het_run_log_close(het_run_log *log)
{
    free(log->waiting);
    *log = (het_run_log){0};
}

het_status het_run_log_trim(const het_run_log *log, int64_t step)
{
    char temporary[sizeof log->path + 4];
    snprintf(temporary, sizeof temporary, "%s.tmp", log->path);
    FILE *in = fopen(log->path, "r");
    if (in == NULL)
        return errno == ENOENT ? HET_OK : het_fail(HET_E_IO, "cannot read %s: %s", log->path, strerror(errno));
    FILE *out = fopen(temporary, "w");
    char *line = NULL;
    size_t size = 0;
    int bad = out == NULL;
    while (!bad && getline(&line, &size, in) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        const json_t *at = json_object_get(object, "step");
        if (json_is_integer(at) && json_integer_value(at) <= step) bad = fputs(line, out) < 0;
        json_decref(object);
    }
    free(line);
    fclose(in);
    if (out != NULL) bad |= fclose(out) != 0;
    if (!bad && rename(temporary, log->path) == 0) return HET_OK;
    const int reason = errno;
    unlink(temporary);
    return het_fail(HET_E_IO, "cannot rewrite %s: %s", log->path, strerror(reason));
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        const ssize_t done = write(fd, text, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return 0;
        text += done;
        length -= (size_t)done;
    }
    return 1;
}

het_status het_run_log_flush(het_run_log *log)
{
    if (log->length == 0) return HET_OK;
    const int fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    int good = end >= 0 && write_all(fd, log->waiting, log->length), reason = errno;
    if (fd >= 0 && close(fd) != 0 && good) {
        good = 0;
        reason = errno;
    }
    if (!good && end >= 0 && truncate(log->path, end) != 0) /* half a line would spoil the next */
        het_warn("%s: cannot take back half a line: %s", log->path, strerror(errno));
    if (!good) return het_fail(HET_E_IO, "cannot write %s: %s", log->path, strerror(reason));
    log->length = 0;
    log->said = 0;
    return HET_OK;
}

void het_run_log_add(het_run_log *log, const char *json)
{
    const size_t length = strlen(json);
    char *more = realloc(log->waiting, log->length + length + 2);
    if (more == NULL) {
        het_warn("no memory for a line of %s: it is lost", log->path);
        return;
    }
    log->waiting = more;
    memcpy(more + log->length, json, length);
    memcpy(more + log->length + length, "\n", 2);
    log->length += length + 1;
    if (het_run_log_flush(log) == HET_OK || log->said) return;
    het_warn("%s; training goes on and its lines wait: make room on that disk before it ends", het_status_message());
    log->said = 1;
}
