/* Poses that are equal but for a symmetry: cyclic, dihedral and octahedral groups, unrelated poses, clusters that are no group. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/physics/rotation.h"
#include "../src/physics/symmetry.h"
#include "../src/rng.h"

enum { N = 1000 };
static const double degree = 3.14159265358979323846 / 180.0;

typedef struct group {
    int order;
    double turn[HET_SYMMETRY_MOST][9];
} group;

/* All products of the generators. */
static group make_group(const double generator[][4], int generators)
{
    group g = {1, {{1, 0, 0, 0, 1, 0, 0, 0, 1}}};
    for (int i = 0; i < g.order; i++) {
        for (int k = 0; k < generators; k++) {
            double turn[9], both[9];
            int known = 0;
            het_rotation_about(turn, generator[k], generator[k][3] * degree);
            het_rotation_multiply(both, g.turn[i], turn);
            for (int j = 0; j < g.order; j++) known |= het_rotation_distance2(both, g.turn[j]) < 1e-6;
            if (!known) memcpy(g.turn[g.order++], both, sizeof both);
        }
    }
    return g;
}

static void store(float *to, const double r[9])
{
    for (int k = 0; k < 9; k++) to[k] = (float)r[k];
}

/* Poses of drawn images, and the same in another frame, each off by some degrees and by any turn of the group; a share of them lost. */
static void draw(float *one, float *two, const group *g, double off, double lost, int mirrored)
{
    het_rng rng = het_rng_at(7, HET_STREAM_SEARCH, 0, 0);
    double frame[9];
    het_rotation_draw(frame, &rng);
    for (int i = 0; i < N; i++) {
        double r[9], a[9], b[9], about[9], axis[3];
        het_rotation_draw(r, &rng);
        store(one + 9 * i, r);
        const int k = (int)(het_rng_uniform(&rng) * (double)g->order) % g->order;
        for (int c = 0; c < 3; c++) axis[c] = het_rng_normal(&rng);
        het_rotation_about(about, axis, off * degree);
        het_rotation_multiply(a, r, g->turn[k]);
        het_rotation_multiply(b, about, a);
        het_rotation_multiply(a, b, frame);
        if (het_rng_uniform(&rng) < lost) het_rotation_draw(a, &rng);
        for (int c = 0; mirrored && c < 9; c++)
            if (c == 2 || c == 5 || c == 6 || c == 7) a[c] = -a[c];
        store(two + 9 * i, a);
    }
}

static void groups_are_found(void **state)
{
    (void)state;
    static float one[9 * N], two[9 * N];
    static const double z7[][4] = {{0, 0, 1, 360.0 / 7}, {1, 0, 0, 180}}, octahedral[][4] = {{0, 0, 1, 90}, {1, 0, 0, 90}};
    static const struct {
        const double (*generator)[4];
        int generators, order;
    } cases[] = {{z7, 0, 1}, {z7 + 1, 1, 2}, {z7, 1, 7}, {z7, 2, 14}, {octahedral, 2, 24}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const group g = make_group(cases[c].generator, cases[c].generators);
        assert_int_equal(g.order, cases[c].order);
        for (int mirrored = 0; mirrored < 2; mirrored++) {
            het_symmetry s;
            draw(one, two, &g, 5.0, 0.2, mirrored);
            assert_int_equal(het_symmetry_between(&s, two, one, N), HET_OK);
            assert_int_equal(s.order, g.order);
            assert_int_equal(s.hand, mirrored ? -1 : 1);
            assert_float_equal(s.share, 0.8 + 0.2 * 0.00095 * g.order, 0.05);
            assert_float_equal(s.apart, 5.0, 0.5);
        }
        /* the group itself, in the frame of the second poses */
        het_symmetry s;
        draw(one, two, &g, 0.0, 0.0, 0);
        assert_int_equal(het_symmetry_between(&s, one, one, N), HET_OK);
        assert_int_equal(s.order, 1);
        assert_int_equal(het_symmetry_between(&s, two, one, N), HET_OK);
        for (int k = 0; k < g.order; k++) {
            double turned[9], r[9];
            float other[9];
            for (int j = 0; j < 9; j++) r[j] = one[j];
            het_rotation_multiply(turned, r, g.turn[k]);
            store(other, turned);
            assert_true(het_symmetry_distance2(&s, one, other) < 1e-6);
        }
    }
}

static void what_is_no_group_is_none(void **state)
{
    (void)state;
    static float one[9 * N], two[9 * N];
    const group none = make_group(NULL, 0);
    het_symmetry s;
    draw(one, two, &none, 0.0, 1.0, 0); /* unrelated */
    assert_int_equal(het_symmetry_between(&s, two, one, N), HET_OK);
    assert_int_equal(s.order, 0);
    assert_true(s.share == 0.0);
    /* half of the images in a frame of their own, 40 degrees from that of the others */
    const double axis[3] = {1, 2, 3};
    double about[9];
    het_rotation_about(about, axis, 40.0 * degree);
    group pair = {2, {{1, 0, 0, 0, 1, 0, 0, 0, 1}}};
    memcpy(pair.turn[1], about, sizeof about);
    draw(one, two, &pair, 5.0, 0.0, 0);
    assert_int_equal(het_symmetry_between(&s, two, one, N), HET_OK);
    assert_int_equal(s.order, 1);
    assert_float_equal(s.share, 0.5, 0.06);
    /* a tenth of them turned over */
    static const double over[][4] = {{1, 0, 0, 180}};
    group flipped = make_group(over, 1);
    for (flipped.order = 1; flipped.order < 10; flipped.order++)
        memcpy(flipped.turn[flipped.order], flipped.turn[0], sizeof flipped.turn[0]);
    het_rotation_about(flipped.turn[9], over[0], 180.0 * degree);
    draw(one, two, &flipped, 5.0, 0.0, 0);
    assert_int_equal(het_symmetry_between(&s, two, one, N), HET_OK);
    assert_int_equal(s.order, 1);
    assert_int_equal(het_symmetry_between(&s, two, one, 0), HET_OK);
    assert_int_equal(s.order, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(groups_are_found), cmocka_unit_test(what_is_no_group_is_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
