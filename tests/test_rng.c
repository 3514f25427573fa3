/* Random numbers: known answers of Philox, statistics, independence of the order of drawing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../src/rng.h"

/* The vectors published with Philox (Random123, philox4x32, 10 rounds): all zeros, all ones, digits of pi. */
static void philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        het_philox(out, known[i].counter, known[i].key);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

/* Words come block after block: the fifth is the first of counter 1. */
static void words_follow_the_counter(void **state)
{
    (void)state;
    het_rng rng = het_rng_at(0x1122334455667788ull, HET_STREAM_SHIFT, 9, 10);
    for (uint32_t block = 0; block < 3; block++) {
        const uint32_t counter[4] = {block, 10, (uint32_t)HET_STREAM_SHIFT << 24, 9};
        const uint32_t key[2] = {0x55667788, 0x11223344};
        uint32_t out[4];
        het_philox(out, counter, key);
        for (int i = 0; i < 4; i++) assert_int_equal(het_rng_u32(&rng), out[i]);
    }
}

static void sequences_do_not_depend_on_order(void **state)
{
    (void)state;
    float forward[50], backward[50];
    for (int i = 0; i < 50; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_LATENT, 4, (uint64_t)i);
        for (int skip = 0; skip < i % 5; skip++) het_rng_u32(&rng); /* how much others draw does not matter */
        rng = het_rng_at(3, HET_STREAM_LATENT, 4, (uint64_t)i);
        forward[i] = het_rng_normal(&rng);
    }
    for (int i = 49; i >= 0; i--) {
        het_rng rng = het_rng_at(3, HET_STREAM_LATENT, 4, (uint64_t)i);
        backward[i] = het_rng_normal(&rng);
    }
    assert_memory_equal(forward, backward, sizeof forward);
}

/* A change of any bit of the address, in low or high words, gives another sequence: any seed, steps
 * below 2^48, samples below 2^56. */
static void addresses_are_distinct(void **state)
{
    (void)state;
    enum { MOST = 256 };
    uint64_t first[MOST];
    int count = 0;
    for (int bit = -1; bit < 64; bit++) {
        const uint64_t change = bit < 0 ? 0 : 1ull << bit;
        het_rng rng[3] = {het_rng_at(change, HET_STREAM_INIT, 0, 0),
                          het_rng_at(0, HET_STREAM_INIT, 0, change),
                          het_rng_at(0, HET_STREAM_INIT, change, 0)};
        for (int i = 0; i < (bit < 0 ? 1 : bit < 48 ? 3 : bit < 56 ? 2 : 1); i++) {
            first[count] = (uint64_t)het_rng_u32(&rng[i]) << 32;
            first[count++] |= het_rng_u32(&rng[i]);
        }
    }
    for (int stream = HET_STREAM_INIT + 1; stream <= HET_STREAM_SEARCH; stream++) {
        het_rng rng = het_rng_at(0, (het_stream)stream, 0, 0);
        first[count] = (uint64_t)het_rng_u32(&rng) << 32;
        first[count++] |= het_rng_u32(&rng);
    }
    assert_true(count <= MOST);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++) assert_true(first[i] != first[j]);
}

static void uniform_is_flat_and_open(void **state)
{
    (void)state;
    enum { N = 64000, BINS = 64 };
    int bin[BINS] = {0};
    double sum = 0.0, neighbours = 0.0, last = 0.5, chi2 = 0.0;
    for (uint64_t i = 0; i < N; i++) { /* the first of many sequences, as the training draws them */
        het_rng rng = het_rng_at(1, HET_STREAM_SHIFT, 0, i);
        const double u = het_rng_uniform(&rng);
        assert_true(u > 0.0 && u < 1.0);
        bin[(int)(u * BINS)]++;
        sum += u;
        neighbours += (u - 0.5) * (last - 0.5);
        last = u;
    }
    for (int i = 0; i < BINS; i++) chi2 += (bin[i] - N / BINS) * (double)(bin[i] - N / BINS) / (N / BINS);
    assert_true(fabs(sum / N - 0.5) < 4.0 * sqrt(1.0 / 12.0 / N));
    assert_true(fabs(neighbours / N) < 4.0 / 12.0 / sqrt(N));
    assert_true(chi2 < 63.0 + 4.5 * sqrt(2.0 * 63.0) && chi2 > 63.0 - 4.5 * sqrt(2.0 * 63.0));
    het_rng edge = {.block = {0, 0xffffffffu}};
    assert_true(het_rng_uniform(&edge) > 0.0f);
    assert_true(het_rng_uniform(&edge) < 1.0f);
}

