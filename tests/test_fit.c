/* Poses against slices of a volume known in closed form: a few Gaussian balls. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/fit.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { BOX = 32, IMAGES = 100 };

typedef struct scene {
    het_points points;
    float *transform, *ctf;
    het_fit_pose truth[IMAGES];
    int64_t calls;
    float spoilt; /* added to slices: NaN in one test */
} scene;

/* V(q) = sum_b exp(-2 pi^2 s^2 |q|^2/D^2) exp(-2 pi i q.x_b/D), balls at x_b px of s px; another volume for
 * odd images. */
static void slices(void *context, float *out, const float *rot, const int64_t *image, int64_t n, int64_t p)
{
    static const double ball[5][4] = {
        {5, 1, -2, 1.4}, {-4, 4, 1, 1.8}, {0, -5, 4, 1.2}, {2, 3, 6, 1.5}, {-3, -2, -6, 1.3}};
    scene *s = context;
    s->calls += n;
    for (int64_t j = 0; j < n * p; j++) {
        const float *r = rot + 9 * (j / p);
        const int32_t *k = s->points.kxy + 2 * (j % p);
        double q[3], re = 0.0, im = 0.0;
        for (int i = 0; i < 3; i++) q[i] = (k[0] * (double)r[i] + k[1] * (double)r[3 + i]) / BOX;
        for (int b = 0; b < 5 - image[j / p] % 2; b++) {
            const double angle = -2.0 * M_PI * (q[0] * ball[b][0] + q[1] * ball[b][1] + q[2] * ball[b][2]);
            const double size =
                exp(-2.0 * M_PI * M_PI * ball[b][3] * ball[b][3] * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2]));
            re += size * cos(angle);
            im += size * sin(angle);
        }
        out[2 * j] = (float)re + s->spoilt;
        out[2 * j + 1] = (float)im;
    }
}

static void turn(float out[9], const float r[9], het_rng *rng, double angle)
{
    double axis[3], about[9], from[9], turned[9];
    for (int i = 0; i < 3; i++) axis[i] = het_rng_normal(rng);
    het_rotation_about(about, axis, angle);
    for (int i = 0; i < 9; i++) from[i] = r[i];
    het_rotation_multiply(turned, about, from);
    for (int i = 0; i < 9; i++) out[i] = (float)turned[i];
}

/* Images at drawn poses, with a CTF that changes sign, and noise. */
static void scene_open(scene *s, double noise)
{
    *s = (scene){0};
    assert_int_equal(het_points_new(&s->points, BOX), HET_OK);
    const int64_t p = s->points.count;
    s->transform = het_alloc((size_t)(IMAGES * 2 * p) * sizeof *s->transform);
    s->ctf = het_alloc((size_t)(IMAGES * p) * sizeof *s->ctf);
    for (int64_t i = 0; i < IMAGES; i++) {
        het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        het_fit_pose *t = s->truth + i;
        double r[9];
        const double u = het_rng_uniform(&rng), v = het_rng_uniform(&rng), w = het_rng_uniform(&rng);
        het_rotation_uniform(r, u, v, w);
        for (int j = 0; j < 9; j++) t->rotation[j] = (float)r[j];
        for (int j = 0; j < 2; j++) t->shift[j] = 4.0f * het_rng_uniform(&rng) - 2.0f;
        t->image = i;
        slices(s, s->transform + i * 2 * p, t->rotation, &i, 1, p);
        for (int64_t k = 0; k < p; k++) {
            const double kx = s->points.kxy[2 * k], ky = s->points.kxy[2 * k + 1];
            const double angle = -2.0 * M_PI * (kx * t->shift[0] + ky * t->shift[1]) / BOX;
            const double c = s->ctf[i * p + k] =
                (float)cos(0.02 * (kx * kx + ky * ky) + 0.3 * (double)(i % 7));
            float *x = s->transform + 2 * (i * p + k);
            const double re = x[0], im = x[1];
            x[0] = (float)(c * (re * cos(angle) - im * sin(angle)) + noise * het_rng_normal(&rng));
            x[1] = (float)(c * (re * sin(angle) + im * cos(angle)) + noise * het_rng_normal(&rng));
        }
    }
}

static void scene_close(scene *s)
{
    het_points_free(&s->points);
    het_release(s->transform);
    het_release(s->ctf);
}

static het_fit_spec spec_of(scene *s, int steps)
{
    return (het_fit_spec){.points = &s->points,
                          .row = s->points.count,
                          .radius = BOX / 2 - 1,
                          .steps = steps,
                          .threads = 1,
                          .slices = slices,
                          .context = s};
}

static double loss_at(scene *s, const het_fit_pose *pose)
{
    het_fit_pose at = *pose;
    const het_fit_spec spec = spec_of(s, 0);
    assert_int_equal(het_fit_run(&spec, &at, 1, s->transform, s->ctf), HET_OK);
    assert_memory_equal(at.rotation, pose->rotation, sizeof at.rotation);
    return at.loss;
}

/* The same sum, written down once more. */
static void test_loss(void **state)
{
    (void)state;
    scene s;
    scene_open(&s, 0.3);
    const het_fit_pose *t = s.truth + 3;
    const int64_t p = s.points.count;
    double sum = 0.0;
    float *v = het_alloc((size_t)(2 * p) * sizeof *v);
    slices(&s, v, t->rotation, &t->image, 1, p);
    for (int64_t k = 0; k < p; k++) {
        const double angle =
            -2.0 * M_PI *
            (s.points.kxy[2 * k] * (double)t->shift[0] + s.points.kxy[2 * k + 1] * (double)t->shift[1]) / BOX;
        const double c = s.ctf[3 * p + k], re = c * (v[2 * k] * cos(angle) - v[2 * k + 1] * sin(angle)),
                     im = c * (v[2 * k] * sin(angle) + v[2 * k + 1] * cos(angle));
        const float *x = s.transform + 2 * (3 * p + k);
        sum += s.points.weight[k] * ((x[0] - re) * (x[0] - re) + (x[1] - im) * (x[1] - im)) / (BOX * BOX);
    }
    assert_float_equal(loss_at(&s, t), sum, 1e-5 * sum);
    het_release(v);
    scene_close(&s);
}

