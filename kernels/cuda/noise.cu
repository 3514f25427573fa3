/* White noise on points: the words of kernels/ops.h, the same as on the CPU; the normal numbers made of them agree to
 * rounding. */
#include "fourier.h"
#include "members.h"

#include "../../src/philox.h"
#include "../../src/rng.h"

/* One thread adds to two points, from one block of words. */
__global__ void add_noise(float *points, const float *power, float snr, uint64_t seed, const uint64_t *at, int64_t b,
                          int64_t p, int64_t per_group)
{
    const int64_t pairs = (p + 1) / 2;
    HET_FOR(i, b * pairs)
    {
        const int64_t image = i / pairs, block = i % pairs;
        const float deviation = sqrtf(0.5f * (power[image / per_group] / snr));
        uint32_t key[2], word[4];
        het_philox_at(key, word, seed, HET_STREAM_NOISE, at[0], at[1] + (uint64_t)image);
        word[0] = (uint32_t)block;
        het_philox_rounds(word, key[0], key[1]);
        for (int half = 0; half < 2 && 2 * block + half < p; half++) {
            const float radius = deviation * sqrtf(-2.0f * logf(het_philox_uniform(word[2 * half])));
            float *to = points + 2 * (image * p + 2 * block + half), sine, cosine;
            sincospif(2.0f * het_philox_uniform(word[2 * half + 1]), &sine, &cosine);
            const bool dc = block == 0 && half == 0; /* real: it carries the whole variance */
            to[0] += radius * cosine * (dc ? 1.41421356f : 1.0f);
            to[1] += dc ? 0.0f : radius * sine;
        }
    }
}

void het_cuda_add_noise(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                        int64_t b, int64_t p, int64_t groups)
{
    HET_LAUNCH(plan->cuda, add_noise, het_blocks(b * ((p + 1) / 2)), HET_BLOCK, points, power, snr, seed, at, b, p, b / groups);
}
