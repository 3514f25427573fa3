/* hetacumn reconstruct: the map that images were made of comes back, from another box's poses too, and by any number of threads. */
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
#include "../src/physics/backproject.h"
#include "../src/physics/fsc.h"
#include "../src/physics/points.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { D = 32, N = 400 };
static const double APIX = 4.0;

static het_comm *comm;
static char folder[] = "/tmp/het_reconstruct_XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[8][160];
    static int next;
    snprintf(path[next = (next + 1) % 8], sizeof path[0], "%s/%s", folder, name);
    return path[next];
}

/* A command with its arguments, up to NULL. */
static het_status command(het_command run, ...)
{
    char *argv[24] = {NULL};
    int argc = 0, exit_code = 0;
    va_list list;
    va_start(list, run);
    while ((argv[argc] = va_arg(list, char *)) != NULL) argc++;
    va_end(list);
    return run(comm, argc, argv, &exit_code);
}

static void make_map(void)
{
    static const double blob[5][4] = {{7, 1, -2, 1.0}, {-3, 6, 4, 0.7}, {2, -6, 3, 1.3}, {-5, -4, -6, 0.8}, {1, 2, 8, 1.1}};
    het_volume map;
    assert_int_equal(het_volume_new(&map, D, APIX), HET_OK);
    for (int64_t i = 0; i < (int64_t)D * D * D; i++)
        for (int b = 0; b < 5; b++) {
            const double x = (double)(i % D - D / 2) - blob[b][0], y = (double)(i / D % D - D / 2) - blob[b][1];
            const double z = (double)(i / D / D - D / 2) - blob[b][2];
            map.data[i] += (float)(blob[b][3] * exp(-0.5 * (x * x + y * y + z * z) / 1.2));
        }
    assert_int_equal(het_map_save(in_folder("truth.mrc"), &map), HET_OK);
    het_volume_free(&map);
}

static void simulate(const char *to, const char *box, const char *apix, const char *shift)
{
    assert_int_equal(command(het_cmd_simulate, "simulate", "--volumes", in_folder("truth.mrc"), "-n", "400", "-D", box, "--apix", apix,
                             "--snr-db", "3", "--shift", shift, "--ctf", "../data/ctf_10028.star", "--seed", "5", "-o", in_folder(to), (char *)NULL),
                     HET_OK);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL) return -1;
    make_map();
    simulate("fine.h5", "32", "4", "2");
    simulate("coarse.h5", "16", "8", "1");
    return 0;
}

/* FSC of two maps of the folder, and their correlation over all voxels. */
static double compare(double *fsc, const char *a, const char *b)
{
    het_volume map[2];
    double ab = 0.0, aa = 0.0, bb = 0.0;
    assert_int_equal(het_map_load(&map[0], in_folder(a), 0.0), HET_OK);
    assert_int_equal(het_map_load(&map[1], in_folder(b), 0.0), HET_OK);
    assert_int_equal(het_fsc(fsc, &map[0], &map[1], NULL), HET_OK);
    for (int i = 0; i < D * D * D; i++) {
        ab += (double)map[0].data[i] * map[1].data[i];
        aa += (double)map[0].data[i] * map[0].data[i];
        bb += (double)map[1].data[i] * map[1].data[i];
    }
    for (int i = 0; i < 2; i++) het_volume_free(&map[i]);
    return ab / sqrt(aa * bb);
}

static void own_poses_give_the_map_back(void **state)
{
    double truth[D / 2], halves[D / 2], half[D / 2];
    (void)state;
    assert_int_equal(command(het_cmd_reconstruct, "reconstruct", in_folder("fine.h5"), "-o", in_folder("own"), (char *)NULL), HET_OK);
    const double whole = compare(truth, "own/vol_000.mrc", "truth.mrc"), first = compare(half, "own/vol_000_half1.mrc", "truth.mrc");
    compare(halves, "own/vol_000_half1.mrc", "own/vol_000_half2.mrc");
    print_message("correlation with the truth: all %.4f, first half %.4f; FSC at 8 and 14: truth %.3f, %.3f, halves %.3f, %.3f\n", whole, first,
                  truth[8], truth[14], halves[8], halves[14]);
    assert_true(whole > 0.97 && whole > first);
    assert_true(halves[8] > 0.9 && halves[8] < 0.9999); /* of different images */
    for (int s = 1; s < D / 2 - 1; s++) /* what halves promise of the whole holds: C^2 = 2 FSC/(1 + FSC) */
        assert_true(fabs(truth[s] - sqrt(2.0 * fmax(halves[s], 0.0) / (1.0 + fmax(halves[s], 0.0)))) < 0.1);
}