/* -2 J^T r against central differences of the loss. */
static void test_gradient(void **state)
{
    (void)state;
    scene s;
    scene_open(&s, 0.0);
    const het_fit_spec spec = spec_of(&s, 0);
    for (int i = 0; i < 6; i++) {
        double jtj[25], jtr[5], largest = 0.0, slope[5];
        het_rng rng = het_rng_at(2, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        het_fit_pose pose = s.truth[i];
        turn(pose.rotation, s.truth[i].rotation, &rng, 0.1);
        pose.shift[0] += 0.3f;
        assert_int_equal(het_fit_normal(&spec, jtj, jtr, &pose, s.transform, s.ctf), HET_OK);
        for (int a = 0; a < 5; a++) {
            const double h = 0.01;
            double loss[2];
            for (int side = 0; side < 2; side++) {
                het_fit_pose moved = pose;
                const double by = side ? h : -h;
                if (a >= 3) moved.shift[a - 3] += (float)by;
                double axis[3] = {a == 0, a == 1, a == 2}, about[9], from[9], turned[9];
                het_rotation_about(about, a < 3 ? axis : (double[3]){0, 0, 1}, a < 3 ? by : 0.0);
                for (int j = 0; j < 9; j++) from[j] = pose.rotation[j];
                het_rotation_multiply(turned, about, from);
                for (int j = 0; j < 9; j++) moved.rotation[j] = (float)turned[j];
                loss[side] = loss_at(&s, &moved);
            }
            slope[a] = (loss[1] - loss[0]) / (2.0 * h);
            largest = fmax(largest, fabs(slope[a]));
        }
        for (int a = 0; a < 5; a++) assert_float_equal(-2.0 * jtr[a], slope[a], 0.06 * largest);
    }
    scene_close(&s);
}

/* From 10 degrees and 0.7 px away to the truth, half the radius first. */
static double share_found(scene *s, double limit, double *worse)
{
    het_fit_pose pose[IMAGES];
    double before[IMAGES], good = 0.0;
    for (int i = 0; i < IMAGES; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        pose[i] = s->truth[i];
        turn(pose[i].rotation, s->truth[i].rotation, &rng, 10.0 * M_PI / 180.0);
        pose[i].shift[0] += 0.42f;
        pose[i].shift[1] -= 0.56f;
    }
    het_fit_spec spec = spec_of(s, 5);
    spec.radius /= 2;
    assert_int_equal(het_fit_run(&spec, pose, IMAGES, s->transform, s->ctf), HET_OK);
    for (int i = 0; i < IMAGES; i++) before[i] = loss_at(s, pose + i);
    spec.radius *= 2;
    assert_int_equal(het_fit_run(&spec, pose, IMAGES, s->transform, s->ctf), HET_OK);
    *worse = 0.0;
    for (int i = 0; i < IMAGES; i++) {
        double d2 = 0.0;
        for (int j = 0; j < 9; j++) d2 += pow((double)pose[i].rotation[j] - s->truth[i].rotation[j], 2.0);
        const double t2 = pow((double)pose[i].shift[0] - s->truth[i].shift[0], 2.0) +
                          pow((double)pose[i].shift[1] - s->truth[i].shift[1], 2.0);
        good += d2 < limit && t2 < limit;
        *worse = fmax(*worse, pose[i].loss - before[i]);
    }
    return good / IMAGES;
}

static void test_found(void **state)
{
    (void)state;
    scene s;
    double worse;
    scene_open(&s, 0.0);
    assert_true(share_found(&s, 1e-4, &worse) > 0.95);
    assert_true(worse < 1e-7);
    scene_close(&s);
    scene_open(&s, 0.1);
    assert_true(share_found(&s, 0.02, &worse) > 0.9);
    assert_true(worse < 1e-6);
    scene_close(&s);
}

/* Rows do not depend on their neighbours, and NaN harms nobody but itself. */
static void test_rows(void **state)
{
    (void)state;
    scene s;
    scene_open(&s, 0.3);
    het_fit_pose all[IMAGES], one = s.truth[IMAGES - 1];
    memcpy(all, s.truth, sizeof all);
    const het_fit_spec spec = spec_of(&s, 2);
    s.calls = 0;
    assert_int_equal(het_fit_run(&spec, all, IMAGES, s.transform, s.ctf), HET_OK);
    assert_in_range(s.calls, IMAGES * (1 + 3 + 1), IMAGES * (4 * 2 + 1)); /* four slices an iteration at most, and the last loss */
    assert_int_equal(het_fit_run(&spec, &one, 1, s.transform, s.ctf), HET_OK);
    assert_memory_equal(&one, all + IMAGES - 1, sizeof one);
    s.spoilt = NAN;
    one = s.truth[0];
    assert_int_equal(het_fit_run(&spec, &one, 1, s.transform, s.ctf), HET_OK);
    assert_true(isinf(one.loss));
    assert_memory_equal(one.rotation, s.truth[0].rotation, sizeof one.rotation);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loss), cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_found), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
