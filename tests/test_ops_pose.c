/* Pose, latent, losses, optimiser (kernels/ops.h) against doubles and finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/rng.h"
#include "ref/device.h"
#include "ref/physics.h"

static het_device device;
static const double step = 1e-5; /* of finite differences, in double */

static void fill(float *x, int64_t n, uint64_t sample)
{
    het_rng rng = het_rng_at(11, HET_STREAM_SIMULATE, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = het_rng_normal(&rng);
}

static void widen(double *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = x[i];
}

static double dot(const double *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

#define assert_near(value, expected, limit)                                                           \
    do {                                                                                              \
        const double value_ = (value), expected_ = (expected);                                        \
        if (!(fabs(value_ - expected_) < (limit)))                                                    \
            fail_msg("%s = %.9g, expected %.9g within %g", #value, value_, expected_, (double)(limit)); \
    } while (0)

enum { B = 7, Z = 5 };

static void s2s2_and_gradient(void **state)
{
    (void)state;
    float v[6 * B], rot[9 * B], drot[9 * B], dv[6 * B];
    fill(v, 6 * B, 1);
    fill(drot, 9 * B, 2);
    device.ops->s2s2(&device, rot, v, B);
    device.ops->s2s2_backward(&device, dv, drot, v, B);
    for (int64_t n = 0; n < B; n++) {
        double wide[6], r[9];
        const float *m = rot + 9 * n;
        widen(wide, v + 6 * n, 6);
        ref_s2s2(r, wide);
        for (int i = 0; i < 9; i++) assert_near(m[i], r[i], 1e-7);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                assert_near(m[3 * i] * m[3 * j] + m[3 * i + 1] * m[3 * j + 1] + m[3 * i + 2] * m[3 * j + 2],
                            i == j, 5e-7);
        assert_near(m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
                        m[2] * (m[3] * m[7] - m[4] * m[6]), 1.0, 5e-7);
        for (int i = 0; i < 6; i++) {
            double low[9], high[9];
            const double kept = wide[i];
            wide[i] = kept + step;
            ref_s2s2(high, wide);
            wide[i] = kept - step;
            ref_s2s2(low, wide);
            wide[i] = kept;
            const double slope = (dot(high, drot + 9 * n, 9) - dot(low, drot + 9 * n, 9)) / (2.0 * step);
            assert_near(dv[6 * n + i], slope, 1e-6 * (1.0 + fabs(slope)));
        }
    }
}

static void s2s2_of_degenerate_vectors_is_finite(void **state)
{
    (void)state;
    const float v[12] = {0, 0, 0, 1, 0, 0, /* no first vector */ 1, 2, 3, 2, 4, 6 /* parallel */};
    float rot[18], dv[12], drot[18];
    fill(drot, 18, 3);
    device.ops->s2s2(&device, rot, v, 2);
    device.ops->s2s2_backward(&device, dv, drot, v, 2);
    for (int i = 0; i < 18; i++) assert_true(isfinite(rot[i]));
    for (int i = 0; i < 12; i++) assert_true(isfinite(dv[i]));
    for (int i = 0; i < 3; i++) assert_true(rot[i] == 0.0f);
}

static double latent_value(const double *head, const double *eps, const float *dz, float dkl)
{
    double z[Z];
    const double kl = ref_latent(z, head, eps, Z);
    return dot(z, dz, Z) + dkl * kl;
}

static void latent_and_gradient(void **state)
{
    (void)state;
    float head[2 * Z * B], eps[Z * B], z[Z * B], kl[B], dz[Z * B], dkl[B], dhead[2 * Z * B];
    fill(head, 2 * Z * B, 4);
    fill(eps, Z * B, 5);
    fill(dz, Z * B, 6);
    fill(dkl, B, 7);
    head[Z] = 12.0f, head[Z + 1] = -30.0f, head[Z + 2] = 1e-4f; /* clamped, clamped, cancelling */
    device.ops->latent(&device, z, kl, head, eps, B, Z);
    device.ops->latent_backward(&device, dhead, dz, dkl, head, eps, B, Z);
    assert_true(dhead[Z] == 0.0f && dhead[Z + 1] == 0.0f && dhead[Z + 2] != 0.0f);
    for (int64_t n = 0; n < B; n++) {
        double wide[2 * Z], noise[Z], exact[Z];
        widen(wide, head + 2 * Z * n, 2 * Z);
        widen(noise, eps + Z * n, Z);
        const double exact_kl = ref_latent(exact, wide, noise, Z);
        assert_near(kl[n] / exact_kl, 1.0, 2e-7);
        for (int i = 0; i < Z; i++) assert_near(z[Z * n + i], exact[i], 3e-7 * (1.0 + fabs(exact[i])));
        for (int i = 0; i < 2 * Z; i++) {
            const double kept = wide[i];
            wide[i] = kept + step;
            const double high = latent_value(wide, noise, dz + Z * n, dkl[n]);
            wide[i] = kept - step;
            const double low = latent_value(wide, noise, dz + Z * n, dkl[n]);
            wide[i] = kept;
            const double slope = (high - low) / (2.0 * step);
            assert_near(dhead[2 * Z * n + i], slope, 1e-6 * (1.0 + fabs(slope)));
        }
    }
}

static void latent_keeps_nan_visible(void **state)
{
    (void)state;
    const float head[2] = {0.0f, NAN}, eps = 1.0f, dz = 1.0f, dkl = 1.0f;
    float z, kl, dhead[2];
    device.ops->latent(&device, &z, &kl, head, &eps, 1, 1);
    device.ops->latent_backward(&device, dhead, &dz, &dkl, head, &eps, 1, 1);
    assert_true(isnan(z) && isnan(kl) && isnan(dhead[1]));
}

static void conformation_loss_and_gradient(void **state)
{
    (void)state;
    float head[2 * Z * B], z[Z * B], loss[B], dhead[2 * Z * B];
    const float scale = 0.1f / B;
    fill(head, 2 * Z * B, 14);
    fill(z, Z * B, 15);
    head[Z] = 12.0f, head[Z + 1] = -30.0f, z[1] = head[1] + 1e-3f; /* clamped: no slope along logvar */
    device.ops->conformation_loss(&device, loss, dhead, head, z, scale, B, Z);
    assert_true(dhead[Z] == 0.0f && dhead[Z + 1] == 0.0f && dhead[1] != 0.0f);
    for (int64_t n = 0; n < B; n++) {
        double wide[2 * Z], truth[Z];
        widen(wide, head + 2 * Z * n, 2 * Z);
        widen(truth, z + Z * n, Z);
        const double exact = ref_conformation_loss(wide, truth, Z);
        assert_near(loss[n], exact, 1e-6 * (1.0 + fabs(exact)));
        for (int i = 0; i < 2 * Z; i++) {
            const double kept = wide[i];
            wide[i] = kept + step;
            const double high = ref_conformation_loss(wide, truth, Z);
            wide[i] = kept - step;
            const double low = ref_conformation_loss(wide, truth, Z);
            wide[i] = kept;
            const double slope = scale * (high - low) / (2.0 * step);
            assert_near(dhead[2 * Z * n + i], slope, 1e-6 * (scale + fabs(slope)));
        }
    }
    head[Z] = NAN;
    device.ops->conformation_loss(&device, loss, dhead, head, z, scale, 1, Z);
    assert_true(isnan(loss[0]));
}

static void pose_loss_and_gradient(void **state)
{
    (void)state;
    float rot[9 * B], rot_true[9 * B], shift[2 * B], shift_true[2 * B], loss[B], drot[9 * B], dshift[2 * B];
    const float scale = 0.1f / B;
    fill(rot, 9 * B, 8);
    fill(rot_true, 9 * B, 9);
    fill(shift, 2 * B, 10);
    fill(shift_true, 2 * B, 11);
    shift_true[0] = shift[0]; /* the kink: gradient 0, as the central difference */
    device.ops->pose_loss(&device, loss, drot, dshift, rot, shift, rot_true, shift_true, scale, B);
    for (int64_t n = 0; n < B; n++) {
        double r[9], t[2], r_true[9], t_true[2];
        widen(r, rot + 9 * n, 9);
        widen(t, shift + 2 * n, 2);
        widen(r_true, rot_true + 9 * n, 9);
        widen(t_true, shift_true + 2 * n, 2);
        assert_near(loss[n] / ref_pose_loss(r, t, r_true, t_true), 1.0, 3e-7);
        for (int i = 0; i < 11; i++) {
            double *x = i < 9 ? &r[i] : &t[i - 9];
            const double kept = *x;
            *x = kept + step;
            const double high = ref_pose_loss(r, t, r_true, t_true);
            *x = kept - step;
            const double low = ref_pose_loss(r, t, r_true, t_true);
            *x = kept;
            assert_near(i < 9 ? drot[9 * n + i] : dshift[2 * n + i - 9], scale * (high - low) / (2.0 * step),
                        1e-8);
        }
    }
    assert_true(dshift[0] == 0.0f);
}

/* Ten steps against the formula in double, several blocks; any number of threads gives the same bits. */
static void adam_matches_formula(void **state)
{
    (void)state;
    enum { N = 40003 };
    const double rate = 1e-3f, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
    float *f[2][3], *g = malloc(N * sizeof *g);
    double *w = malloc(N * sizeof *w), *m = calloc(N, sizeof *m), *v = calloc(N, sizeof *v);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 3; i++) f[t][i] = calloc(N, sizeof(float));
    fill(f[0][0], N, 12);
    memcpy(f[1][0], f[0][0], N * sizeof(float));
    widen(w, f[0][0], N);
    for (int64_t n = 1; n <= 10; n++) {
        fill(g, N, 100 + (uint64_t)n);
        for (int64_t i = 0; i < N; i += 3) g[i] *= 1e-6f;
        for (int t = 0; t < 2; t++) {
            device.threads = 1 + 2 * t;
            device.ops->adam(&device, f[t][0], f[t][1], f[t][2], g, N, (float)rate, (float)beta1, (float)beta2,
                         (float)eps, n);
        }
        for (int64_t i = 0; i < N; i++) {
            m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
            v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
            w[i] -= rate * (m[i] / (1.0 - pow(beta1, (double)n))) /
                    (sqrt(v[i] / (1.0 - pow(beta2, (double)n))) + eps);
        }
    }
    for (int64_t i = 0; i < N; i++) {
        assert_near(f[0][0][i], w[i], 1e-6);
        assert_near(f[0][1][i], m[i], 1e-6);
        assert_near(f[0][2][i], v[i], 1e-6 * v[i]);
    }
    for (int i = 0; i < 3; i++) assert_memory_equal(f[0][i], f[1][i], N * sizeof(float));
    device.threads = 2;
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 3; i++) free(f[t][i]);
    free(g), free(w), free(m), free(v);
}

static void norm_counts_and_sums(void **state)
{
    (void)state;
    static float x[100003];
    const int64_t sizes[] = {0, 1, 15, 16, 17, 63, 1000, 100003};
    fill(x, 100003, 13);
    for (int n = 0; n < 8; n++) {
        double exact = 0.0, sum, again;
        int64_t bad = -1;
        for (int64_t i = 0; i < sizes[n]; i++) exact += (double)x[i] * x[i];
        device.ops->norm2(&device, &sum, &bad, x, sizes[n]);
        assert_int_equal(bad, 0);
        assert_near(sum, exact, 1e-13 * exact + 1e-300);
        device.threads = 3;
        device.ops->norm2(&device, &again, &bad, x, sizes[n]);
        assert_memory_equal(&sum, &again, sizeof sum);
        device.threads = 2;
    }
    double sum, rest;
    int64_t bad;
    x[0] = x[5000] = x[100002] = 0.0f;
    device.ops->norm2(&device, &rest, &bad, x, 100003);
    x[0] = NAN, x[5000] = -INFINITY, x[100002] = INFINITY;
    device.ops->norm2(&device, &sum, &bad, x, 100003);
    assert_int_equal(bad, 3);
    assert_true(sum == rest);
}

static void norm_of_huge_numbers_is_finite(void **state)
{
    (void)state;
    const float x[2] = {3e38f, -3e38f};
    double sum;
    int64_t bad;
    device.ops->norm2(&device, &sum, &bad, x, 2);
    assert_int_equal(bad, 0);
    assert_near(sum / 1.8e77, 1.0, 1e-6);
}

/* diag(Q,1) rot and Q shift with Q the rotation by 90 degrees from x to y, and back. */
static void poses_turn(void **state)
{
    (void)state;
    enum { N = 4 };
    const uint8_t quarters[N] = {0, 1, 2, 3};
    float rot[9 * N], shift[2 * N], turned[9 * N], moved[2 * N];
    fill(rot, 9 * N, 31);
    fill(shift, 2 * N, 32);
    memcpy(turned, rot, sizeof rot);
    memcpy(moved, shift, sizeof shift);
    device.ops->turn_poses(&device, turned, moved, quarters, 0, N);
    for (int n = 0; n < N; n++) {
        const double angle = n * 1.57079632679489662, c = cos(angle), s = sin(angle);
        for (int i = 0; i < 3; i++) {
            const float *r = rot + 9 * n + i, *t = turned + 9 * n + i;
            assert_near(t[0], c * r[0] - s * r[3], 1e-6);
            assert_near(t[3], s * r[0] + c * r[3], 1e-6);
            assert_true(t[6] == r[6]);
        }
        assert_near(moved[2 * n], c * shift[2 * n] - s * shift[2 * n + 1], 1e-6);
        assert_near(moved[2 * n + 1], s * shift[2 * n] + c * shift[2 * n + 1], 1e-6);
    }
    device.ops->turn_poses(&device, turned, moved, quarters, 1, N);
    for (int i = 0; i < 9 * N; i++) assert_true(turned[i] == rot[i]);
    for (int i = 0; i < 2 * N; i++) assert_true(moved[i] == shift[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s2s2_and_gradient),        cmocka_unit_test(s2s2_of_degenerate_vectors_is_finite),
        cmocka_unit_test(latent_and_gradient),      cmocka_unit_test(latent_keeps_nan_visible),
        cmocka_unit_test(pose_loss_and_gradient),   cmocka_unit_test(adam_matches_formula),
        cmocka_unit_test(poses_turn),               cmocka_unit_test(conformation_loss_and_gradient),
        cmocka_unit_test(norm_counts_and_sums),     cmocka_unit_test(norm_of_huge_numbers_is_finite),
    };
    ref_device_open_staged(&device, 2, HET_PRECISION_F32);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    het_device_close(&device);
    return failed;
}
