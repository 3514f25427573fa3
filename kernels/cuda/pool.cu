/* Pooling, channels last; the rules of kernels/cpu/pool.c: the first of equal values wins, NaN wins over numbers. */
#include "act.h"
#include "members.h"

/* c counts pieces of channels (act.h). An image's elements are counted in 32 bits. */
typedef struct pool_shape {
    int64_t batch;
    int h, w, c, out_h, out_w;
} pool_shape;

/* A thread is for one place in several images, the blocks down the grid apart: what depends on the place is worked out once. */
enum { IMAGES_EACH = 4, DOWN_MOST = 1024 };

__device__ static inline int limit(int at, int size)
{
    const int last = size - 1, least = at < last ? at : last;
    return least < 0 ? 0 : least;
}

/* The nine loads do not wait for one another: those of pixels outside read one at the border. */
template <class P> __global__ void maxpool(void *y, void *argmax, const void *x, pool_shape s)
{
    enum { COUNT = het_piece<P>::count };
    const int n = s.out_h * s.out_w * s.c, i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int pixel = i / s.c, c = i % s.c, ox = pixel % s.out_w, oy = pixel / s.out_w;
    for (int64_t image = blockIdx.y; i < n && image < s.batch; image += gridDim.y) {
        const P *from = (const P *)x + image * s.h * s.w * s.c + c;
        P of[9];
        float best[COUNT];
        int tap[COUNT];
        HET_UNROLL for (int k = 0; k < 9; k++)
            of[k] = from[(limit(2 * oy - 1 + k / 3, s.h) * s.w + limit(2 * ox - 1 + k % 3, s.w)) * s.c];
        HET_UNROLL for (int j = 0; j < COUNT; j++)
        {
            best[j] = -INFINITY;
            tap[j] = (oy == 0) * 3 + (ox == 0); /* the first one inside */
        }
        HET_UNROLL for (int k = 0; k < 9; k++)
        {
            const int iy = 2 * oy - 1 + k / 3, ix = 2 * ox - 1 + k % 3;
            float v[COUNT];
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            het_load(v, of, k);
            HET_UNROLL for (int j = 0; j < COUNT; j++)
            {
                const int better = (v[j] > best[j]) | (v[j] != v[j]);
                best[j] = better ? v[j] : best[j];
                tap[j] = better ? k : tap[j];
            }
        }
        het_store((P *)y, image * n + i, best);
        het_store_bytes((typename het_piece<P>::bytes *)argmax, image * n + i, tap);
    }
}

/* Gathered: the sum over the (at most four) windows whose maximum the pixel was, rounded once. */
template <class P> __global__ void maxpool_backward(void *dx, const void *dy, const void *argmax, pool_shape s)
{
    enum { COUNT = het_piece<P>::count };
    typedef typename het_piece<P>::bytes bytes;
    const int n = s.h * s.w * s.c, i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int pixel = i / s.c, ix = pixel % s.w, iy = pixel / s.w, odd_x = ix % 2, odd_y = iy % 2;
    const int at = (iy / 2 * s.out_w + ix / 2) * s.c + i % s.c;
    const int down = odd_y && iy / 2 + 1 < s.out_h ? s.out_w * s.c : 0; /* 0: to no other window */
    const int right = odd_x && ix / 2 + 1 < s.out_w ? s.c : 0;
    for (int64_t image = blockIdx.y; i < n && image < s.batch; image += gridDim.y) {
        const int64_t first = image * s.out_h * s.out_w * s.c;
        float sum[COUNT] = {0.0f};
        HET_UNROLL for (int k = 0; k < 4; k++)
        {
            const int below = k / 2, beside = k % 2, place = at + (below ? down : 0) + (beside ? right : 0);
            const int none = (below && down == 0) || (beside && right == 0);
            const int wanted = none ? -1 : 3 * (below ? 0 : 1 + odd_y) + (beside ? 0 : 1 + odd_x);
            float d[COUNT];
            int tap[COUNT];
            het_load(d, (const P *)dy + first, place);
            het_load_bytes(tap, (const bytes *)argmax + first, place);
            HET_UNROLL for (int j = 0; j < COUNT; j++) sum[j] += tap[j] == wanted ? d[j] : 0.0f;
        }
        het_store((P *)dx, image * n + i, sum);
    }
}

template <class T> __global__ void avgpool(float *y, const void *x, int64_t batch, int64_t hw, int64_t c)
{
    HET_FOR(i, batch * c)
    {
        float sum = 0.0f;
        for (int64_t j = 0; j < hw; j++) sum += het_load((const T *)x, (i / c * hw + j) * c + i % c);
        y[i] = sum / (float)hw;
    }
}

/* c counts pieces */
template <class P> __global__ void avgpool_backward(void *dx, const float *dy, int64_t batch, int64_t hw, int64_t c)
{
    typedef typename het_piece<P>::floats floats;
    const float scale = 1.0f / (float)hw;
    HET_FOR(i, batch * hw * c)
    {
        float v[het_piece<P>::count];
        het_load(v, (const floats *)dy, i / (hw * c) * c + i % c);
        HET_UNROLL for (int j = 0; j < het_piece<P>::count; j++) v[j] *= scale;
        het_store((P *)dx, i, v);
    }
}

static pool_shape shape_of(int64_t batch, int64_t h, int64_t w, int64_t pieces)
{
    return {batch, (int)h, (int)w, (int)pieces, (int)(h + 1) / 2, (int)(w + 1) / 2};
}

static dim3 image_grid(int64_t batch, int64_t n)
{
    return dim3(het_tiles(n, HET_BLOCK), (unsigned)het_least(het_tiles(batch, IMAGES_EACH), DOWN_MOST));
}

void het_cuda_maxpool(het_device *dev, void *y, uint8_t *argmax, const void *x, int64_t batch, int64_t h, int64_t w,
                      int64_t c)
{
    const int64_t wide = het_wide(c, y, argmax, x);
    const pool_shape s = shape_of(batch, h, w, c / wide);
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, maxpool, image_grid(batch, (int64_t)s.out_h * s.out_w * s.c), HET_BLOCK, y,
                      argmax, x, s);
}

void het_cuda_maxpool_backward(het_device *dev, void *dx, const void *dy, const uint8_t *argmax, int64_t batch,
                               int64_t h, int64_t w, int64_t c)
{
    const int64_t wide = het_wide(c, dx, dy, argmax);
    const pool_shape s = shape_of(batch, h, w, c / wide);
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, maxpool_backward, image_grid(batch, h * w * s.c), HET_BLOCK, dx, dy, argmax,
                      s);
}

void het_cuda_avgpool(het_device *dev, float *y, const void *x, int64_t batch, int64_t hw, int64_t c)
{
    HET_LAUNCH_ACT(het_cuda_of(dev), avgpool, het_blocks(batch * c), HET_BLOCK, y, x, batch, hw, c);
}

void het_cuda_avgpool_backward(het_device *dev, void *dx, const float *dy, int64_t batch, int64_t hw, int64_t c)
{
    const int64_t wide = het_wide(c, dx, dy), pieces = c / wide;
    HET_LAUNCH_PIECES(het_cuda_of(dev), wide, avgpool_backward, het_blocks(batch * hw * pieces), HET_BLOCK, dx, dy, batch,
                      hw, pieces);
}
