/* A first volume from poses of which many are wrong, and the reconstruction it rests on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/first_volume.h"
#include "../src/physics/align.h"
#include "../src/physics/backproject.h"
#include "../src/physics/rotation.h"
#include "../src/physics/simulate.h"
#include "../src/rng.h"

enum { D = 32, N = 400, BLOBS = 5 };
static const double radius = 6.0, apix = 8.0, sigma = 1.8;
static const double blob[BLOBS][3] = {{7, 1, -2}, {-3, 6, 4}, {2, -6, 3}, {-5, -4, -6}, {1, 2, 8}};

static void make_map(het_volume *map, int64_t box)
{
    const double fine = (double)box / D;
    assert_int_equal(het_volume_new(map, box, apix / fine), HET_OK);
    for (int64_t i = 0; i < box * box * box; i++)
        for (int b = 0; b < BLOBS; b++) {
            const double x = (double)(i % box - box / 2) / fine - blob[b][0];
            const double y = (double)(i / box % box - box / 2) / fine - blob[b][1];
            const double z = (double)(i / box / box - box / 2) / fine - blob[b][2];
            map->data[i] += (float)exp(-0.5 * (x * x + y * y + z * z) / (sigma * sigma));
        }
}

static void uniform(double r[9], het_rng *rng)
{
    const double u1 = het_rng_uniform(rng), u2 = het_rng_uniform(rng), u3 = het_rng_uniform(rng);
    het_rotation_uniform(r, u1, u2, u3);
}

/* Slices of a map, put back: the same map, on another grid, up to the sphere and the band. */
static void slices_give_the_map_back(void **state)
{
    (void)state;
    enum { SMALL = 20, P = 98 };
    het_volume map, back_map, expected;
    het_slicer slicer;
    het_points points;
    het_backproject back;
    make_map(&map, D);
    assert_int_equal(het_slicer_new(&slicer, &map), HET_OK);
    assert_int_equal(het_points_new(&points, D), HET_OK);
    assert_int_equal(het_backproject_new(&back, SMALL, D), HET_OK);
    assert_int_equal(het_volume_new(&back_map, SMALL, apix * D / SMALL), HET_OK);
    float b[P], a[2 * P];
    for (int j = 0; j < P; j++) b[j] = 0.25f;
    for (int i = 0; i < 1500; i++) {
        het_rng rng = het_rng_at(1, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        double r[9];
        float rotation[9];
        uniform(r, &rng);
        het_slicer_slice(&slicer, a, r, points.kxy, P);
        for (int j = 0; j < 2 * P; j++) a[j] *= 0.25f;
        for (int c = 0; c < 9; c++) rotation[c] = (float)r[c];
        het_backproject_add(&back, a, b, rotation, 2.0, points.kxy, P);
    }
    double prior[SMALL / 2 + 1];
    for (int s = 0; s <= SMALL / 2; s++) prior[s] = 1e-3;
    het_backproject_solve(&back, &back_map, prior);
    assert_int_equal(het_volume_new(&expected, SMALL, 1.0), HET_OK);
    assert_int_equal(het_volume_resize(&expected, &map), HET_OK);
    double error = 0.0, power = 0.0, along = 0.0;
    for (int i = 0; i < SMALL * SMALL * SMALL; i++) {
        const double e = expected.data[i], f = back_map.data[i];
        error += (f - e) * (f - e);
        power += e * e;
        along += e * f;
    }
    print_message("error %.4f scale %.4f\n", sqrt(error / power), along / power);
    assert_true(sqrt(error / power) < 0.1);
    assert_true(fabs(along / power - 1.0) < 0.03);
    het_backproject_free(&back);
    het_points_free(&points);
    het_slicer_free(&slicer);
    het_volume_free(&map);
    het_volume_free(&back_map);
    het_volume_free(&expected);
}

typedef struct data {
    float images[N * D * D], rotation[9 * N], shift[2 * N], start[9 * N], start_shift[2 * N], noise[512];
    het_ctf_row ctf[N];
} data;

static const double shift_range = 1.0;
static const het_stage nowhere; /* nothing is kept */
static het_comm *comm;

/* Images and, as starting poses, the truth turned by about 12 degrees; `wrong` of them are drawn. */
static void make_data(data *d, double snr, double wrong)
{
    static const het_ctf_row rows[2] = {
        {.defocus_u = 15000, .defocus_v = 14000, .angle = 0.6f, .voltage = 3e5f, .cs = 2.7e7f, .amplitude = 0.1f},
        {.defocus_u = 21000, .defocus_v = 20500, .angle = 0.3f, .voltage = 3e5f, .cs = 2.7e7f, .amplitude = 0.1f}};
    het_volume map;
    het_simulator sim;
    static double sums[2 * N];
    make_map(&map, D);
    const het_simulate_spec spec = {.snr = snr, .shift = shift_range, .seed = 4, .ctf = rows, .ctf_count = 2};
    assert_int_equal(het_simulator_new(&sim, &spec, &map, 1), HET_OK);
    assert_int_equal(het_simulator_measure(&sim, sums, 0, N), HET_OK);
    assert_int_equal(het_simulator_set_level(&sim, sums, N), HET_OK);
    assert_int_equal(het_simulator_images(&sim, d->images, 0, N), HET_OK);
    for (int i = 0; i < 512; i++) d->noise[i] = (float)(1.0 / (1.0 + snr));
    for (int i = 0; i < N; i++) {
        const het_simulated truth = het_simulator_truth(&sim, i);
        het_rng rng = het_rng_at(9, HET_STREAM_SIMULATE, 1, (uint64_t)i);
        const double axis[3] = {het_rng_normal(&rng), het_rng_normal(&rng), het_rng_normal(&rng)};
        double turn[9], r[9];
        het_rotation_about(turn, axis, 0.2 * het_rng_normal(&rng));
        het_rotation_multiply(r, turn, truth.rotation);
        if (het_rng_uniform(&rng) < wrong) uniform(r, &rng);
        for (int c = 0; c < 9; c++) {
            d->rotation[9 * i + c] = (float)truth.rotation[c];
            d->start[9 * i + c] = (float)r[c];
        }
        for (int c = 0; c < 2; c++) {
            d->shift[2 * i + c] = (float)truth.shift[c];
            d->start_shift[2 * i + c] = (float)truth.shift[c] + 0.5f * het_rng_normal(&rng);
        }
        d->ctf[i] = truth.ctf;
    }
    het_simulator_free(&sim);
    het_volume_free(&map);
}

static het_first_volume_spec spec_of(const data *d, int64_t count, int rounds)
{
    return (het_first_volume_spec){.box = D, .count = count, .apix = apix, .images = d->images, .ctf = d->ctf,
                                   .rotation = d->start, .shift = d->start_shift, .radius = radius,
                                   .rounds = rounds, .shift_range = shift_range, .noise = d->noise, .seed = 1};
}

static void finds_the_poses(const data *d, const het_first_volume_spec *asked)
{
    static float rotation[9 * N], shift[2 * N];
    static double distance[N];
    het_device dev;
    het_first_volume volume;
    assert_int_equal(het_device_open_cpu(&dev, 0, HET_PRECISION_F32), HET_OK);
    assert_int_equal(het_first_volume_find(&volume, comm, &dev, asked, &nowhere), HET_OK);
    for (int i = 0; i < N; i++) {
        memcpy(rotation + 9 * i, volume.pose[i].rotation, 9 * sizeof(float));
        memcpy(shift + 2 * i, volume.pose[i].shift, 2 * sizeof(float));
    }
    het_align align;
    het_origin origin;
    assert_int_equal(het_align_rotations(&align, distance, rotation, d->rotation, N, 200, 1), HET_OK);
    assert_int_equal(het_align_shifts(&origin, shift, d->shift, d->rotation, N), HET_OK);
    int near = 0;
    for (int i = 0; i < N; i++) near += distance[i] < 0.2;
    print_message("Rot %.4f, near %d of %d, shifts %.3f px^2, explained %.3f, log-likelihood %.1f\n",
                  align.median, near, N, origin.corrected, volume.explained, volume.loglik);
    assert_true(near > 0.95 * N);
    assert_true(asked->rotation == NULL || align.hand == 1);
    assert_true(origin.corrected < 0.1);
    assert_true(volume.explained > 0.9 && volume.explained < 1.05);
    assert_true(volume.loglik > 200.0);
    het_first_volume_free(&volume);
    het_device_close(&dev);
}

static void repairs_wrong_poses(void **state)
{
    (void)state;
    static data d;
    make_data(&d, 0.5, 0.3);
    const het_first_volume_spec spec = spec_of(&d, N, 4);
    finds_the_poses(&d, &spec);
}

static void begins_from_random_poses(void **state)
{
    (void)state;
    static data d;
    make_data(&d, 0.5, 0.0);
    het_first_volume_spec spec = spec_of(&d, N, 2);
    spec.rotation = spec.shift = NULL;
    spec.coarse_rounds = 12;
    finds_the_poses(&d, &spec);
}

/* Where there is only noise, nothing is explained; and a start needs a pose. */
static void noise_explains_nothing(void **state)
{
    (void)state;
    static data d;
    static const uint8_t none[N];
    het_device dev;
    het_first_volume volume;
    make_data(&d, 1e-6, 0.0);
    assert_int_equal(het_device_open_cpu(&dev, 0, HET_PRECISION_F32), HET_OK);
    het_first_volume_spec spec = spec_of(&d, 100, 1);
    assert_int_equal(het_first_volume_find(&volume, comm, &dev, &spec, &nowhere), HET_OK);
    assert_true(fabs(volume.explained) < 0.1);
    assert_true(volume.loglik < 20.0);
    het_first_volume_free(&volume);
    spec.valid = none;
    assert_int_equal(het_first_volume_find(&volume, comm, &dev, &spec, &nowhere), HET_E_INPUT);
    het_device_close(&dev);
}

static void nothing_left(void **state)
{
    (void)state;
    het_comm_close(comm);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_give_the_map_back),
        cmocka_unit_test(repairs_wrong_poses),
        cmocka_unit_test(begins_from_random_poses),
        cmocka_unit_test(noise_explains_nothing),
        cmocka_unit_test(nothing_left),
    };
    if (het_comm_open(&comm, NULL, NULL) != HET_OK) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
