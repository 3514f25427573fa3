#pragma once
#include "context.h"

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

/** Pieces: one element, or eight neighbours at a bound of 16 bytes as memory holds them, which are taken and put by one
 *  access or two. Kernels that are templates of a piece serve both, see het_wide. */
typedef struct het_narrow8 {
    uint4 of[1];
} het_narrow8;
typedef struct het_float8 {
    uint4 of[2];
} het_float8;

template <class P> struct het_piece { /* of one */
    enum { count = 1 };
    typedef P element;
    typedef float floats; /* as many in fp32 */
    typedef uint8_t bytes; /* as many bytes */
};
template <> struct het_piece<het_narrow8> {
    enum { count = 8 };
    typedef het_narrow element;
    typedef het_float8 floats;
    typedef uint64_t bytes;
};
template <> struct het_piece<het_float8> {
    enum { count = 8 };
    typedef float element;
    typedef het_float8 floats;
    typedef uint64_t bytes;
};

/* Two elements of a word, the first one in its low half. */
__device__ static inline void het_unpack(float *to, uint32_t word)
{
    to[0] = __uint_as_float(word << 16);
    to[1] = __uint_as_float(word & 0xFFFF0000u);
}

__device__ static inline uint32_t het_pack(const float *from)
{
#ifdef __CUDA_ARCH__
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(from[1]), "f"(from[0]));
    return word;
#else
    het_narrow pair[2];
    het_store(pair, 0, from[0]);
    het_store(pair, 1, from[1]);
    return pair[0].bits | (uint32_t)pair[1].bits << 16;
#endif
}

/* Piece i of an array, as numbers. */
template <class P> __device__ static inline void het_load(float *to, const P *x, int64_t i)
{
    to[0] = het_load(x, i);
}

__device__ static inline void het_load(float *to, const het_narrow8 *x, int64_t i)
{
    const uint4 words = x[i].of[0];
    het_unpack(to, words.x);
    het_unpack(to + 2, words.y);
    het_unpack(to + 4, words.z);
    het_unpack(to + 6, words.w);
}

__device__ static inline void het_load(float *to, const het_float8 *x, int64_t i)
{
    const uint4 words[2] = {x[i].of[0], x[i].of[1]};
    HET_UNROLL for (int j = 0; j < 2; j++)
    {
        to[4 * j] = __uint_as_float(words[j].x);
        to[4 * j + 1] = __uint_as_float(words[j].y);
        to[4 * j + 2] = __uint_as_float(words[j].z);
        to[4 * j + 3] = __uint_as_float(words[j].w);
    }
}

template <class P> __device__ static inline void het_store(P *y, int64_t i, const float *from)
{
    het_store(y, i, from[0]);
}

__device__ static inline void het_store(het_narrow8 *y, int64_t i, const float *from)
{
    y[i].of[0] = {het_pack(from), het_pack(from + 2), het_pack(from + 4), het_pack(from + 6)};
}

__device__ static inline void het_store(het_float8 *y, int64_t i, const float *from)
{
    HET_UNROLL for (int j = 0; j < 2; j++)
        y[i].of[j] = {__float_as_uint(from[4 * j]), __float_as_uint(from[4 * j + 1]), __float_as_uint(from[4 * j + 2]),
                      __float_as_uint(from[4 * j + 3])};
}

/* The same of bytes; B as in het_piece. */
template <class B> __device__ static inline void het_load_bytes(int *to, const B *x, int64_t i)
{
    const B word = x[i];
    HET_UNROLL for (int j = 0; j < (int)sizeof word; j++) to[j] = (int)(word >> 8 * j & 0xFF);
}

template <class B> __device__ static inline void het_store_bytes(B *y, int64_t i, const int *from)
{
    B word = 0;
    HET_UNROLL for (int j = 0; j < (int)sizeof word; j++) word |= (B)((B)from[j] << 8 * j);
    y[i] = word;
}

/* Whether rows of n elements consist of pieces of eight: 8, otherwise 1. */
static inline int64_t het_wide(int64_t n, const void *a, const void *b = NULL, const void *c = NULL, const void *d = NULL)
{
    return n % 8 == 0 && ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) % 16 == 0 ? 8 : 1;
}

/* Launch one of a template's two instances by the device's precision, or of four by it and by what het_wide has found. */
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
#define HET_LAUNCH_PIECES_(launch, c, wide, kernel, grid, block, ...)                           \
    do {                                                                                        \
        if ((c)->narrow && (wide) == 8) launch(c, kernel<het_narrow8>, grid, block, __VA_ARGS__); \
        else if ((c)->narrow) launch(c, kernel<het_narrow>, grid, block, __VA_ARGS__);          \
        else if ((wide) == 8) launch(c, kernel<het_float8>, grid, block, __VA_ARGS__);          \
        else launch(c, kernel<float>, grid, block, __VA_ARGS__);                                \
    } while (0)
#define HET_LAUNCH_PIECES(c, wide, kernel, grid, block, ...) \
    HET_LAUNCH_PIECES_(HET_LAUNCH, c, wide, kernel, grid, block, __VA_ARGS__)
#define HET_LAUNCH_PIECES_MEET(c, wide, kernel, grid, block, ...) \
    HET_LAUNCH_PIECES_(HET_LAUNCH_MEET, c, wide, kernel, grid, block, __VA_ARGS__)
