#pragma once
#include <stddef.h>

/** The part of cuDNN's C interface (version 9) that cudnn.cu uses; tests/cuda_headers.cpp compares these lines with the real
 *  header where there is one. Handles, descriptors and streams are void*, enumerations ints. */

enum { CD_SUCCESS = 0, CD_BAD_PARAM = 2000, CD_NOT_SUPPORTED = 3000, CD_NOT_SUPPORTED_END = 4000 };
enum { CD_NHWC = 1, CD_FLOAT = 0, CD_BFLOAT16 = 9, CD_CROSS_CORRELATION = 1, CD_DETERMINISTIC = 1 };
enum { CD_TENSOR_OP_MATH = 1, CD_FMA_MATH = 3 };
enum { CD_FORWARD_LAST = 2, CD_BACKWARD_LAST = 1 }; /* algorithms that sum products: implicit or explicit matrix products */

/* One type for forward, data and filter gradients: theirs are alike. */
typedef struct cd_algorithm {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math;
    int reserved[3];
} cd_algorithm;

/* result, name, arguments; tensors are (n, c, h, w) in words, NHWC in memory, filters (out, in, h, w) likewise */
#define CD_FUNCTIONS(X)                                                                                                \
    X(size_t, GetVersion, (void))                                                                                      \
    X(int, Create, (void **handle))                                                                                    \
    X(int, Destroy, (void *handle))                                                                                    \
    X(int, SetStream, (void *handle, void *stream))                                                                    \
    X(const char *, GetErrorString, (int status))                                                                      \
    X(int, CreateTensorDescriptor, (void **tensor))                                                                    \
    X(int, DestroyTensorDescriptor, (void *tensor))                                                                    \
    X(int, SetTensor4dDescriptor, (void *tensor, int format, int type, int n, int c, int h, int w))                    \
    X(int, CreateFilterDescriptor, (void **filter))                                                                    \
    X(int, DestroyFilterDescriptor, (void *filter))                                                                    \
    X(int, SetFilter4dDescriptor, (void *filter, int type, int format, int k, int c, int h, int w))                    \
    X(int, CreateConvolutionDescriptor, (void **conv))                                                                 \
    X(int, DestroyConvolutionDescriptor, (void *conv))                                                                 \
    X(int, SetConvolution2dDescriptor, (void *conv, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,  \
                                        int dilation_w, int mode, int compute))                                        \
    X(int, SetConvolutionMathType, (void *conv, int math))                                                             \
    X(int, GetConvolutionForwardAlgorithm_v7, (void *handle, void *x, void *w, void *conv, void *y, int wanted,        \
                                               int *found, cd_algorithm *results))                                     \
    X(int, GetConvolutionBackwardDataAlgorithm_v7, (void *handle, void *w, void *dy, void *conv, void *dx, int wanted, \
                                                    int *found, cd_algorithm *results))                                \
    X(int, GetConvolutionBackwardFilterAlgorithm_v7, (void *handle, void *x, void *dy, void *conv, void *dw,           \
                                                      int wanted, int *found, cd_algorithm *results))                  \
    X(int, ConvolutionForward, (void *handle, const void *alpha, void *x_desc, const void *x, void *w_desc,            \
                                const void *w, void *conv, int algorithm, void *workspace, size_t bytes,               \
                                const void *beta, void *y_desc, void *y))                                              \
    X(int, ConvolutionBackwardData, (void *handle, const void *alpha, void *w_desc, const void *w, void *dy_desc,      \
                                     const void *dy, void *conv, int algorithm, void *workspace, size_t bytes,         \
                                     const void *beta, void *dx_desc, void *dx))                                       \
    X(int, ConvolutionBackwardFilter, (void *handle, const void *alpha, void *x_desc, const void *x, void *dy_desc,    \
                                       const void *dy, void *conv, int algorithm, void *workspace, size_t bytes,       \
                                       const void *beta, void *dw_desc, void *dw))
