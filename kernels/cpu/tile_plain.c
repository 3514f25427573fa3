/** The tile for any machine: vectors of four, fp32. */
#include "tile.h"

enum { VL = 4, NV = 2, MR = 4 };

#include "tile_f32.h"
#include "tile_body.h"

static void nothing(void)
{
}

const het_tile_ops het_tile_plain = {"plain",  HET_F32,  96,     MR,     nothing,  nothing,   pack,
                                 unit, multiply, features, hidden, output, backward, bias_grad, phase_grad};
