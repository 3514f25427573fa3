/* Frames of conformations: poses moved from one to another, trees of clusters, and what is a difference. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/frames.h"
#include "../src/physics/points.h"
#include "../src/physics/rotation.h"
#include "../src/physics/slicer.h"

enum { D = 32 };

/* Blobs: a particle without symmetry. */
static void draw(het_volume *v)
{
    static const double spot[4][4] = {{4, 0, 1, 1.0}, {-3, 3, 2, 0.7}, {0, -4, -3, 1.3}, {2, 2, 5, 0.5}};
    for (int64_t i = 0; i < (int64_t)D * D * D; i++) {
        const double p[3] = {(double)(i % D - D / 2), (double)(i / D % D - D / 2), (double)(i / D / D - D / 2)};
        for (int s = 0; s < 4; s++) {
            double r2 = 0.0;
            for (int k = 0; k < 3; k++) r2 += pow(p[k] - spot[s][k], 2);
            v->data[i] += (float)(spot[s][3] * exp(-r2 / 5.0));
        }
    }
}

/* The image's transform T_t S(R^T k). */
static void project(float *image, const het_volume *v, const float *rotation, const float *shift,
                    const het_points *points)
{
    het_slicer slicer;
    double r[9];
    for (int i = 0; i < 9; i++) r[i] = rotation[i];
    assert_int_equal(het_slicer_new(&slicer, v), HET_OK);
    het_slicer_slice(&slicer, image, r, points->kxy, points->count);
    for (int64_t p = 0; p < points->count; p++) {
        const int32_t *k = points->kxy + 2 * p;
        const double phase = -2.0 * M_PI * (k[0] * (double)shift[0] + k[1] * (double)shift[1]) / D;
        const double re = image[2 * p], im = image[2 * p + 1];
        image[2 * p] = (float)(re * cos(phase) - im * sin(phase));
        image[2 * p + 1] = (float)(re * sin(phase) + im * cos(phase));
    }
    het_slicer_free(&slicer);
}

static het_pose3 some_frame(double angle, int hand, double x, double y, double z)
{
    const double axis[3] = {1.0 + x, -2.0 + y, 0.5};
    het_pose3 frame = {.hand = hand, .u = {x, y, z}};
    het_rotation_about(frame.a, axis, angle);
    return frame;
}

/* The same image of the volume placed in another frame. */
static void check_moved_poses(int hand)
{
    het_volume old, new;
    het_points points;
    const het_pose3 frame = some_frame(0.5, hand, 1.2, -0.7, 0.4);
    float rotation[9], shift[2] = {0.8F, -1.1F};
    double r[9], difference = 0.0, power = 0.0;
    assert_int_equal(het_points_new(&points, D), HET_OK);
    float *image = het_alloc((size_t)(4 * points.count) * sizeof *image), *other = image + 2 * points.count;
    assert_int_equal(het_volume_new(&old, D, 1.0), HET_OK);
    assert_int_equal(het_volume_new(&new, D, 1.0), HET_OK);
    draw(&old);
    assert_int_equal(het_place_volume(&new, &old, &frame), HET_OK);
    het_rotation_uniform(r, 0.3, 0.7, 0.1);
    for (int i = 0; i < 9; i++) rotation[i] = (float)r[i];
    project(image, &old, rotation, shift, &points);
    het_frames_move(rotation, shift, &frame);
    project(other, &new, rotation, shift, &points);
    for (int64_t i = 0; i < 2 * points.count; i++) {
        difference += pow((double)image[i] - (double)other[i], 2);
        power += pow((double)image[i], 2);
    }
    assert_true(difference < 1e-3 * power);
    het_release(image);
    het_points_free(&points);
    het_volume_free(&old);
    het_volume_free(&new);
}

static void moved_poses_explain_the_image(void **state)
{
    (void)state;
    check_moved_poses(1);
    check_moved_poses(-1);
}

static void check_frames_in_turn(int first_hand, int second_hand)
{
    const het_pose3 first = some_frame(0.5, first_hand, 1.2, -0.7, 0.4),
                    second = some_frame(-0.9, second_hand, -0.3, 2.0, 1.1);
    const het_pose3 both = het_frames_then(&first, &second);
    float one[9] = {0, 1, 0, -1, 0, 0, 0, 0, 1}, two[9], t1[2] = {0.5F, 0.25F}, t2[2] = {0.5F, 0.25F};
    memcpy(two, one, sizeof two);
    het_frames_move(one, t1, &first);
    het_frames_move(one, t1, &second);
    het_frames_move(two, t2, &both);
    for (int i = 0; i < 9; i++) assert_true(fabsf(one[i] - two[i]) < 1e-5F);
    for (int i = 0; i < 2; i++) assert_true(fabsf(t1[i] - t2[i]) < 1e-5F);
    assert_int_equal(both.hand, first_hand * second_hand);
}

static void frames_follow_each_other(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) check_frames_in_turn(i / 2 == 0 ? 1 : -1, i % 2 == 0 ? 1 : -1);
}

static void tree_by_hand(void **state)
{
    (void)state;
    /* 4 is like 0, 2 like 4 and 3 like 2; 1 is unlike all, most like 3 */
    static const double alike[25] = {0, .1, .6, .3, .9, .1, 0, .1, .2, .1, .6, .1, 0, .5, .7, .3, .2, .5, 0, .4, .9, .1, .7, .4, 0};
    int parent[5], order[5];
    het_frames_tree(parent, order, alike, 5, 5, 0);
    static const int wanted[5] = {-1, 3, 4, 2, 0}, in_order[5] = {0, 4, 2, 3, 1};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(parent[i], wanted[i]);
        assert_int_equal(order[i], in_order[i]);
    }
    het_frames_tree(parent, order, alike, 5, 5, 3);
    assert_int_equal(parent[3], -1);
    assert_int_equal(parent[0], 4);
    assert_int_equal(parent[4], 2);
}

static void only_what_is_sure_differs(void **state)
{
    (void)state;
    const het_pose3 far = some_frame(0.4, 1, 0, 0, 0), near = some_frame(0.03, 1, 0, 0, 0);
    const double better[2] = {0.32, 0.53}, alike[2] = {0.84, 0.85}, chance[2] = {0.005, 0.04};
    assert_true(het_frames_differ(&far, better, 12));
    assert_false(het_frames_differ(&near, better, 12));
    assert_false(het_frames_differ(&far, alike, 12));
    assert_false(het_frames_differ(&far, chance, 12)); /* 1/85 is a standard deviation */
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moved_poses_explain_the_image),
        cmocka_unit_test(frames_follow_each_other),
        cmocka_unit_test(tree_by_hand),
        cmocka_unit_test(only_what_is_sure_differs),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
