/* Every measure of `evaluate` against a plain computation: frames of classes, correlation, entanglement, and
 * the FSC of single images. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/cli/measures.h"
#include "../src/physics/fsc.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { N = 900, D = 16, Z = 2 };

#define NEAR(a, b, tolerance)                                                                                \
    do {                                                                                                     \
        const double near_a = (a), near_b = (b);                                                             \
        if (!(fabs(near_a - near_b) <= (tolerance))) fail_msg(#a " is %.9g, not %.9g", near_a, near_b);      \
    } while (0)

static const double NOISE = 0.02, DEGREE = 0.017453292519943295;

typedef struct set {
    het_predictions p;
    het_truth t;
} set;

/* Predictions of `classes` classes whose frames are turned by k steps of `turn` about z and whose origins lie
 * k `away` px along x: R_pred = noise R_true A_k^T, t_pred = t_true + P R_true u_k; z_2 = class + 0.3 N(0,1).
 */
static set make_set(int64_t classes, double turn, double away)
{
    set s = {0};
    het_rng rng = het_rng_at(5, HET_STREAM_SIMULATE, 0, 0);
    assert_int_equal(het_predictions_new(&s.p, N, Z), HET_OK);
    s.p.box = D;
    s.p.apix = 3.0;
    s.t = (het_truth){.rotation = het_alloc(9 * N * sizeof(float)),
                      .shift = het_alloc(2 * N * sizeof(float)),
                      .klass = het_alloc(N * sizeof(int64_t)),
                      .classes = classes};
    for (int i = 0; i < N; i++) {
        double r[9], noise[9], frame[9], a[9], q[9];
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        const double axis[3] = {het_rng_normal(&rng), het_rng_normal(&rng), het_rng_normal(&rng)};
        const double up[3] = {0.0, 0.0, 1.0};
        const int64_t k = s.t.klass[i] = i % classes;
        het_rotation_uniform(r, u1, u2, u3);
        het_rotation_about(noise, axis, NOISE);
        het_rotation_about(frame, up, turn * (double)k);
        het_rotation_multiply_tb(a, r, frame);
        het_rotation_multiply(q, noise, a);
        for (int j = 0; j < 9; j++) {
            s.t.rotation[9 * i + j] = (float)r[j];
            s.p.rotation[9 * i + j] = (float)q[j];
        }
        for (int j = 0; j < 2; j++) {
            s.t.shift[2 * i + j] = het_rng_normal(&rng);
            s.p.shift[2 * i + j] = (float)(s.t.shift[2 * i + j] + away * (double)k * r[3 * j]);
        }
        s.p.z[Z * i] = 0.1f * het_rng_normal(&rng);
        s.p.z[Z * i + 1] = (float)k + 0.3f * het_rng_normal(&rng);
    }
    return s;
}

static void free_set(set *s)
{
    het_predictions_free(&s->p);
    het_truth_free(&s->t);
}

/* Angle of the noise and frames that differ by 10 degrees, seen class by class. */
static void classes_with_frames_of_their_own(void **state)
{
    (void)state;
    set s = make_set(3, 10.0 * DEGREE, 0.5);
    het_measures m;
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    const double exact = 8.0 * sin(NOISE / 2) * sin(NOISE / 2);
    assert_true(m.align.median > 20.0 * exact);
    for (int k = 0; k < 3; k++) {
        const het_class_measures *c = &m.klass[k];
        assert_int_equal(c->images, N / 3);
        assert_true(c->rot_own >= 0.9 * exact &&
                    c->rot_own < 4.0 * exact); /* an anchor has noise of its own */
        assert_true(c->hand_own == 1.0);
        for (int j = 0; j < 9; j++) { /* R_true = R_pred A: A is the turn by k times 10 degrees */
            const double angle = 10.0 * k * DEGREE;
            const double a[9] = {cos(angle), -sin(angle), 0, sin(angle), cos(angle), 0, 0, 0, 1};
            NEAR(c->own.a[j], a[j], 0.01);
        }
        const double u[3] = {0.5 * k, 0.0, 0.0};
        for (int j = 0; j < 3; j++) NEAR(c->own.u[j], u[j], 1e-5);
        assert_true(c->trans_own < 1e-9);
        if (k == 2) assert_true(c->trans_raw > 0.1);
    }
    NEAR(m.frames_degrees, 20.0, 0.5);
    /* the frame of all lies among the three */
    NEAR(m.klass[0].frame_degrees + m.klass[2].frame_degrees, 20.0, 0.5);
    het_measures_free(&m);
    free_set(&s);
}

