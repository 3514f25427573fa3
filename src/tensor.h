#pragma once
#include <stdint.h>

/** A view of a row-major array: pointer, element type, shape. Owns nothing. */

enum { HET_MAX_RANK = 4 };

typedef enum het_dtype { HET_F32, HET_BF16, HET_F16, HET_I32, HET_I64, HET_F64 } het_dtype;

typedef struct het_tensor {
    void *data;
    het_dtype type;
    int rank;
    int64_t shape[HET_MAX_RANK];
} het_tensor;

/** Bytes of one element. */
static inline int64_t het_dtype_size(het_dtype type)
{
    static const int64_t size[] = {4, 2, 2, 4, 8, 8};
    return size[type];
}

static inline int64_t het_tensor_count(const het_tensor *tensor)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

static inline int64_t het_tensor_bytes(const het_tensor *tensor)
{
    return het_tensor_count(tensor) * het_dtype_size(tensor->type);
}
