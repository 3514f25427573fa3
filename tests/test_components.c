/* A linear model of images: the conformation and the contrast that they were made with come back, and noise is no conformation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/components.h"
#include "../src/physics/rotation.h"
#include "../src/physics/stats.h"
#include "../src/rng.h"

enum { D = 16, SMALL = 14, N = 800, HALF = N / 2, K = 2, ROUNDS = 20 };
static const double radius = 5.0;

typedef struct world {
    het_points points;
    het_components_images images;
    float rotation[9 * N], shift[2 * N];
    double z[N], contrast[N];
    het_components model;
    het_components_answer answer[N];
} world;

/* Three blobs, and an arm that its conformation brings or takes. */
static void make_map(het_volume *map, double arm)
{
    static const double blob[4][4] = {{3, 0, 0, 0.9}, {0, -4, 1, 0.7}, {-2, 2, -3, 0.8}, {1, 3, 3, 0}};
    assert_int_equal(het_volume_new(map, D, 1.0), HET_OK);
    for (int i = 0; i < D * D * D; i++) {
        const double at[3] = {i % D - D / 2, i / D % D - D / 2, i / D / D - D / 2};
        double sum = 0.0;
        for (int b = 0; b < 4; b++) {
            double r2 = 0.0;
            for (int c = 0; c < 3; c++) r2 += (at[c] - blob[b][c]) * (at[c] - blob[b][c]);
            sum += (b < 3 ? blob[b][3] : arm) * exp(-0.5 * r2 / 1.5);
        }
        map->data[i] = (float)sum;
    }
}

/* arm: how strongly images differ; noise: variance of a Fourier point. */
static void make_world(world *w, double arm, double noise)
{
    het_volume map, moved;
    het_slicer slicer, change;
    make_map(&map, 0.5);
    make_map(&moved, 0.5 + arm);
    for (int i = 0; i < D * D * D; i++) moved.data[i] -= map.data[i];
    assert_int_equal(het_slicer_new(&slicer, &map), HET_OK);
    assert_int_equal(het_slicer_new(&change, &moved), HET_OK);
    assert_int_equal(het_points_new(&w->points, D), HET_OK);
    const int64_t p = het_points_within(&w->points, radius);
    w->images = (het_components_images){.points = &w->points, .count = HALF, .p = p, .rotation = w->rotation, .shift = w->shift,
                                        .a = het_alloc((size_t)(N * 2 * p) * sizeof(float)), .b = het_alloc((size_t)(N * p) * sizeof(float))};
    float *x = het_alloc((size_t)(4 * p) * sizeof *x), *ctf = het_alloc((size_t)p * sizeof *ctf), *v = x + 2 * p;
    assert_true(w->images.a != NULL && w->images.b != NULL && x != NULL && ctf != NULL);
    for (int i = 0; i < N; i++) {
        het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        double r[9];
        const float shift[2] = {2.0F * het_rng_normal(&rng), -1.0F};
        het_rotation_draw(r, &rng);
        for (int c = 0; c < 9; c++) w->rotation[9 * i + c] = (float)r[c];
        w->z[i] = (double)het_rng_normal(&rng);
        w->contrast[i] = 1.0 + 0.1 * (double)het_rng_normal(&rng);
        het_slicer_slice(&slicer, x, r, w->points.kxy, p);
        het_slicer_slice(&change, v, r, w->points.kxy, p);
        for (int64_t j = 0; j < p; j++) {
            const int32_t *k = w->points.kxy + 2 * j;
            const double angle = -2.0 * M_PI / D * ((double)k[0] * (double)shift[0] + (double)k[1] * (double)shift[1]);
            const float c = (float)cos(angle), s = (float)sin(angle), half = (float)sqrt(0.5 * noise);
            ctf[j] = cosf(0.3F * (float)(i % 7) + 0.05F * (float)j);
            const float re = (float)w->contrast[i] * x[2 * j] + (float)w->z[i] * v[2 * j],
                        im = (float)w->contrast[i] * x[2 * j + 1] + (float)w->z[i] * v[2 * j + 1];
            x[2 * j] = ctf[j] * (c * re - s * im) + half * het_rng_normal(&rng);
            x[2 * j + 1] = ctf[j] * (c * im + s * re) + half * het_rng_normal(&rng);
        }
        het_components_observe(w->images.a + i * 2 * p, w->images.b + i * p, x, ctf, shift, &w->points, p);
    }
    het_slicer_free(&slicer);
    het_slicer_free(&change);
    het_volume_free(&map);
    het_volume_free(&moved);
    het_release(x);
    het_release(ctf);
}

