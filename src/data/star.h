#pragma once
#include <stdint.h>
#include <stdio.h>

#include "../status.h"

/** STAR files as RELION 3.0, 3.1, 4 and 5 write them (Hall 1991; one table row per line): any number of data
 *  blocks, loops and key-value lists, ' and " quoting, comments, tabs, CRLF; plain or gzip'ed. Tests:
 *  tests/test_star.c */

typedef struct het_star_table {
    const char *name; /* "particles" for data_particles, "" for data_ */
    int is_loop;      /* 0: key-value pairs, kept as one row */
    int64_t columns, rows;
    const char **label; /* (columns), without the leading underscore, e.g. "rlnImageName" */
    const char **cell;  /* (rows, columns), unquoted */
    int64_t *line;      /* (rows) line number in the file, from 1; of the first pair for key-value lists */
    const char *path;   /* of the file: for messages */
} het_star_table;

typedef struct het_star {
    char *path;
    char *text; /* the file; labels and cells point into it */
    int64_t count;
    het_star_table *table;
} het_star;

/** Parse a whole file. Errors: HET_E_IO; HET_E_INPUT naming file and line. */
het_status het_star_load(het_star *star, const char *path);
void het_star_free(het_star *star);
/** The first table of that block name, or NULL. */
const het_star_table *het_star_find(const het_star *star, const char *name);
/** The first loop with that column, or NULL. */
const het_star_table *het_star_find_with(const het_star *star, const char *label);
/** Number of a column, or -1. `label` without underscore. */
int64_t het_star_column(const het_star_table *table, const char *label);
const char *het_star_text(const het_star_table *table, int64_t row, int64_t column);
/** A cell as a finite number or an integer. Errors: HET_E_INPUT naming file, line, column and the text. */
het_status het_star_number(const het_star_table *table, int64_t row, int64_t column, double *value);
het_status het_star_integer(const het_star_table *table, int64_t row, int64_t column, int64_t *value);

/** A column to write: numbers or texts, one per row written. */
typedef struct het_star_column_data {
    const char *label;        /* without underscore */
    const double *numbers;    /* (rows) or NULL */
    const char *const *texts; /* (rows) where numbers is NULL; both NULL: the base's column of that name is left out */
} het_star_column_data;

typedef struct het_star_writer het_star_writer;
/** Start PATH.tmp. Errors: HET_E_IO. */
het_status het_star_create(het_star_writer **writer, const char *path);
/** Write one loop named `name`: the columns of `base` (NULL: none) for the base rows listed in `rows` (NULL:
 *  0..count-1), with those of equal label replaced by `data` and the others of `data` added at the end. */
void het_star_write_table(het_star_writer *writer, const char *name, const het_star_table *base,
                          const int64_t *rows, int64_t count, const het_star_column_data *data,
                          int64_t data_count);
/** Copy a table as it is. */
void het_star_write_copy(het_star_writer *writer, const het_star_table *table);
/** Close and rename; the .tmp is removed on a failed write or when `mine` is a failure (then returned). Frees
 *  the writer (NULL is accepted). */
het_status het_star_finish(het_star_writer *writer, het_status mine);
