#pragma once
#include <stdint.h>

/** Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as
 *  1, 2, 3").
 *
 *  A number is a pure function of (seed, stream, step, sample, index), so results do not depend on how
 *  samples are spread over ranks or threads, and a restart needs no generator state. Test:
 *  tests/test_rng.c */

typedef enum het_stream {
    HET_STREAM_INIT = 1,    /* network weights and Fourier frequencies */
    HET_STREAM_SHUFFLE,     /* order of the particles in an epoch */
    HET_STREAM_LATENT,      /* z of task one */
    HET_STREAM_ROTATION,    /* rotations of the synthetic images */
    HET_STREAM_SHIFT,       /* shifts of the synthetic images */
    HET_STREAM_NOISE,       /* noise of the synthetic images */
    HET_STREAM_SIMULATE,    /* `simulate`: poses, CTF rows, noise */
    HET_STREAM_SEARCH,      /* k-means seeds, anchors, subsets */
    HET_STREAM_TURN         /* turns of the images that the encoder sees */
} het_stream;

typedef struct het_rng {
    uint32_t key[2];     /* seed */
    uint32_t counter[4]; /* [0] index of the next block, [1] sample low, [2] sample high ^ stream, [3] step */
    uint32_t block[4];
    int used;            /* words of `block` already handed out */
} het_rng;

/** The ten-round Philox bijection of one counter. */
void het_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/** Start the sequence that belongs to (seed, stream, step, sample). */
het_rng het_rng_at(uint64_t seed, het_stream stream, uint64_t step, uint64_t sample);

uint32_t het_rng_u32(het_rng *rng);
float het_rng_uniform(het_rng *rng);                  /* in (0, 1), never 0 or 1 */
float het_rng_normal(het_rng *rng);                   /* N(0,1), Box-Muller; the pair's other is not kept */
uint64_t het_rng_below(het_rng *rng, uint64_t limit); /* uniform in [0, limit), limit > 0 */

/** Bring the `count` entries of `list` into random order, any as likely (Fisher-Yates, from the end). */
void het_rng_shuffle(het_rng *rng, int64_t *list, int64_t count);
/** Bring a draw without repetition to the front: the first `take` of the `count` entries of `list`, in the
 *  order drawn; the others follow in any order (Fisher-Yates). take <= count. */
void het_rng_choose(het_rng *rng, int64_t *list, int64_t count, int64_t take);
