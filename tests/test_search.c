/* Pose search: known poses, the likelihood by plain sums, and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/ctf.h"
#include "../src/physics/points.h"
#include "../src/physics/rotation.h"
#include "../src/physics/search.h"
#include "../src/rng.h"

enum { D = 32, N = 60, BLOBS = 5 };
static const double radius = 8.0, apix = 8.0, sigma = 1.8;
static const double blob[BLOBS][3] = {{7, 1, -2}, {-3, 6, 4}, {2, -6, 3}, {-5, -4, -6}, {1, 2, 8}};
static const double mass[BLOBS] = {1.0, 1.4, 0.7, 1.1, 0.9};

typedef struct sample {
    het_points points;
    int64_t p;
    float *transform, *ctf, *noise; /* (N,P,2), (N,P), (P) */
    float rotation[9 * N], shift[2 * N];
} sample;

/* The blobs' transform at R^T (kx,ky,0): that of their projections. */
static void blob_slices(void *context, float *slices, const float *rot, int64_t n, int64_t p)
{
    const sample *s = context;
    for (int64_t i = 0; i < n; i++) {
        const float *r = rot + 9 * i;
        for (int64_t j = 0; j < p; j++) {
            const double kx = s->points.kxy[2 * j], ky = s->points.kxy[2 * j + 1];
            double re = 0.0, im = 0.0;
            for (int b = 0; b < BLOBS; b++) {
                const double *x = blob[b];
                const double u = (double)r[0] * x[0] + (double)r[1] * x[1] + (double)r[2] * x[2];
                const double v = (double)r[3] * x[0] + (double)r[4] * x[1] + (double)r[5] * x[2];
                re += mass[b] * cos(2.0 * M_PI * (kx * u + ky * v) / D);
                im -= mass[b] * sin(2.0 * M_PI * (kx * u + ky * v) / D);
            }
            const double fall = exp(-2.0 * M_PI * M_PI * sigma * sigma * (kx * kx + ky * ky) / (D * D));
            slices[2 * (i * p + j)] = (float)(re * fall);
            slices[2 * (i * p + j) + 1] = (float)(im * fall);
        }
    }
}

/* Images of the blobs: CTF, shift by +t, and noise that is twenty times stronger on the third shell. */
static sample new_sample(double shift_range, double noise)
{
    sample s = {0};
    assert_int_equal(het_points_new(&s.points, D), HET_OK);
    s.p = het_points_within(&s.points, radius);
    s.transform = het_alloc((size_t)(N * s.p * 2) * sizeof(float));
    s.ctf = het_alloc((size_t)(N * s.p) * sizeof(float));
    s.noise = het_alloc((size_t)s.p * sizeof(float));
    for (int64_t j = 0; j < s.p; j++) {
        const double k = hypot(s.points.kxy[2 * j], s.points.kxy[2 * j + 1]);
        s.noise[j] = (float)(noise * (lround(k) == 3 ? 20.0 : 1.0));
    }
    for (int i = 0; i < N; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        const het_ctf_row row = {.defocus_u = 12000 + 4000 * het_rng_uniform(&rng), .defocus_v = 12000,
                                 .angle = 0.4f, .voltage = 300e3f, .cs = 2.7e7f, .amplitude = 0.1f};
        double r[9];
        het_rotation_uniform(r, u1, u2, u3);
        for (int c = 0; c < 9; c++) s.rotation[9 * i + c] = (float)r[c];
        for (int c = 0; c < 2; c++)
            s.shift[2 * i + c] = (float)(shift_range * (2.0 * het_rng_uniform(&rng) - 1.0));
        blob_slices(&s, s.transform + i * s.p * 2, s.rotation + 9 * i, 1, s.p);
        for (int64_t j = 0; j < s.p; j++) {
            const double kx = s.points.kxy[2 * j], ky = s.points.kxy[2 * j + 1];
            const double angle = -2.0 * M_PI * (kx * s.shift[2 * i] + ky * s.shift[2 * i + 1]) / D;
            const double c = het_ctf_at(&row, kx / (D * apix), ky / (D * apix));
            const double deviation = sqrt(0.5 * s.noise[j]);
            float *x = s.transform + 2 * (i * s.p + j);
            const double re = x[0], im = x[1];
            s.ctf[i * s.p + j] = (float)c;
            x[0] = (float)(c * (re * cos(angle) - im * sin(angle)) + deviation * het_rng_normal(&rng));
            x[1] = (float)(c * (im * cos(angle) + re * sin(angle)) + deviation * het_rng_normal(&rng));
        }
    }
    return s;
}

static void free_sample(sample *s)
{
    het_release(s->transform);
    het_release(s->ctf);
    het_release(s->noise);
    het_points_free(&s->points);
}

