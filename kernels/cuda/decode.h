#pragma once
#include "act.h"
#include "context.h"

/** The plan of the coordinate network, and its ways: layer by layer with cuBLASLt (decode_plain.cu), which serves any shape and
 *  precision, and all layers of a tile in one kernel on tensor cores (decode_fused.cu; on an H100 decode_wgmma.cu). */

enum { HET_DECODE_IMAGES = 512 };  /* of a chunk, at most */
enum { HET_DECODE_ROWS = 128 };    /* of a tile of the fused kernels */

/* One row of a chunk. */
typedef struct het_decode_row {
    int32_t image, slot; /* of the batch; among the chunk's images */
    int32_t point;
    float kx, ky;        /* whole numbers */
    float sign;
} het_decode_row;

/* Images and rows of a call, and the part of it that a chunk is. */
typedef struct het_decode_chunk {
    const int32_t *which, *kxy;
    int64_t points, first, rows; /* rows [first, first + rows) of the call */
    int64_t first_image, images; /* among the listed */
} het_decode_chunk;

struct het_decode {
    het_cuda *cuda;
    het_decode_spec spec;
    int fused, wgmma; /* wgmma: the fused kernels are those for an H100 */
    int64_t capacity, capacity_forward; /* rows of a chunk */
    int32_t *reach;   /* [host] (max_points) largest |kx|, |ky| of points 0..p */
    int32_t *kxy;
    float *freq, *params; /* copies */
    het_decode_row *rows;
    void *x, *h[HET_DECODE_LAYERS_MAX], *dz[HET_DECODE_LAYERS_MAX]; /* (rows, 2F), (rows, H) */
    float *partial;       /* sums of slices of a chunk's rows, to be joined */
    float *dphase;        /* (IMAGES, 2, F) */
    /* layer by layer; of dz the first alone */
    void *weights;        /* params in bf16, or NULL */
    float *tables;        /* (IMAGES, 4, D/2, F): cos, sin over kx, cos, sin over ky */
    float *z, *dh, *dx, *out; /* (rows, H), (rows, H), (rows, 2F), (rows, 2) */
    uint8_t *mask[HET_DECODE_LAYERS_MAX];
    /* fused; of h all but the last */
    uint4 *forward, *backward; /* weights in squares of W and of its transpose */
    float *turns;         /* (IMAGES, 3, F): of a step in x and in y, and of the plane's offset */
    float *slots;         /* (parts + IMAGES, 2F + H): sums of the rows of one image in a part of a tile */
    uint4 *stages;        /* by wgmma: weights as it takes them */
};

/** Inputs of a layer, and the offset of its weights in the block; its bias follows them (l > 0). l = layers: of W_out. */
static inline int64_t het_decode_inputs(const het_decode_spec *s, int64_t l)
{
    return l == 0 ? 2 * s->frequencies : s->width;
}

static inline int64_t het_decode_layer_at(const het_decode_spec *s, int64_t l)
{
    return l == 0 ? 0 : 2 * s->frequencies * s->width + (l - 1) * (s->width * s->width + s->width);
}

/** Tiles of the fused backward's largest chunk; in pairs, as wgmma's blocks take them. */
static inline int64_t het_decode_tiles(const het_decode *d)
{
    return 2 * (int64_t)het_tiles(d->capacity, 2 * HET_DECODE_ROWS);
}

__device__ static inline int32_t het_decode_image_of(const het_decode_chunk &c, int64_t listed)
{
    return c.which == NULL ? (int32_t)listed : c.which[listed];
}

/** The rows of the chunk that belong to its image number `slot`. */
__device__ static inline void het_decode_rows_of(const het_decode_chunk &c, int64_t slot, int64_t *begin, int64_t *end)
{
    const int64_t from = (c.first_image + slot) * c.points - c.first, to = from + c.points;
    *begin = from < 0 ? 0 : from;
    *end = to > c.rows ? c.rows : to;
}

/* ---- steps that both ways share ---- */
void het_cuda_decode_rows(het_decode *d, const het_decode_chunk *k, const float *rot, const float *kz);
/** dparams += in^T dz of layer l over the chunk's rows. */
void het_cuda_decode_weights(het_decode *d, const het_decode_chunk *k, float *dparams, int64_t l, const void *dz);
/** drot += from dphase. */
void het_cuda_decode_rotations(het_decode *d, const het_decode_chunk *k, float *drot);

/* ---- layer by layer: memory of its own (0 where there is not enough), and a chunk's share of a call ---- */
int het_cuda_plain_allocate(het_decode *d);
void het_cuda_plain_forward(het_decode *d, const het_decode_chunk *k, float *slice, const float *rot, const float *bias,
                            const float *kz);
void het_cuda_plain_backward(het_decode *d, const het_decode_chunk *k, float *dparams, float *drot, float *dbias,
                             const float *dslice, const float *rot, const float *bias);

/* ---- fused: the same, and weights in another form ---- */
/** Whether the fused kernels serve this network here: bf16, a width they were made for, enough shared memory, squares of sums that lie
 *  in registers as they take for granted. */
int het_cuda_fused_fits(het_cuda *c, const het_decode_spec *s);
int het_cuda_fused_allocate(het_decode *d);
void het_cuda_fused_load(het_decode *d);
void het_cuda_fused_forward(het_decode *d, const het_decode_chunk *k, float *slice, const float *rot, const float *bias,
                            const float *kz);
void het_cuda_fused_backward(het_decode *d, const het_decode_chunk *k, float *dparams, float *drot, float *dbias,
                             const float *dslice, const float *rot, const float *bias);

/* ---- the fused kernels by wgmma ---- */
/** Whether they serve where fused kernels do: compute capability 9.0, width 256, frequencies a multiple of 32. */
int het_cuda_wgmma_fits(const het_cuda *c, const het_decode_spec *s);
int het_cuda_wgmma_allocate(het_decode *d);
void het_cuda_wgmma_load(het_decode *d);
/** Whether they give what the others give for a network made up; leaves its weights in the plan. */
int het_cuda_wgmma_agrees(het_decode *d);
