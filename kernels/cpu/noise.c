#include <math.h>

#include "../../src/philox.h"
#include "../../src/rng.h"
#include "clones.h"
#include "fourier.h"
#include "vmath.h"

/* Points 2j and 2j+1 take words 0,1 and 2,3 of block j of het_rng_at(seed, HET_STREAM_NOISE, step, sample):
 * words a, b become u = ((a >> 9) + 1/2)/2^23, v likewise, and the noise
 *     sigma/sqrt(2) sqrt(-2 ln u) (cos(2 pi v) + i sin(2 pi v))          (Box & Muller 1958)
 * The index is the point's own, so a larger disc keeps the noise of a smaller one. */

enum { BLOCKS = 16, POINTS = 2 * BLOCKS }; /* Philox blocks side by side: the lanes of a vector register */

/* het_philox for BLOCKS counters that differ in word 0: first, first + 1, .. */
static HET_INLINE void philox_blocks(uint32_t word[4][BLOCKS], const het_rng *rng, uint32_t first)
{
    for (uint32_t j = 0; j < BLOCKS; j++) {
        uint32_t lane[4] = {first + j, rng->counter[1], rng->counter[2], rng->counter[3]};
        het_philox_rounds(lane, rng->key[0], rng->key[1]);
        for (int i = 0; i < 4; i++) word[i][j] = lane[i];
    }
}

/* cos and sin of 2 pi v are minus those of 2 pi (v - 1/2), and v - 1/2 is exact. */
static HET_INLINE void normal_pair(float *re, float *im, uint32_t a, uint32_t b, float deviation)
{
    const float radius = -deviation * sqrtf(-2.0f * het_ln(het_philox_uniform(a))), turns = het_philox_uniform(b) - 0.5f;
    *re = radius * het_cos_turns(turns);
    *im = radius * het_sin_turns(turns);
}

HET_CLONES static void noise_row(float *points, const het_rng *rng, float deviation, int64_t p)
{
    for (int64_t first = 0; first < p; first += POINTS) {
        uint32_t word[4][BLOCKS];
        float noise[2 * POINTS];
        philox_blocks(word, rng, (uint32_t)(first / 2));
        for (int j = 0; j < BLOCKS; j++) {
            normal_pair(&noise[4 * j], &noise[4 * j + 1], word[0][j], word[1][j], deviation);
            normal_pair(&noise[4 * j + 2], &noise[4 * j + 3], word[2][j], word[3][j], deviation);
        }
        if (first == 0) { /* the real DC carries the whole variance */
            noise[0] *= 1.41421356f;
            noise[1] = 0.0f;
        }
        const int64_t numbers = 2 * (p - first < POINTS ? p - first : POINTS);
        for (int64_t i = 0; i < numbers; i++) points[2 * first + i] += noise[i];
    }
}

void het_cpu_add_noise(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                       int64_t b, int64_t p, int64_t groups)
{
    HET_ASSERT(p <= plan->max_points && b % groups == 0);
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        const het_rng rng = het_rng_at(seed, HET_STREAM_NOISE, at[0], at[1] + (uint64_t)i);
        noise_row(points + 2 * i * p, &rng, sqrtf(0.5f * (power[i / (b / groups)] / snr)), p);
    }
}
