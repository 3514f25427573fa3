#pragma once
#include <stdio.h>

#include "../status.h"

/** A file that is written in place with stdio, as tables, lists and pages are. Errors: HET_E_IO with the system's reason. */
het_status het_out_open(FILE **file, const char *path);
/** Close it; anything that went wrong since it was opened is the error. */
het_status het_out_close(FILE *file, const char *path);
