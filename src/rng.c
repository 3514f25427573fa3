#include "rng.h"

#include <math.h>
#include <string.h>

#include "philox.h"

void het_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    memcpy(out, counter, 4 * sizeof *out);
    het_philox_rounds(out, key[0], key[1]);
}

het_rng het_rng_at(uint64_t seed, het_stream stream, uint64_t step, uint64_t sample)
{
    het_rng rng;
    memset(&rng, 0, sizeof rng);
    het_philox_at(rng.key, rng.counter, seed, (uint32_t)stream, step, sample);
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
    return het_philox_uniform(het_rng_u32(rng));
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