/* Poses of the cropped images, as a run's, for the whole ones. */
static void poses_of_another_box_fit(void **state)
{
    double fsc[D / 2];
    het_predictions p;
    het_stack *stack;
    (void)state;
    assert_int_equal(het_stack_open(&stack, in_folder("coarse.h5")), HET_OK);
    assert_int_equal(het_predictions_new(&p, N, 2), HET_OK);
    p.box = D / 2;
    p.apix = 2.0 * APIX;
    assert_int_equal(het_stack_read_truth(stack, 0, N, &(het_stack_truth){.rotation = p.rotation, .shift = p.shift}), HET_OK);
    assert_int_equal(het_predictions_save(comm, in_folder("predictions.h5"), N, 0, &p, HET_OK), HET_OK);
    assert_int_equal(command(het_cmd_reconstruct, "reconstruct", folder, in_folder("fine.h5"), "-o", in_folder("run"), (char *)NULL), HET_OK);
    assert_true(compare(fsc, "run/vol_000.mrc", "own/vol_000.mrc") > 0.99999);
    for (int64_t i = 0; i < 2 * N; i++) p.shift[i] *= 0.5F; /* as if the pixels were equal */
    assert_int_equal(het_predictions_save(comm, in_folder("predictions.h5"), N, 0, &p, HET_OK), HET_OK);
    assert_int_equal(command(het_cmd_reconstruct, "reconstruct", folder, in_folder("fine.h5"), "-o", in_folder("run"), (char *)NULL), HET_OK);
    compare(fsc, "run/vol_000.mrc", "own/vol_000.mrc");
    print_message("FSC at 10 with shifts in the wrong pixels: %.3f\n", fsc[10]);
    assert_true(fsc[10] < 0.9);
    het_predictions_free(&p);
    het_stack_close(stack);
}

static void threads_share_a_grid_to_the_bit(void **state)
{
    enum { PARTS = 3, SLICES = 20, BOX = 16 };
    (void)state;
    het_points points;
    het_backproject alone, shared, part[PARTS];
    assert_int_equal(het_points_new(&points, BOX), HET_OK);
    assert_int_equal(het_backproject_new(&alone, BOX, BOX), HET_OK);
    assert_int_equal(het_backproject_new(&shared, BOX, BOX), HET_OK);
    assert_int_equal(het_backproject_parts(part, PARTS, &shared), HET_OK);
    float *a = calloc((size_t)(2 * points.count), sizeof *a), *b = calloc((size_t)points.count, sizeof *b);
    for (int i = 0; i < SLICES; i++) {
        het_rng rng = het_rng_at(3, HET_STREAM_SEARCH, 0, (uint64_t)i);
        double r[9];
        float rotation[9];
        for (int64_t k = 0; k < points.count; k++) {
            a[2 * k] = het_rng_normal(&rng);
            a[2 * k + 1] = het_rng_normal(&rng);
            b[k] = het_rng_uniform(&rng);
        }
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        het_rotation_uniform(r, u1, u2, u3);
        for (int k = 0; k < 9; k++) rotation[k] = (float)r[k];
        het_backproject_add(&alone, a, b, rotation, 1.0, points.kxy, points.count);
        for (int t = 0; t < PARTS; t++) het_backproject_add(&part[t], a, b, rotation, 1.0, points.kxy, points.count);
    }
    assert_memory_equal(alone.sum, shared.sum, (size_t)het_backproject_numbers(BOX, 1) * sizeof *alone.sum);
    het_backproject_parts_free(part, PARTS);
    het_backproject_free(&alone);
    het_backproject_free(&shared);
    het_points_free(&points);
    free(a);
    free(b);
}

static int tear_down(void **state)
{
    char line[200];
    (void)state;
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(own_poses_give_the_map_back), cmocka_unit_test(poses_of_another_box_fit),
                                       cmocka_unit_test(threads_share_a_grid_to_the_bit)};
    if (het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    het_comm_close(comm);
    return failed != 0 || het_arena_live() != 0;
}
