/** The tile for AVX2 with FMA: a 6 x 16 block is 12 of the 16 registers. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include "tile.h"

enum { VL = 8, NV = 2, MR = 6 };

#include "tile_f32.h"
#include "tile_body.h"

static void nothing(void)
{
}

const het_tile_ops het_tile_avx2 = {"avx2",  HET_F32,  96,     MR,     nothing,  nothing,   pack,
                                 unit, multiply, features, hidden, output, backward, bias_grad, phase_grad};
#endif
