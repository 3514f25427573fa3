#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/fsc.h"
#include "../src/rng.h"

enum { D = 24 };

static void fill(het_volume *v, uint64_t sample)
{
    assert_int_equal(het_volume_new(v, D, 1.5), HET_OK);
    het_rng rng = het_rng_at(5, HET_STREAM_INIT, 0, sample);
    for (int i = 0; i < D * D * D; i++) v->data[i] = het_rng_normal(&rng);
}

static void equal_scaled_and_opposite(void **state)
{
    (void)state;
    het_volume a, b;
    double curve[D / 2];
    fill(&a, 0);
    fill(&b, 0);
    for (int i = 0; i < D * D * D; i++) b.data[i] *= 3.0f;
    assert_int_equal(het_fsc(curve, &a, &b, NULL), HET_OK);
    for (int s = 0; s < D / 2; s++) assert_true(fabs(curve[s] - 1.0) < 1e-6);
    for (int i = 0; i < D * D * D; i++) b.data[i] *= -1.0f;
    assert_int_equal(het_fsc(curve, &a, &b, NULL), HET_OK);
    for (int s = 0; s < D / 2; s++) assert_true(fabs(curve[s] + 1.0) < 1e-6);
    het_volume_free(&a);
    het_volume_free(&b);
}

/* Map + noise of variance ratio v against the map: FSC = 1/sqrt(1 + v); two noisy halves: 1/(1 + v). */
static void noise_of_known_variance(void **state)
{
    (void)state;
    het_volume a, b, c;
    double curve[D / 2];
    fill(&a, 0);
    fill(&b, 1);
    fill(&c, 2);
    for (int i = 0; i < D * D * D; i++) {
        b.data[i] += a.data[i];
        c.data[i] += a.data[i];
    }
    assert_int_equal(het_fsc(curve, &a, &b, NULL), HET_OK);
    for (int s = 6; s < D / 2; s++) assert_true(fabs(curve[s] - sqrt(0.5)) < 0.08);
    assert_int_equal(het_fsc(curve, &b, &c, NULL), HET_OK);
    for (int s = 6; s < D / 2; s++) assert_true(fabs(curve[s] - 0.5) < 0.12);
    het_volume_free(&a);
    het_volume_free(&b);
    het_volume_free(&c);
}

/* A wave of one frequency lives in the shell of that radius and in no other. */
static void shells_are_the_rounded_radius(void **state)
{
    (void)state;
    het_volume a, b;
    double with[D / 2], without[D / 2];
    fill(&a, 3);
    fill(&b, 3);
    for (int i = 0; i < D * D * D; i++) { /* |k| = sqrt(4 + 9 + 16) = 5.39: shell 5 */
        const int x = i % D - D / 2, y = i / D % D - D / 2, z = i / D / D - D / 2;
        b.data[i] += 5.0f * cosf(6.2831853f * (float)(2 * x + 3 * y - 4 * z) / D);
    }
    assert_int_equal(het_fsc(without, &a, &a, NULL), HET_OK);
    assert_int_equal(het_fsc(with, &a, &b, NULL), HET_OK);
    for (int s = 0; s < D / 2; s++) assert_true(s == 5 ? with[s] < 0.3 : fabs(with[s] - without[s]) < 1e-4);
    het_volume_free(&a);
    het_volume_free(&b);
}

static void mask_hides_what_differs(void **state)
{
    (void)state;
    het_volume a, b, mask;
    double curve[D / 2];
    fill(&a, 0);
    fill(&b, 0);
    fill(&mask, 0);
    for (int i = 0; i < D * D * D; i++) mask.data[i] = i < D * D * D / 2 ? 1.0f : 0.0f;
    for (int i = D * D * D / 2; i < D * D * D; i++) b.data[i] = -a.data[i];
    assert_int_equal(het_fsc(curve, &a, &b, &mask), HET_OK);
    for (int s = 0; s < D / 2; s++) assert_true(fabs(curve[s] - 1.0) < 1e-6);
    assert_int_equal(het_fsc(curve, &a, &b, NULL), HET_OK);
    assert_true(curve[8] < 0.5);
    het_volume small;
    assert_int_equal(het_volume_new(&small, 16, 1.0), HET_OK);
    assert_int_equal(het_fsc(curve, &a, &small, NULL), HET_E_SHAPE);
    assert_int_equal(het_fsc(curve, &a, &b, &small), HET_E_SHAPE);
    memset(b.data, 0, D * D * D * sizeof(float)); /* an empty map correlates with nothing */
    assert_int_equal(het_fsc(curve, &a, &b, NULL), HET_OK);
    for (int s = 0; s < D / 2; s++) assert_true(curve[s] == 0.0);
    het_volume_free(&small);
    het_volume_free(&a);
    het_volume_free(&b);
    het_volume_free(&mask);
}

static void crossing_by_hand(void **state)
{
    (void)state;
    const double curve[8] = {1.0, 0.9, 0.8, 0.4, 0.6, 0.2, 0.1, 0.0};
    int crossed = -1;
    /* first crossing: between shells 2 (0.8) and 3 (0.4), a quarter short of the end: 2 + 0.3/0.4 */
    assert_true(fabs(het_fsc_shell(curve, 16, 0.5, &crossed) - 2.75) < 1e-12 && crossed == 1);
    assert_true(fabs(het_fsc_shell(curve, 16, 0.143, NULL) - (5 + 0.057 / 0.1)) < 1e-12);
    const double high[8] = {1, 1, 1, 1, 1, 0.9, 0.9, 0.9};
    assert_true(het_fsc_shell(high, 16, 0.5, &crossed) == 8.0 && crossed == 0); /* 16/8: the floor of 2 pixels */
    const double low[8] = {0};
    assert_true(fabs(het_fsc_shell(low, 16, 0.5, &crossed) - 0.5) < 1e-12 && crossed == 1);
    const double nan_curve[8] = {1, NAN, 1, 1, 1, 1, 1, 1};
    assert_true(het_fsc_shell(nan_curve, 16, 0.5, &crossed) <= 1.0 && crossed == 1);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_scaled_and_opposite), cmocka_unit_test(noise_of_known_variance),
        cmocka_unit_test(shells_are_the_rounded_radius), cmocka_unit_test(mask_hides_what_differs),
        cmocka_unit_test(crossing_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
