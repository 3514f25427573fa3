#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "clones.h"

/** Elementary functions without branches or calls, so that loops around them vectorise. */

/** sin(2 pi t) for |t| <= 1/4: odd minimax polynomial of degree 9, error below 3e-7 in float. */
static HET_INLINE float het_sin_quarter(float t)
{
    const float s = t * t;
    return t * (6.2831853f + s * (-41.341656f + s * (81.601006f + s * (-76.549782f + s * 39.536705f))));
}

/** sin(2 pi t) for |t| <= 1/2. */
static HET_INLINE float het_sin_turns(float t)
{
    const float reflected = copysignf(0.5f, t) - t;
    return het_sin_quarter(fabsf(t) > 0.25f ? reflected : t);
}

/** cos(2 pi t) for |t| <= 1/2. */
static HET_INLINE float het_cos_turns(float t)
{
    return het_sin_quarter(0.25f - fabsf(t));
}

/** t minus the nearest integer, for |t| < 2^50; adding and subtracting 1.5 * 2^52 rounds. */
static HET_INLINE double het_fraction(double t)
{
    const double magic = 0x1.8p52;
    return t - ((t + magic) - magic);
}

/** Natural logarithm of a normal positive number: 2^e m with m in [sqrt(1/2), sqrt(2)), and
 *  ln m = 2 artanh(q), q = (m-1)/(m+1), by its series to q^9. */
static HET_INLINE float het_ln(float x)
{
    int32_t bits, exponent;
    float m;
    memcpy(&bits, &x, sizeof bits);
    exponent = (bits - 0x3f3504f3) >> 23; /* 0x3f3504f3: sqrt(1/2) */
    bits -= exponent * (1 << 23);
    memcpy(&m, &bits, sizeof m);
    const float q = (m - 1.0f) / (m + 1.0f), s = q * q;
    const float ln_m = q * (2.0f + s * (2.0f / 3 + s * (2.0f / 5 + s * (2.0f / 7 + s * (2.0f / 9)))));
    return (float)exponent * 0.693147181f + ln_m;
}
