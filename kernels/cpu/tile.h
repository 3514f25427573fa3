#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../ops.h"

/** A tile: rows (image, point) of the coordinate network that go through all layers together, by one thread.
 *
 *  tile_body.h holds the code once; tile_plain.c, tile_avx2.c, .. compile it for one instruction set each and give a
 *  het_tile_ops. `elem` is float or bf16, the type of matrix operands; sums, biases and gradients are fp32.
 *  Leading dimensions carry 64 bytes of padding so that the rows of a tile do not compete for the same cache sets. */

/** The parameters in the layout of one het_tile_ops; read by all threads. */
typedef struct het_net {
    int64_t frequencies, width, layers;
    int plain;                             /* no residual sums */
    void *forward[HET_DECODE_LAYERS_MAX];  /* elem: W_l in panels (n/NR, k, NR), bf16 (n/NR, k/2, NR, 2) */
    void *backward[HET_DECODE_LAYERS_MAX]; /* the same of W_l transposed */
    float *bias[HET_DECODE_LAYERS_MAX];    /* b_l (H); [0] is not used */
    float *out;                            /* (2,H): the columns of W_out */
    float out_bias[2];
} het_net;

/** Gradient of the parameters, private to a thread: W_l (k rounded up to the kernel's rows, H). */
typedef struct het_net_grad {
    float *weight[HET_DECODE_LAYERS_MAX];
    float *bias[HET_DECODE_LAYERS_MAX];
    float *out; /* (2,H) */
    float out_bias[2];
} het_net_grad;

/** cos and sin of the phases of one image: x rows k = 0 .. carry the plane offset, y rows are k = 0 .. (F each). */
typedef struct het_phases {
    float *cx, *sx, *cy, *sy;
} het_phases;

typedef struct het_tile {
    int64_t capacity;    /* rows there is room for */
    int64_t rows;        /* rows in use, padded to a multiple of the kernel's rows; padding rows have sign 0 */
    int32_t *kx, *ky;    /* (rows) */
    float *sign;         /* (rows) the fold s */
    const float **bias;  /* (rows) bias of the row's image, (H) */
    float *out;          /* (rows,2): outputs (forward), their gradient (backward) */
    void *x;             /* elem (rows, 2F) features */
    void *h[HET_DECODE_LAYERS_MAX];       /* elem (rows, H); a forward pass alone uses [0] and [1] in turn */
    uint8_t *mask[HET_DECODE_LAYERS_MAX]; /* (rows, H): 255 where layer l's relu passes */
    float *dh;           /* (rows, H) gradient of h_l */
    void *dz[2];         /* elem (rows, H) gradient before the relu, of the layer at work and of the next */
    float *dx;           /* (rows, 2F) */
    void *left;          /* bf16: transposed activations (k, rows) */
    void *right;         /* bf16: dz in panels (H/NR, rows/2, NR, 2), packed for the weight gradient */
} het_tile;

typedef struct het_tile_ops {
    const char *name;
    het_dtype type;
    int64_t capacity; /* rows of a full tile, a multiple of row_step */
    int64_t row_step;
    void (*enter)(void); /* per thread, around any of the following */
    void (*leave)(void);
    /* panels of w (k,n) with strides w[i*row + j*col] */
    void (*pack)(void *panels, const float *w, int64_t k, int64_t n, int64_t row, int64_t col);
    /* c,s (F) = cos, sin of 2 pi (k (coarse + fine) + offset); coarse is a multiple of 2^-12, offset may be NULL */
    void (*unit)(float *c, float *s, const float *coarse, const float *fine, const float *offset, float k, int64_t f);
    /* (c,s) = (ca,sa) (cb,sb) as complex numbers */
    void (*multiply)(float *c, float *s, const float *ca, const float *sa, const float *cb, const float *sb, int64_t f);
    /* x rows [first, last) from the phases of their image */
    void (*features)(const het_net *net, het_tile *tile, const het_phases *phases, int64_t first, int64_t last);
    /* all hidden layers; keep: every activation and mask is kept for the backward */
    void (*hidden)(const het_net *net, het_tile *tile, int keep);
    /* out = h W_out + b_out, imaginary part times the fold's sign */
    void (*output)(const het_net *net, het_tile *tile);
    /* from out = d loss / d (unfolded output) to dx; grad += ; dz of layer 0 stays in dh */
    void (*backward)(const het_net *net, het_net_grad *grad, het_tile *tile);
    /* dbias (H) += sum over rows [first, last) of dz_0 */
    void (*bias_grad)(const het_net *net, float *dbias, const het_tile *tile, int64_t first, int64_t last);
    /* da, db (F) += sum over rows of kx dphase, ky dphase */
    void (*phase_grad)(const het_net *net, float *da, float *db, const het_tile *tile, int64_t first, int64_t last);
} het_tile_ops;

extern const het_tile_ops het_tile_plain;
#if defined(__x86_64__)
extern const het_tile_ops het_tile_avx2, het_tile_avx512, het_tile_bf16, het_tile_amx;
#endif

/** Rows of a private weight gradient: k rounded up. */
static inline int64_t het_tile_round(int64_t k, int64_t step)
{
    return (k + step - 1) / step * step;
}
