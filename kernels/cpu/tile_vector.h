/** Vectors of VL floats with GCC's vector extensions, and the few operations tile_body.h needs. */
#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef int8_t vb __attribute__((vector_size(VL)));
typedef float vf_any __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int8_t vb_any __attribute__((vector_size(VL), aligned(1), may_alias));

enum { NR = NV * VL };

static inline vf splat(float x)
{
    return x - (vf){0};
}

static inline vf load(const float *p)
{
    return *(const vf_any *)p;
}

static inline void store(float *p, vf v)
{
    *(vf_any *)p = v;
}

static inline void add(float *p, vf v)
{
    *(vf_any *)p += v;
}

/* max(0, z) that lets NaN through */
static inline vf positive(vf z)
{
    return (vf)(~(z < 0.0f) & (vi)z);
}

/* One byte per lane: 255 where z > 0. */
static inline void store_mask(uint8_t *p, vf z)
{
#if defined(__AVX512BW__)
    _mm_storeu_si128((__m128i *)p, _mm_movm_epi8(_mm512_cmp_ps_mask((__m512)z, _mm512_setzero_ps(), _CMP_GT_OQ)));
#else
    *(vb_any *)p = __builtin_convertvector(z > 0.0f, vb);
#endif
}

/* v where the mask is set, else 0 */
static inline vf where_mask(const uint8_t *p, vf v)
{
#if defined(__AVX512BW__)
    return (vf)_mm512_maskz_mov_ps(_mm_movepi8_mask(_mm_loadu_si128((const __m128i *)p)), (__m512)v);
#else
    return (vf)(__builtin_convertvector((vb)*(const vb_any *)p, vi) & (vi)v);
#endif
}

static inline float sum(vf v)
{
    vi lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    for (int w = VL / 2; w > 0; w /= 2) v += __builtin_shuffle(v, lane ^ w);
    return v[0];
}

/* Adding 1.5 2^23 leaves the nearest integer in the low bits of the mantissa; |x| < 2^21. */
static inline vf nearest(vf x)
{
    const vf shift = splat(12582912.0f);
    return (x + shift) - shift;
}

/* sin and cos of 2 pi t: to the nearest quarter turn, then the minimax polynomials of Cephes (S. Moshier, sinf.c) on
   [-pi/4, pi/4]; absolute error below 3e-7 for |t| < 8. */
static inline void sincos_turns(vf t, vf *sine, vf *cosine)
{
    const vf shift = splat(12582912.0f), shifted = 4.0f * t + shift;
    const vi quarter = (vi)shifted;
    const vf x = 6.28318530717958648f * (t - 0.25f * (shifted - shift)), x2 = x * x;
    const vf s = x + x * x2 * (-1.6666654611e-1f + x2 * (8.3321608736e-3f - x2 * 1.9515295891e-4f));
    const vf c = 1.0f - 0.5f * x2 + x2 * x2 * (4.166664568298827e-2f +
                                               x2 * (-1.388731625493765e-3f + x2 * 2.443315711809948e-5f));
    const vi odd = -(quarter & 1);
    *sine = (vf)(((odd & (vi)c) | (~odd & (vi)s)) ^ ((quarter & 2) << 30));
    *cosine = (vf)(((odd & (vi)s) | (~odd & (vi)c)) ^ (((quarter + 1) & 2) << 30));
}
