/** The fp32 products of tile_body.h. A block of MR x NR sums stays in registers: per step of k, NV vectors of the packed
 *  operand and MR broadcasts of the other, whose strides are free: so the forward (X W), the data gradient (dZ W^T) and
 *  the weight gradient (X^T dZ) are one kernel. */
#include "tile_vector.h"

typedef float elem;

static inline vf load_elem(const float *p)
{
    return load(p);
}

static inline void store_elem(float *p, vf v)
{
    store(p, v);
}

static inline void store_row(float *p, const vf v[NV])
{
    for (int i = 0; i < NV; i++) store(p + i * VL, v[i]);
}

/* fp32 weight gradients read dz as it is. */
static inline void store_pair(float *panels, const vf first[NV], const vf second[NV])
{
    (void)panels;
    (void)first;
    (void)second;
}

/* Steps of k to fetch the packed operand ahead: a long panel spills out of the first-level cache. */
enum { AHEAD = 8 };

/* c (MR,NR) [+]= a (MR,k; strides row, col) b (k,NR; stride ldb) */
static inline __attribute__((always_inline)) void block_strided(float *c, int64_t ldc, const float *a, int64_t row,
                                                                int64_t col, const float *b, int64_t ldb, int64_t k,
                                                                int accumulate)
{
    vf acc[MR][NV];
    for (int i = 0; i < MR; i++) {
        for (int v = 0; v < NV; v++) acc[i][v] = accumulate ? load(c + i * ldc + v * VL) : splat(0.0f);
    }
    for (int64_t j = 0; j < k; j++, a += col, b += ldb) {
        vf x[NV];
        for (int v = 0; v < NV; v++) {
            x[v] = load(b + v * VL);
            __builtin_prefetch(b + AHEAD * ldb + v * VL);
        }
        for (int i = 0; i < MR; i++) {
            for (int v = 0; v < NV; v++) acc[i][v] += splat(a[i * row]) * x[v];
        }
    }
    for (int i = 0; i < MR; i++) {
        for (int v = 0; v < NV; v++) store(c + i * ldc + v * VL, acc[i][v]);
    }
}

static inline void block(float *c, int64_t ldc, const float *a, int64_t lda, const float *panel, int64_t k, int accumulate)
{
    block_strided(c, ldc, a, lda, 1, panel, NR, k, accumulate);
}

static void pack(void *panels, const float *w, int64_t k, int64_t n, int64_t row, int64_t col)
{
    float *to = panels;
    for (int64_t j = 0; j < n; j += NR) {
        for (int64_t i = 0; i < k; i++) {
            for (int64_t u = 0; u < NR; u++) *to++ = w[i * row + (j + u) * col];
        }
    }
}

/* dw (k,n) += a^T dz over the tile's rows; the last rows of dw beyond k collect the zeros of a's padding. */
static void weight_grad(float *dw, het_tile *tile, const float *a, const float *dz, int64_t k, int64_t n)
{
    enum { PADDING = 16 };
    for (int64_t j = 0; j < n; j += NR) {
        for (int64_t i = 0; i < k; i += MR)
            block_strided(dw + i * n + j, n, a + i, 1, k + PADDING, dz + j, n + PADDING, tile->rows, 1);
    }
}

#include "tile_product.h"
