/* Health of a run: numbers and words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/collapse.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

static void uniform_spread(void **state)
{
    (void)state;
    double low = 2.0, high = 2.5; /* theta - sin theta = pi/2 by halving */
    for (int i = 0; i < 60; i++) {
        const double middle = 0.5 * (low + high);
        if (middle - sin(middle) < acos(0.0)) low = middle;
        else high = middle;
    }
    assert_true(fabs(4.0 - 4.0 * cos(low) - HET_SPREAD_MEDIAN) < 1e-6);

    enum { N = 20000 };
    float *r = calloc(N * 9, sizeof *r), *same = calloc(N * 9, sizeof *same);
    het_rng rng = het_rng_at(2, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < N; i++) {
        double one[9];
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        het_rotation_uniform(one, u1, u2, u3);
        for (int k = 0; k < 9; k++) {
            r[9 * i + k] = (float)one[k];
            same[9 * i + k] = k % 4 == 0;
        }
    }
    double spread;
    assert_int_equal(het_health_spread(&spread, r, N, 20000, 1), HET_OK);
    assert_true(fabs(spread - HET_SPREAD_MEDIAN) < 0.05);
    assert_int_equal(het_health_spread(&spread, same, N, 1000, 1), HET_OK);
    assert_true(spread == 0.0);
    assert_int_equal(het_health_spread(&spread, r, 1, 1000, 1), HET_E_SHAPE);
    free(r);
    free(same);
}

static void skewness_shows_the_sign(void **state)
{
    (void)state;
    enum { D = 24 };
    float *v = calloc(D * D * D, sizeof *v);
    het_rng rng = het_rng_at(2, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < D * D * D; i++) {
        const double x = i % D - 12, y = i / D % D - 12, z = i / D / D - 12;
        const double r = sqrt(x * x + y * y + z * z);
        v[i] = (float)(exp(-(r - 4.0) * (r - 4.0) / 2.0)) + 0.1f * het_rng_normal(&rng) -
               3.0f; /* hollow shell */
    }
    const double right = het_health_skewness(v, D);
    assert_true(right > 0.5);
    for (int i = 0; i < D * D * D; i++) v[i] = -v[i];
    assert_true(fabs(het_health_skewness(v, D) + right) < 1e-6);
    for (int i = 0; i < D * D * D; i++) v[i] = het_rng_normal(&rng);
    assert_true(fabs(het_health_skewness(v, D)) < 0.15);
    for (int i = 0; i < D * D * D; i++) v[i] = 0.25f;
    assert_true(het_health_skewness(v, D) == 0.0);
    free(v);
}

static het_health_numbers good(void)
{
    return (het_health_numbers){.images_seen = 1e6,
                                .spread = 6.0,
                                .image_loss = 0.9,
                                .zero_loss = 1.0,
                                .snr = 0.1,
                                .snr_floor = 1e-3,
                                .skewness = 1.0,
                                .noise_loss = 0.895,
                                .progress = 1.0,
                                .z_rms = 0.8};
}

/* Judge the same numbers three times in a row from a fresh start. */
static int third(const het_health_numbers *now)
{
    het_health health = {0};
    het_health_judge(&health, now);
    het_health_judge(&health, now);
    return het_health_judge(&health, now);
}

