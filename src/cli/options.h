#pragma once
#include <stdint.h>

#include "../status.h"

/** The error for an answer of getopt_long that is no option: ':' (a value is missing) or '?' (unknown or ambiguous). Needs
 *  opterr = 0, so that getopt does not speak on every rank, and an option string that starts with ':'. argv[0] is the
 *  command. Returns HET_E_USAGE. */
het_status het_options_refused(char *const *argv, int answer);
/** The value of an option: a whole number from low to high; a number that is not NaN. Errors: HET_E_USAGE. */
het_status het_options_whole(const char *option, const char *text, int64_t low, int64_t high, int64_t *value);
het_status het_options_number(const char *option, const char *text, double *value);
/** Whether a file's name ends so, in small or capital letters. */
int het_options_ends_with(const char *path, const char *end);
/** .star or .star.gz */
int het_options_is_star(const char *path);
