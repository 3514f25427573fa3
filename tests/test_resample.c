#include <complex.h>
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
#include "../src/data/resample.h"
#include "../src/rng.h"

static const double two_pi = 6.28318530717958647692;

static float *noise(int64_t box, uint64_t seed)
{
    float *image = malloc((size_t)(box * box) * sizeof *image);
    het_rng rng = het_rng_at(seed, HET_STREAM_SIMULATE, 0, 0);
    for (int64_t i = 0; i < box * box; i++) image[i] = het_rng_normal(&rng);
    return image;
}

/* One axis of the header's formula in double, as a dense real matrix: out = A in A'^T. Its imaginary part
 * vanishes, since the terms of k and -k are conjugate. */
static double *axis_matrix(int64_t from, int64_t to, double shift)
{
    double *a = malloc((size_t)(from * to) * sizeof *a);
    for (int64_t i = 0; i < to; i++)
        for (int64_t j = 0; j < from; j++) {
            double complex sum = 0.0;
            for (int64_t k = -to / 2; k <= to / 2; k++) {
                const double w = llabs((long long)k) == to / 2 ? 0.5 : 1.0;
                const double turn = (double)k * (((double)(i - to / 2)) / (double)to -
                                                 ((double)(j - from / 2) + shift) / (double)from);
                sum += w * cexp(two_pi * turn * I);
            }
            assert_true(fabs(cimag(sum)) < 1e-9);
            a[i * from + j] = creal(sum) / (double)from;
        }
    return a;
}

static double largest_error(int64_t from, int64_t to, const double *shift)
{
    float *image = noise(from, 3), *out = malloc((size_t)(to * to) * sizeof *out);
    double *x = axis_matrix(from, to, shift ? shift[0] : 0.0),
           *y = axis_matrix(from, to, shift ? shift[1] : 0.0);
    double *rows = calloc((size_t)(from * to), sizeof *rows), worst = 0.0;
    het_resample *resample;
    assert_int_equal(het_resample_new(&resample, from, to), HET_OK);
    het_resample_run(resample, out, image, shift);
    het_resample_free(resample);
    for (int64_t r = 0; r < from; r++)
        for (int64_t i = 0; i < to; i++)
            for (int64_t j = 0; j < from; j++) rows[r * to + i] += x[i * from + j] * image[r * from + j];
    for (int64_t q = 0; q < to; q++)
        for (int64_t i = 0; i < to; i++) {
            double sum = 0.0;
            for (int64_t r = 0; r < from; r++) sum += y[q * from + r] * rows[r * to + i];
            worst = fmax(worst, fabs(sum - out[q * to + i]));
        }
    free(image);
    free(out);
    free(x);
    free(y);
    free(rows);
    return worst;
}

static void agrees_with_the_formula(void **state)
{
    (void)state;
    static const int64_t boxes[][2] = {{16, 8},  {16, 14}, {16, 16}, {15, 8}, {15, 14},
                                       {13, 12}, {20, 10}, {21, 4},  {32, 30}};
    static const double shift[2] = {1.75, -3.4};
    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; i++) {
        assert_true(largest_error(boxes[i][0], boxes[i][1], NULL) < 2e-6);
        assert_true(largest_error(boxes[i][0], boxes[i][1], shift) < 4e-6);
    }
}

/* A wave below the new Nyquist frequency, sampled on both grids about their centres: same values, same
 * scale. */
static void band_limited_images_stay_what_they_are(void **state)
{
    (void)state;
    static const int64_t from[3] = {48, 49, 64};
    enum { TO = 32 };
    float out[TO * TO];
    for (int k = 0; k < 3; k++) {
        const int64_t n = from[k];
        float *image = malloc((size_t)(n * n) * sizeof *image);
        for (int64_t i = 0; i < n * n; i++) {
            const double x = (double)(i % n - n / 2) / (double)n, y = (double)(i / n - n / 2) / (double)n;
            image[i] =
                (float)(2.0 + cos(two_pi * (15 * x - 7 * y) + 0.3) - 0.5 * sin(two_pi * (3 * x + 14 * y)));
        }
        het_resample *resample;
        assert_int_equal(het_resample_new(&resample, n, TO), HET_OK);
        het_resample_run(resample, out, image, NULL);
        for (int64_t i = 0; i < TO * TO; i++) {
            const double x = (double)(i % TO - TO / 2) / TO, y = (double)(i / TO - TO / 2) / TO;
            const double expected = 2.0 + cos(two_pi * (15 * x - 7 * y) + 0.3) -
                                    0.5 * sin(two_pi * (3 * x + 14 * y));
            assert_float_equal(out[i], expected, 1e-5);
        }
        het_resample_free(resample);
        free(image);
    }
}

static void shifts_move_by_whole_pixels(void **state)
{
    (void)state;
    enum { D = 24 };
    static const double shift[2] = {5.0, -2.0};
    float *image = noise(D, 7), out[D * D];
    het_resample *resample;
    assert_int_equal(het_resample_new(&resample, D, D), HET_OK);
    het_resample_run(resample, out, image, shift);
    for (int y = 0; y < D; y++)
        for (int x = 0; x < D; x++)
            assert_float_equal(out[y * D + x], image[(y + 2) % D * D + (x + D - 5) % D], 1e-5);
    het_resample_run(resample, out, image, NULL);
    assert_memory_equal(out, image, sizeof out);
    het_resample_free(resample);
    free(image);
}

/* Cropping and mirroring about the centre pixel may be exchanged: x -> (D - x) mod D. */
static void mirrors_stay_mirrors(void **state)
{
    (void)state;
    enum { FROM = 20, TO = 12 };
    float *image = noise(FROM, 11), mirrored[FROM * FROM], a[TO * TO], b[TO * TO];
    for (int y = 0; y < FROM; y++)
        for (int x = 0; x < FROM; x++) mirrored[y * FROM + x] = image[y * FROM + (FROM - x) % FROM];
    het_resample *resample;
    assert_int_equal(het_resample_new(&resample, FROM, TO), HET_OK);
    het_resample_run(resample, a, image, NULL);
    het_resample_run(resample, b, mirrored, NULL);
    for (int y = 0; y < TO; y++)
        for (int x = 0; x < TO; x++) assert_float_equal(b[y * TO + x], a[y * TO + (TO - x) % TO], 1e-5);
    het_resample_free(resample);
    free(image);
}

static void impossible_boxes_are_refused(void **state)
{
    (void)state;
    static const int64_t bad[][2] = {{16, 18}, {16, 7}, {16, 2}, {16, 0}, {0, 0}, {-8, -8}, {1 << 20, 64}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        het_resample *resample;
        assert_int_equal(het_resample_new(&resample, bad[i][0], bad[i][1]), HET_E_SHAPE);
        assert_null(resample);
    }
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_formula),
        cmocka_unit_test(band_limited_images_stay_what_they_are),
        cmocka_unit_test(shifts_move_by_whole_pixels),
        cmocka_unit_test(mirrors_stay_mirrors),
        cmocka_unit_test(impossible_boxes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