static void each_failure_is_found(void **state)
{
    (void)state;
    het_health_numbers n = good();
    assert_int_equal(third(&n), HET_HEALTH_GOOD);
    n.spread = 0.4;
    assert_int_equal(third(&n), HET_HEALTH_COLLAPSE);
    n.images_seen = 1000; /* too early to tell */
    assert_int_equal(third(&n), HET_HEALTH_GOOD);
    n = good();
    n.image_loss = 1.0;
    assert_int_equal(third(&n), HET_HEALTH_UNFIT);
    n.skewness = -2.0; /* the sign of a map that fits nothing is no finding */
    assert_int_equal(third(&n), HET_HEALTH_UNFIT);
    n = good();
    n.skewness = -1.0;
    assert_int_equal(third(&n), HET_HEALTH_INVERTED);
    n = good();
    n.snr = n.snr_floor;
    assert_int_equal(third(&n), HET_HEALTH_NO_SNR);
    n = good();
    n.non_finite = 1;
    assert_int_equal(third(&n), HET_HEALTH_NAN);
    n = good();
    n.image_loss = 0.92; /* 76 % of 0.105 */
    assert_int_equal(third(&n), HET_HEALTH_WEAK);
    n.progress = 0.5; /* more may come */
    assert_int_equal(third(&n), HET_HEALTH_GOOD);
    n.progress = 1.0;
    n.noise_loss = 1.1; /* no signal to explain */
    assert_int_equal(third(&n), HET_HEALTH_GOOD);
    n = (het_health_numbers){.images_seen = 1e6, .spread = NAN, .image_loss = NAN, .zero_loss = NAN, .snr = NAN,
                             .snr_floor = NAN, .skewness = NAN, .z_rms = NAN, .noise_loss = NAN, .progress = 1.0};
    assert_int_equal(third(&n), HET_HEALTH_GOOD);
}

static void only_in_a_row(void **state)
{
    (void)state;
    het_health health = {0};
    het_health_numbers bad = good(), fine = good(), unknown = good();
    bad.spread = 0.4;
    unknown.spread = NAN;
    assert_int_equal(het_health_judge(&health, &bad), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &bad), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &fine), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &bad), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &bad), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &unknown), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &bad), HET_HEALTH_COLLAPSE);
}

/* Right after its release z is small. */
static void unused_z_is_judged_late(void **state)
{
    (void)state;
    het_health health = {0};
    het_health_numbers n = good();
    n.z_rms = NAN;
    assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_GOOD);
    n.z_rms = 0.01;
    for (int i = 0; i < 5; i++) assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_GOOD);
    n.images_seen += 20000;
    assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_GOOD);
    assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_UNUSED);
    n.z_rms = 0.3;
    assert_int_equal(het_health_judge(&health, &n), HET_HEALTH_GOOD);
}

static void words_say_what_to_do(void **state)
{
    (void)state;
    char text[512];
    const het_health_numbers n = good();
    static const struct { int finding; const char *hint; } row[] = {
        {HET_HEALTH_NAN, "train.rate_encoder"},    {HET_HEALTH_NO_SNR, "train.snr"},
        {HET_HEALTH_COLLAPSE, "train.seed"},       {HET_HEALTH_UNFIT, "hetacumn info"},
        {HET_HEALTH_INVERTED, "--sign"},           {HET_HEALTH_UNUSED, "train.lambda_z"},
        {HET_HEALTH_WEAK, "--starts"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        assert_int_equal(het_health_words(text, sizeof text, row[i].finding, &n), row[i].finding);
        assert_non_null(strstr(text, row[i].hint));
        assert_null(strchr(text, '\n'));
        assert_true(strlen(text) < sizeof text - 1);
    }
    assert_int_equal(het_health_words(text, sizeof text, HET_HEALTH_UNFIT | HET_HEALTH_NAN, &n),
                     HET_HEALTH_NAN);
    assert_int_equal(het_health_words(text, sizeof text, HET_HEALTH_GOOD, &n), HET_HEALTH_GOOD);
    assert_string_equal(text, "");
    het_health_names(text, sizeof text, HET_HEALTH_GOOD);
    assert_string_equal(text, "ok");
    het_health_names(text, sizeof text, HET_HEALTH_COLLAPSE | HET_HEALTH_UNUSED);
    assert_string_equal(text, "collapsed, z unused");
    het_health_names(text, 12, HET_HEALTH_COLLAPSE | HET_HEALTH_UNUSED);
    assert_string_equal(text, "collapsed, ");
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_spread),        cmocka_unit_test(skewness_shows_the_sign),
        cmocka_unit_test(each_failure_is_found), cmocka_unit_test(only_in_a_row),
        cmocka_unit_test(words_say_what_to_do),
        cmocka_unit_test(unused_z_is_judged_late),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
