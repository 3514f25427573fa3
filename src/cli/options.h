#pragma once
#include "../status.h"

/** The error for an answer of getopt_long that is no option: ':' (a value is missing) or '?' (unknown or ambiguous). Needs
 *  opterr = 0, so that getopt does not speak on every rank, and an option string that starts with ':'. argv[0] is the
 *  command. Returns HET_E_USAGE. */
het_status het_options_refused(char *const *argv, int answer);
