#pragma once
/** A test double of nvcuda::wmma, of the shape and types that kernels/cuda uses: 16 x 16 x 16, bf16 (A by rows, B by columns),
 *  fp32 sums. As on a GPU a lane holds 8 numbers of a square of sums - and in other places than any GPU has them, so that
 *  code which takes places for granted is found out: rows l mod 8 and 8 more, columns 4 (l / 8) to 3 more. Of A and B it
 *  holds the rows and columns that these need. Addresses and row lengths that a GPU would refuse stop the test. */
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

/* Of number e of the lane. */
static inline unsigned row_of(int e)
{
    return lane() % 8 + (e % 2 ? 8 : 0);
}

static inline unsigned column_of(int e)
{
    return lane() / 8 * 4 + (unsigned)(e / 2);
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
    for (unsigned i = 0; i < 32; i++) a.row[i / 16][i % 16] = number(from[(lane() % 8 + i / 16 * 8) * ld + i % 16]);
}

static inline void load_matrix_sync(right &b, const __nv_bfloat16 *from, unsigned ld)
{
    check(from, ld * 2);
    for (unsigned i = 0; i < right::num_elements; i++) b.x[i] = from[(lane() / 8 * 4 + i / 16) * ld + i % 16];
}

static inline void load_matrix_sync(sum &c, const float *from, unsigned ld, layout_t)
{
    check(from, ld * 4);
    for (int e = 0; e < sum::num_elements; e++) c.x[e] = from[row_of(e) * ld + column_of(e)];
}

static inline void store_matrix_sync(float *to, const sum &c, unsigned ld, layout_t)
{
    check(to, ld * 4);
    for (int e = 0; e < sum::num_elements; e++) to[row_of(e) * ld + column_of(e)] = c.x[e];
}

static inline void fill_fragment(sum &c, float value)
{
    for (int e = 0; e < sum::num_elements; e++) c.x[e] = value;
}

static inline void mma_sync(sum &d, const left &a, const right &b, const sum &c)
{
    for (int e = 0; e < sum::num_elements; e++) {
        float total = 0.0f;
        for (int k = 0; k < 16; k++) total += a.row[e % 2][k] * number(b.x[e / 2 * 16 + k]);
        d.x[e] = c.x[e] + total;
    }
}

} // namespace wmma
} // namespace nvcuda
