#pragma once
#include <stdint.h>
#include <string.h>

#include "clones.h"

/** bfloat16: the upper half of an IEEE binary32 (8 bits of exponent, 8 of precision). Branch-free, so loops
 * over these helpers vectorise. Test: tests/test_ops_encoder.c */
typedef uint16_t het_bf16;

static HET_INLINE float het_bf16_to_f32(het_bf16 x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/** Round to nearest, ties to even; NaN stays NaN (quiet), overflow becomes infinity. */
static HET_INLINE het_bf16 het_bf16_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    const uint32_t nan = bits >> 16 | 0x40u;
    return (het_bf16)(x != x ? nan : rounded);
}

/** Element i of an activation buffer, fp32 or bf16; with a constant `bf16` the choice costs nothing. */
static HET_INLINE float het_act_load(const void *x, int64_t i, int bf16)
{
    return bf16 ? het_bf16_to_f32(((const het_bf16 *)x)[i]) : ((const float *)x)[i];
}

static HET_INLINE void het_act_store(void *y, int64_t i, float value, int bf16)
{
    if (bf16)
        ((het_bf16 *)y)[i] = het_bf16_from_f32(value);
    else
        ((float *)y)[i] = value;
}
