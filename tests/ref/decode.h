#pragma once
#include <stdint.h>

/** The coordinate network of kernels/ops.h in plain double precision: phases directly, no tables, no tiles. */
typedef struct ref_decode {
    int64_t box, frequencies, width, layers;
    const int32_t *kxy;  /* (P,2) */
    const float *params; /* layout of het_decode_spec */
    const float *freq;   /* (F,3) */
    int bf16;            /* round what enters matrix products - features, W_l, h_l, dz_l - to bf16 */
    int plain;           /* no residual sums */
} ref_decode;

/** slice (P,2) of one image; rot (9), bias (H). */
void ref_decode_forward(const ref_decode *net, double *slice, const double *rot, const float *bias, double kz,
                        int64_t points);
/** dparams += , drot (9) = , dbias (H) = from dslice (P,2) of one image with kz = 0. The folds' signs are constants. */
void ref_decode_backward(const ref_decode *net, double *dparams, double *drot, double *dbias, const float *dslice,
                         const double *rot, const float *bias, int64_t points);
