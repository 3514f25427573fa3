#pragma once
#include "../data/stack.h"
#include "../data/star.h"

/** The rows of STAR files that images of a stack came from. Test: tests/test_predictions.c */
typedef struct het_star_rows {
    int64_t images;
    int64_t files;
    het_star *star;      /* (files), each with a table of particles */
    int64_t *file, *row; /* (images) which of them, and the row of its table; file -1: the image is of no STAR file */
    het_ctf_row *ctf;    /* (images) of the stack */
} het_star_rows;

/** Of `images` images of the stack, by their places image[]; NULL: the first ones. Errors: HET_E_INPUT for a STAR file that cannot be
 *  read any more, has too few rows, or whose row has another defocus than the image (so it was changed since it was imported), naming
 *  it; HET_E_MEMORY. Free with het_star_rows_free, also after an error. */
het_status het_star_rows_find(het_star_rows *found, const het_stack *stack, const int64_t *image, int64_t images);
void het_star_rows_free(het_star_rows *found);
/** The table that all of the images are of; NULL where there is none. */
const het_star_table *het_star_rows_base(const het_star_rows *found);
/** What the image's row calls it; NULL where it is of no STAR file. */
const char *het_star_rows_name(const het_star_rows *found, int64_t i);
