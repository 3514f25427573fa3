#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/ctf.h"
#include "../src/physics/rotation.h"
#include "../src/physics/simulate.h"

enum { D = 32, N = 60 };

static const double pi = 3.14159265358979323846;
static const het_ctf_row rows[2] = {
    {.defocus_u = 15000, .defocus_v = 14000, .angle = 0.6f, .voltage = 300e3f, .cs = 2.7e7f, .amplitude = 0.1f},
    {.defocus_u = 9000, .defocus_v = 9500, .angle = -0.3f, .voltage = 200e3f, .cs = 2e7f, .amplitude = 0.07f, .phase = 0.5f}};
/* x, y, z in voxels from the centre: the second map has its first blob elsewhere */
static const double blob[2][3][3] = {{{6, 1, -2}, {-3, 5, 4}, {2, -6, 1}}, {{-5, -4, 3}, {-3, 5, 4}, {2, -6, 1}}};
static const double sigma = 1.6, apix = 4.0;

static void make_maps(het_volume maps[2])
{
    for (int k = 0; k < 2; k++) {
        assert_int_equal(het_volume_new(&maps[k], D, apix), HET_OK);
        for (int i = 0; i < D * D * D; i++)
            for (int b = 0; b < 3; b++) {
                const double *c = blob[k][b], x = i % D - D / 2 - c[0], y = i / D % D - D / 2 - c[1],
                             z = i / D / D - D / 2 - c[2];
                maps[k].data[i] += (float)exp(-0.5 * (x * x + y * y + z * z) / (sigma * sigma));
            }
    }
}

static void open_simulator(het_simulator *sim, double snr, const het_ctf_row *ctf, const double *weight, int64_t count)
{
    het_volume maps[2];
    make_maps(maps);
    const het_simulate_spec spec = {.snr = snr, .shift = 3.0, .seed = 11, .ctf = ctf, .ctf_weight = weight,
                                    .ctf_count = count};
    assert_int_equal(het_simulator_new(sim, &spec, maps, 2), HET_OK);
    for (int k = 0; k < 2; k++) het_volume_free(&maps[k]);
}

/* CTF(k) by hand at one frequency, its value at the origin, and the direction of astigmatism. */
static void ctf_values(void **state)
{
    (void)state;
    assert_true(fabs(het_ctf_wavelength(300e3) - 0.0196875) < 1e-6);
    assert_true(fabs(het_ctf_wavelength(200e3) - 0.0250793) < 1e-6);
    assert_true(fabs(het_ctf_at(&rows[0], 0.0, 0.0) + (double)rows[0].amplitude) < 1e-9); /* dark on the whole */
    const het_ctf_row none = {0};
    assert_true(het_ctf_at(&none, 0.1, 0.02) == 1.0);
    /* along the angle the defocus is U, across it is V */
    const double lambda = het_ctf_wavelength(300e3), s = 0.05, a = rows[0].angle, w = rows[0].amplitude;
    for (int i = 0; i < 2; i++) {
        const double df = i == 0 ? 15000 : 14000, th = a + i * pi / 2;
        const double gamma = pi * lambda * df * s * s - pi / 2 * 2.7e7 * pow(lambda, 3) * pow(s, 4);
        const double expected = -(sqrt(1 - w * w) * sin(gamma) + w * cos(gamma));
        assert_true(fabs(het_ctf_at(&rows[0], s * cos(th), s * sin(th)) - expected) < 1e-6);
    }
    /* a phase plate of pi/2 turns the sine into a cosine */
    het_ctf_row plate = rows[0];
    plate.amplitude = 0.0f;
    plate.phase = (float)(pi / 2);
    assert_true(fabs(het_ctf_at(&plate, 0.0, 0.0) + 1.0) < 1e-6);
}

/* An image against the plain double sum of blobs, CTF and shift over all Fourier points of the disc. */
static void image_by_plain_sums(void **state)
{
    (void)state;
    het_simulator sim;
    static float images[4 * D * D];
    open_simulator(&sim, INFINITY, rows, NULL, 2);
    assert_int_equal(het_simulator_images(&sim, images, 5, 4), HET_OK);
    for (int i = 0; i < 4; i++) {
        const het_simulated truth = het_simulator_truth(&sim, 5 + i);
        const double *r = truth.rotation;
        assert_int_equal(truth.klass, (5 + i) % 2);
        double worst = 0.0, largest = 0.0;
        for (int p = 0; p < D * D; p += 7) {
            double sum = 0.0;
            for (int ky = -15; ky <= 15; ky++) {
                for (int kx = -15; kx <= 15; kx++) {
                    const double k2 = kx * kx + ky * ky;
                    if (k2 > 225) continue;
                    const double c = het_ctf_at(&truth.ctf, kx / (D * apix), ky / (D * apix));
                    const double fall = exp(-2 * pi * pi * sigma * sigma * k2 / (D * D)) * pow(2 * pi, 1.5) * pow(sigma, 3);
                    for (int b = 0; b < 3; b++) {
                        const double *x = blob[truth.klass][b];
                        const double u = r[0] * x[0] + r[1] * x[1] + r[2] * x[2] + truth.shift[0];
                        const double v = r[3] * x[0] + r[4] * x[1] + r[5] * x[2] + truth.shift[1];
                        sum += c * fall / (D * D) * cos(2 * pi * (kx * (p % D - D / 2 - u) + ky * (p / D - D / 2 - v)) / D);
                    }
                }
            }
            worst = fmax(worst, fabs(sum - images[i * D * D + p]));
            largest = fmax(largest, fabs(sum));
        }
        assert_true(worst < 2e-3 * largest);
    }
    het_simulator_free(&sim);
}

