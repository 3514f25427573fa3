/* Operations on Fourier points (kernels/ops.h) against plain double references and real space. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/points.h"
#include "../src/rng.h"
#include "ref/device.h"
#include "ref/physics.h"

static const het_ops *ops; /* of the device under test */

typedef struct fixture {
    het_device dev;
    het_points points;
    het_fourier *plan;
    int64_t box, p, pixels;
} fixture;

static fixture fixture_new(int64_t box, int threads)
{
    fixture f = {.box = box, .pixels = box * box};
    ref_device_open_staged(&f.dev, threads, HET_PRECISION_F32);
    ops = f.dev.ops;
    assert_int_equal(het_points_new(&f.points, box), HET_OK);
    f.p = f.points.count;
    return f;
}

static void fixture_open(fixture *f)
{
    assert_int_equal(ops->fourier_new(&f->dev, &f->plan, f->box, f->p, f->points.kxy), HET_OK);
}

static void fixture_free(fixture *f)
{
    ops->fourier_free(f->plan);
    het_device_close(&f->dev);
    het_points_free(&f->points);
}

/* n floats, or their doubles, that are freed with free(). */
static float *floats(int64_t n)
{
    float *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    return x;
}

static float *normals(int64_t n, uint64_t sample)
{
    float *x = floats(n);
    het_rng rng = het_rng_at(7, HET_STREAM_SIMULATE, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = het_rng_normal(&rng);
    return x;
}

static double *doubles(const float *x, int64_t n)
{
    double *y = malloc((size_t)n * sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++) y[i] = x == NULL ? 0.0 : x[i];
    return y;
}

static double largest_difference(const float *x, const double *y, int64_t n)
{
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs(x[i] - y[i]);
        if (!(d <= largest)) largest = d; /* NaN counts as large */
    }
    return largest;
}

#define assert_below(value, limit)                                                      \
    do {                                                                                \
        const double value_ = (value);                                                  \
        if (!(value_ < (limit))) fail_msg("%s = %g, limit %g", #value, value_, (double)(limit)); \
    } while (0)

/* D/2 even and odd; more images than threads; fewer points than the plan has. */
static void transforms_match_plain_sums(void **state)
{
    (void)state;
    const int64_t boxes[] = {4, 6, 10, 16, 22}, b = 3;
    for (int n = 0; n < 5; n++) {
        fixture f = fixture_new(boxes[n], 2);
        fixture_open(&f);
        const int64_t p = f.points.prefix[f.box / 2 - 1 > 2 ? f.box / 2 - 2 : 1];
        float *image = normals(b * f.pixels, 1), *points = floats(2 * b * p), *back = floats(b * f.pixels);
        float *window = normals(f.pixels, 2), scale[] = {1.0f, -2.0f, 0.25f};
        double *exact = doubles(NULL, 2 * f.p), *exact_image = doubles(NULL, f.pixels);
        ops->image_to_points(f.plan, points, image, b, p);
        ops->points_to_image(f.plan, back, points, window, scale, b, p);
        for (int64_t i = 0; i < b; i++) {
            double *pixels = doubles(image + i * f.pixels, f.pixels),
                   *given = doubles(points + 2 * i * p, 2 * p);
            ref_image_to_points(exact, pixels, f.points.kxy, f.box, p);
            assert_below(largest_difference(points + 2 * i * p, exact, 2 * p), 2e-6);
            ref_points_to_image(exact_image, given, f.points.kxy, f.box, p);
            for (int64_t j = 0; j < f.pixels; j++) exact_image[j] *= (double)window[j] * scale[i];
            assert_below(largest_difference(back + i * f.pixels, exact_image, f.pixels), 1e-5);
            free(pixels);
            free(given);
        }
        free(image), free(points), free(back), free(window), free(exact), free(exact_image);
        fixture_free(&f);
    }
}

/* Inverse then forward gives the points back. */
static void round_trip(void **state)
{
    (void)state;
    fixture f = fixture_new(32, 2);
    fixture_open(&f);
    float *points = normals(2 * f.p, 3), *image = floats(f.pixels), *again = floats(2 * f.p), one = 1.0f;
    float *window = floats(f.pixels);
    for (int64_t i = 0; i < f.pixels; i++) window[i] = 1.0f;
    points[1] = 0.0f;
    ops->points_to_image(f.plan, image, points, window, &one, 1, f.p);
    ops->image_to_points(f.plan, again, image, 1, f.p);
    double *expected = doubles(points, 2 * f.p);
    assert_below(largest_difference(again, expected, 2 * f.p), 3e-6);
    free(points), free(image), free(again), free(window), free(expected);
    fixture_free(&f);
}

/* Points of a really mirrored image, x -> (D-x) mod D, and of a really rolled one. */
static void mirror_and_shift_match_moved_images(void **state)
{
    (void)state;
    const int64_t box = 14, tx = 3, ty = -5;
    fixture f = fixture_new(box, 2);
    fixture_open(&f);
    float *image = normals(f.pixels, 4), *moved = floats(2 * f.pixels), *points = floats(2 * f.p);
    float *expected = floats(4 * f.p), *both = floats(4 * f.p), *model = floats(2 * f.p), *ctf = floats(f.p);
    const float shift[] = {(float)tx, (float)ty};
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) {
            const float value = image[y * box + x];
            moved[y * box + (box - x) % box] = value;
            moved[f.pixels + (y + ty + box) % box * box + (x + tx + box) % box] = value;
        }
    for (int64_t i = 0; i < f.p; i++) ctf[i] = 1.0f;
    ops->image_to_points(f.plan, points, image, 1, f.p);
    ops->image_to_points(f.plan, expected, moved, 2, f.p);
    ops->mirror_pairs(f.plan, both, points, 1, f.p);
    ops->project(f.plan, model, points, ctf, shift, 1, f.p);
    double *mirrored = doubles(expected, 2 * f.p), *rolled = doubles(expected + 2 * f.p, 2 * f.p);
    assert_memory_equal(both, points, (size_t)(2 * f.p) * sizeof(float));
    assert_below(largest_difference(both + 2 * f.p, mirrored, 2 * f.p), 2e-6);
    assert_below(largest_difference(model, rolled, 2 * f.p), 3e-6);
    free(image), free(moved), free(points), free(expected), free(both), free(model), free(ctf);
    free(mirrored), free(rolled);
    fixture_free(&f);
}

