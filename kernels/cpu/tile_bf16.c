/** The tile for AVX512-BF16: pairs of k per lane, fp32 sums in a 12 x 32 block of registers. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,prefer-vector-width=512")
#include "tile.h"

enum { VL = 16, NV = 2, MR = 12, CAPACITY = 192 };

#include "tile_bf16_elem.h"

static inline void block(float *c, int64_t ldc, const elem *a, int64_t lda, const elem *panel, int64_t k, int accumulate)
{
    __m512 acc[MR][NV];
    for (int i = 0; i < MR; i++) {
        for (int v = 0; v < NV; v++) acc[i][v] = accumulate ? (__m512)load(c + i * ldc + v * VL) : _mm512_setzero_ps();
    }
    for (int64_t j = 0; j < k; j += 2, panel += 2 * NR) {
        const __m512bh x0 = (__m512bh)_mm512_loadu_si512(panel), x1 = (__m512bh)_mm512_loadu_si512(panel + 32);
        for (int i = 0; i < MR; i++) {
            int32_t pair;
            memcpy(&pair, a + i * lda + j, sizeof pair);
            const __m512bh y = (__m512bh)_mm512_set1_epi32(pair);
            acc[i][0] = _mm512_dpbf16_ps(acc[i][0], y, x0);
            acc[i][1] = _mm512_dpbf16_ps(acc[i][1], y, x1);
        }
    }
    for (int i = 0; i < MR; i++) {
        for (int v = 0; v < NV; v++) store(c + i * ldc + v * VL, (vf)acc[i][v]);
    }
}

#include "tile_bf16_grad.h"
#include "tile_product.h"
#include "tile_body.h"

static void nothing(void)
{
}

const het_tile_ops het_tile_bf16 = {"bf16", HET_BF16, CAPACITY, MR,     nothing,  nothing,   pack,
                                    unit,   multiply, features, hidden, output, backward, bias_grad, phase_grad};
#endif
