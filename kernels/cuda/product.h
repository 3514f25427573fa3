#pragma once
#include "context.h"

/** Matrix products by cuBLASLt, loaded at run time. All matrices are dense and row-major.
 *      C (M,N) = op(A) op(B) + beta C,   op(A) (M,K): A is (M,K), or (K,M) where turned; B likewise
 *  A and B are both fp32 or both bf16, C is fp32 or, narrow too, bf16; sums are fp32, and true fp32 for fp32 operands, unless
 *  these may be `rounded` to TF32 (11 digits), which tensor cores take. Only algorithms whose sums have one order are admitted, so the same call gives the same bits. */
typedef struct het_product {
    int64_t m, n, k;
    int turn_a, turn_b;
    int narrow, narrow_out; /* bf16: A and B; C */
    float beta;
    int rounded;
} het_product;

/** Errors of the first: HET_E_DEVICE naming the library that is missing. */
het_status het_cuda_products_open(het_cuda *c);
void het_cuda_products_close(het_cuda *c);
void het_cuda_product(het_cuda *c, const het_product *p, void *out, const void *a, const void *b);
