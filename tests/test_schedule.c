/* Schedules (src/schedule.h) at their ends and against their formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../src/schedule.h"

static void near(double value, double expected)
{
    if (!(fabs(value - expected) < 1e-12)) fail_msg("%.17g, expected %.17g", value, expected);
}

static het_config standard(void)
{
    het_config c;
    het_config_default(&c);
    c.train.epochs = 10.0;
    c.train.pose_steps = 2;
    return c;
}

static void cycles_and_epochs(void **state)
{
    (void)state;
    het_config c = standard();
    assert_int_equal(het_schedule_cycle(&c), 3);
    near(het_schedule_epoch(&c, 0, 7), 0.0);
    near(het_schedule_epoch(&c, 2, 7), 0.0); /* still the first cycle */
    near(het_schedule_epoch(&c, 3, 7), 1.0 / 7.0);
    near(het_schedule_epoch(&c, 21, 7), 1.0);
    assert_int_equal(het_schedule_end(&c, 7), 210);
    near(het_schedule_epoch(&c, het_schedule_end(&c, 7), 7), 10.0);
    c.train.epochs = 0.5; /* a part of a step is a step */
    assert_int_equal(het_schedule_end(&c, 7), 4 * 3);
    assert_int_equal(het_schedule_keep(&c, 7), 0);
    c.run.keep_every = 2;
    assert_int_equal(het_schedule_keep(&c, 7), 2 * 7 * 3);
    c.ablation.cpp = 0;
    assert_int_equal(het_schedule_cycle(&c), 1);
    assert_int_equal(het_schedule_end(&c, 7), 4);
    c.ablation.cpp = 1;
    c.train.pose_steps = 0;
    assert_int_equal(het_schedule_cycle(&c), 1);
}

static void radius_marches(void **state)
{
    (void)state;
    het_config c = standard();
    c.init.method = HET_START_NONE;
    c.train.march_start = 3.0;
    c.train.march_rate = 0.5;
    near(het_schedule_radius(&c, 0.0, 32), 3.0);
    near(het_schedule_radius(&c, 3.0, 32), 4.5);
    near(het_schedule_radius(&c, 24.0, 32), 15.0);
    near(het_schedule_radius(&c, 1000.0, 32), 15.0);
    c.train.march_start = 40.0;
    near(het_schedule_radius(&c, 0.0, 32), 15.0);
    c.train.march_start = 0.0;
    near(het_schedule_radius(&c, 0.0, 32), 15.0);
    c.train.march_start = 3.0;
    c.init.method = HET_START_SEARCH; /* marching goes on from the start's radius */
    c.init.radius = 8.0;
    near(het_schedule_radius(&c, 2.0, 32), 9.0);
    c.train.march_rate = 0.0; /* full after 0.3 of the epochs */
    c.train.epochs = 40.0;
    near(het_schedule_radius(&c, 6.0, 32), 11.5);
    near(het_schedule_radius(&c, 12.0, 32), 15.0);
    c.init.radius = 12.0; /* of a small box's disc there is no more */
    near(het_schedule_radius(&c, 0.0, 16), 7.0);
    near(het_schedule_radius(&c, 20.0, 16), 7.0);
}

static void frozen_by_epochs_and_images(void **state)
{
    (void)state;
    het_config c = standard();
    c.train.freeze_epochs = 2.0;
    c.train.freeze_images = 0.0;
    assert_true(het_schedule_frozen(&c, 0.0, 1000));
    assert_true(het_schedule_frozen(&c, 1.99, 1000));
    assert_false(het_schedule_frozen(&c, 2.0, 1000));
    c.train.freeze_images = 5000.0; /* the larger of both */
    assert_true(het_schedule_frozen(&c, 4.99, 1000));
    assert_false(het_schedule_frozen(&c, 5.0, 1000));
    assert_true(het_schedule_frozen(&c, 1.99, 100000));
    assert_false(het_schedule_frozen(&c, 2.0, 100000));
    c.ablation.fch = 0;
    assert_false(het_schedule_frozen(&c, 0.0, 1000));
}

static void searches_in_time(void **state)
{
    (void)state;
    het_config c = standard();
    c.search.every = 2.0;
    for (int64_t step = 0; step < 40; step++) assert_false(het_schedule_search(&c, step, 7, 100));
    c.train.method = HET_METHOD_CRYODRGN2;
    for (int64_t step = 0; step < 40; step++)
        assert_int_equal(het_schedule_search(&c, step, 7, 100), step == 0 || step == 14 || step == 28);
    c.search.every = 0.5; /* a part of a step is a step */
    assert_true(het_schedule_search(&c, 4, 7, 100));
    assert_false(het_schedule_search(&c, 7, 7, 100));
    c.train.method = HET_METHOD_HETACUMN;
    c.init.method = HET_START_SEARCH; /* once, so long after conformations were released */
    c.init.join_epoch = 3.0;
    c.train.freeze_epochs = 1.0;
    c.train.freeze_images = 150.0;
    for (int64_t step = 0; step < 80; step++)
        assert_int_equal(het_schedule_search(&c, step, 7, 100), step == 32); /* 4.5 epochs of 7 steps */
    c.init.keep_epochs = 4.5; /* the poses are not in use any more */
    assert_false(het_schedule_search(&c, 32, 7, 100));
    c.init.keep_epochs = 10.0;
    c.init.join_epoch = 0.0;
    for (int64_t step = 0; step < 80; step++) assert_false(het_schedule_search(&c, step, 7, 100));
    c.init.join_epoch = -1.0;
    c.train.epochs = 12.0; /* in the middle and a fifth later, */
    for (int64_t step = 0; step < 80; step++)
        assert_int_equal(het_schedule_search(&c, step, 7, 100), step == 42 || step == 59);
    c.train.epochs = 8.0; /* but not before epoch 1.5 + 4 */
    for (int64_t step = 0; step < 80; step++)
        assert_int_equal(het_schedule_search(&c, step, 7, 100), step == 39 || step == 50);
    c.train.method = HET_METHOD_CRYODRGN2;
    c.init.method = HET_START_NONE;
    assert_true(het_schedule_given(&c, 1e5));
}

static void rate_falls_by_cosine(void **state)
{
    (void)state;
    het_config c = standard();
    c.train.rate_final = 0.2;
    near(het_schedule_rate(&c, 0.0), 1.0);
    near(het_schedule_rate(&c, 5.0), 0.6);
    near(het_schedule_rate(&c, 10.0), 0.2);
    near(het_schedule_rate(&c, 11.0), 0.2);
    near(het_schedule_rate(&c, 2.5), 0.2 + 0.8 * 0.5 * (1.0 + sqrt(0.5)));
    double last = 1.0;
    for (double epoch = 0.1; epoch <= 10.0; epoch += 0.1) {
        const double rate = het_schedule_rate(&c, epoch);
        assert_true(rate < last);
        last = rate;
    }
    c.train.epochs = 0.0;
    near(het_schedule_rate(&c, 0.0), 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cycles_and_epochs),
        cmocka_unit_test(radius_marches),
        cmocka_unit_test(frozen_by_epochs_and_images),
        cmocka_unit_test(searches_in_time),
        cmocka_unit_test(rate_falls_by_cosine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