/* Points of really turned images, (x,y) -> (-y,x) about pixel (D/2,D/2) for every quarter. */
static void turns_match_turned_images(void **state)
{
    (void)state;
    const int64_t box = 14;
    const uint8_t quarters[] = {0, 1, 2, 3};
    fixture f = fixture_new(box, 2);
    fixture_open(&f);
    float *image = normals(f.pixels, 4), *moved = floats(4 * f.pixels), *points = floats(8 * f.p);
    float *expected = floats(8 * f.p), *turned = floats(8 * f.p);
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) {
            const int64_t to[4][2] = {{x, y}, {box - y, x}, {box - x, box - y}, {y, box - x}};
            for (int q = 0; q < 4; q++)
                moved[q * f.pixels + to[q][1] % box * box + to[q][0] % box] = image[y * box + x];
        }
    for (int q = 0; q < 4; q++) ops->image_to_points(f.plan, points + 2 * q * f.p, image, 1, f.p);
    ops->image_to_points(f.plan, expected, moved, 4, f.p);
    ops->turn_points(f.plan, turned, points, quarters, 4, f.p);
    double *truth = doubles(expected, 8 * f.p);
    assert_below(largest_difference(turned, truth, 8 * f.p), 2e-6);
    free(image), free(moved), free(points), free(expected), free(turned), free(truth);
    fixture_free(&f);
}

static void standardised_images(void **state)
{
    (void)state;
    enum { B = 3, N = 500 };
    het_device dev;
    ref_device_open_staged(&dev, 2, HET_PRECISION_F32);
    ops = dev.ops;
    float *image = normals(B * N, 3), *window = floats(N);
    for (int j = 0; j < N; j++) window[j] = j < 300 ? 1.0f : j < 400 ? 0.01f * (float)(400 - j) : 0.0f;
    for (int i = 0; i < B * N; i++)
        image[i] = window[i % N] * (i < 2 * N ? (float)(3 * i / N + 1) * image[i] + 5.0f : 0.0f);
    double *given = doubles(image, B * N);
    ops->standardise(&dev, image, window, B, N);
    for (int i = 0; i < B; i++) {
        double sum = 0.0, square = 0.0, area = 0.0, total = 0.0, variance = 0.0;
        for (int j = 0; j < N; j++) {
            area += window[j];
            total += given[i * N + j];
        }
        for (int j = 0; j < N; j++) variance += pow(given[i * N + j] - total / area * window[j], 2.0) / N;
        for (int j = 0; j < N; j++) {
            const double y = image[i * N + j], centred = given[i * N + j] - total / area * window[j];
            assert_below(fabs(y - centred / sqrt(variance + 1e-30)), 1e-5);
            sum += y;
            square += y * y;
        }
        assert_below(fabs(sum), 1e-3);
        assert_below(fabs(square / N - (i < 2)), 1e-5); /* the last one is empty, and stays so */
    }
    free(image), free(window), free(given);
    het_device_close(&dev);
}

