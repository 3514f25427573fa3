#pragma once

/** The part of cuFFT's C interface (of CUDA 12 and 13) that cufft.cu uses; tests/cuda_headers.cpp compares these lines with the
 *  real header where there is one. Plans and enumerations are ints, streams void*. */

enum { CF_SUCCESS = 0 };
enum { CF_R2C = 0x2a, CF_C2R = 0x2c };

/* result, name, arguments */
#define CF_FUNCTIONS(X)                                                                                             \
    X(int, GetVersion, (int *version))                                                                              \
    X(int, PlanMany, (int *plan, int rank, int *sizes, int *in_sizes, int in_stride, int in_distance, int *out_sizes, \
                      int out_stride, int out_distance, int type, int batch))                                       \
    X(int, SetStream, (int plan, void *stream))                                                                     \
    X(int, ExecR2C, (int plan, float *from, void *to))                                                              \
    X(int, ExecC2R, (int plan, void *from, float *to))                                                              \
    X(int, Destroy, (int plan))