/* L of the header by plain sums */
static double plain_loglik(sample *s, int64_t image, const het_search_pose *pose)
{
    float slice[2 * 256];
    double sum = 0.0;
    assert_true(s->p <= 256);
    blob_slices(s, slice, pose->rotation, 1, s->p);
    for (int64_t j = 0; j < s->p; j++) {
        const double angle = -2.0 * M_PI * (s->points.kxy[2 * j] * (double)pose->shift[0] +
                                            s->points.kxy[2 * j + 1] * (double)pose->shift[1]) / D;
        const double c = s->ctf[image * s->p + j], re = slice[2 * j], im = slice[2 * j + 1];
        const float *x = s->transform + 2 * (image * s->p + j);
        const double dre = x[0] - c * (re * cos(angle) - im * sin(angle));
        const double dim = x[1] - c * (im * cos(angle) + re * sin(angle));
        const double zero = (double)x[0] * x[0] + (double)x[1] * x[1];
        sum += 0.5 * s->points.weight[j] / s->noise[j] * (zero - dre * dre - dim * dim);
    }
    return sum;
}

static double distance2(const float *a, const float *b)
{
    double x[9], y[9];
    for (int c = 0; c < 9; c++) {
        x[c] = a[c];
        y[c] = b[c];
    }
    return het_rotation_distance2(x, y);
}

static het_search *open_search(het_device *dev, const het_search_spec *spec)
{
    het_search *search;
    assert_int_equal(het_device_open_cpu(dev, 0, HET_PRECISION_F32), HET_OK);
    assert_int_equal(het_search_new(&search, dev, spec), HET_OK);
    return search;
}

static void finds_rotation_and_shift(void **state)
{
    (void)state;
    enum { RESULT = 3 };
    static het_search_pose pose[N * RESULT];
    const het_search_spec spec = {.box = D, .base_radius = 5.0, .radius = radius, .shift_range = 2.0,
                                  .levels = 3, .keep = 12, .result = RESULT};
    sample s = new_sample(2.0, 0.02);
    het_device dev;
    het_search *search = open_search(&dev, &spec);
    assert_int_equal(het_search_points(search), s.p);
    const double axis[3] = {1.0, 2.0, 3.0};
    double turn[9];
    het_rotation_about(turn, axis, 0.2);
    het_search_load(search, blob_slices, &s, turn);
    het_search_run(search, pose, s.transform, s.ctf, s.noise, N);
    int rotations = 0, shifts = 0;
    for (int i = 0; i < N; i++) {
        const het_search_pose *best = pose + i * RESULT;
        rotations += distance2(best->rotation, s.rotation + 9 * i) < 0.05;
        shifts += hypot(best->shift[0] - s.shift[2 * i], best->shift[1] - s.shift[2 * i + 1]) < 0.5;
        for (int c = 0; c < RESULT; c++) {
            const double expected = plain_loglik(&s, i, best + c);
            assert_true(fabs(best[c].loglik - expected) < 1e-4 * fabs(expected) + 1e-3);
            if (c > 0) assert_true(best[c].loglik <= best[c - 1].loglik);
        }
    }
    print_message("%d rotations, %d shifts of %d\n", rotations, shifts, N);
    assert_true(rotations > 0.95 * N);
    assert_true(shifts > 0.95 * N);
    het_search_free(search);
    free_sample(&s);
    het_device_close(&dev);
}

/* Without refinement the answer is the grid's best point, without a range of shifts it is not shifted. */
static void base_grid_alone(void **state)
{
    (void)state;
    static het_search_pose pose[N];
    const het_search_spec spec = {.box = D, .base_radius = 5.0, .radius = 5.0, .shift_range = 0.1,
                                  .keep = 1, .result = 1};
    sample s = new_sample(0.0, 0.02);
    het_device dev;
    het_search *search = open_search(&dev, &spec);
    const int64_t p = het_search_points(search);
    for (int64_t i = 0; i < N; i++) { /* rows of the smaller disc */
        memmove(s.transform + i * 2 * p, s.transform + i * 2 * s.p, (size_t)(2 * p) * sizeof(float));
        memmove(s.ctf + i * p, s.ctf + i * s.p, (size_t)p * sizeof(float));
    }
    het_search_load(search, blob_slices, &s, NULL);
    het_search_run(search, pose, s.transform, s.ctf, s.noise, N);
    int near = 0;
    for (int i = 0; i < N; i++) {
        near += distance2(pose[i].rotation, s.rotation + 9 * i) < 0.2; /* 18 degrees */
        assert_true(pose[i].shift[0] == 0.0f && pose[i].shift[1] == 0.0f);
    }
    assert_true(near > 0.95 * N);
    het_search_free(search);
    free_sample(&s);
    het_device_close(&dev);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    const het_search_spec good = {.box = D, .base_radius = 5.0, .radius = 8.0, .shift_range = 1.0,
                                  .levels = 2, .keep = 4, .result = 2};
    het_search_spec bad[5] = {good, good, good, good, good};
    bad[0].radius = 16.0;
    bad[1].base_radius = 9.0;
    bad[2].result = 5;
    bad[3].shift_range = -1.0;
    bad[4].box = 31;
    het_device dev;
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    for (int i = 0; i < 5; i++) {
        het_search *search;
        assert_int_equal(het_search_new(&search, &dev, &bad[i]), HET_E_SHAPE);
        assert_null(search);
    }
    het_device_close(&dev);
}

static void nothing_left(void **state)
{
    (void)state;
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_rotation_and_shift),
        cmocka_unit_test(base_grid_alone),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(nothing_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