static const het_ctf_row astigmatic = {.defocus_u = 31000.0f, .defocus_v = 24000.0f, .angle = 0.6f,
    .voltage = 300000.0f, .cs = 2.7e7f, .amplitude = 0.07f, .phase = 0.3f};

static void ctf_matches_formula(void **state)
{
    (void)state;
    fixture f = fixture_new(64, 2);
    fixture_open(&f);
    const het_ctf_row rows[] = {
        astigmatic,
        {.defocus_u = 15000.0f, .defocus_v = 15000.0f, .voltage = 200000.0f, .cs = 2e7f, .amplitude = 0.1f},
        {.voltage = 0.0f, .defocus_u = 1.0f},
        {.defocus_u = -4000.0f, .defocus_v = -5000.0f, .angle = -2.0f, .voltage = 8e4f, .amplitude = 1.0f}};
    const int64_t b = 4;
    const float apix[] = {1.0f, 3.77f};
    float *envelope = normals(f.p, 5), *ctf = floats(b * f.p);
    for (int n = 0; n < 2; n++) {
        ops->ctf(f.plan, ctf, rows, NULL, n == 0 ? NULL : envelope, apix[n], b, f.p);
        for (int64_t i = 0; i < b * f.p; i++) {
            const int64_t p = i % f.p;
            const int32_t *k = f.points.kxy + 2 * p;
            const double exact =
                ref_ctf(&rows[i / f.p], k[0], k[1], f.box, apix[n]) * (n == 0 ? 1.0 : envelope[p]);
            assert_below(fabs(ctf[i] - exact), 2e-6); /* gamma reaches 400 rad */
        }
    }
    free(envelope), free(ctf);
    fixture_free(&f);
}

/* A weak pure defocus gives the wavelength back; the customary constants are good to 1e-5. */
static void wavelength_is_physical(void **state)
{
    (void)state;
    fixture f = fixture_new(20, 1);
    fixture_open(&f);
    const float volts[] = {80e3f, 200e3f, 300e3f};
    for (int i = 0; i < 3; i++) {
        const het_ctf_row row = {.defocus_u = 1000.0f, .defocus_v = 1000.0f, .voltage = volts[i]};
        float ctf[64];
        ops->ctf(f.plan, ctf, &row, NULL, NULL, 1.0f, 1, f.points.prefix[2]);
        const double s = 2.0 / 20.0; /* the last point of the second ring */
        const double lambda = asin(-ctf[f.points.prefix[2] - 1]) / (3.14159265358979323846 * 1000.0 * s * s);
        assert_below(fabs(lambda / ref_wavelength(volts[i]) - 1.0), 1e-5);
    }
    fixture_free(&f);
}

/* The mirrored row's CTF at (kx,ky) is the row's at (-kx,ky), and so the CTF commutes with the mirror. */
static void mirrored_ctf(void **state)
{
    (void)state;
    fixture f = fixture_new(32, 1);
    fixture_open(&f);
    const het_ctf_row rows[] = {astigmatic, astigmatic};
    const uint8_t mirrored[] = {0, 1};
    const float zero[4] = {0};
    float *ctf = floats(2 * f.p), *slice = normals(2 * f.p, 6), *pair = floats(4 * f.p),
          *model = floats(4 * f.p);
    float *twice = floats(8 * f.p);
    double changed = 0.0;
    ops->ctf(f.plan, ctf, rows, mirrored, NULL, 2.0f, 2, f.p);
    for (int64_t i = 0; i < f.p; i++) {
        const int32_t *k = f.points.kxy + 2 * i;
        assert_below(fabs(ctf[f.p + i] - ref_ctf(rows, -k[0], k[1], f.box, 2.0)), 2e-6);
        changed = fmax(changed, fabs(ctf[f.p + i] - ctf[i]));
    }
    assert_true(changed > 0.5); /* the astigmatism is large enough to see a mistake */
    ops->mirror_pairs(f.plan, pair, slice, 1, f.p);       /* mirror, then the CTF of each */
    ops->project(f.plan, model, pair, ctf, zero, 2, f.p);
    ops->mirror_pairs(f.plan, twice, model, 1, f.p);      /* the CTF, then mirror */
    double *expected = doubles(twice + 2 * f.p, 2 * f.p);
    assert_below(largest_difference(model + 2 * f.p, expected, 2 * f.p), 1e-5);
    free(ctf), free(slice), free(pair), free(model), free(twice), free(expected);
    fixture_free(&f);
}

