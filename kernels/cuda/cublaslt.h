#pragma once
#include <stddef.h>
#include <stdint.h>

/** The part of cuBLASLt's C interface (versions 12 and 13) that product.cu uses. The library is loaded at run time, so
 *  its package of half a gigabyte is not needed to build; tests/cuda_headers.cpp compares these lines with the
 *  real header where there is one. */

enum { LT_SUCCESS = 0 };
enum { LT_OP_N = 0, LT_OP_T = 1 };
enum { LT_COMPUTE_32F = 68, LT_COMPUTE_32F_FAST_TF32 = 77 };
enum { LT_R_32F = 0, LT_R_16BF = 14 };
enum { LT_DESC_TRANSA = 3, LT_DESC_TRANSB = 4 };
enum { LT_LAYOUT_BATCH_COUNT = 5, LT_LAYOUT_BATCH_STRIDE = 6 };
enum { LT_PREF_WORKSPACE = 1, LT_PREF_REDUCTION = 3, LT_PREF_ALIGN_A = 5, LT_PREF_ALIGN_B, LT_PREF_ALIGN_C, LT_PREF_ALIGN_D };
enum { LT_REDUCTION_COMPUTE_TYPE = 2 }; /* through the workspace, in one order */

typedef struct lt_algorithm {
    uint64_t data[8];
} lt_algorithm;

typedef struct lt_result {
    lt_algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} lt_result;

/* result, name, arguments; handles are void* */
#define LT_FUNCTIONS(X)                                                                                             \
    X(int, Create, (void **handle))                                                                                 \
    X(int, Destroy, (void *handle))                                                                                 \
    X(int, MatmulDescCreate, (void **desc, int compute, int scale))                                                 \
    X(int, MatmulDescDestroy, (void *desc))                                                                         \
    X(int, MatmulDescSetAttribute, (void *desc, int attribute, const void *value, size_t bytes))                    \
    X(int, MatrixLayoutCreate, (void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride))          \
    X(int, MatrixLayoutDestroy, (void *layout))                                                                     \
    X(int, MatrixLayoutSetAttribute, (void *layout, int attribute, const void *value, size_t bytes))                \
    X(int, MatmulPreferenceCreate, (void **preference))                                                             \
    X(int, MatmulPreferenceDestroy, (void *preference))                                                             \
    X(int, MatmulPreferenceSetAttribute, (void *preference, int attribute, const void *value, size_t bytes))        \
    X(int, MatmulAlgoGetHeuristic, (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, \
                                    int wanted, lt_result *results, int *found))                                    \
    X(int, Matmul, (void *handle, void *desc, const void *alpha, const void *a, void *layout_a, const void *b,      \
                    void *layout_b, const void *beta, const void *c, void *layout_c, void *d, void *layout_d,       \
               const lt_algorithm *algorithm, void *workspace, size_t workspace_bytes, void *stream))
