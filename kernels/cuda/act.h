#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

/** Elements of activations: float, or bfloat16 in the same rounding as on the CPU (kernels/cpu/bf16.h). */
typedef struct het_narrow {
    uint16_t bits;
} het_narrow;

__device__ static inline float het_load(const float *x, int64_t i)
{
    return x[i];
}

__device__ static inline float het_load(const het_narrow *x, int64_t i)
{
    return __uint_as_float((uint32_t)x[i].bits << 16);
}

__device__ static inline void het_store(float *y, int64_t i, float value)
{
    y[i] = value;
}

/* Nearest, ties to even; NaN stays NaN. One instruction on the device, which rounds in its hardware from sm_80 on. */
__device__ static inline void het_store(het_narrow *y, int64_t i, float value)
{
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y[i].bits) : "f"(value));
#else
    const uint32_t bits = __float_as_uint(value);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    y[i].bits = (uint16_t)(value != value ? (bits >> 16 | 0x40u) : rounded);
#endif
}

/* Launch one of a template's two instances by the device's precision. */
#define HET_LAUNCH_ACT(c, kernel, grid, block, ...)                                \
    do {                                                                           \
        if ((c)->narrow) HET_LAUNCH(c, kernel<het_narrow>, grid, block, __VA_ARGS__); \
        else HET_LAUNCH(c, kernel<float>, grid, block, __VA_ARGS__);               \
    } while (0)
#define HET_LAUNCH_ACT_MEET(c, kernel, grid, block, ...)                                \
    do {                                                                                \
        if ((c)->narrow) HET_LAUNCH_MEET(c, kernel<het_narrow>, grid, block, __VA_ARGS__); \
        else HET_LAUNCH_MEET(c, kernel<float>, grid, block, __VA_ARGS__);               \
    } while (0)
