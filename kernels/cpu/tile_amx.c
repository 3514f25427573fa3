/** The tile for AMX-BF16: a block of 32 x 32 sums is four tile registers, fed by two of each operand. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,prefer-vector-width=512,amx-tile,amx-bf16")
#include "tile.h"

enum { VL = 16, NV = 2, MR = 32, CAPACITY = 256 };

#include "tile_bf16_elem.h"

/* The intrinsics do not tell the compiler that they touch memory. */
#define FENCE() __asm__ volatile("" ::: "memory")

static inline void clear_tiles(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline void load_tiles(const float *c, int64_t ldc)
{
    const int64_t stride = ldc * (int64_t)sizeof *c;
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    _tile_loadd(2, c + 16 * ldc, stride);
    _tile_loadd(3, c + 16 * ldc + 16, stride);
}

static inline void store_tiles(float *c, int64_t ldc)
{
    const int64_t stride = ldc * (int64_t)sizeof *c;
    _tile_stored(0, c, stride);
    _tile_stored(1, c + 16, stride);
    _tile_stored(2, c + 16 * ldc, stride);
    _tile_stored(3, c + 16 * ldc + 16, stride);
}

/* The four sums over 32 more k. */
static inline void multiply_step(const elem *a, int64_t lda, const elem *panel)
{
    const int64_t sa = lda * (int64_t)sizeof *a, sb = 2 * NR * (int64_t)sizeof *panel;
    _tile_loadd(6, panel, sb);
    _tile_loadd(4, a, sa);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, panel + 32, sb);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + 16 * lda, sa);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static inline void block(float *c, int64_t ldc, const elem *a, int64_t lda, const elem *panel, int64_t k, int accumulate)
{
    FENCE();
    if (accumulate)
        load_tiles(c, ldc);
    else
        clear_tiles();
    for (int64_t j = 0; j < k; j += 32) multiply_step(a + j, lda, panel + j * NR);
    store_tiles(c, ldc);
    FENCE();
}

#include "tile_bf16_grad.h"
#include "tile_finish.h"

/* As tile_product.h, but a block is finished, a few rows per step of k, while the next is being multiplied: the tile
   unit and the vector units work at the same time. */
static void product(const elem *a, int64_t lda, const elem *panels, int64_t k, int64_t n, const finish *f)
{
    _Alignas(64) float sums[2][MR * NR];
    const int64_t rows = f->tile->rows, down = rows / MR, blocks = down * (n / NR), steps = k / 32;
    const int rows_per_step = (int)((MR / 2 + steps - 1) / steps) * 2;
    FENCE();
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t m = i % down * MR, j = i / down * NR, before = i - 1;
        int done = i > 0 ? 0 : MR;
        clear_tiles();
        for (int64_t step = 0; step < steps; step++) {
            multiply_step(a + m * lda + step * 32, lda, panels + j * k + step * 32 * NR);
            const int next = done + rows_per_step < MR ? done + rows_per_step : MR;
            if (done < MR) finish_rows(f, sums[before % 2], before % down * MR, before / down * NR, done, next);
            done = next;
        }
        store_tiles(sums[i % 2], NR);
        FENCE();
    }
    finish_rows(f, sums[(blocks - 1) % 2], rows - MR, n - NR, 0, MR);
    FENCE();
}

#include "tile_body.h"

/* Eight registers of 16 rows of 64 bytes. */
static void enter(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    FENCE();
    _tile_loadconfig(&config);
}

static void leave(void)
{
    _tile_release();
}

const het_tile_ops het_tile_amx = {"amx",  HET_BF16, CAPACITY, MR,     enter,  leave,    pack,
                                   unit,   multiply, features, hidden, output, backward, bias_grad, phase_grad};
#endif
