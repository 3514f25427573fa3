#pragma once
#include "onednn.h"

/* The two ways to convolve that conv.c chooses from, each for any of three products. */

enum { HET_CONV_FORWARD = 1, HET_CONV_DATA = 2, HET_CONV_WEIGHTS = 4, HET_CONV_ALL = 7 };
enum { HET_CONV_KERNEL_MAX = 11 };

/* The taps along one axis that ever meet an input pixel: `count` from `first`; padding as seen by them. A 3x3
   kernel on a 1x1 image is its centre, on a 2x2 image with stride 2 its lower right 2x2. The others multiply
   zeros only: they are neither read nor converted, and their gradient is zero. */
typedef struct het_taps {
    int64_t first, count, pad_low, pad_high;
} het_taps;

typedef struct het_conv_shape {
    het_conv_spec spec;
    int64_t out_h, out_w;
    het_taps y, x;
    int64_t w_row;    /* elements of one output channel in w: kernel * kernel * in_c */
    int64_t w_offset; /* of the first useful tap in w */
} het_conv_shape;

/* conv_direct.c: oneDNN's convolution primitives. `products` says which of them are made. */
typedef struct het_direct {
    het_steps set;
    het_conv_shape shape;
    dnnl_memory_desc_t x_md, y_md; /* NHWC activations */
    dnnl_memory_desc_t w_md;       /* view of the useful taps of w or dw: fp32 (out_c, in_c, taps, taps) */
    dnnl_memory_t x, y, w;         /* caller's: x or dx, y or dy, w or dw */
    het_step forward_load, forward, data_load, data, weights, weights_add;
} het_direct;

het_status het_direct_new(het_direct *direct, het_device *dev, const het_conv_shape *shape, int products);
void het_direct_free(het_direct *direct);
void het_direct_forward(het_direct *direct, void *y, const void *x, const float *w);
void het_direct_data(het_direct *direct, void *dx, const void *dy, const float *w);
void het_direct_weights(het_direct *direct, float *dw, const void *dy, const void *x);

/* conv_columns.c: gather the windows into the rows of a matrix, then one matrix product. */
typedef struct het_columns {
    het_steps set;
    het_conv_shape shape;
    int64_t k;     /* columns: useful taps * in_c */
    int64_t chunk; /* images per product; divides the batch */
    int64_t runs;  /* contiguous pieces of an output channel's useful taps in w */
    int in_place;  /* the input is its own column matrix */
    int pack;      /* weights are copied or converted before use; otherwise used where they are */
    void *columns; /* (chunk, out_h, out_w, k): act, or fp32 for the data gradient */
    void *packed;  /* (out_c, k) act */
    dnnl_memory_t a_x, a_y, a_dy_t; /* left factors: columns; dy; dy transposed */
    dnnl_memory_t w_t, w, b_x;      /* right factors: weights transposed; weights; columns */
    dnnl_memory_t y, dx, dw;        /* results */
    het_step forward, data, weights;
} het_columns;

het_status het_columns_new(het_columns *columns, het_device *dev, const het_conv_shape *shape, int products);
void het_columns_free(het_columns *columns);
void het_columns_forward(het_columns *columns, void *y, const void *x, const float *w);
void het_columns_data(het_columns *columns, void *dx, const void *dy, const float *w);
void het_columns_weights(het_columns *columns, float *dw, const void *dy, const void *x);