static void normal_has_its_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    double moment[5] = {0};
    het_rng rng = het_rng_at(5, HET_STREAM_NOISE, 0, 0);
    for (int i = 0; i < N; i++) {
        const double x = het_rng_normal(&rng);
        assert_true(isfinite(x));
        for (int k = 1; k < 5; k++) moment[k] += pow(x, k) / N;
    }
    assert_true(fabs(moment[1]) < 4.0 * sqrt(1.0 / N));
    assert_true(fabs(moment[2] - 1.0) < 4.0 * sqrt(2.0 / N));
    assert_true(fabs(moment[3]) < 4.0 * sqrt(15.0 / N));
    assert_true(fabs(moment[4] - 3.0) < 4.0 * sqrt(96.0 / N));
}

/* Limit 3/4 of 2^64: the remainder alone would leave half of the numbers below 2^62, not a third. */
static void below_is_unbiased(void **state)
{
    (void)state;
    enum { N = 20000 };
    het_rng rng = het_rng_at(6, HET_STREAM_SHUFFLE, 0, 0);
    const uint64_t limit = 3ull << 62;
    int low = 0, hits[7] = {0};
    for (int i = 0; i < N; i++) {
        const uint64_t x = het_rng_below(&rng, limit);
        assert_true(x < limit);
        low += x < 1ull << 62;
        hits[het_rng_below(&rng, 7)]++;
        assert_true(het_rng_below(&rng, 1) == 0);
    }
    assert_true(fabs(low / (double)N - 1.0 / 3.0) < 4.0 * sqrt(2.0 / 9.0 / N));
    for (int i = 0; i < 7; i++)
        assert_true(fabs(hits[i] / (double)N - 1.0 / 7.0) < 4.0 * sqrt(6.0 / 49.0 / N));
}

/* Every entry stays once, and each of 6 is as likely to be among 2 chosen. */
static void a_draw_repeats_nothing(void **state)
{
    (void)state;
    enum { COUNT = 6, TAKE = 2, TIMES = 6000 };
    het_rng rng = het_rng_at(7, HET_STREAM_SEARCH, 0, 0);
    int hits[COUNT] = {0};
    for (int t = 0; t < TIMES; t++) {
        int64_t list[COUNT] = {0, 1, 2, 3, 4, 5};
        int seen = 0;
        het_rng_choose(&rng, list, COUNT, TAKE);
        for (int i = 0; i < COUNT; i++) seen |= 1 << list[i];
        assert_int_equal(seen, (1 << COUNT) - 1);
        for (int i = 0; i < TAKE; i++) hits[list[i]]++;
    }
    for (int i = 0; i < COUNT; i++)
        assert_true(fabs(hits[i] / (double)TIMES - 1.0 / 3.0) < 4.0 * sqrt(2.0 / 9.0 / TIMES));
}

/* Every entry stays once, each is as likely in any place, by the very draws expected. */
static void a_shuffle_keeps_all(void **state)
{
    (void)state;
    enum { COUNT = 5, TIMES = 5000 };
    het_rng rng = het_rng_at(8, HET_STREAM_SHUFFLE, 0, 0), same = rng;
    int hits[COUNT][COUNT] = {{0}};
    for (int t = 0; t < TIMES; t++) {
        int64_t list[COUNT] = {0, 1, 2, 3, 4}, expected[COUNT] = {0, 1, 2, 3, 4};
        het_rng_shuffle(&rng, list, COUNT);
        for (int i = COUNT - 1; i > 0; i--) { /* the order of runs begun earlier depends on these draws */
            const int j = (int)het_rng_below(&same, (uint64_t)i + 1);
            const int64_t kept = expected[i];
            expected[i] = expected[j];
            expected[j] = kept;
        }
        assert_memory_equal(list, expected, sizeof list);
        int seen = 0;
        for (int i = 0; i < COUNT; i++) {
            seen |= 1 << list[i];
            hits[i][list[i]]++;
        }
        assert_int_equal(seen, (1 << COUNT) - 1);
    }
    assert_int_equal(het_rng_u32(&rng), het_rng_u32(&same));
    for (int i = 0; i < COUNT * COUNT; i++)
        assert_true(fabs(hits[i / COUNT][i % COUNT] / (double)TIMES - 0.2) < 4.0 * sqrt(0.16 / TIMES));
    int64_t one = 7;
    het_rng_shuffle(&rng, &one, 1);
    het_rng_shuffle(&rng, &one, 0);
    assert_int_equal(one, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),     cmocka_unit_test(words_follow_the_counter),
        cmocka_unit_test(addresses_are_distinct),   cmocka_unit_test(sequences_do_not_depend_on_order),
        cmocka_unit_test(uniform_is_flat_and_open), cmocka_unit_test(normal_has_its_moments),
        cmocka_unit_test(below_is_unbiased),        cmocka_unit_test(a_draw_repeats_nothing),
        cmocka_unit_test(a_shuffle_keeps_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