/* Everything a projection loss needs, b images. */
typedef struct scene {
    int64_t b;
    float *slice, *target, *ctf, *shift, *loss, *dslice, *dshift;
} scene;

static scene scene_new(const fixture *f, int64_t b)
{
    scene s = {b,
               normals(2 * b * f->p, 8),
               normals(2 * b * f->p, 9),
               normals(b * f->p, 10),
               normals(2 * b, 11),
               floats(b),
               floats(2 * b * f->p),
               floats(2 * b)};
    for (int64_t i = 0; i < 2 * b; i++) s.shift[i] *= 4.0f;
    return s;
}

static void scene_free(scene *s)
{
    free(s->slice), free(s->target), free(s->ctf), free(s->shift);
    free(s->loss), free(s->dslice), free(s->dshift);
}

/* Loss of image i in double; its slice or shift number `index` moved by `by`. */
static double loss_of(const fixture *f, const scene *s, int64_t i, int shift_moves, int64_t index, double by)
{
    double *slice = doubles(s->slice + 2 * i * f->p, 2 * f->p),
           *target = doubles(s->target + 2 * i * f->p, 2 * f->p);
    double *ctf = doubles(s->ctf + i * f->p, f->p), shift[] = {s->shift[2 * i], s->shift[2 * i + 1]};
    *(shift_moves ? &shift[index] : &slice[index]) += by;
    const double loss = ref_project_loss(slice, ctf, shift, target, f->points.kxy, f->box, f->p);
    free(slice), free(target), free(ctf);
    return loss;
}

static void project_loss_and_gradients(void **state)
{
    (void)state;
    fixture f = fixture_new(12, 2);
    fixture_open(&f);
    scene s = scene_new(&f, 3);
    float *model = floats(2 * s.b * f.p);
    double *exact = doubles(NULL, 2 * f.p);
    const double h = 1e-4;
    double steepest = 0.0;
    ops->project(f.plan, model, s.slice, s.ctf, s.shift, s.b, f.p);
    ops->project_loss(f.plan, s.loss, s.dslice, s.dshift, s.slice, s.ctf, s.shift, s.target, s.b, f.p);
    for (int64_t i = 0; i < s.b; i++) {
        double *slice = doubles(s.slice + 2 * i * f.p, 2 * f.p), *ctf = doubles(s.ctf + i * f.p, f.p);
        double shift[] = {s.shift[2 * i], s.shift[2 * i + 1]};
        ref_project(exact, slice, ctf, shift, f.points.kxy, f.box, f.p);
        assert_below(largest_difference(model + 2 * i * f.p, exact, 2 * f.p), 3e-6);
        assert_below(fabs(s.loss[i] / loss_of(&f, &s, i, 0, 0, 0.0) - 1.0), 1e-6);
        for (int64_t j = 0; j < 2 * f.p; j++) {
            const double slope = (loss_of(&f, &s, i, 0, j, h) - loss_of(&f, &s, i, 0, j, -h)) / (2.0 * h);
            assert_below(fabs(s.dslice[2 * i * f.p + j] - slope), 1e-6);
        }
        for (int64_t j = 0; j < 2; j++) {
            const double slope = (loss_of(&f, &s, i, 1, j, h) - loss_of(&f, &s, i, 1, j, -h)) / (2.0 * h);
            assert_below(fabs(s.dshift[2 * i + j] - slope), 1e-6);
            steepest = fmax(steepest, fabs(slope));
        }
        free(slice), free(ctf);
    }
    assert_true(steepest > 0.1);
    free(model), free(exact);
    scene_free(&s);
    fixture_free(&f);
}

