#pragma once
#include <stdint.h>
#include <sys/stat.h>

#include "../status.h"

/** Many files that are read at random places, of which few are open at a time: a file is opened when it is read, and
 *  closed when others are wanted. Thread-safe. Tests: test_stack.c */

enum { HET_FILES_OPEN = 64 }; /* at a time */

typedef struct het_open_files het_open_files;

/** By what a file is known again. */
typedef struct het_file_mark {
    int64_t size, time; /* bytes; of the last change, ns */
} het_file_mark;

het_file_mark het_file_mark_of(const struct stat *about);
/** Whether both names are of one file that is there. */
int het_file_is_same(const char *a, const char *b);

/** NULL: no memory. */
het_open_files *het_open_files_new(void);
void het_open_files_free(het_open_files *files);
/** Read `bytes` at `offset` of the file of number `key`, which lies at `path` and must be the one of the mark. Errors:
 *  HET_E_IO; HET_E_INPUT when it is another file now, or was changed. */
het_status het_open_files_read(het_open_files *files, int64_t key, const char *path, const het_file_mark *mark, void *data,
                               int64_t bytes, int64_t offset);