/* A class of the other hand: its own frame fits, and there is no angle to the others'. */
static void a_class_of_the_other_hand(void **state)
{
    (void)state;
    set s = make_set(2, 0.0, 0.0);
    for (int i = 1; i < N; i += 2) {
        static const int flip[4] = {2, 5, 6, 7};
        s.t.klass[i] =
            i % 4 == 3; /* a quarter of all images: the smaller part does not decide the hand of all */
        for (int k = 0; k < 4 && i % 4 == 3; k++) s.p.rotation[9 * i + flip[k]] *= -1.0f;
    }
    het_measures m;
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    assert_int_equal(m.align.hand, 1);
    assert_true(m.klass[0].hand_own == 1.0 && m.klass[1].hand_own == -1.0);
    assert_true(m.klass[1].rot > 1.0 && m.klass[1].rot_own < 0.01);
    assert_true(isnan(m.klass[1].frame_degrees) && isnan(m.frames_degrees));
    assert_true(m.klass[0].frame_degrees < 1.0);
    het_measures_free(&m);
    free_set(&s);
}

/* Spearman's correlation from ranks counted one against all. */
static double plain_spearman(const double *a, const double *b)
{
    double saa = 0.0, sbb = 0.0, sab = 0.0;
    for (int i = 0; i < N; i++) {
        double ra = 0.0, rb = 0.0; /* rank less its mean */
        for (int j = 0; j < N; j++) {
            ra += 0.5 * ((a[j] < a[i]) - (a[j] > a[i]));
            rb += 0.5 * ((b[j] < b[i]) - (b[j] > b[i]));
        }
        saa += ra * ra;
        sbb += rb * rb;
        sab += ra * rb;
    }
    return sab / sqrt(saa * sbb);
}

/* Corr, E_z and E against the formulas, where PC1 is z_2. */
static void ordered_states(void **state)
{
    (void)state;
    set s = make_set(5, 0.0, 0.25);
    double *pc1 = het_alloc(N * sizeof *pc1), mean[5] = {0}, square[5] = {0}, e_z = 0.0;
    s.t.coordinate = het_alloc(N * sizeof(double));
    for (int i = 0; i < N; i++) {
        s.p.z[Z * i] = 0.25f; /* so that PC1 is z_2 but for sign and mean */
        pc1[i] = (double)s.p.z[Z * i + 1];
        s.t.coordinate[i] = -0.1 * (double)s.t.klass[i] + 0.01 * sin(i);
        mean[s.t.klass[i]] += pc1[i] / (N / 5.0);
    }
    for (int i = 0; i < N; i++) square[s.t.klass[i]] += pow(pc1[i] - mean[s.t.klass[i]], 2.0) / (N / 5.0);
    for (int k = 0; k < 4; k++)
        e_z +=
            0.25 * 0.5 * erfc((mean[k + 1] - mean[k]) / (sqrt(square[k]) + sqrt(square[k + 1])) / sqrt(2.0));
    het_measures m;
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    NEAR(m.corr, fabs(plain_spearman(pc1, s.t.coordinate)), 1e-12);
    assert_true(m.corr > 0.9 && m.corr < 0.999);
    NEAR(m.e_z, e_z, 1e-9);
    assert_true(m.e_z > 0.01);
    NEAR(m.e_pose, m.align.median + m.origin.raw / (D * D), 1e-15);
    NEAR(m.entanglement, m.e_pose + e_z, 1e-9);
    assert_true(isnan(m.err));
    het_measures_free(&m);
    het_release(pc1);
    free_set(&s);
}

static void one_class_has_no_entanglement(void **state)
{
    (void)state;
    set s = make_set(1, 0.0, 0.0);
    het_measures m;
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    assert_true(isfinite(m.e_pose) && isnan(m.e_z) && isnan(m.entanglement) && isnan(m.corr) && isnan(m.err));
    het_measures_free(&m);
    free_set(&s);
}

/* Noise, and `share` times another map, within a sphere. */
static void make_map(het_volume *v, const het_volume *other, double share, uint64_t seed)
{
    het_rng rng = het_rng_at(seed, HET_STREAM_SIMULATE, 0, 0);
    assert_int_equal(het_volume_new(v, D, 3.0), HET_OK);
    for (int i = 0; i < D * D * D; i++)
        v->data[i] = het_rng_normal(&rng) + (other != NULL ? (float)share * other->data[i] : 0.0f);
    het_volume_mask_sphere(v, 5.0, 2.0);
}

