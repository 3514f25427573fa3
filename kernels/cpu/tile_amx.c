/** The tile for AMX-BF16: a block of 32 x 32 sums is four tile registers, fed by two of each operand. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,prefer-vector-width=512,amx-tile,amx-bf16")
#include "tile.h"

enum { VL = 16, NV = 2, MR = 32, CAPACITY = 256 };

#include "tile_bf16_elem.h"

/* The intrinsics do not tell the compiler that they touch memory. */
#define FENCE() __asm__ volatile("" ::: "memory")

static inline void block(float *c, int64_t ldc, const elem *a, int64_t lda, const elem *panel, int64_t k, int accumulate)
{
    const int64_t sc = ldc * (int64_t)sizeof *c, sa = lda * (int64_t)sizeof *a, sb = 2 * NR * (int64_t)sizeof *panel;
    FENCE();
    if (accumulate) {
        _tile_loadd(0, c, sc);
        _tile_loadd(1, c + 16, sc);
        _tile_loadd(2, c + 16 * ldc, sc);
        _tile_loadd(3, c + 16 * ldc + 16, sc);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t j = 0; j < k; j += 32, panel += 32 * NR) {
        _tile_loadd(6, panel, sb);
        _tile_loadd(4, a + j, sa);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, panel + 32, sb);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * lda + j, sa);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, sc);
    _tile_stored(1, c + 16, sc);
    _tile_stored(2, c + 16 * ldc, sc);
    _tile_stored(3, c + 16 * ldc + 16, sc);
    FENCE();
}

#include "tile_bf16_grad.h"
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
