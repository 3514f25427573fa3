/* A reconstruction put into the truth's frame. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/place.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { D = 32, BLOBS = 4 };

static const double SPOT[BLOBS][4] = {{5, 0, 1, 1.0}, {-3, 4, 2, 0.7}, {0, -5, -4, 1.3}, {2, 2, 6, 0.5}};

/* Gaussian blobs (sigma 2 voxels) at B (x - u). */
static void draw(het_volume *v, const double b[9], const double u[3])
{
    for (int64_t i = 0; i < (int64_t)D * D * D; i++) {
        const double p[3] = {(double)(i % D - D / 2), (double)(i / D % D - D / 2),
                             (double)(i / D / D - D / 2)};
        double sum = 0.0;
        for (int s = 0; s < BLOBS; s++) {
            double r2 = 0.0;
            for (int k = 0; k < 3; k++) {
                double at = 0.0;
                for (int j = 0; j < 3; j++) at += b[3 * k + j] * (SPOT[s][j] - u[j]);
                r2 += (p[k] - at) * (p[k] - at);
            }
            sum += SPOT[s][3] * exp(-r2 / 8.0);
        }
        v->data[i] = (float)sum;
    }
}

static double relative_error(const het_volume *a, const het_volume *b)
{
    double difference = 0.0, norm = 0.0;
    for (int64_t i = 0; i < (int64_t)D * D * D; i++) {
        difference += pow((double)a->data[i] - (double)b->data[i], 2);
        norm += pow((double)b->data[i], 2);
    }
    return sqrt(difference / norm);
}

