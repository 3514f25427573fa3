#include "given.h"

#include <string.h>

#include "arena.h"

het_status het_given_new(het_given *given, int64_t batch, int64_t z_dim)
{
    *given = (het_given){.batch = batch, .z_dim = z_dim};
    given->rotation = het_alloc((size_t)(9 * batch) * sizeof *given->rotation);
    given->shift = het_alloc((size_t)(2 * batch) * sizeof *given->shift);
    given->z = het_alloc((size_t)(z_dim * batch) * sizeof *given->z);
    if (given->rotation == NULL || given->shift == NULL || given->z == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the poses of a batch");
    return HET_OK;
}

void het_given_free(het_given *given)
{
    het_release(given->rotation);
    het_release(given->shift);
    het_release(given->z);
    *given = (het_given){0};
}

static void copy_rows(float *to, const float *from, const int64_t *index, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + columns * i, from + columns * index[i], (size_t)columns * sizeof *to);
}

void het_given_set(het_given *given, het_batch *batch, const float *rotation, const float *shift,
                   const float *z)
{
    HET_ASSERT(batch->count <= given->batch);
    copy_rows(given->rotation, rotation, batch->index, batch->count, 9);
    copy_rows(given->shift, shift, batch->index, batch->count, 2);
    if (z != NULL) copy_rows(given->z, z, batch->index, batch->count, given->z_dim);
    batch->rotation = given->rotation;
    batch->shift = given->shift;
    batch->z = z != NULL ? given->z : NULL;
}
