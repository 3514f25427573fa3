#pragma once
#include <stdint.h>

#include "../status.h"

/** The image files that a table (STAR, .cs) names, each found once on this machine (order of the search:
 *  particles.h). */
typedef struct het_image_files het_image_files;

/** `table`: its path; datadir may be NULL; both borrowed. Errors: HET_E_MEMORY, HET_E_IO. */
het_status het_image_files_new(het_image_files **files, const char *table, const char *datadir);
void het_image_files_free(het_image_files *files);
/** Number of the file called `name` in the table, looking for it when it is new. Errors: HET_E_INPUT naming
 *  `line`, unless 0. */
het_status het_image_files_find(het_image_files *files, const char *name, int64_t line, int32_t *number);
/** The paths found, by number; they and the array become the caller's (het_release). */
char **het_image_files_take(het_image_files *files, int64_t *count);
