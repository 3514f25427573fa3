#pragma once
#include "comm.h"

/** The sum of this rank's parts (het_comm_fix), along their binary tree: ((0 + 1) + (2 + 3)) + ... It is that of all parts
 *  once the ranks' sums are added up (het_comm_sum_f32, het_comm_sum_f64). With one part there is nothing to add, and nothing
 *  is kept. Test: tests/mpi_fold.c */
typedef struct het_fold {
    int64_t parts, done;
    size_t count, width; /* numbers in a part, bytes of each */
    void *kept;          /* one partial sum for every level of the tree */
} het_fold;

/** For sums of `count` floats (width 4) or doubles (width 8). Free with het_fold_close, also after an error. Errors:
 *  HET_E_MEMORY. Not collective. */
het_status het_fold_open(het_fold *fold, const het_comm *comm, size_t count, size_t width);
/** Add the next part, in order. After the last one `numbers` is the sum, and the next sum may begin. Before, what it
 *  holds is of no use. */
void het_fold_add(het_fold *fold, void *numbers);
void het_fold_close(het_fold *fold);
/** to[i] += from[i]. */
void het_fold_numbers(void *to, const void *from, size_t count, size_t width);
