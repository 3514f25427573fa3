/* Conformations against slices that are known functions of z. */
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
#include "../src/physics/conform.h"
#include "../src/rng.h"

enum { BOX = 16, Z = 2, IMAGES = 37 };

typedef struct scene {
    het_points points;
    int64_t p;
    float *basis;              /* (IMAGES, 1 + Z, p, 2) */
    float *transform, *ctf;    /* (IMAGES,p,2), (IMAGES,p) */
    float rot[9 * IMAGES], shift[2 * IMAGES], truth[Z * IMAGES];
    float bend; /* of the second coordinate */
} scene;

/* V_z = B_0 + z_0 B_1 + (z_1 + bend z_1^2) B_2 */
static void slices(void *context, float *out, const float *rot, const float *z, int64_t n, int64_t p)
{
    const scene *s = context;
    for (int64_t i = 0; i < n; i++) {
        const float *b = s->basis + (int64_t)rot[9 * i] * (1 + Z) * 2 * s->p; /* the image's number */
        const float u = z[Z * i], v = z[Z * i + 1] + s->bend * z[Z * i + 1] * z[Z * i + 1];
        for (int64_t j = 0; j < 2 * p; j++) out[i * 2 * p + j] = b[j] + u * b[2 * s->p + j] + v * b[4 * s->p + j];
    }
}

static void scene_open(scene *s, float bend, float noise)
{
    *s = (scene){.bend = bend};
    assert_int_equal(het_points_new(&s->points, BOX), HET_OK);
    s->p = het_points_within(&s->points, 6.0);
    s->basis = het_alloc((size_t)(IMAGES * (1 + Z) * 2 * s->p) * sizeof *s->basis);
    s->transform = het_alloc((size_t)(IMAGES * 2 * s->p) * sizeof *s->transform);
    s->ctf = het_alloc((size_t)(IMAGES * s->p) * sizeof *s->ctf);
    het_rng rng = het_rng_at(7, HET_STREAM_SIMULATE, 0, 0);
    for (int64_t i = 0; i < IMAGES * (1 + Z) * 2 * s->p; i++) s->basis[i] = het_rng_normal(&rng);
    for (int64_t i = 0; i < IMAGES * s->p; i++) s->ctf[i] = 0.3f + het_rng_uniform(&rng);
    for (int64_t i = 0; i < IMAGES; i++) {
        float *x = s->transform + i * 2 * s->p;
        for (int j = 0; j < Z; j++) s->truth[Z * i + j] = het_rng_normal(&rng);
        for (int j = 0; j < 2; j++) s->shift[2 * i + j] = het_rng_normal(&rng);
        s->rot[9 * i] = (float)i;
        slices(s, x, s->rot + 9 * i, s->truth + Z * i, 1, s->p);
        for (int64_t k = 0; k < s->p; k++) {
            const double angle = -2.0 * M_PI / BOX * (s->points.kxy[2 * k] * (double)s->shift[2 * i] + s->points.kxy[2 * k + 1] * (double)s->shift[2 * i + 1]);
            const double re = x[2 * k], im = x[2 * k + 1], c = s->ctf[i * s->p + k];
            x[2 * k] = (float)(c * (re * cos(angle) - im * sin(angle))) + noise * het_rng_normal(&rng);
            x[2 * k + 1] = (float)(c * (re * sin(angle) + im * cos(angle))) + noise * het_rng_normal(&rng);
        }
    }
}

static void scene_close(scene *s)
{
    het_points_free(&s->points);
    het_release(s->basis);
    het_release(s->transform);
    het_release(s->ctf);
}

static het_conform_spec spec_of(scene *s, double prior)
{
    return (het_conform_spec){.points = &s->points, .row = s->p, .z_dim = Z, .prior = prior, .noise_variance = 0.5, .steps = 12,
                              .threads = 1, .slices = slices, .context = s};
}

static void test_recovered(void **state)
{
    (void)state;
    scene s;
    float z[Z * IMAGES] = {0}, zstd[Z * IMAGES], loss[IMAGES];
    scene_open(&s, 0.1f, 0.0f);
    het_conform_spec spec = spec_of(&s, 0.0);
    spec.noise_variance = 1e-3; /* there is none: the last steps matter */
    s.transform[2 * (5 * s.p + 3)] = NAN;
    z[Z * 5] = 0.25f;
    assert_int_equal(het_conform_run(&spec, z, zstd, loss, s.transform, s.ctf, s.rot, s.shift, IMAGES), HET_OK);
    assert_true(isinf(loss[5]));
    assert_true(z[Z * 5] == 0.25f && z[Z * 5 + 1] == 0.0f);
    for (int64_t i = 0; i < IMAGES; i++) {
        if (i == 5) continue;
        for (int j = 0; j < Z; j++) assert_float_equal(z[Z * i + j], s.truth[Z * i + j], 1e-3);
        assert_true(loss[i] < 1e-6f);
    }
    scene_close(&s);
}

/* Where slices are linear in z the minimum and its deviations are those of a linear fit with a prior. */
static void test_linear(void **state)
{
    (void)state;
    const double prior = 0.5;
    scene s;
    float z[Z * IMAGES] = {0}, zstd[Z * IMAGES], loss[IMAGES];
    scene_open(&s, 0.0f, 0.7f);
    const het_conform_spec spec = spec_of(&s, prior);
    assert_int_equal(het_conform_run(&spec, z, zstd, loss, s.transform, s.ctf, s.rot, s.shift, IMAGES), HET_OK);
    for (int64_t i = 0; i < IMAGES; i++) {
        double a[Z][Z] = {{0.5 * prior, 0}, {0, 0.5 * prior}}, y[Z] = {0}, left = 0.0;
        for (int64_t k = 0; k < s.p; k++) {
            const float *b = s.basis + i * (1 + Z) * 2 * s.p + 2 * k, *x = s.transform + 2 * (i * s.p + k);
            const double angle = 2.0 * M_PI / BOX * (s.points.kxy[2 * k] * (double)s.shift[2 * i] + s.points.kxy[2 * k + 1] * (double)s.shift[2 * i + 1]);
            const double c = s.ctf[i * s.p + k], w = s.points.weight[k] / (double)(BOX * BOX);
            const double data[2] = {x[0] * cos(angle) - x[1] * sin(angle), x[0] * sin(angle) + x[1] * cos(angle)};
            for (int part = 0; part < 2; part++) {
                const double r = data[part] - c * b[part];
                double now = r;
                for (int m = 0; m < Z; m++) {
                    const double jm = c * b[2 * (1 + m) * s.p + part];
                    y[m] += w * jm * r;
                    now -= jm * z[Z * i + m];
                    for (int n = 0; n < Z; n++) a[m][n] += w * jm * c * b[2 * (1 + n) * s.p + part];
                }
                left += w * now * now;
            }
        }
        const double det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
        assert_float_equal(z[Z * i], (a[1][1] * y[0] - a[0][1] * y[1]) / det, 1e-3);
        assert_float_equal(z[Z * i + 1], (a[0][0] * y[1] - a[1][0] * y[0]) / det, 1e-3);
        for (int m = 0; m < Z; m++) {
            const double expected = sqrt(a[1 - m][1 - m] / det * 0.5 / (BOX * BOX));
            assert_float_equal(zstd[Z * i + m], expected, 2e-3 * expected);
        }
        assert_float_equal(loss[i], left, 1e-4 * left);
    }
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recovered), cmocka_unit_test(test_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
