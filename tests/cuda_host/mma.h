#pragma once
/** A test double of nvcuda::wmma, of the shape and types that kernels/cuda uses: 16 x 16 x 16, bf16 (A by rows, B by columns),
 *  fp32 sums. A lane holds 8 numbers of a square of sums where the GPUs of today have them (mma.m16n8k16 of the PTX ISA): rows l / 4 and
 *  8 more, columns 2 (l mod 4), the next one, and both 8 further on; with HET_HOST_WMMA=swapped in another order. Of A and B it holds the rows
 *  and columns that these need. Addresses and row lengths that a GPU would refuse stop the test. */
#include <stdio.h>
#include <stdlib.h>

#include "cuda_bf16.h"
#include "cuda_runtime.h"

namespace nvcuda {
namespace wmma {

enum layout_t { mem_row_major, mem_col_major };
struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;
template <class Use, int M, int N, int K, class T, class Layout = void> class fragment;

template <> class fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major>
{
public:
    float row[2][16];
};
template <> class fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major>
{
public:
    enum { num_elements = 64 };
    alignas(16) __nv_bfloat16 x[num_elements]; /* four columns */
};
template <> class fragment<accumulator, 16, 16, 16, float>
{
public:
    enum { num_elements = 8 };
    float x[num_elements];
};
typedef fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> left;
typedef fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> right;
typedef fragment<accumulator, 16, 16, 16, float> sum;

static inline unsigned lane(void)
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

static inline int place(int e)
{
    static const int swapped = getenv("HET_HOST_WMMA") != NULL;
    return e ^ swapped;
}

/* Of number e of the lane: which of its two rows of A, of its four columns of B, and where these lie. */
static inline int row_index(int e)
{
    return place(e) / 2 % 2;
}

static inline int column_index(int e)
{
    return place(e) % 2 + place(e) / 4 * 2;
}

static inline unsigned row_at(int index)
{
    return lane() / 4 + 8 * (unsigned)index;
}

static inline unsigned column_at(int index)
{
    return lane() % 4 * 2 + (unsigned)(index % 2 + index / 2 * 8);
}

static inline void check(const void *at, unsigned row_bytes)
{
    if ((uintptr_t)at % 32 == 0 && row_bytes % 16 == 0) return;
    fprintf(stderr, "cuda_host: a square of wmma at an address that is no multiple of 32, or rows of no multiple of 16 bytes\n");
    abort();
}

static inline float number(__nv_bfloat16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

static inline void load_matrix_sync(left &a, const __nv_bfloat16 *from, unsigned ld)
{
    check(from, ld * 2);
    for (int i = 0; i < 32; i++) a.row[i / 16][i % 16] = number(from[row_at(i / 16) * ld + (unsigned)i % 16]);
}

static inline void load_matrix_sync(right &b, const __nv_bfloat16 *from, unsigned ld)
{
    check(from, ld * 2);
    for (int i = 0; i < right::num_elements; i++) b.x[i] = from[column_at(i / 16) * ld + (unsigned)i % 16];
}

static inline void load_matrix_sync(sum &c, const float *from, unsigned ld, layout_t)
{
    check(from, ld * 4);
    for (int e = 0; e < sum::num_elements; e++) c.x[e] = from[row_at(row_index(e)) * ld + column_at(column_index(e))];
}

static inline void store_matrix_sync(float *to, const sum &c, unsigned ld, layout_t)
{
    check(to, ld * 4);
    for (int e = 0; e < sum::num_elements; e++) to[row_at(row_index(e)) * ld + column_at(column_index(e))] = c.x[e];
}

static inline void fill_fragment(sum &c, float value)
{
    for (int e = 0; e < sum::num_elements; e++) c.x[e] = value;
}

static inline void mma_sync(sum &d, const left &a, const right &b, const sum &c)
{
    for (int e = 0; e < sum::num_elements; e++) {
        float total = 0.0f;
        for (int k = 0; k < 16; k++) total += a.row[row_index(e)][k] * number(b.x[column_index(e) * 16 + k]);
        d.x[e] = c.x[e] + total;
    }
}

} // namespace wmma
} // namespace nvcuda