static void world_free(world *w)
{
    het_components_free(&w->model);
    het_points_free(&w->points);
    het_release(w->images.a);
    het_release(w->images.b);
}

static void forget(world *w)
{
    for (int i = 0; i < N; i++) w->answer[i] = (het_components_answer){.mean = {1.0}};
}

/* The axes, and all images' answers along them. moves: poses follow. */
static void find(world *w, het_components_axes *axes, double noise, int moves)
{
    static double left[(N - HALF) * (SMALL + 2)];
    assert_int_equal(het_components_new(&w->model, K, SMALL, D, noise, 0.1, 0.3), HET_OK);
    het_components_measure(&w->model, &w->images);
    assert_int_equal(het_components_lefts(&w->model), SMALL + 2);
    forget(w);
    for (int i = 0; i < HALF; i++) {
        het_rng rng = het_rng_at(2, HET_STREAM_SEARCH, 0, (uint64_t)i);
        for (int k = 1; k <= K; k++) w->answer[i].mean[k] = (double)het_rng_normal(&rng);
    }
    for (int round = 0; round < ROUNDS; round++) {
        het_components_whiten(&w->model, w->answer, HALF, N);
        assert_int_equal(het_components_add(&w->model, w->answer, &w->images, 2), HET_OK);
        assert_int_equal(het_components_solve(&w->model, 2), HET_OK);
        assert_int_equal(het_components_expect(&w->model, w->answer, NULL, &w->images, 0, HALF, 2), HET_OK);
        assert_int_equal(het_components_expect(&w->model, w->answer, left, &w->images, HALF, N - HALF, 2), HET_OK);
        if (moves) het_components_move(&w->images, w->answer, 0, N, 2);
        het_components_set_noise(&w->model, left, N - HALF);
    }
    het_components_find_axes(axes, &w->model, w->answer + HALF, N - HALF);
    assert_int_equal(het_components_keep(&w->model, axes, K), HET_OK);
    forget(w);
    assert_int_equal(het_components_expect(&w->model, w->answer, NULL, &w->images, 0, N, 2), HET_OK);
}

static double correlation(const double *a, const double *b, int n)
{
    double sa = 0.0, sb = 0.0, aa = 0.0, bb = 0.0, ab = 0.0;
    for (int i = 0; i < n; i++) {
        sa += a[i] / n;
        sb += b[i] / n;
    }
    for (int i = 0; i < n; i++) {
        aa += (a[i] - sa) * (a[i] - sa);
        bb += (b[i] - sb) * (b[i] - sb);
        ab += (a[i] - sa) * (b[i] - sb);
    }
    return ab / sqrt(aa * bb);
}

static void conformation_comes_back(void **state)
{
    (void)state;
    static world w;
    het_components_axes axes;
    double found[N], contrast[N], mean = 0.0, square = 0.0;
    make_world(&w, 0.5, 0.1);
    find(&w, &axes, 0.1, 0);
    for (int i = 0; i < N; i++) {
        found[i] = w.answer[i].mean[1];
        contrast[i] = w.answer[i].mean[0];
    }
    for (int i = HALF; i < N; i++) {
        mean += found[i] / (N - HALF);
        square += found[i] * found[i] / (N - HALF);
    }
    print_message("told %.3f %.3f, |correlation| %.3f, of the contrast %.3f\n", axes.told[0], axes.told[1],
                  fabs(correlation(found + HALF, w.z + HALF, N - HALF)), correlation(contrast + HALF, w.contrast + HALF, N - HALF));
    assert_true(fabs(correlation(found + HALF, w.z + HALF, N - HALF)) > 0.9);
    assert_true(correlation(contrast + HALF, w.contrast + HALF, N - HALF) > 0.7);
    assert_true(axes.told[0] > 0.85 && axes.told[0] < 1.0);
    assert_true(fabs(axes.told[1]) < 0.25);
    print_message("mean %.3f, square %.3f\n", mean, square);
    assert_true(fabs(mean) < 0.2 && fabs(square - 1.0) < 0.2); /* to the sampling of 400 images */
    world_free(&w);
}