/* The Fourier loss is the mean square difference of the images, and the power their mean square. */
static void parseval(void **state)
{
    (void)state;
    fixture f = fixture_new(16, 2);
    fixture_open(&f);
    scene s = scene_new(&f, 1);
    float *model = floats(2 * f.p), power;
    double *image = doubles(NULL, f.pixels), *target_image = doubles(NULL, f.pixels), error = 0.0,
           square = 0.0;
    s.slice[1] = s.target[1] = 0.0f; /* a real image has a real DC */
    ops->project(f.plan, model, s.slice, s.ctf, s.shift, 1, f.p);
    ops->project_loss(f.plan, s.loss, s.dslice, s.dshift, s.slice, s.ctf, s.shift, s.target, 1, f.p);
    ops->points_power(f.plan, &power, model, 1, f.p, 1);
    double *points = doubles(model, 2 * f.p), *target = doubles(s.target, 2 * f.p);
    ref_points_to_image(image, points, f.points.kxy, f.box, f.p);
    ref_points_to_image(target_image, target, f.points.kxy, f.box, f.p);
    for (int64_t i = 0; i < f.pixels; i++) {
        error += (image[i] - target_image[i]) * (image[i] - target_image[i]) / (double)f.pixels;
        square += image[i] * image[i] / (double)f.pixels;
    }
    assert_below(fabs(s.loss[0] / error - 1.0), 2e-6);
    assert_below(fabs(power / square - 1.0), 2e-6);
    free(model), free(image), free(target_image), free(points), free(target);
    scene_free(&s);
    fixture_free(&f);
}

static void power_of_groups(void **state)
{
    (void)state;
    const int64_t b = 70, groups = 2; /* more images a group than partial sums */
    fixture f = fixture_new(8, 2);
    fixture_open(&f);
    float *points = normals(2 * b * f.p, 12), power[2];
    ops->points_power(f.plan, power, points, b, f.p, groups);
    for (int64_t g = 0; g < groups; g++) {
        double sum = 0.0;
        for (int64_t i = 0; i < 2 * f.p * b / groups; i++) {
            const double x = points[g * 2 * f.p * b / groups + i];
            sum += f.points.weight[i / 2 % f.p] * x * x;
        }
        assert_below(fabs(power[g] / (sum / (double)(b / groups * f.pixels)) - 1.0), 1e-6);
    }
    free(points);
    fixture_free(&f);
}

/* Mean, variance, kurtosis, correlations; every number against its formula; prefixes and batches agree. */
static void noise_is_white_and_addressed(void **state)
{
    (void)state;
    const int64_t b = 400;
    const uint64_t seed = 0x123456789abcull, step = 5, sample = 0xfffffff0ull; /* samples cross 2^32 */
    fixture f = fixture_new(16, 2);
    fixture_open(&f);
    const float power[] = {2.0f, 0.125f}, sigma2[] = {4.0f, 0.25f}, snr = 0.5f;
    const int64_t first = 7;
    const uint64_t at[] = {step, sample}, later[] = {step, sample + (uint64_t)first};
    float *noise = floats(2 * b * f.p), *part = floats(2 * 3 * f.p);
    ops->add_noise(f.plan, noise, power, snr, seed, at, b, f.p, 2);
    for (int64_t i = 0; i < b; i++) {
        const double deviation = sqrt(sigma2[i / (b / 2)]);
        het_rng rng = het_rng_at(seed, HET_STREAM_NOISE, step, sample + (uint64_t)i);
        for (int64_t j = 0; j < f.p; j++) {
            const double radius = sqrt(-2.0 * log(het_rng_uniform(&rng)));
            const double angle = 2.0 * 3.14159265358979323846 * het_rng_uniform(&rng);
            const double re = deviation * radius * cos(angle) * (j == 0 ? 1.0 : sqrt(0.5));
            const double im = deviation * radius * sin(angle) * (j == 0 ? 0.0 : sqrt(0.5));
            assert_below(fabs(noise[2 * (i * f.p + j)] - re), 5e-6);
            assert_below(fabs(noise[2 * (i * f.p + j) + 1] - im), 5e-6);
        }
    }
    const double n = (double)(f.p * b); /* numbers per group: two a point, half of the images */
    for (int g = 0; g < 2; g++) {
        double sum = 0.0, square = 0.0, fourth = 0.0, neighbours = 0.0;
        for (int64_t i = g * f.p * b; i < (g + 1) * f.p * b; i++) {
            const double x = noise[i] / sqrt(0.5 * sigma2[g]), y = noise[i ^ 1] / sqrt(0.5 * sigma2[g]);
            sum += x, square += x * x, fourth += x * x * x * x, neighbours += x * y;
        }
        assert_below(fabs(sum / n), 4.0 / sqrt(n));
        assert_below(fabs(square / n - 1.0), 4.0 * sqrt(2.0 / n));
        assert_below(fabs(fourth / n - 3.0), 0.3); /* the DC, one in 77, has twice the variance */
        assert_below(fabs(neighbours / n), 4.0 * sqrt(2.0 / n));
    }
    const int64_t p = f.points.prefix[4]; /* group 0, fewer points, other batch */
    ops->add_noise(f.plan, part, power, snr, seed, later, 3, p, 1);
    for (int64_t i = 0; i < 3; i++)
        assert_memory_equal(part + 2 * i * p, noise + 2 * (first + i) * f.p, (size_t)(2 * p) * sizeof(float));
    ops->add_noise(f.plan, part, power, snr, seed, later, 3, p, 1);
    assert_true(part[2] == 2.0f * noise[2 * first * f.p + 2]); /* it adds */
    free(noise), free(part);
    fixture_free(&f);
}

