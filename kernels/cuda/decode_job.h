#pragma once
/** What the kernels that take all layers of a tile at once have in common: what they are given, features, relu. */
#include "decode.h"

typedef het_decode_row row;
typedef het_decode_chunk chunk;

/* What a kernel needs. */
typedef struct job {
    const row *rows;
    int64_t count, tiles, points;
    int64_t parts; /* stretches of a backward's rows whose sums are written, of all tiles */
    const float *turns, *bias, *params;
    const uint4 *forward, *backward; /* weights in squares */
    int frequencies, layers, plain;
    float *slice; /* of the forward; the rest is of the backward */
    const float *dslice;
    het_narrow *x, *h[HET_DECODE_LAYERS_MAX], *dz[HET_DECODE_LAYERS_MAX];
    float *out_sums, *bias_sums, *slots; /* (parts, H+1, 2), (layers - 1, parts, H), (parts + images, 2F + H) */
} job;

/** The kernels of decode_wgmma.cu and decode_wgmma_back.cu on what their job says. */
void het_cuda_wgmma_forward(het_cuda *c, const job &q);
void het_cuda_wgmma_backward(het_cuda *c, const job &q);

/* W_out (H,2), b_out (2) */
template <int WIDTH> __device__ static inline const float *output_at(const job &q)
{
    return q.params + 2 * q.frequencies * WIDTH + (q.layers - 1) * (WIDTH * WIDTH + WIDTH);
}

/* Two neighbours as memory holds them. */
__device__ static inline float2 split(uint32_t word)
{
    float pair[2];
    het_unpack(pair, word);
    return make_float2(pair[0], pair[1]);
}

/* x less the nearest whole number, for |x| < 2^22: a number of that size holds no fraction. (rintf is a slow instruction.) */
__device__ static inline float fraction(float x)
{
    const float large = 12582912.0f; /* 1.5 2^23 */
    return x - ((x + large) - large);
}

/* Of a phase, k . (across, up) + plane in turns. Whole ones leave the sum at its end: it is good to 2e-5 of a turn in a box of 512. */
__device__ static inline void feature(const row &at, float across, float up, float plane, float *cosine, float *sine)
{
    const float phase = fraction(fmaf(at.kx, across, fmaf(at.ky, up, plane)));
    __sincosf(6.283185307f * fabsf(phase), sine, cosine); /* so that it is odd and even to the bit: V(-q) = conj V(q) */
    *sine = at.sign * copysignf(*sine, phase);
}

/* NaN passes. */
__device__ static inline float relu(float v)
{
#ifdef __CUDA_ARCH__
    asm("max.NaN.f32 %0, %0, 0f00000000;" : "+f"(v));
    return v;
#else
    return v <= 0.0f ? 0.0f : v;
#endif
}
