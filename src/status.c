#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_SIZE = 1024 };

static _Thread_local char message[MESSAGE_SIZE];

het_status het_fail(het_status code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return code;
}

const char *het_status_message(void)
{
    return message;
}

het_status het_context(het_status code, const char *format, ...)
{
    char prefix[MESSAGE_SIZE], joined[2 * MESSAGE_SIZE + 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    snprintf(joined, sizeof joined, "%s: %s", prefix, message);
    joined[MESSAGE_SIZE - 1] = '\0';
    memcpy(message, joined, MESSAGE_SIZE);
    return code;
}

void het_assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "hetacumn: internal error at %s:%d: %s does not hold; please report this\n", file, line,
            expression);
    abort();
}