static int by_number(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The curve in the JSON file is the mean of both classes' curves, which have as many images. */
static void mean_curve_is_written(const het_measures *m, double curves[2][D / 2])
{
    char path[] = "/tmp/het_measures_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0 && close(file) == 0);
    assert_int_equal(het_measures_write_json(m, path), HET_OK);
    json_t *root = json_load_file(path, 0, NULL), *list = json_object_get(root, "image_fsc");
    assert_int_equal(json_array_size(list), D / 2);
    for (size_t s = 1; s < D / 2; s++)
        NEAR(json_number_value(json_array_get(list, s)), 0.5 * (curves[0][s] + curves[1][s]), 1e-8);
    json_decref(root);
    remove(path);
}

/* The drawn images are of their class and all different; area, Res, means and medians from the FSC of the
 * placed maps. */
static void single_images(void **state)
{
    (void)state;
    enum { EACH = 5, SAMPLES = 2 * EACH };
    set s = make_set(2, 0.0, 0.0);
    het_measures m;
    het_volume truth[2];
    double area[SAMPLES], res[SAMPLES], sum[2] = {0}, total = 0.0, curves[2][D / 2] = {{0}};
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    assert_int_equal(het_measures_draw_images(&m, &s.t, EACH), HET_OK);
    assert_int_equal(m.sampled, SAMPLES);
    for (int k = 0; k < 2; k++) make_map(&truth[k], NULL, 0.0, 100 + (uint64_t)k);
    for (int i = 0; i < SAMPLES; i++) {
        const int64_t image = m.sample[i].image, k = m.sample[i].klass;
        het_pose3 pose = {.hand = m.align.hand};
        het_volume map, placed;
        double curve[D / 2];
        assert_int_equal(k, i / EACH);
        assert_int_equal(s.t.klass[image], k);
        for (int j = 0; j < i; j++) assert_true(m.sample[j].image != image);
        make_map(&map, &truth[k], 1.0 + 0.5 * i, (uint64_t)i);
        assert_int_equal(het_measures_of_image_map(&m, i, &map, &truth[k]), HET_OK);
        memcpy(pose.a, m.align.refined, sizeof pose.a);
        memcpy(pose.u, m.origin.u, sizeof pose.u);
        assert_int_equal(het_volume_new(&placed, D, 3.0), HET_OK);
        assert_int_equal(het_place_volume(&placed, &map, &pose), HET_OK);
        assert_int_equal(het_fsc(curve, &placed, &truth[k], NULL), HET_OK);
        curve[0] = 1.0;
        area[i] = 0.0;
        for (int j = 0; j + 1 < D / 2; j++) area[i] += 0.5 * (curve[j] + curve[j + 1]) * (1.0 / D);
        res[i] = (double)D / het_fsc_shell(curve, D, 0.5, NULL);
        NEAR(m.sample[i].area, area[i], 1e-12);
        NEAR(m.sample[i].res, res[i], 1e-12);
        sum[k] += area[i];
        total += res[i];
        for (int j = 1; j < D / 2; j++) curves[k][j] += curve[j] / EACH;
        het_volume_free(&map);
        het_volume_free(&placed);
    }
    assert_true(area[0] < 0.8 * area[SAMPLES - 1] && area[SAMPLES - 1] < 0.5 - 1.0 / D + 1e-12);
    assert_int_equal(het_measures_sum_up_images(&m), HET_OK);
    for (int k = 0; k < 2; k++) {
        NEAR(m.klass[k].area, sum[k] / EACH, 1e-12);
        for (int j = 1; j < D / 2; j++)
            NEAR(m.fsc[(k * HET_FSC_KINDS + HET_FSC_IMAGES) * (D / 2) + j], curves[k][j], 1e-12);
    }
    NEAR(m.area_mean, (sum[0] + sum[1]) / SAMPLES, 1e-12);
    NEAR(m.image_res_mean, total / SAMPLES, 1e-12);
    qsort(res, EACH, sizeof *res, by_number);
    NEAR(m.klass[0].image_res, res[EACH / 2], 1e-12);
    qsort(res, SAMPLES, sizeof *res, by_number);
    qsort(area, SAMPLES, sizeof *area, by_number);
    NEAR(m.image_res_median, 0.5 * (res[EACH - 1] + res[EACH]), 1e-12);
    NEAR(m.area_median, 0.5 * (area[EACH - 1] + area[EACH]), 1e-12);
    mean_curve_is_written(&m, curves);
    for (int k = 0; k < 2; k++) het_volume_free(&truth[k]);
    het_measures_free(&m);
    free_set(&s);
}

/* A class with fewer images than wanted gives all of them. */
static void a_small_class_gives_all(void **state)
{
    (void)state;
    set s = make_set(1, 0.0, 0.0);
    s.t.classes = 3; /* class 1 has no images */
    for (int i = 0; i < 3; i++) s.t.klass[100 * i] = 2;
    het_measures m;
    assert_int_equal(het_measures_of_images(&m, &s.p, &s.t), HET_OK);
    assert_true(isnan(m.klass[1].rot) && isnan(m.klass[1].frame_degrees) && m.klass[2].images == 3);
    assert_int_equal(het_measures_draw_images(&m, &s.t, 7), HET_OK);
    assert_int_equal(m.sampled, 10);
    for (int i = 7; i < 10; i++) assert_true(m.sample[i].klass == 2 && m.sample[i].image % 100 == 0);
    het_measures_free(&m);
    free_set(&s);
}

static int tear_down(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_with_frames_of_their_own),
        cmocka_unit_test(a_class_of_the_other_hand),
        cmocka_unit_test(ordered_states),
        cmocka_unit_test(one_class_has_no_entanglement),
        cmocka_unit_test(single_images),
        cmocka_unit_test(a_small_class_gives_all),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