static void images_do_not_depend_on_the_call(void **state)
{
    (void)state;
    het_simulator sim;
    static float all[N * D * D], part[10 * D * D];
    double sums[2 * N];
    open_simulator(&sim, 0.5, rows, NULL, 2);
    assert_int_equal(het_simulator_measure(&sim, sums, 0, N), HET_OK);
    assert_int_equal(het_simulator_set_level(&sim, sums, N), HET_OK);
    assert_int_equal(het_simulator_images(&sim, all, 0, N), HET_OK);
    assert_int_equal(het_simulator_images(&sim, part, 37, 10), HET_OK);
    assert_memory_equal(part, all + 37 * D * D, sizeof part);
    het_simulator_free(&sim);
}

static void noise_has_the_asked_snr(void **state)
{
    (void)state;
    het_simulator sim;
    static float noisy[N * D * D], clean[N * D * D];
    double sums[2 * N];
    open_simulator(&sim, 0.1, rows, NULL, 2);
    assert_int_equal(het_simulator_images(&sim, clean, 0, N), HET_OK); /* no noise before the level is set */
    assert_int_equal(het_simulator_measure(&sim, sums, 0, N), HET_OK);
    assert_int_equal(het_simulator_set_level(&sim, sums, N), HET_OK);
    assert_int_equal(het_simulator_images(&sim, noisy, 0, N), HET_OK);
    double mean = 0, var_clean = 0, var_noise = 0, cross = 0, total = 0;
    const int n = N * D * D;
    for (int i = 0; i < n; i++) mean += clean[i] * sim.scale / n;
    for (int i = 0; i < n; i++) {
        const double s = clean[i] * sim.scale - mean, e = noisy[i] - clean[i] * sim.scale;
        var_clean += s * s / n;
        var_noise += e * e / n;
        cross += s * e / n;
        total += (noisy[i] - mean) * (noisy[i] - mean) / n;
    }
    assert_true(fabs(var_clean / var_noise - 0.1) < 0.002);
    assert_true(fabs(total - 1.0) < 0.02 && fabs(cross) < 0.01);
    het_simulator_free(&sim);
}

/* A quarter of the images hold nothing, the others are what they were; the level is that of particles. Coloured noise has the power asked for at
 * the lowest frequencies against the highest, and the variance that white noise has. */
static void junk_and_coloured_noise(void **state)
{
    (void)state;
    enum { MANY = 400 };
    het_simulator sim, plain;
    het_volume maps[2];
    static float image[D * D], usual[D * D], spectrum[2 * D * (D / 2 + 1)];
    static double sums[2 * MANY];
    het_fft *fft;
    double low = 0.0, high = 0.0, square = 0.0;
    int junk = 0;
    make_maps(maps);
    const het_simulate_spec spec = {.snr = 0.5, .seed = 11, .ctf = rows, .ctf_count = 2, .junk = 0.25, .colour = 9.0};
    assert_int_equal(het_simulator_new(&sim, &spec, maps, 2), HET_OK);
    open_simulator(&plain, INFINITY, rows, NULL, 2);
    plain.spec.shift = 0.0;
    for (int i = 0; i < 8; i++) { /* no noise before the level is set */
        assert_int_equal(het_simulator_images(&sim, image, i, 1), HET_OK);
        assert_int_equal(het_simulator_images(&plain, usual, i, 1), HET_OK);
        if (het_simulator_truth(&sim, i).klass >= 0) assert_memory_equal(image, usual, sizeof image);
    }
    assert_int_equal(het_simulator_measure(&sim, sums, 0, MANY), HET_OK);
    assert_int_equal(het_simulator_set_level(&sim, sums, MANY), HET_OK);
    assert_int_equal(het_fft_new(&fft, 2, D), HET_OK);
    for (int i = 0; i < MANY; i++) {
        if (het_simulator_truth(&sim, i).klass >= 0) {
            assert_int_equal(het_simulator_truth(&sim, i).klass, i % 2);
            continue;
        }
        junk++;
        assert_int_equal(het_simulator_images(&sim, image, i, 1), HET_OK);
        for (int p = 0; p < D * D; p++) square += image[p] * image[p] / (D * D);
        het_fft_forward(fft, spectrum, image);
        for (int k = 0; k < 2; k++) {
            low += spectrum[2 * k] * spectrum[2 * k] + spectrum[2 * k + 1] * spectrum[2 * k + 1]; /* k = (0,0), (1,0) */
            const float *corner = spectrum + 2 * ((D / 2 - k) * (D / 2 + 1) + D / 2 - 1);
            high += corner[0] * corner[0] + corner[1] * corner[1];
        }
    }
    assert_true(abs(junk - MANY / 4) < 30);
    const double ratio = low / high, wanted = 1.0 + 8.0 * 0.5 * (1.0 + exp(-64.0 / (D * D)));
    if (!(ratio > 0.6 * wanted && ratio < 1.6 * wanted)) fail_msg("low frequencies have %g times the power, not %g", ratio, wanted);
    square /= junk;
    if (!(fabs(square / (sim.scale * sim.scale * sim.noise * sim.noise) - 1.0) < 0.05)) fail_msg("noise of variance %g", square);
    het_fft_free(fft);
    for (int k = 0; k < 2; k++) het_volume_free(&maps[k]);
    het_simulator_free(&sim);
    het_simulator_free(&plain);
}

