#include "rng.h"

#include <math.h>
#include <string.h>

void het_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

het_rng het_rng_at(uint64_t seed, het_stream stream, uint64_t step, uint64_t sample)
{
    het_rng rng;
    memset(&rng, 0, sizeof rng);
    rng.key[0] = (uint32_t)seed;
    rng.key[1] = (uint32_t)(seed >> 32) ^ ((uint32_t)(step >> 32) * 0x85EBCA6Bu);
    rng.counter[1] = (uint32_t)sample;
    rng.counter[2] = (uint32_t)(sample >> 32) ^ ((uint32_t)stream << 24);
    rng.counter[3] = (uint32_t)step;
    rng.used = 4;
    return rng;
}

uint32_t het_rng_u32(het_rng *rng)
{
    if (rng->used == 4) {
        het_philox(rng->block, rng->counter, rng->key);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

float het_rng_uniform(het_rng *rng)
{
    return ((float)(het_rng_u32(rng) >> 9) + 0.5f) * 0x1p-23f;
}

float het_rng_normal(het_rng *rng)
{
    const float radius = sqrtf(-2.0f * logf(het_rng_uniform(rng)));
    return radius * cosf(6.28318530717958647692f * het_rng_uniform(rng));
}

uint64_t het_rng_below(het_rng *rng, uint64_t limit)
{
    const uint64_t threshold = (0 - limit) % limit; /* reject the incomplete last interval: no bias */
    for (;;) {
        const uint64_t high = het_rng_u32(rng);
        const uint64_t word = high << 32 | het_rng_u32(rng);
        if (word >= threshold) return word % limit;
    }
}

void het_rng_shuffle(het_rng *rng, int64_t *list, int64_t count)
{
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t j = (int64_t)het_rng_below(rng, (uint64_t)i + 1), t = list[i];
        list[i] = list[j];
        list[j] = t;
    }
}

void het_rng_choose(het_rng *rng, int64_t *list, int64_t count, int64_t take)
{
    for (int64_t i = 0; i < take; i++) {
        const int64_t j = i + (int64_t)het_rng_below(rng, (uint64_t)(count - i)), t = list[i];
        list[i] = list[j];
        list[j] = t;
    }
}
