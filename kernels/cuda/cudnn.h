#pragma once
#include "context.h"

/** Convolutions by cuDNN 9, loaded at run time where it is found, for what it takes; conv.cu does the rest.
 *  HET_CUDA_CONV=columns leaves it out, HET_CUDNN_LIBRARY names another file than libcudnn.so.9.
 *
 *  Only algorithms whose sums have one order, and true fp32 (no TF32) for fp32. Weights and their gradient are dense (out_c,
 *  kernel, kernel, in_c); in bf16 what is added to dw has been rounded once. */
typedef struct het_cudnn_conv het_cudnn_conv;

/** c->cudnn stays NULL where there is no such library or it does not start, which is no error; a warning, where it
 *  was asked for by HET_CUDA_CONV=cudnn. Errors: HET_E_USAGE for another word there. */
het_status het_cudnn_open(het_cuda *c);
void het_cudnn_close(het_cuda *c);
/** "cuDNN 9.19.0", or "" where there is none. */
void het_cudnn_name(const het_cuda *c, char *text, size_t size);

/** A plan; NULL where the library takes nothing of this convolution. *scratch: bytes of c->scratch that it wants. */
het_cudnn_conv *het_cudnn_conv_new(het_cuda *c, const het_conv_spec *spec, int64_t out_h, int64_t out_w, size_t *scratch);
void het_cudnn_conv_free(het_cudnn_conv *conv);
/** y = x * w;  dx = d(x*w)/dx dy;  dw += d(x*w)/dw dy. 0: declined, and nothing was done. Accept NULL, and decline. */
int het_cudnn_forward(het_cudnn_conv *conv, void *y, const void *x, const void *w);
int het_cudnn_backward_data(het_cudnn_conv *conv, void *dx, const void *dy, const void *w);
int het_cudnn_backward_filter(het_cudnn_conv *conv, float *dw, const void *dy, const void *x);
