#include "half.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* _Float16 alone is right everywhere but calls a library function per number on older x86 targets. */
static uint16_t narrow(float x)
{
    const _Float16 half = (_Float16)x;
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

static float widen(uint16_t bits)
{
    _Float16 half;
    memcpy(&half, &bits, sizeof half);
    return (float)half;
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static size_t to_float_f16c(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
    return i;
}

__attribute__((target("avx,f16c"))) static size_t from_float_f16c(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(
            (__m128i *)(void *)(y + i),
            _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return i;
}
#endif

void het_half_to_float(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("f16c")) i = to_float_f16c(y, x, n);
#endif
    for (; i < n; i++) y[i] = widen(x[i]);
}

void het_half_from_float(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("f16c")) i = from_float_f16c(y, x, n);
#endif
    for (; i < n; i++) y[i] = narrow(x[i]);
}
