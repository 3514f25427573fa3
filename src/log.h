#pragma once
/** Messages for people: one line each on stderr, from the root rank only. */

typedef enum het_log_level { HET_LOG_ERROR, HET_LOG_WARN, HET_LOG_INFO, HET_LOG_DEBUG } het_log_level;

/** Set what is printed: messages up to `level`, and only where `speaks` is true (the root rank). */
void het_log_init(het_log_level level, int speaks);

/** Print "hetacumn: [warning: ]text\n" when `level` is enabled on this rank. */
void het_log(het_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Hand the text of every warning that this rank prints to `also` too; NULL: no longer. */
void het_log_also(void (*also)(void *context, const char *text), void *context);

#define het_info(...) het_log(HET_LOG_INFO, __VA_ARGS__)
#define het_warn(...) het_log(HET_LOG_WARN, __VA_ARGS__)
