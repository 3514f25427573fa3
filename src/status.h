#pragma once
/** Errors of the world (files, memory, peers, numbers from users) as values with a message.
 *
 *  A function that can fail returns het_status and leaves one line - what, where, what to do - in a per-thread
 *  message that het_status_message() returns. Callers pass it up with HET_TRY and clean up under `done:`.
 *  Programmer's errors are HET_ASSERT (kept in release). Library code never exits. */

typedef enum het_status {
    HET_OK = 0,
    HET_E_USAGE,   /* the command line or configuration is wrong: exit code 2 */
    HET_E_INPUT,   /* a file's content is missing, malformed or out of range */
    HET_E_IO,      /* the operating system refused: open, read, write, space */
    HET_E_MEMORY,  /* an allocation failed */
    HET_E_SHAPE,   /* sizes that do not fit each other */
    HET_E_DEVICE,  /* a kernel, its library or its driver failed */
    HET_E_PEER,    /* another rank failed or is gone */
    HET_E_NUMERIC, /* NaN, divergence */
    HET_E_STOPPED  /* a signal asked for the end where there is nothing to save yet */
} het_status;

/** Record a message and return `code`. The message is one line without a full path of the source. */
het_status het_fail(het_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The message of the last failure on this thread ("" when none). Owned by the library. */
const char *het_status_message(void);

/** Put "context: " before the message of the last failure; returns `code`. */
het_status het_context(het_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Print the values and stop the process: only for errors of the program itself. */
void het_assert_failed(const char *expression, const char *file, int line) __attribute__((noreturn));

/* Evaluate a het_status expression; on failure jump to `done:` with the local `status` set. */
#define HET_TRY(expression)                       \
    do {                                          \
        status = (expression);                    \
        if (status != HET_OK) goto done;          \
    } while (0)

#define HET_ASSERT(condition) \
    ((condition) ? (void)0 : het_assert_failed(#condition, __FILE__, __LINE__))
