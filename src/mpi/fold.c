#include "fold.h"

#include <string.h>

#include "../arena.h"

het_status het_fold_open(het_fold *fold, const het_comm *comm, size_t count, size_t width)
{
    int64_t levels = 0;
    *fold = (het_fold){.parts = het_comm_parts(comm), .count = count, .width = width};
    while (fold->parts >> levels > 1) levels++;
    if (levels == 0) return HET_OK;
    fold->kept = het_alloc((size_t)levels * count * width);
    return fold->kept != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for sums of %zu numbers in a fixed order", count);
}

void het_fold_close(het_fold *fold)
{
    het_release(fold->kept);
    *fold = (het_fold){0};
}

void het_fold_numbers(void *to, const void *from, size_t count, size_t width)
{
    if (width == sizeof(float)) {
        float *restrict y = to;
        const float *restrict x = from;
        for (size_t i = 0; i < count; i++) y[i] += x[i];
    } else {
        double *restrict y = to;
        const double *restrict x = from;
        for (size_t i = 0; i < count; i++) y[i] += x[i];
    }
}

void het_fold_add(het_fold *fold, void *numbers)
{
    const size_t bytes = fold->count * fold->width;
    char *level = fold->kept;
    for (int64_t odd = fold->done; odd & 1; odd >>= 1, level += bytes)
        het_fold_numbers(numbers, level, fold->count, fold->width);
    if (++fold->done == fold->parts) fold->done = 0;
    else memcpy(level, numbers, bytes);
}