/* Degrees, median over the images, from one set of rotations to another after the turn in between. */
static double apart(const float *a, const float *b)
{
    double m[9] = {0}, turn[9], moved[9], degrees[N];
    for (int i = 0; i < N; i++)
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++)
                for (int j = 0; j < 3; j++) m[3 * r + c] += (double)a[9 * i + 3 * j + r] * (double)b[9 * i + 3 * j + c];
    het_rotation_nearest(turn, m);
    for (int i = 0; i < N; i++) {
        double x[9], y[9];
        for (int c = 0; c < 9; c++) {
            x[c] = (double)a[9 * i + c];
            y[c] = (double)b[9 * i + c];
        }
        het_rotation_multiply(moved, x, turn);
        degrees[i] = 180.0 / M_PI * het_rotation_angle(het_rotation_distance2(moved, y));
    }
    return het_median(degrees, N);
}

/* Poses that are wrong by up to six degrees and half a pixel come back with the conformations. */
static void poses_follow(void **state)
{
    (void)state;
    static world w;
    static float right[9 * N];
    het_components_axes axes;
    double found[N];
    make_world(&w, 0.5, 0.01);
    memcpy(right, w.rotation, sizeof right);
    for (int i = 0; i < N; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SEARCH, 1, (uint64_t)i);
        for (int c = 0; c < HET_COMPONENTS_POSE; c++) w.answer[i].pose[c] = (c < 3 ? 0.06 : 0.3) * (double)het_rng_normal(&rng);
    }
    het_components_move(&w.images, w.answer, 0, N, 2);
    const double before = apart(w.rotation, right);
    find(&w, &axes, 0.01, 1);
    for (int i = 0; i < N; i++) found[i] = w.answer[i].mean[1];
    print_message("poses %.2f degrees apart, %.2f before; told %.3f %.3f, |correlation| %.3f\n", apart(w.rotation, right), before, axes.told[0], axes.told[1],
                  fabs(correlation(found + HALF, w.z + HALF, N - HALF)));
    assert_true(apart(w.rotation, right) < 0.5 * before);
    assert_true(fabs(correlation(found + HALF, w.z + HALF, N - HALF)) > 0.85);
    world_free(&w);
}

/* Of images that do not differ but in contrast none is told, on others than the maps were made from. */
static void noise_is_no_conformation(void **state)
{
    (void)state;
    static world w;
    het_components_axes axes;
    make_world(&w, 0.0, 0.5);
    find(&w, &axes, 0.5, 0);
    double found[N];
    for (int i = 0; i < N; i++) found[i] = w.answer[i].mean[1];
    print_message("told %.3f %.3f, |correlation| with the contrast %.3f\n", axes.told[0], axes.told[1], fabs(correlation(found + HALF, w.contrast + HALF, N - HALF)));
    for (int k = 0; k < K; k++) assert_true(fabs(axes.told[k]) < 0.25);
    world_free(&w);
}

/* An image that holds NaN says nothing, and harms no other one. */
static void nan_says_nothing(void **state)
{
    (void)state;
    static world w;
    het_components_axes axes;
    const float shift[2] = {0};
    make_world(&w, 0.5, 0.1);
    float *x = het_alloc((size_t)(3 * w.images.p) * sizeof *x);
    assert_non_null(x);
    memset(x, 0, (size_t)(3 * w.images.p) * sizeof *x);
    x[5] = NAN;
    het_components_observe(w.images.a, w.images.b, x, x + 2 * w.images.p, shift, &w.points, w.images.p);
    find(&w, &axes, 0.1, 0);
    het_release(x);
    assert_int_equal(het_components_expect(&w.model, w.answer, NULL, &w.images, 0, 1, 1), HET_OK);
    assert_true(w.answer[0].mean[0] == 1.0 && w.answer[0].mean[1] == 0.0);
    assert_float_equal(w.answer[0].covariance[K + 2], 1.0, 1e-9);
    assert_true(axes.told[0] > 0.85);
    world_free(&w);
}

