#pragma once
#include "context.h"

/** Matrix products by cuBLASLt, loaded at run time. All matrices are dense and row-major.
 *      C (M,N) = op(A) op(B) + beta C,   op(A) (M,K): A is (M,K), or (K,M) where turned; B likewise
 *  A and B are both fp32 or both bf16, C is fp32 or, narrow too, bf16; sums are fp32, and true fp32 for fp32 operands, unless
 *  these may be `rounded` to TF32 (11 digits), which tensor cores take. Only algorithms whose sums have one order are admitted, so
 *  the same call gives the same bits. */
typedef struct het_product {
    int64_t m, n, k;
    int turn_a, turn_b;
    int narrow, narrow_out; /* bf16: A and B; C */
    float beta;
    int rounded;
    int parts; /* so many of them, each with arrays of its own, one after the other in memory */
} het_product;

/** Errors of the first: HET_E_DEVICE naming the library that is missing. */
het_status het_cuda_products_open(het_cuda *c);
void het_cuda_products_close(het_cuda *c);
void het_cuda_product(het_cuda *c, const het_product *p, void *out, const void *a, const void *b);

/** out (M,N) fp32 += A^T B, of long sums and a small result: A (K,M), B (K,N) of the device's precision. The rows are cut into parts that fill
 *  the GPU, whose results are joined in one order (long_product.cu). Reserve for M x N at plan time. Errors: HET_E_MEMORY. */
het_status het_cuda_long_reserve(het_cuda *c, int64_t m, int64_t n);
void het_cuda_long_product(het_cuda *c, float *out, const void *a, const void *b, int64_t m, int64_t n, int64_t k);
/** to (n) += the sum of partial (slices, n), in one order. */
void het_cuda_join(het_cuda *c, float *to, const float *partial, int64_t slices, int64_t n);
