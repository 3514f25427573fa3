#pragma once
#include <stdint.h>

#include "../status.h"

/** Read a list of image numbers from a text file (plain or gzip'ed): 0-based, any number a line, in any
 *  order; # starts a comment. *index (ascending) is the caller's, het_release() it.
 *  Errors: HET_E_IO; HET_E_INPUT naming the line of what is no number, is outside 0 .. limit-1 or stands
 *  twice. Test: tests/test_particles.c */
het_status het_index_load(int64_t **index, int64_t *count, const char *path, int64_t limit);
