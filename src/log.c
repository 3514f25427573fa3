#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static het_log_level highest = HET_LOG_INFO;
static int this_rank_speaks = 1;
static void (*listener)(void *context, const char *text);
static void *listener_context;

void het_log_init(het_log_level level, int speaks)
{
    highest = level;
    this_rank_speaks = speaks;
}

void het_log_also(void (*also)(void *context, const char *text), void *context)
{
    listener = also;
    listener_context = context;
}

void het_log(het_log_level level, const char *format, ...)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    if (level > highest || !this_rank_speaks) return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "hetacumn: %s%s\n", prefix[level], text);
    if (level == HET_LOG_WARN && listener != NULL) listener(listener_context, text);
}
