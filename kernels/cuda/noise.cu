/* White noise on points: the words of kernels/ops.h, the same as on the CPU; the normal numbers made of them agree to
 * rounding. */
#include "fourier.h"
#include "members.h"

#include "../../src/philox.h"
extern "C" {
#include "../../src/rng.h"
}

/* What het_rng_at gives for every image: only the sample differs. */
typedef struct noise_key {
    uint32_t key[2], stream, step;
    uint64_t first_sample;
} noise_key;

/* One thread adds to two points, from one block of words. */
__global__ void add_noise(float *points, const float *sigma2, noise_key key, int64_t b, int64_t p, int64_t per_group)
{
    const int64_t pairs = (p + 1) / 2;
    HET_FOR(i, b * pairs)
    {
        const int64_t image = i / pairs, block = i % pairs;
        const uint64_t sample = key.first_sample + (uint64_t)image;
        const float deviation = sqrtf(0.5f * sigma2[image / per_group]);
        uint32_t word[4] = {(uint32_t)block, (uint32_t)sample, (uint32_t)(sample >> 32) ^ key.stream, key.step};
        het_philox_rounds(word, key.key[0], key.key[1]);
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

void het_cuda_add_noise(het_fourier *plan, float *points, const float *sigma2, uint64_t seed, uint64_t step,
                        uint64_t first_sample, int64_t b, int64_t p, int64_t groups)
{
    const het_rng rng = het_rng_at(seed, HET_STREAM_NOISE, step, 0); /* sample 0: counter[2] is the stream alone */
    const noise_key key = {{rng.key[0], rng.key[1]}, rng.counter[2], rng.counter[3], first_sample};
    HET_LAUNCH(plan->cuda, add_noise, het_blocks(b * ((p + 1) / 2)), HET_BLOCK, points, sigma2, key, b, p, b / groups);
}
