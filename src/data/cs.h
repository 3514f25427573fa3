#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../status.h"

/** A cryoSPARC dataset (.cs): NumPy's .npy file of a structured array, versions 1 to 3, little-endian
 *  (numpy.lib.format). Rows are kept as they are in the file. Test: tests/test_cs.c */

typedef struct het_cs_field {
    const char *name;
    char kind;             /* NumPy's: u, i, f, b numbers; S, U text; others cannot be read */
    int64_t size, count;   /* bytes of an item, items */
    int64_t offset;        /* in the row, bytes */
} het_cs_field;

typedef struct het_cs {
    char *path;
    char *header;        /* the names point into it */
    unsigned char *data; /* (rows, width) */
    het_cs_field *field; /* (fields) */
    int64_t rows, width, fields;
} het_cs;

/** Errors: HET_E_IO; HET_E_INPUT: not such a file, cut off, no rows, cryoSPARC's compressed form. */
het_status het_cs_load(het_cs *cs, const char *path);
void het_cs_free(het_cs *cs);
/** NULL where there is none of the name with at least `items` items, numbers or (text) text. Borrowed. */
const het_cs_field *het_cs_find(const het_cs *cs, const char *name, int text, int64_t items);
double het_cs_number(const het_cs *cs, const het_cs_field *field, int64_t row, int64_t item);
/** The identity of a row in cryoSPARC; the field is "uid". */
uint64_t het_cs_uid(const het_cs *cs, const het_cs_field *field, int64_t row);
/** text (size): what fits, with a final NUL; characters outside ASCII of kind U become '?'. */
void het_cs_text(const het_cs *cs, const het_cs_field *field, int64_t row, char *text, size_t size);
