/* Global rotation, hand and origin between predicted and true poses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/align.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { N = 3000 };

typedef struct poses {
    float *predicted, *truth;           /* (N,9) */
    float *shift_predicted, *shift_true; /* (N,2) */
    double a[9];
} poses;

static void random_rotation(double r[9], het_rng *rng)
{
    const double u1 = het_rng_uniform(rng), u2 = het_rng_uniform(rng), u3 = het_rng_uniform(rng);
    het_rotation_uniform(r, u1, u2, u3);
}

static void conjugate(double r[9])
{
    r[2] = -r[2];
    r[5] = -r[5];
    r[6] = -r[6];
    r[7] = -r[7];
}

/* Truth R; prediction R~ = R A^T turned by noise (rad) about a random axis, then conjugated for the other
 * hand. */
static poses make_poses(int hand, double noise, double wrong)
{
    poses p;
    p.predicted = calloc(N * 9, sizeof(float));
    p.truth = calloc(N * 9, sizeof(float));
    p.shift_predicted = calloc(N * 2, sizeof(float));
    p.shift_true = calloc(N * 2, sizeof(float));
    het_rng rng = het_rng_at(5, HET_STREAM_SIMULATE, 0, 0);
    random_rotation(p.a, &rng);
    for (int i = 0; i < N; i++) {
        double r[9], q[9], turn[9], s[9];
        random_rotation(r, &rng);
        het_rotation_multiply_tb(q, r, p.a);
        const double axis[3] = {het_rng_normal(&rng), het_rng_normal(&rng), het_rng_normal(&rng)};
        het_rotation_about(turn, axis, noise);
        het_rotation_multiply(s, turn, q);
        if (het_rng_uniform(&rng) < wrong) random_rotation(s, &rng);
        if (hand < 0) conjugate(s);
        for (int k = 0; k < 9; k++) {
            p.truth[9 * i + k] = (float)r[k];
            p.predicted[9 * i + k] = (float)s[k];
        }
        for (int k = 0; k < 2; k++) p.shift_true[2 * i + k] = 8.0f * het_rng_normal(&rng);
    }
    return p;
}

static void free_poses(poses *p)
{
    free(p->predicted);
    free(p->truth);
    free(p->shift_predicted);
    free(p->shift_true);
}

static void recovers_rotation_and_hand(void **state)
{
    (void)state;
    for (int hand = -1; hand <= 1; hand += 2) {
        poses p = make_poses(hand, 0.0, 0.0);
        het_align align;
        double *d = calloc(N, sizeof *d);
        assert_int_equal(het_align_rotations(&align, d, p.predicted, p.truth, N, 200, 1), HET_OK);
        assert_int_equal(align.hand, hand);
        assert_true(align.median < 1e-10);
        assert_true(het_rotation_distance2(align.a, p.a) < 1e-10);
        assert_true(align.median_other > 1.0);
        assert_true(align.within == 1.0);
        for (int i = 0; i < N; i++) assert_true(d[i] < 1e-10);
        free(d);
        free_poses(&p);
    }
}

static void noise_gives_its_own_size(void **state)
{
    (void)state;
    const double noise = 0.05; /* every image off by exactly this angle, 30 % of them random */
    poses p = make_poses(-1, noise, 0.3);
    het_align align;
    assert_int_equal(het_align_rotations(&align, NULL, p.predicted, p.truth, N, 200, 1), HET_OK);
    const double exact = 8.0 * sin(noise / 2) * sin(noise / 2);
    assert_int_equal(align.hand, -1);
    /* the refined A is nearly exact; the anchor's own error adds to the plain one, at most doubling the angle
     */
    assert_true(het_rotation_distance2(align.refined, p.a) < 0.02 * exact);
    assert_true(fabs(align.median_refined - exact) < 0.1 * exact);
    assert_true(align.median > exact && align.median < 4.0 * exact);
    assert_true(fabs(align.within - 0.7) < 0.05);
    assert_true(align.mean_degrees > 0.3 * 110.0 && align.mean_degrees < 0.3 * 140.0 + 5.0);
    free_poses(&p);
}

/* Half of the images see the molecule turned by 180 degrees: the median sits at the better half's side. */
static void half_flipped(void **state)
{
    (void)state;
    poses p = make_poses(1, 0.0, 0.0);
    const double axis[3] = {1.0, 2.0, -0.5};
    double flip[9];
    het_rotation_about(flip, axis, acos(-1.0));
    int flipped = 0;
    for (int i = 0; i < N; i++) {
        if (i % 5 < 3) continue; /* 40 % */
        double r[9], s[9];
        for (int k = 0; k < 9; k++) r[k] = p.predicted[9 * i + k];
        het_rotation_multiply(s, r, flip);
        for (int k = 0; k < 9; k++) p.predicted[9 * i + k] = (float)s[k];
        flipped++;
    }
    het_align align;
    double *d = calloc(N, sizeof *d);
    assert_int_equal(het_align_rotations(&align, d, p.predicted, p.truth, N, 200, 1), HET_OK);
    assert_true(align.median < 1e-10);
    assert_true(het_rotation_distance2(align.refined, p.a) < 1e-9);
    assert_true(fabs(align.within - 0.6) < 1e-9);
    assert_true(fabs(align.mean - 8.0 * flipped / N) < 1e-3); /* theta = 180: d = 8 */
    for (int i = 3; i < N; i += 5) assert_true(fabs(d[i] - 8.0) < 1e-4);
    free(d);
    free_poses(&p);
}

