#pragma once
#include <math.h>
#include <stdint.h>

/** A test double of the type and of its way to fp32. */
struct __half {
    uint16_t bits;
};

static inline float __half2float(__half x)
{
    const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    const float size = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                       : exponent == 0 ? ldexpf((float)fraction, -24)
                                       : ldexpf((float)(fraction + 1024), exponent - 25);
    return (x.bits & 0x8000) != 0 ? -size : size;
}