/* One thread and three give the same bits. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    float *kept[2] = {NULL, NULL};
    const int64_t b = 5;
    int64_t numbers = 0;
    for (int n = 0; n < 2; n++) {
        fixture f = fixture_new(20, n == 0 ? 1 : 3);
        fixture_open(&f);
        scene s = scene_new(&f, b);
        const float power = 1.0f;
        const uint64_t at[] = {2, 3};
        numbers = b + 2 * b + 2 * b * f.p + b * f.pixels + 1;
        float *image = normals(b * f.pixels, 13), *window = normals(f.pixels, 14),
              *out = kept[n] = floats(numbers);
        ops->image_to_points(f.plan, s.target, image, b, f.p);
        ops->add_noise(f.plan, s.target, &power, 1.0f, 1, at, b, f.p, 1);
        ops->project_loss(f.plan, out, out + 3 * b, out + b, s.slice, s.ctf, s.shift, s.target, b, f.p);
        ops->points_to_image(f.plan, out + 3 * b + 2 * b * f.p, s.target, window, s.ctf, b, f.p);
        ops->points_power(f.plan, out + numbers - 1, s.target, b, f.p, 1);
        free(image), free(window);
        scene_free(&s);
        fixture_free(&f);
    }
    assert_memory_equal(kept[0], kept[1], (size_t)numbers * sizeof(float));
    free(kept[0]), free(kept[1]);
}

static void bad_points_are_refused(void **state)
{
    (void)state;
    het_device dev;
    ref_device_open_staged(&dev, 1, HET_PRECISION_F32);
    ops = dev.ops;
    het_fourier *plan;
    const int32_t whole[] = {0, 0, 0, 1, 1, 0}, negative[] = {0, 0, -1, 0}, lower[] = {0, 0, 0, -1};
    const int32_t outside[] = {0, 0, 4, 0}, twice[] = {0, 0, 1, 0, 1, 0}, lonely[] = {0, 0, 1, 1};
    const long before = het_arena_live();
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 3, whole), HET_OK);
    ops->fourier_free(plan);
    assert_int_equal(ops->fourier_new(&dev, &plan, 7, 3, whole), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 2, 1, whole), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 0, whole), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 33, whole), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 2, negative), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 2, lower), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 2, outside), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 3, twice), HET_E_SHAPE);
    assert_int_equal(ops->fourier_new(&dev, &plan, 8, 2, lonely), HET_E_SHAPE);
    assert_null(plan);
    assert_non_null(strstr(het_status_message(), "(1,-1)"));
    assert_int_equal(het_arena_live(), before);
    het_device_close(&dev);
}

static int nothing_left(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transforms_match_plain_sums),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(mirror_and_shift_match_moved_images),
        cmocka_unit_test(turns_match_turned_images),
        cmocka_unit_test(standardised_images),
        cmocka_unit_test(ctf_matches_formula),
        cmocka_unit_test(wavelength_is_physical),
        cmocka_unit_test(mirrored_ctf),
        cmocka_unit_test(project_loss_and_gradients),
        cmocka_unit_test(parseval),
        cmocka_unit_test(power_of_groups),
        cmocka_unit_test(noise_is_white_and_addressed),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(bad_points_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_left);
}
