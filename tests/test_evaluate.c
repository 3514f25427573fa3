/* hetacumn evaluate from files to JSON: two classes, poses, origin, hand and maps that are known. */
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
#include "../src/cli/cli.h"
#include "../src/cli/map_file.h"
#include "../src/data/predictions.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { N = 600, D = 32, Z = 3, WRONG = 30 };

static const double NOISE = 0.03, U[3] = {0.75, -0.5, 0.25}, APIX = 2.0;

static het_comm *comm;
static char folder[] = "/tmp/het_evaluate_XXXXXX";
static char stack_path[64], json_path[64], maps[160], volumes[160];
static double global[9]; /* A */

static void conjugate(double r[9])
{
    r[2] = -r[2];
    r[5] = -r[5];
    r[6] = -r[6];
    r[7] = -r[7];
}

/* Blobs at B (x - u), B = M A (hand -1) for the run's map, B = 1 and u = 0 for the true one. */
static void write_map(const char *path, int klass, int predicted)
{
    static const double spot[4][4] = {{5, 0, 1, 1.0}, {-3, 4, 2, 0.7}, {0, -5, -4, 1.3}, {2, 2, 6, 0.5}};
    het_volume v;
    assert_int_equal(het_volume_new(&v, D, APIX), HET_OK);
    for (int64_t i = 0; i < (int64_t)D * D * D; i++) {
        const double p[3] = {(double)(i % D - D / 2), (double)(i / D % D - D / 2),
                             (double)(i / D / D - D / 2)};
        double sum = 0.0;
        for (int s = 0; s < 4; s++) {
            double r2 = 0.0;
            for (int k = 0; k < 3; k++) {
                double at = predicted ? 0.0 : spot[s][k] + klass * (s == 0);
                for (int j = 0; predicted && j < 3; j++)
                    at += (k == 2 ? -1.0 : 1.0) * global[3 * k + j] * (spot[s][j] + klass * (s == 0) - U[j]);
                r2 += (p[k] - at) * (p[k] - at);
            }
            sum += spot[s][3] * exp(-r2 / 3.0);
        }
        v.data[i] = (float)sum;
    }
    assert_int_equal(het_map_save(path, &v), HET_OK);
    het_volume_free(&v);
}

/* What a stack knows of the conformations: their class; or nothing but a coordinate, not even that, or three
 * states without one. */
typedef enum knowledge { CLASSES, COORDINATE, NOTHING, STATES } knowledge;

/* Truth, and the predictions of a mirrored, turned and moved molecule: R_pred = M (turn R_true A^T) M. */
static void write_images(const char *to, knowledge known)
{
    const het_stack_info info = {.count = N, .box = D, .apix = APIX, .type = HET_F32, .has_truth = 1};
    float *images = calloc(N * D * D, sizeof *images), *rotation = calloc(N * 9, sizeof *rotation);
    float *shift = calloc(N * 2, sizeof *shift), *z = calloc(N, sizeof *z);
    int64_t *klass = calloc(N, sizeof *klass);
    het_ctf_row *ctf = calloc(N, sizeof *ctf);
    het_predictions p;
    het_stack_writer *writer;
    char path[64];
    het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, 0);
    assert_int_equal(het_predictions_new(&p, N, Z), HET_OK);
    p.box = D;
    p.apix = APIX;
    for (int i = 0; i < N; i++) {
        double r[9], s[9], turn[9], q[9];
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        const double axis[3] = {het_rng_normal(&rng), het_rng_normal(&rng), het_rng_normal(&rng)};
        het_rotation_uniform(r, u1, u2, u3);
        het_rotation_about(turn, axis, NOISE);
        het_rotation_multiply_tb(s, r, global);
        het_rotation_multiply(q, turn, s);
        conjugate(q);
        for (int k = 0; k < 9; k++) {
            rotation[9 * i + k] = (float)r[k];
            p.rotation[9 * i + k] = (float)q[k];
        }
        for (int k = 0; k < 2; k++) {
            shift[2 * i + k] = het_rng_normal(&rng);
            p.shift[2 * i + k] =
                (float)(shift[2 * i + k] + r[3 * k] * U[0] + r[3 * k + 1] * U[1] + r[3 * k + 2] * U[2]);
        }
        klass[i] = i % 2;
        const int64_t seen = i < WRONG ? 1 - klass[i] : klass[i];
        for (int k = 0; k < Z; k++)
            p.z[Z * i + k] = 0.1f * het_rng_normal(&rng) + (k == 1 ? (float)seen : 0.0f);
        z[i] = known == CLASSES ? 0.0f : known == COORDINATE ? (float)seen + 0.001f * (float)(i % 100) : NAN;
        if (known == COORDINATE || known == NOTHING) klass[i] = -1;
        if (known == STATES) klass[i] = i % 2 == 0 ? 0 : 1 + i % 4 / 2; /* the second state in two halves */
        for (int k = 0; k < D * D; k++) images[i * D * D + k] = (float)(k % 7);
    }
    assert_int_equal(het_stack_create(&writer, comm, to, &info), HET_OK);
    assert_int_equal(
        het_stack_write(writer, 0, N, images, ctf, &(het_stack_truth){rotation, shift, klass, z}), HET_OK);
    assert_int_equal(het_stack_finish(writer, 1, HET_OK), HET_OK);
    snprintf(path, sizeof path, "%s/predictions.h5", folder);
    assert_int_equal(het_predictions_save(comm, path, N, 0, &p, HET_OK), HET_OK);
    het_predictions_free(&p);
    free(images);
    free(rotation);
    free(shift);
    free(z);
    free(klass);
    free(ctf);
}

