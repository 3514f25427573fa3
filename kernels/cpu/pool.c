#include "bf16.h"
#include "layers.h"

/* Maximum over 3x3 windows, stride 2, pad 1, channels last. Channels go in blocks whose running maximum stays
   in registers. The first of equal values wins; NaN wins over numbers, so that it is seen later. */

enum { BLOCK = 64 };

typedef struct shape {
    int64_t h, w, c, out_h, out_w;
} shape;

/* y, argmax of one output pixel: channels first..first+count-1, count <= BLOCK */
static HET_INLINE void window(void *restrict y, uint8_t *restrict argmax, const void *x, const shape *s,
                              int64_t image, int64_t oy, int64_t ox, int64_t first, int64_t count, int bf16)
{
    float best[BLOCK];
    int32_t tap[BLOCK];
    int started = 0;
    for (int64_t k = 0; k < 9; k++) {
        const int64_t iy = 2 * oy - 1 + k / 3, ix = 2 * ox - 1 + k % 3;
        if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w) continue;
        const int64_t at = ((image * s->h + iy) * s->w + ix) * s->c + first;
        for (int64_t c = 0; c < count; c++) {
            const float v = het_act_load(x, at + c, bf16);
            const int take = !started || v > best[c] || v != v;
            best[c] = take ? v : best[c];
            tap[c] = take ? (int32_t)k : tap[c];
        }
        started = 1;
    }
    const int64_t to = ((image * s->out_h + oy) * s->out_w + ox) * s->c + first;
    for (int64_t c = 0; c < count; c++) {
        het_act_store(y, to + c, best[c], bf16);
        argmax[to + c] = (uint8_t)tap[c];
    }
}

HET_CLONES
static void pool_row(void *y, uint8_t *argmax, const void *x, const shape *s, int64_t image, int64_t oy,
                     int bf16)
{
    for (int64_t ox = 0; ox < s->out_w; ox++)
        for (int64_t c = 0; c < s->c; c += BLOCK) {
            const int64_t count = s->c - c < BLOCK ? s->c - c : BLOCK;
            if (bf16)
                window(y, argmax, x, s, image, oy, ox, c, count, 1);
            else
                window(y, argmax, x, s, image, oy, ox, c, count, 0);
        }
}

/* dx of one input pixel: the sum of dy over the (at most four) windows whose maximum it was. Gathering sums
   in fp32 and rounds once, where scattering would round at every addition. */
static HET_INLINE void gather(void *restrict dx, const void *dy, const uint8_t *argmax, const shape *s,
                              int64_t image, int64_t iy, int64_t ix, int64_t first, int64_t count, int bf16)
{
    float sum[BLOCK];
    for (int64_t c = 0; c < count; c++) sum[c] = 0.0f;
    for (int64_t oy = iy / 2; oy <= (iy + 1) / 2 && oy < s->out_h; oy++)
        for (int64_t ox = ix / 2; ox <= (ix + 1) / 2 && ox < s->out_w; ox++) {
            const int32_t k = (int32_t)((iy - 2 * oy + 1) * 3 + ix - 2 * ox + 1);
            const int64_t at = ((image * s->out_h + oy) * s->out_w + ox) * s->c + first;
            for (int64_t c = 0; c < count; c++)
                sum[c] += argmax[at + c] == k ? het_act_load(dy, at + c, bf16) : 0.0f;
        }
    const int64_t to = ((image * s->h + iy) * s->w + ix) * s->c + first;
    for (int64_t c = 0; c < count; c++) het_act_store(dx, to + c, sum[c], bf16);
}

HET_CLONES
static void gather_row(void *dx, const void *dy, const uint8_t *argmax, const shape *s, int64_t image,
                       int64_t iy, int bf16)
{
    for (int64_t ix = 0; ix < s->w; ix++)
        for (int64_t c = 0; c < s->c; c += BLOCK) {
            const int64_t count = s->c - c < BLOCK ? s->c - c : BLOCK;
            if (bf16)
                gather(dx, dy, argmax, s, image, iy, ix, c, count, 1);
            else
                gather(dx, dy, argmax, s, image, iy, ix, c, count, 0);
        }
}

void het_cpu_maxpool(het_device *dev, void *y, uint8_t *argmax, const void *x, int64_t batch, int64_t h,
                     int64_t w, int64_t c)
{
    const shape s = {.h = h, .w = w, .c = c, .out_h = (h + 1) / 2, .out_w = (w + 1) / 2};
    const int bf16 = dev->precision == HET_BF16;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < batch * s.out_h; row++)
        pool_row(y, argmax, x, &s, row / s.out_h, row % s.out_h, bf16);
}

void het_cpu_maxpool_backward(het_device *dev, void *dx, const void *dy, const uint8_t *argmax, int64_t batch,
                              int64_t h, int64_t w, int64_t c)
{
    const shape s = {.h = h, .w = w, .c = c, .out_h = (h + 1) / 2, .out_w = (w + 1) / 2};
    const int bf16 = dev->precision == HET_BF16;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < batch * h; row++) gather_row(dx, dy, argmax, &s, row / h, row % h, bf16);
}
