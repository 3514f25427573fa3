/** The tile for AVX-512: a 12 x 32 block is 24 of the 32 registers, a panel of 256 x 32 fits the first-level cache. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,prefer-vector-width=512")
#include "tile.h"

enum { VL = 16, NV = 2, MR = 12 };

#include "tile_f32.h"
#include "tile_body.h"

static void nothing(void)
{
}

const het_tile_ops het_tile_avx512 = {"avx512",  HET_F32,  96,     MR,     nothing,  nothing,   pack,
                                 unit, multiply, features, hidden, output, backward, bias_grad, phase_grad};
#endif
