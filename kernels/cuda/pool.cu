/* Pooling, channels last; the rules of kernels/cpu/pool.c: the first of equal values wins, NaN wins over numbers. */
#include "act.h"
#include "members.h"

typedef struct pool_shape {
    int64_t batch, h, w, c, out_h, out_w;
} pool_shape;

template <class T> __global__ void maxpool(void *y, uint8_t *argmax, const void *x, pool_shape s)
{
    HET_FOR(i, s.batch * s.out_h * s.out_w * s.c)
    {
        const int64_t c = i % s.c, pixel = i / s.c, ox = pixel % s.out_w, oy = pixel / s.out_w % s.out_h;
        const int64_t image = pixel / s.out_w / s.out_h;
        float best = 0.0f;
        int tap = -1;
        for (int k = 0; k < 9; k++) {
            const int64_t iy = 2 * oy - 1 + k / 3, ix = 2 * ox - 1 + k % 3;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            const float v = het_load((const T *)x, ((image * s.h + iy) * s.w + ix) * s.c + c);
            if (tap >= 0 && !(v > best) && v == v) continue;
            best = v;
            tap = k;
        }
        het_store((T *)y, i, best);
        argmax[i] = (uint8_t)tap;
    }
}

/* Gathered: the sum over the (at most four) windows whose maximum the pixel was, rounded once. */
template <class T> __global__ void maxpool_backward(void *dx, const void *dy, const uint8_t *argmax, pool_shape s)
{
    HET_FOR(i, s.batch * s.h * s.w * s.c)
    {
        const int64_t c = i % s.c, pixel = i / s.c, ix = pixel % s.w, iy = pixel / s.w % s.h;
        const int64_t image = pixel / s.w / s.h;
        float sum = 0.0f;
        for (int64_t oy = iy / 2; oy <= (iy + 1) / 2 && oy < s.out_h; oy++)
            for (int64_t ox = ix / 2; ox <= (ix + 1) / 2 && ox < s.out_w; ox++) {
                const int64_t k = (iy - 2 * oy + 1) * 3 + ix - 2 * ox + 1;
                const int64_t at = ((image * s.out_h + oy) * s.out_w + ox) * s.c + c;
                if (argmax[at] == k) sum += het_load((const T *)dy, at);
            }
        het_store((T *)dx, i, sum);
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

template <class T> __global__ void avgpool_backward(void *dx, const float *dy, int64_t batch, int64_t hw, int64_t c)
{
    const float scale = 1.0f / (float)hw;
    HET_FOR(i, batch * hw * c) het_store((T *)dx, i, dy[i / (hw * c) * c + i % c] * scale);
}

static pool_shape shape_of(int64_t batch, int64_t h, int64_t w, int64_t c)
{
    return {batch, h, w, c, (h + 1) / 2, (w + 1) / 2};
}

void het_cuda_maxpool(het_device *dev, void *y, uint8_t *argmax, const void *x, int64_t batch, int64_t h, int64_t w,
                      int64_t c)
{
    const pool_shape s = shape_of(batch, h, w, c);
    HET_LAUNCH_ACT(het_cuda_of(dev), maxpool, het_blocks(batch * s.out_h * s.out_w * c), HET_BLOCK, y, argmax, x, s);
}

void het_cuda_maxpool_backward(het_device *dev, void *dx, const void *dy, const uint8_t *argmax, int64_t batch,
                               int64_t h, int64_t w, int64_t c)
{
    const pool_shape s = shape_of(batch, h, w, c);
    HET_LAUNCH_ACT(het_cuda_of(dev), maxpool_backward, het_blocks(batch * h * w * c), HET_BLOCK, dx, dy, argmax, s);
}

void het_cuda_avgpool(het_device *dev, float *y, const void *x, int64_t batch, int64_t hw, int64_t c)
{
    HET_LAUNCH_ACT(het_cuda_of(dev), avgpool, het_blocks(batch * c), HET_BLOCK, y, x, batch, hw, c);
}

void het_cuda_avgpool_backward(het_device *dev, void *dx, const float *dy, int64_t batch, int64_t hw, int64_t c)
{
    HET_LAUNCH_ACT(het_cuda_of(dev), avgpool_backward, het_blocks(batch * hw * c), HET_BLOCK, dx, dy, batch, hw, c);
}