static void random_poses_do_not_align(void **state)
{
    (void)state;
    poses p = make_poses(1, 0.0, 1.0);
    het_align align;
    assert_int_equal(het_align_rotations(&align, NULL, p.predicted, p.truth, N, 200, 1), HET_OK);
    assert_true(align.median > 6.0); /* 6.69 for independent rotations */
    assert_true(align.within < 0.01);
    free_poses(&p);
}

/* The predicted molecule has its origin at c in its own frame: P R_true x + t_true = P R~ (A x + c) + t_pred.
 */
static void origin_is_exact(void **state)
{
    (void)state;
    const double c[3] = {3.0, -2.0, 1.5};
    for (int hand = -1; hand <= 1; hand += 2) {
        poses p = make_poses(hand, 0.0, 0.0);
        for (int i = 0; i < N; i++) {
            double q[9];
            for (int k = 0; k < 9; k++) q[k] = p.predicted[9 * i + k];
            if (hand < 0) conjugate(q);
            for (int row = 0; row < 2; row++) {
                double t = p.shift_true[2 * i + row];
                for (int k = 0; k < 3; k++) t -= q[3 * row + k] * c[k];
                p.shift_predicted[2 * i + row] = (float)t;
            }
        }
        het_origin origin;
        assert_int_equal(het_align_shifts(&origin, p.shift_predicted, p.shift_true, p.truth, N), HET_OK);
        for (int k = 0; k < 3; k++) {
            double u = 0.0; /* u = -A^T c */
            for (int j = 0; j < 3; j++) u -= p.a[3 * j + k] * c[j];
            assert_true(fabs(origin.u[k] - u) < 1e-4);
        }
        assert_true(origin.raw > 1.0);
        assert_true(origin.corrected < 1e-8);
        free_poses(&p);
    }
}

/* A point of the molecule must land on the same pixel in both descriptions, B = A or M A. */
static void hand_maps_points(void **state)
{
    (void)state;
    const double x[3] = {4.0, -7.0, 2.0};
    for (int hand = -1; hand <= 1; hand += 2) {
        poses p = make_poses(hand, 0.0, 0.0);
        het_align align;
        assert_int_equal(het_align_rotations(&align, NULL, p.predicted, p.truth, N, 50, 3), HET_OK);
        const double *a = align.refined;
        double y[3]; /* V_true(x) = V_pred(y): the feature seen at x lies at y = B x in the predicted map */
        for (int i = 0; i < 3; i++) y[i] = a[3 * i] * x[0] + a[3 * i + 1] * x[1] + a[3 * i + 2] * x[2];
        if (align.hand < 0) y[2] = -y[2];
        for (int i = 0; i < 20; i++) {
            for (int row = 0; row < 2; row++) {
                double seen = 0.0, described = 0.0;
                for (int k = 0; k < 3; k++) {
                    seen += (double)p.truth[9 * i + 3 * row + k] * x[k];
                    described += (double)p.predicted[9 * i + 3 * row + k] * y[k];
                }
                assert_true(fabs(seen - described) < 1e-4);
            }
        }
        free_poses(&p);
    }
}

static void tiny_sets(void **state)
{
    (void)state;
    poses p = make_poses(1, 0.0, 0.0);
    het_align align;
    het_origin origin;
    assert_int_equal(het_align_rotations(&align, NULL, p.predicted, p.truth, 1, 200, 1), HET_OK);
    assert_true(align.median < 1e-12);
    assert_int_equal(het_align_shifts(&origin, p.shift_predicted, p.shift_true, p.truth, 1), HET_OK);
    assert_true(isfinite(origin.corrected) && origin.corrected < 1e-6); /* two equations, three unknowns */
    assert_int_equal(het_align_rotations(&align, NULL, p.predicted, p.truth, 0, 200, 1), HET_E_SHAPE);
    assert_int_equal(het_align_shifts(&origin, p.shift_predicted, p.shift_true, p.truth, 0), HET_E_SHAPE);
    free_poses(&p);
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recovers_rotation_and_hand), cmocka_unit_test(noise_gives_its_own_size),
        cmocka_unit_test(half_flipped),               cmocka_unit_test(random_poses_do_not_align),
        cmocka_unit_test(origin_is_exact),            cmocka_unit_test(hand_maps_points),
        cmocka_unit_test(tiny_sets),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