static void maps_return_to_the_truth(void **state)
{
    (void)state;
    static const double one[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, nowhere[3] = {0, 0, 0},
                        u[3] = {1.5, -0.75, 2.25};
    het_volume truth, predicted, placed;
    assert_int_equal(het_volume_new(&truth, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&predicted, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&placed, D, 2.0), HET_OK);
    draw(&truth, one, nowhere);
    for (int hand = -1; hand <= 1; hand += 2) {
        double a[9], b[9];
        het_rotation_uniform(a, 0.3, 0.8, 0.15);
        for (int k = 0; k < 9; k++) b[k] = hand < 0 && k >= 6 ? -a[k] : a[k];
        draw(&predicted, b,
             u); /* V_true(x) = V_pred(B (x - u)): what lies at x lies at B (x - u) in the prediction */
        het_pose3 pose = {.hand = hand, .u = {u[0], u[1], u[2]}};
        for (int k = 0; k < 9; k++) pose.a[k] = a[k];
        assert_int_equal(het_place_volume(&placed, &predicted, &pose), HET_OK);
        assert_true(relative_error(&placed, &truth) < 0.01);
        pose.hand = -hand;
        assert_int_equal(het_place_volume(&placed, &predicted, &pose), HET_OK);
        assert_true(relative_error(&placed, &truth) > 0.3);
    }
    het_volume_free(&truth);
    het_volume_free(&predicted);
    het_volume_free(&placed);
}

/* Two to five degrees and a voxel off: the fit finds the way back, for either hand. */
static void refinement_finds_the_place(void **state)
{
    (void)state;
    static const double one[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, nowhere[3] = {0, 0, 0},
                        u[3] = {1.0, -0.5, 0.25};
    static const double axis[3] = {1.0, -2.0, 0.5};
    het_volume truth, predicted, placed;
    assert_int_equal(het_volume_new(&truth, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&predicted, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&placed, D, 2.0), HET_OK);
    draw(&truth, one, nowhere);
    for (int hand = -1; hand <= 1; hand += 2) {
        double a[9], b[9], turn[9];
        het_pose3 pose = {.hand = hand, .u = {u[0] + 0.8, u[1] - 0.9, u[2] + 0.3}};
        het_rotation_uniform(a, 0.7, 0.2, 0.55);
        for (int k = 0; k < 9; k++) b[k] = hand < 0 && k >= 6 ? -a[k] : a[k];
        draw(&predicted, b, u);
        het_rotation_about(turn, axis, 0.08);
        het_rotation_multiply(pose.a, turn, a);
        assert_int_equal(het_place_refine(&pose, &predicted, &truth), HET_OK);
        assert_true(het_rotation_angle(het_rotation_distance2(pose.a, a)) < 0.005);
        for (int k = 0; k < 3; k++) assert_true(fabs(pose.u[k] - u[k]) < 0.05);
        assert_int_equal(het_place_volume(&placed, &predicted, &pose), HET_OK);
        assert_true(relative_error(&placed, &truth) < 0.02);
    }
    het_volume_free(&truth);
    het_volume_free(&predicted);
    het_volume_free(&placed);
}

/* ---- search ---- */

enum { SPOTS = 24, FIRST = 16 }; /* the first ones are the larger part */

/* Sharp blobs, in noise; x_of_spot = a^T (x - u) for those of the larger part, turned about z as well for the others. */
static void draw_parts(het_volume *v, const double a[9], const double u[3], double turn, double noise, uint64_t sample)
{
    static const double up[3] = {0.0, 0.0, 1.0};
    double own[9];
    het_rng where = het_rng_at(1, HET_STREAM_INIT, 0, 0), rng = het_rng_at(1, HET_STREAM_INIT, 1, sample);
    het_rotation_about(own, up, turn);
    for (int64_t i = 0; i < (int64_t)D * D * D; i++) v->data[i] = (float)noise * het_rng_normal(&rng);
    for (int s = 0; s < SPOTS; s++) {
        double spot[3], turned[3], at[3];
        for (int k = 0; k < 3; k++) spot[k] = 14.0 * (het_rng_uniform(&where) - 0.5);
        spot[0] += s < FIRST ? -2.0 : 5.0;
        for (int k = 0; k < 3; k++)
            turned[k] = s < FIRST ? spot[k] : own[3 * k] * spot[0] + own[3 * k + 1] * spot[1] + own[3 * k + 2] * spot[2];
        for (int k = 0; k < 3; k++) /* a: rows are the axes of the new frame */
            at[k] = a[3 * k] * (turned[0] - u[0]) + a[3 * k + 1] * (turned[1] - u[1]) + a[3 * k + 2] * (turned[2] - u[2]);
        for (int64_t i = 0; i < (int64_t)D * D * D; i++) {
            const double p[3] = {(double)(i % D - D / 2), (double)(i / D % D - D / 2), (double)(i / D / D - D / 2)};
            const double r2 = pow(p[0] - at[0], 2) + pow(p[1] - at[1], 2) + pow(p[2] - at[2], 2);
            if (r2 < 20.0) v->data[i] += (float)exp(-r2 / 2.0);
        }
    }
}

static const double ONE[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, NOWHERE[3] = {0, 0, 0};
static const het_pose3 AS_IT_IS = {.a = {1, 0, 0, 0, 1, 0, 0, 0, 1}, .hand = 1};

/* Two states in frames that are an angle apart, in which the smaller part is turned by another: the larger part decides. */
static void check_larger_part(double apart, double most)
{
    static const double axis[3] = {0.4, -0.3, 1.0}, u[3] = {1.3, -2.1, 0.6};
    double a[9], c[2];
    het_volume truth, other;
    het_pose3 pose = AS_IT_IS;
    assert_int_equal(het_volume_new(&truth, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&other, D, 2.0), HET_OK);
    het_rotation_about(a, axis, -apart);
    draw_parts(&truth, ONE, NOWHERE, 0.0, 0.05, 1);
    draw_parts(&other, a, u, 0.6, 0.05, 2);
    assert_int_equal(het_place_search(&pose, c, &other, &truth, most, 10), HET_OK);
    assert_true(c[1] > c[0] + 0.2);
    assert_true(het_rotation_angle(het_rotation_distance2(pose.a, a)) < 0.02);
    for (int k = 0; k < 3; k++) assert_true(fabs(pose.u[k] - u[k]) < 0.15);
    het_volume_free(&truth);
    het_volume_free(&other);
}

static void search_finds_the_larger_part(void **state)
{
    (void)state;
    check_larger_part(0.58, 0.8);
    check_larger_part(2.3, M_PI); /* the grid of all turns */
}

/* One volume in two noises stays where it is: the best place is no better than noise. */
static void search_stays_in_noise(void **state)
{
    (void)state;
    het_volume truth, other;
    double c[2];
    het_pose3 pose = AS_IT_IS;
    assert_int_equal(het_volume_new(&truth, D, 2.0), HET_OK);
    assert_int_equal(het_volume_new(&other, D, 2.0), HET_OK);
    draw_parts(&truth, ONE, NOWHERE, 0.0, 0.2, 3);
    draw_parts(&other, ONE, NOWHERE, 0.0, 0.2, 4);
    assert_int_equal(het_place_search(&pose, c, &other, &truth, 0.8, 10), HET_OK);
    assert_true(c[0] > 0.2 && c[0] < 0.7); /* there is noise */
    assert_true(c[1] - c[0] < 0.02);
    assert_true(het_rotation_angle(het_rotation_distance2(pose.a, ONE)) < 0.03);
    het_volume_free(&truth);
    het_volume_free(&other);
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_return_to_the_truth),
        cmocka_unit_test(refinement_finds_the_place),
        cmocka_unit_test(search_finds_the_larger_part),
        cmocka_unit_test(search_stays_in_noise),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
