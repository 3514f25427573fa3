#pragma once
#include <stdint.h>

#include "both.h"

/** Philox4x32-10 (Salmon et al. 2011): the counter in `word` becomes its block of random words. */
HET_BOTH void het_philox_rounds(uint32_t word[4], uint32_t k0, uint32_t k1)
{
    uint32_t c0 = word[0], c1 = word[1], c2 = word[2], c3 = word[3];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/** Where the sequence of (seed, stream, step, sample) begins: het_rng_at (rng.h). Word 0 counts its blocks. */
HET_BOTH void het_philox_at(uint32_t key[2], uint32_t counter[4], uint64_t seed, uint32_t stream, uint64_t step,
                            uint64_t sample)
{
    key[0] = (uint32_t)seed;
    key[1] = (uint32_t)(seed >> 32) ^ ((uint32_t)(step >> 32) * 0x85EBCA6Bu);
    counter[0] = 0;
    counter[1] = (uint32_t)sample;
    counter[2] = (uint32_t)(sample >> 32) ^ (stream << 24);
    counter[3] = (uint32_t)step;
}

/** ((word >> 9) + 1/2)/2^23, exact and within (0,1); below 2^31 the conversion is the cheap signed one. */
HET_BOTH float het_philox_uniform(uint32_t word)
{
    return ((float)(int32_t)(word >> 9) + 0.5f) * 0x1p-23f;
}