static void draws_cover_what_they_should(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    het_simulator sim;
    const double weight[2] = {3.0, 1.0};
    double mean[9] = {0}, shift2 = 0.0;
    int second = 0;
    open_simulator(&sim, 1.0, rows, weight, 2);
    for (int i = 0; i < MANY; i++) {
        const het_simulated t = het_simulator_truth(&sim, i);
        for (int j = 0; j < 9; j++) mean[j] += t.rotation[j] / MANY;
        assert_true(fabs(t.shift[0]) <= 3.0 && fabs(t.shift[1]) <= 3.0);
        shift2 += (t.shift[0] * t.shift[0] + t.shift[1] * t.shift[1]) / (2.0 * MANY);
        second += t.ctf.defocus_u == rows[1].defocus_u;
    }
    for (int j = 0; j < 9; j++) assert_true(fabs(mean[j]) < 0.04);
    assert_true(fabs(shift2 - 3.0) < 0.15); /* a^2/3 */
    assert_true(abs(second - MANY / 4) < 120);
    het_simulator_free(&sim);
}

static void without_ctf_particles_are_bright(void **state)
{
    (void)state;
    het_simulator sim;
    double sums[2 * N], sum = 0.0;
    open_simulator(&sim, 1.0, NULL, NULL, 0);
    assert_true(het_simulator_truth(&sim, 3).ctf.voltage == 0.0f);
    assert_int_equal(het_simulator_measure(&sim, sums, 0, N), HET_OK);
    for (int i = 0; i < N; i++) sum += sums[2 * i];
    assert_true(fabs(sum / (3.0 * N * pow(2 * pi, 1.5) * pow(sigma, 3)) - 1.0) < 4e-3);
    het_simulator_free(&sim);
}

static void refuses(void **state)
{
    (void)state;
    het_volume maps[2];
    het_simulator sim;
    const double none[2] = {0.0, 0.0}, negative[2] = {1.0, -1.0}, dark[4] = {0};
    make_maps(maps);
    het_simulate_spec spec = {.snr = 1.0, .ctf = rows, .ctf_weight = none, .ctf_count = 2};
    assert_int_equal(het_simulator_new(&sim, &spec, maps, 2), HET_E_INPUT);
    spec.ctf_weight = negative;
    assert_int_equal(het_simulator_new(&sim, &spec, maps, 2), HET_E_INPUT);
    spec.ctf_weight = NULL;
    maps[1].apix = 5.0;
    assert_int_equal(het_simulator_new(&sim, &spec, maps, 2), HET_E_SHAPE);
    maps[1].apix = apix;
    assert_int_equal(het_simulator_new(&sim, &spec, maps, 2), HET_OK);
    assert_int_equal(het_simulator_set_level(&sim, dark, 2), HET_E_NUMERIC);
    het_simulator_free(&sim);
    for (int k = 0; k < 2; k++) het_volume_free(&maps[k]);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ctf_values),
        cmocka_unit_test(image_by_plain_sums),
        cmocka_unit_test(images_do_not_depend_on_the_call),
        cmocka_unit_test(noise_has_the_asked_snr),
        cmocka_unit_test(junk_and_coloured_noise),
        cmocka_unit_test(draws_cover_what_they_should),
        cmocka_unit_test(without_ctf_particles_are_bright),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