static het_status run(int count, const char *const *words)
{
    char copies[12][256], *argv[13] = {0};
    int exit_code = 0;
    for (int i = 0; i < count; i++) {
        snprintf(copies[i], sizeof copies[i], "%s", words[i]);
        argv[i] = copies[i];
    }
    return het_cmd_evaluate(comm, count, argv, &exit_code);
}

static double number(json_t *root, const char *key, int at)
{
    json_t *value = json_object_get(root, key);
    if (at >= 0) value = json_array_get(value, (size_t)at);
    if (!json_is_number(value)) fail_msg("%s is no number", key);
    return json_number_value(value);
}

static void every_measure(void **state)
{
    (void)state;
    const char *const words[] = {"evaluate", folder,      "--truth", stack_path, "--maps",
                                 maps,       "--volumes", volumes,   "--json",   json_path};
    assert_int_equal(run(10, words), HET_OK);
    json_t *m = json_load_file(json_path, 0, NULL);
    assert_non_null(m);
    const double exact = 8.0 * sin(NOISE / 2) * sin(NOISE / 2);
    assert_true(number(m, "images", -1) == N);
    assert_true(number(m, "hand", -1) == -1);
    assert_true(number(m, "rot", -1) >= 0.9 * exact && number(m, "rot", -1) < 4.0 * exact);
    assert_true(fabs(number(m, "rot_refined", -1) - exact) < 0.1 * exact);
    assert_true(number(m, "rot_mean_deg", -1) < 2.0 * NOISE * 57.3);
    assert_true(number(m, "rot_within_0.1", -1) == 1.0);
    assert_true(number(m, "trans_raw", -1) > 0.1);
    assert_true(number(m, "trans_corrected", -1) < 1e-8);
    for (int k = 0; k < 3; k++) assert_true(fabs(number(m, "origin", k) - U[k]) < 1e-4);
    assert_true(fabs(number(m, "err", -1) - (double)WRONG / N) < 1e-12);
    assert_true(json_is_null(json_object_get(m, "corr")));
    assert_true(fabs(number(m, "entanglement", -1) - number(m, "rot", -1) -
                     number(m, "trans_raw", -1) / (D * D) - number(m, "err", -1)) < 1e-9);
    for (int k = 0; k < 2; k++) {
        assert_true(number(m, "class_images", k) == N / 2);
        assert_true(fabs(number(m, "class_err", k) - (double)WRONG / N) < 1e-12);
        assert_true(number(m, "res", k) <
                    2.2); /* smooth maps in place: the FSC never falls but for rounding */
        assert_true(number(m, "res_own", k) < 2.2);
        assert_true(number(m, "res_fitted", k) < 2.2);
        assert_true(number(m, "class_hand_own", k) == -1);
        assert_true(number(m, "class_frame_deg", k) < 1.0); /* one frame for both */
        assert_true(number(m, "class_trans_own", k) < 1e-8);
        assert_true(number(m, "res143", k) <= number(m, "res", k));
    }
    json_decref(m);
}

static void wrong_maps_show(void **state)
{
    (void)state;
    const char *const words[] = {
        "evaluate", folder,      "--truth", stack_path, "--maps",
        maps,       "--volumes", maps,      "--json",   json_path}; /* true frame taken for the run's */
    assert_int_equal(run(10, words), HET_OK);
    json_t *m = json_load_file(json_path, 0, NULL);
    assert_true(number(m, "res", 0) > 4.0);
    json_decref(m);
}

