#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../src/physics/rotation.h"
#include "../src/rng.h"

static const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
static const double pi = 3.14159265358979323846;

static void random_rotation(double r[9], uint64_t sample)
{
    het_rng rng = het_rng_at(7, HET_STREAM_ROTATION, 0, sample);
    const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
    het_rotation_uniform(r, u1, u2, u3);
}

static void assert_rotation(const double r[9])
{
    double product[9];
    het_rotation_multiply_tb(product, r, r);
    for (int i = 0; i < 9; i++) assert_true(fabs(product[i] - identity[i]) < 1e-12);
    const double det = r[0] * (r[4] * r[8] - r[5] * r[7]) - r[1] * (r[3] * r[8] - r[5] * r[6]) +
                       r[2] * (r[3] * r[7] - r[4] * r[6]);
    assert_true(fabs(det - 1.0) < 1e-12);
}

/* R = Rz(psi) Ry(tilt) Rz(rot) written out by hand for angles whose sines and cosines are 0, 1 or 3/5, 4/5. */
static void euler_by_hand(void **state)
{
    (void)state;
    double r[9];
    const double a = atan2(3.0, 4.0); /* cos 0.8, sin 0.6 */
    het_rotation_from_euler(r, a, 0.0, 0.0);
    const double rz[9] = {0.8, 0.6, 0, -0.6, 0.8, 0, 0, 0, 1};
    for (int i = 0; i < 9; i++) assert_true(fabs(r[i] - rz[i]) < 1e-12);
    het_rotation_from_euler(r, 0.0, a, 0.0);
    const double ry[9] = {0.8, 0, -0.6, 0, 1, 0, 0.6, 0, 0.8};
    for (int i = 0; i < 9; i++) assert_true(fabs(r[i] - ry[i]) < 1e-12);
    /* rot 90, tilt 90, psi a: Rz(90) = [0 1 0; -1 0 0; 0 0 1], Ry(90) = [0 0 -1; 0 1 0; 1 0 0],
       Ry Rz = [0 0 -1; -1 0 0; 0 1 0], and Rz(a) of that = [-0.6 0 -0.8; -0.8 0 0.6; 0 1 0] */
    het_rotation_from_euler(r, pi / 2, pi / 2, a);
    const double all[9] = {-0.6, 0, -0.8, -0.8, 0, 0.6, 0, 1, 0};
    for (int i = 0; i < 9; i++) assert_true(fabs(r[i] - all[i]) < 1e-12);
}

static void euler_there_and_back(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        double r[9], again[9], rot, tilt, psi;
        random_rotation(r, i);
        het_rotation_to_euler(r, &rot, &tilt, &psi);
        assert_true(tilt >= 0.0 && tilt <= pi);
        het_rotation_from_euler(again, rot, tilt, psi);
        assert_true(het_rotation_distance2(r, again) < 1e-20);
    }
    const double tilts[2] = {0.0, pi};
    for (int i = 0; i < 2; i++) {
        double r[9], again[9], rot, tilt, psi;
        het_rotation_from_euler(r, 0.7, tilts[i], -1.9);
        het_rotation_to_euler(r, &rot, &tilt, &psi);
        assert_true(rot == 0.0);
        het_rotation_from_euler(again, rot, tilt, psi);
        assert_true(het_rotation_distance2(r, again) < 1e-20);
    }
}

static void about_is_right_handed(void **state)
{
    (void)state;
    const double z[3] = {0, 0, 2.5}, diagonal[3] = {1, 1, 1};
    double r[9];
    het_rotation_about(r, z, pi / 2); /* x -> y */
    assert_true(fabs(r[0]) < 1e-12 && fabs(r[3] - 1.0) < 1e-12 && fabs(r[1] + 1.0) < 1e-12);
    het_rotation_about(r, diagonal, 2 * pi / 3); /* x -> y -> z -> x */
    const double cycle[9] = {0, 0, 1, 1, 0, 0, 0, 1, 0};
    for (int i = 0; i < 9; i++) assert_true(fabs(r[i] - cycle[i]) < 1e-12);
}

static void quaternion_scale_does_not_matter(void **state)
{
    (void)state;
    const double q[4] = {0.5, -0.5, 0.5, 0.5}, longer[4] = {2, -2, 2, 2};
    double r[9], s[9];
    het_rotation_from_quaternion(r, q);
    het_rotation_from_quaternion(s, longer);
    assert_rotation(r);
    assert_true(het_rotation_distance2(r, s) < 1e-24);
}

/* Uniform on SO(3): E[R] = 0, E[R_ij^2] = 1/3, and E[trace] = 0 with the angle's density (1 - cos)/pi: E[cos] = -1/2. */
static void uniform_moments(void **state)
{
    (void)state;
    enum { N = 20000 };
    double mean[9] = {0}, square[9] = {0}, cosine = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double r[9];
        random_rotation(r, i);
        if (i < 50) assert_rotation(r);
        for (int j = 0; j < 9; j++) {
            mean[j] += r[j] / N;
            square[j] += r[j] * r[j] / N;
        }
        cosine += cos(het_rotation_angle(het_rotation_distance2(r, identity))) / N;
    }
    for (int j = 0; j < 9; j++) {
        assert_true(fabs(mean[j]) < 0.02);
        assert_true(fabs(square[j] - 1.0 / 3.0) < 0.01);
    }
    assert_true(fabs(cosine + 0.5) < 0.015);
}

static void products_and_distance(void **state)
{
    (void)state;
    double a[9], b[9], ab[9], bta[9], abt[9], t[9], expected[9];
    random_rotation(a, 1000);
    random_rotation(b, 1001);
    het_rotation_multiply(ab, a, b);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            double sum = 0.0;
            for (int k = 0; k < 3; k++) sum += a[3 * i + k] * b[3 * k + j];
            assert_true(fabs(sum - ab[3 * i + j]) < 1e-14);
            t[3 * j + i] = b[3 * i + j];
        }
    }
    het_rotation_multiply_tb(abt, a, b);
    het_rotation_multiply(expected, a, t);
    assert_true(het_rotation_distance2(abt, expected) < 1e-26);
    het_rotation_multiply_ta(bta, b, a);
    het_rotation_multiply(expected, t, a);
    assert_true(het_rotation_distance2(bta, expected) < 1e-26);

    const double axis[3] = {0.3, -1.0, 0.2};
    const double angles[3] = {0.9 * pi / 180, 1.0, pi};
    for (int i = 0; i < 3; i++) {
        het_rotation_about(t, axis, angles[i]);
        het_rotation_multiply(b, t, a);
        const double d = het_rotation_distance2(a, b);
        assert_true(fabs(d - 8 * sin(angles[i] / 2) * sin(angles[i] / 2)) < 1e-12);
        assert_true(fabs(het_rotation_angle(d) - angles[i]) < 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(euler_by_hand),
        cmocka_unit_test(euler_there_and_back),
        cmocka_unit_test(about_is_right_handed),
        cmocka_unit_test(quaternion_scale_does_not_matter),
        cmocka_unit_test(uniform_moments),
        cmocka_unit_test(products_and_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