/* One map alone is that of the plain solution. */
static void one_map_is_the_plain_one(void **state)
{
    (void)state;
    static world w;
    het_backproject back;
    het_volume plain, joint;
    double prior[SMALL / 2 + 1];
    const double share = 1.0;
    make_world(&w, 0.2, 0.1);
    assert_int_equal(het_backproject_new(&back, SMALL, D), HET_OK);
    assert_int_equal(het_volume_new(&plain, SMALL, 1.0), HET_OK);
    assert_int_equal(het_volume_new(&joint, SMALL, 1.0), HET_OK);
    for (int s = 0; s <= SMALL / 2; s++) prior[s] = 0.1 * (1 + s);
    for (int i = 0; i < N; i++)
        het_backproject_add(&back, w.images.a + i * 2 * w.images.p, w.images.b + i * w.images.p, w.rotation + 9 * i, 1.0, w.points.kxy, w.images.p);
    het_backproject_solve(&back, &plain, prior);
    het_backproject_solve_joint(&back, &joint, prior, &share, 2);
    for (int i = 0; i < SMALL * SMALL * SMALL; i++) assert_float_equal(joint.data[i], plain.data[i], 1e-5);
    het_backproject_free(&back);
    het_volume_free(&plain);
    het_volume_free(&joint);
    world_free(&w);
}

/* Sums of two maps are those of one for each product, whoever adds to which part of the grid. */
static void joint_sums_are_those_of_each(void **state)
{
    (void)state;
    enum { PARTS = 3, SUMS = 3 };
    static world w;
    static const double e[2] = {0.9, -1.3}, ee[4] = {1.1, 0, -0.8, 2.0};
    const double of_a[SUMS] = {e[0], e[1], 0.0}, of_b[SUMS] = {ee[0], ee[2], ee[3]};
    const int64_t points = het_backproject_numbers(SMALL, 1) / 3;
    het_backproject joint, part[PARTS], one[SUMS];
    make_world(&w, 0.2, 0.1);
    const int64_t p = w.images.p;
    float *a = het_alloc((size_t)(3 * p) * sizeof *a), *b = a + 2 * p;
    assert_non_null(a);
    assert_int_equal(het_backproject_new_joint(&joint, 2, SMALL, D), HET_OK);
    assert_int_equal(het_backproject_parts(part, PARTS, &joint), HET_OK);
    for (int s = 0; s < SUMS; s++) assert_int_equal(het_backproject_new(&one[s], SMALL, D), HET_OK);
    for (int i = 0; i < 20; i++) {
        const float *ai = w.images.a + i * 2 * p, *bi = w.images.b + i * p, *r = w.rotation + 9 * i;
        for (int t = 0; t < PARTS; t++) het_backproject_add_joint(&part[t], ai, bi, r, e, ee, w.points.kxy, p);
        for (int s = 0; s < SUMS; s++) {
            for (int64_t j = 0; j < 2 * p; j++) a[j] = (float)of_a[s] * ai[j];
            for (int64_t j = 0; j < p; j++) b[j] = (float)of_b[s] * bi[j];
            het_backproject_add(&one[s], a, b, r, 1.0, w.points.kxy, p);
        }
    }
    for (int64_t i = 0; i < points; i++) {
        const double *sum = joint.sum + 7 * i;
        for (int s = 0; s < SUMS; s++) {
            for (int c = 0; c < 2 && s < 2; c++) assert_float_equal(sum[2 * s + c], one[s].sum[3 * i + c], 1e-4);
            assert_float_equal(sum[4 + s], one[s].sum[3 * i + 2], 1e-4);
        }
    }
    het_backproject_parts_free(part, PARTS);
    het_backproject_free(&joint);
    for (int s = 0; s < SUMS; s++) het_backproject_free(&one[s]);
    het_release(a);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(conformation_comes_back), cmocka_unit_test(poses_follow), cmocka_unit_test(noise_is_no_conformation),
                                       cmocka_unit_test(nan_says_nothing), cmocka_unit_test(one_map_is_the_plain_one),
                                       cmocka_unit_test(joint_sums_are_those_of_each)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