/* The measures of the same images in a stack that knows less of them; json_decref() them. */
static json_t *with_less(knowledge known)
{
    char path[64];
    snprintf(path, sizeof path, "%s/less.h5", folder);
    write_images(path, known);
    const char *const words[] = {"evaluate", folder, "--truth", path, "--json", json_path};
    assert_int_equal(run(6, words), HET_OK);
    json_t *m = json_load_file(json_path, 0, NULL);
    assert_non_null(m);
    return m;
}

static int is_null(json_t *root, const char *key)
{
    return json_is_null(json_object_get(root, key));
}

static void unknown_classes_are_one(void **state)
{
    (void)state;
    for (int known = COORDINATE; known <= NOTHING; known++) {
        json_t *m = with_less((knowledge)known);
        assert_true(number(m, "classes", -1) == 1 && number(m, "class_images", 0) == N);
        assert_true(number(m, "class_rot", 0) == number(m, "rot", -1));
        assert_true(number(m, "class_frame_deg", 0) == 0.0);
        assert_true(number(m, "e_pose", -1) > 0.0);
        assert_true(is_null(m, "err") && is_null(m, "e_z") && is_null(m, "entanglement") &&
                    is_null(m, "neighbours"));
        if (known == NOTHING) assert_true(is_null(m, "corr"));
        else assert_true(number(m, "corr", -1) > 0.7 && number(m, "corr", -1) < 1.0);
        json_decref(m);
    }
}

/* Two of the three look alike: ranks 0 | 1 tied with 2 correlate with the three by sqrt(0.8). */
static void three_states_have_a_correlation(void **state)
{
    (void)state;
    json_t *m = with_less(STATES);
    assert_true(number(m, "classes", -1) == 3);
    assert_true(number(m, "corr", -1) > 0.6 && number(m, "corr", -1) < sqrt(0.8));
    assert_true(is_null(m, "err") && number(m, "e_z", -1) > 0.2 && number(m, "e_z", -1) < 0.5);
    json_decref(m);
}

static void refused(int count, const char *const *words, het_status expected, const char *text)
{
    assert_int_equal(run(count, words), expected);
    if (strstr(het_status_message(), text) == NULL)
        fail_msg("'%s' is not in: %s", text, het_status_message());
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refused(2, (const char *const[]){"evaluate", folder}, HET_E_USAGE, "--truth");
    refused(4, (const char *const[]){"evaluate", "/nowhere", "--truth", stack_path}, HET_E_INPUT,
            "hetacumn predict");
    refused(6, (const char *const[]){"evaluate", folder, "--truth", stack_path, "--volumes", volumes},
            HET_E_USAGE, "--maps");
    char one[64];
    snprintf(one, sizeof one, "%s/true0.mrc", folder);
    refused(6, (const char *const[]){"evaluate", folder, "--truth", stack_path, "--maps", one}, HET_E_USAGE,
            "1 maps for 2 classes");
    refused(6, (const char *const[]){"evaluate", folder, "--truth", stack_path, "--per-image", "some"},
            HET_E_USAGE, "--per-image some");
    refused(3, (const char *const[]){"evaluate", folder, "--what"}, HET_E_USAGE, "--what");
}

static int set_up(void **state)
{
    (void)state;
    char path[64];
    if (mkdtemp(folder) == NULL || het_comm_open(&comm, NULL, NULL) != HET_OK) return 1;
    het_rotation_uniform(global, 0.31, 0.77, 0.12);
    snprintf(stack_path, sizeof stack_path, "%s/stack.h5", folder);
    snprintf(json_path, sizeof json_path, "%s/out.json", folder);
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "%s/true%d.mrc", folder, k);
        write_map(path, k, 0);
        snprintf(path, sizeof path, "%s/run%d.mrc", folder, k);
        write_map(path, k, 1);
    }
    snprintf(maps, sizeof maps, "%s/true0.mrc,%s/true1.mrc", folder, folder);
    snprintf(volumes, sizeof volumes, "%s/run0.mrc,%s/run1.mrc", folder, folder);
    write_images(stack_path, CLASSES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    const int removed = system(command);
    het_comm_close(comm);
    return removed == 0 && het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_measure),           cmocka_unit_test(wrong_maps_show),
        cmocka_unit_test(unknown_classes_are_one), cmocka_unit_test(three_states_have_a_correlation),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
