#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/noise.h"
#include "../src/physics/points.h"
#include "../src/rng.h"

enum { D = 32, N = 200 };

/* Noise of variance 0.8 everywhere and a centred disc of alternating sign whose mean square over the image is known. */
static float *particles(double *signal)
{
    float *images = het_alloc(N * D * D * sizeof *images);
    *signal = 0.0;
    for (int i = 0; i < N; i++) {
        het_rng rng = het_rng_at(6, HET_STREAM_NOISE, 0, (uint64_t)i);
        for (int p = 0; p < D * D; p++) {
            const int x = p % D - D / 2, y = p / D - D / 2;
            const double s = x * x + y * y <= 64 ? ((x + y) & 1 ? -1.5 : 1.5) : 0.0;
            images[i * D * D + p] = (float)(s + sqrt(0.8) * het_rng_normal(&rng));
            *signal += s * s / (N * D * D);
        }
    }
    return images;
}

static void snr_by_the_rim(void **state)
{
    (void)state;
    double signal;
    int floored = -1;
    float *images = particles(&signal);
    het_noise_tally all = {0}, first = {0}, second = {0};
    het_noise_tally_add(&all, images, N, D);
    assert_true(fabs(het_noise_variance(&all) - 0.8) < 0.02);
    const double snr = het_noise_snr(&all, 1e-3, &floored);
    assert_true(floored == 0 && fabs(snr - signal / 0.8) < 0.04);
    /* pixels outside the circle: counted by hand, and parts add up as ranks add them */
    int outside = 0;
    for (int p = 0; p < D * D; p++) outside += (p % D - 16) * (p % D - 16) + (p / D - 16) * (p / D - 16) > 256;
    assert_true(all.rim_count == (double)outside * N && all.count == (double)N * D * D);
    het_noise_tally_add(&first, images, 70, D);
    het_noise_tally_add(&second, images + 70 * D * D, N - 70, D);
    double *a = (double *)&first, *b = (double *)&second, *sum = (double *)&all;
    for (int i = 0; i < HET_NOISE_TALLY_DOUBLES; i++) assert_true(fabs(a[i] + b[i] - sum[i]) < 1e-7 * fabs(sum[i]) + 1e-7);
    assert_int_equal(sizeof all, HET_NOISE_TALLY_DOUBLES * sizeof(double));
    het_release(images);
}

static void no_signal_is_flagged(void **state)
{
    (void)state;
    het_noise_tally tally = {.count = 100, .square = 90, .rim_count = 20, .rim_square = 20};
    int floored = 0;
    assert_true(het_noise_snr(&tally, 0.01, &floored) == 0.01 && floored == 1);
    het_noise_tally nothing = {0};
    assert_true(het_noise_snr(&nothing, 0.01, &floored) == 0.01 && floored == 1);
}

static void envelope_of_known_amplitudes(void **state)
{
    (void)state;
    het_points list;
    assert_int_equal(het_points_new(&list, D), HET_OK);
    const double noise = 0.5;
    double power[D / 2] = {0}, count[D / 2] = {0}, ctf2[D / 2];
    float *points = het_alloc((size_t)(20 * list.count * 2) * sizeof *points);
    het_rng rng = het_rng_at(7, HET_STREAM_NOISE, 0, 0);
    for (int64_t i = 0; i < 20 * list.count; i++) {
        const int64_t p = i % list.count;
        const double r = hypot(list.kxy[2 * p], list.kxy[2 * p + 1]);
        const double signal = 20.0 * exp(-0.25 * r); /* amplitude; C^2 = 1/2 */
        for (int c = 0; c < 2; c++)
            points[2 * i + c] = (float)(sqrt(0.5 * (0.5 * signal * signal + noise)) * het_rng_normal(&rng));
    }
    het_noise_power_add(power, count, points, list.kxy, list.count, 20, D);
    double counted = 0.0;
    for (int s = 0; s < D / 2; s++) {
        counted += count[s];
        ctf2[s] = 0.5;
    }
    assert_true(counted == 20.0 * (double)list.count);
    float envelope[D / 2];
    het_noise_envelope(envelope, power, count, ctf2, noise, 0.02, D / 2);
    for (int s = 3; s < 8; s++) assert_true(fabs(envelope[s] / (20.0 * exp(-0.25 * s)) - 1.0) < 0.2);
    assert_true(envelope[0] == envelope[1]);
    for (int s = 0; s < D / 2; s++) assert_true(envelope[s] >= 0.0199f * envelope[1]);
    /* without the CTF the amplitude is that after it: sqrt(1/2) of it */
    float after[D / 2];
    het_noise_envelope(after, power, count, NULL, noise, 0.02, D / 2);
    assert_true(fabs(after[4] / envelope[4] - sqrt(0.5)) < 1e-5);
    het_noise_envelope(envelope, power, count, ctf2, 1e9, 0.02, D / 2);
    for (int s = 0; s < D / 2; s++) assert_true(envelope[s] == 1.0f);
    het_release(points);
    het_points_free(&list);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snr_by_the_rim),
        cmocka_unit_test(no_signal_is_flagged),
        cmocka_unit_test(envelope_of_known_amplitudes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
