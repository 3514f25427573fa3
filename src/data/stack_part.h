#pragma once
#include "h5.h"
#include "moments.h"
#include "open_files.h"
#include "stack.h"

/** One file of a stack, for stack.c: its header, and the tables that are read through HDF5 (one thread at a time). */

typedef struct het_stack_part { /* plain: sent to other ranks as it is */
    het_stack_info info;
    int64_t first;       /* index in the whole stack of its first image */
    int64_t images, ctf; /* offsets in the file of /images and /ctf */
    het_file_mark mark;
    int64_t name;        /* where its path begins in the stack's names */
} het_stack_part;

typedef struct het_stack_sources { /* where the images of a part came from; free with het_stack_sources_free */
    int64_t file_count, name_size;
    char *names;   /* (file_count, name_size) */
    int64_t *rows; /* (count, 2) */
    float *moved;  /* (count, 2); NULL where nothing was moved */
} het_stack_sources;

/** Read and check the header of the file that `input` has open. Errors: HET_E_INPUT. */
het_status het_stack_part_read(het_stack_part *part, const het_h5_input *input);
/** Add the part's images to `all`: one by one where the file tells their moments, else together. */
het_status het_stack_part_moments(het_moments *all, const het_stack_part *part, const het_h5_input *input);
/** Rows [first, first+count) of a data set of `columns` numbers per image. */
het_status het_stack_part_rows(const het_stack_part *part, const het_h5_input *input, const char *name, int rank,
                               int64_t columns, hid_t type, int64_t first, int64_t count, void *data);
het_status het_stack_part_sources(het_stack_sources *sources, const het_stack_part *part, const het_h5_input *input);
void het_stack_sources_free(het_stack_sources *sources);
