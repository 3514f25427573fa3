#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/density.h"
#include "../src/physics/fft.h"
#include "../src/physics/fsc.h"
#include "../src/physics/points.h"
#include "../src/physics/rotation.h"
#include "../src/physics/slicer.h"
#include "../src/rng.h"

static const double pi = 3.14159265358979323846;

/* Three Gaussians off the centre, in voxels from it: x, y, z, weight. */
static const double blob[3][4] = {{7.0, 2.0, -3.0, 1.0}, {-4.0, 6.0, 5.0, 2.0}, {1.0, -8.0, 2.5, 0.7}};
static const double sigma = 1.5;

static void make_blobs(het_volume *volume, int64_t box, const double r[9])
{
    assert_int_equal(het_volume_new(volume, box, 2.0), HET_OK);
    for (int64_t i = 0; i < box * box * box; i++) {
        const double x[3] = {(double)(i % box - box / 2), (double)(i / box % box - box / 2),
                             (double)(i / box / box - box / 2)};
        double sum = 0.0;
        for (int b = 0; b < 3; b++) {
            double d2 = 0.0;
            for (int a = 0; a < 3; a++) {
                const double turned = r[3 * a] * blob[b][0] + r[3 * a + 1] * blob[b][1] + r[3 * a + 2] * blob[b][2];
                d2 += (x[a] - turned) * (x[a] - turned);
            }
            sum += blob[b][3] * exp(-0.5 * d2 / (sigma * sigma));
        }
        volume->data[i] = (float)sum;
    }
}

static const double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};

static double correlation(const float *a, const float *b, int64_t n)
{
    double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ma += a[i] / (double)n;
        mb += b[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) * (a[i] - ma);
        bb += (b[i] - mb) * (b[i] - mb);
    }
    return ab / sqrt(aa * bb);
}

/* image (D,D) of points by plain sums */
static void image_of_points(float *image, const float *points, const het_points *list)
{
    const int64_t d = list->box;
    for (int64_t i = 0; i < d * d; i++) {
        const double x = (double)(i % d - d / 2), y = (double)(i / d - d / 2);
        double sum = 0.0;
        for (int64_t p = 0; p < list->count; p++) {
            const double phase = 2 * pi * (list->kxy[2 * p] * x + list->kxy[2 * p + 1] * y) / (double)d;
            sum += list->weight[p] * (points[2 * p] * cos(phase) - points[2 * p + 1] * sin(phase));
        }
        image[i] = (float)(sum / (double)d);
    }
}

static void fft_against_plain_sums(void **state)
{
    (void)state;
    enum { D = 10 };
    float real[D * D * D], back[D * D * D], spectrum[D * D * (D / 2 + 1) * 2];
    het_rng rng = het_rng_at(1, HET_STREAM_INIT, 0, 0);
    for (int i = 0; i < D * D * D; i++) real[i] = het_rng_normal(&rng);
    for (int rank = 2; rank <= 3; rank++) {
        het_fft *fft;
        const int n = rank == 2 ? D * D : D * D * D, depth = rank == 2 ? 1 : D;
        assert_int_equal(het_fft_new(&fft, rank, D), HET_OK);
        assert_int_equal(het_fft_size(fft), n / D * (D / 2 + 1) * 2);
        het_fft_forward(fft, spectrum, real);
        for (int kz = 0; kz < depth; kz += 3) {
            for (int ky = 0; ky < D; ky += 3) {
                for (int kx = 0; kx <= D / 2; kx++) {
                    double re = 0, im = 0;
                    for (int i = 0; i < n; i++) {
                        const int z = rank == 3 ? i / D / D - D / 2 : 0;
                        const double phase = -2 * pi * (kx * (i % D - D / 2) + ky * (i / D % D - D / 2) + kz * z) / D;
                        re += real[i] * cos(phase);
                        im += real[i] * sin(phase);
                    }
                    const float *f = spectrum + 2 * ((kz * D + ky) * (D / 2 + 1) + kx);
                    assert_true(fabs(f[0] - re * pow(D, -0.5 * rank)) < 1e-4);
                    assert_true(fabs(f[1] - im * pow(D, -0.5 * rank)) < 1e-4);
                }
            }
        }
        het_fft_inverse(fft, back, spectrum);
        for (int i = 0; i < n; i++) assert_true(fabsf(back[i] - real[i]) < 1e-5f);
        het_fft_free(fft);
    }
    het_fft *fft;
    assert_int_equal(het_fft_new(&fft, 2, 9), HET_E_SHAPE);
    assert_null(fft);
}

/* The conventions of METHOD 2: the projection along Euler angles, with the places of the Gaussians by hand. */
static void slice_is_the_projection(void **state)
{
    (void)state;
    enum { D = 32 };
    const double a = atan2(3.0, 4.0);
    double r[9];
    het_volume volume;
    het_slicer slicer;
    het_points list;
    make_blobs(&volume, D, identity);
    assert_int_equal(het_slicer_new(&slicer, &volume), HET_OK);
    assert_int_equal(het_points_new(&list, D), HET_OK);
    float *points = het_alloc((size_t)list.count * 2 * sizeof *points);
    float image[D * D], expected[D * D];
    /* rot 90, tilt 90, psi a: rows of R are (-0.6, 0, -0.8), (-0.8, 0, 0.6), (0, 1, 0) */
    const double at[3][2] = {{-0.6 * 7 + 0.8 * 3, -0.8 * 7 - 0.6 * 3},
                             {0.6 * 4 - 0.8 * 5, 0.8 * 4 + 0.6 * 5},
                             {-0.6 - 0.8 * 2.5, -0.8 + 0.6 * 2.5}};
    het_rotation_from_euler(r, pi / 2, pi / 2, a);
    het_slicer_slice(&slicer, points, r, list.kxy, list.count);
    image_of_points(image, points, &list);
    for (int i = 0; i < D * D; i++) {
        double sum = 0.0;
        for (int b = 0; b < 3; b++) {
            const double dx = i % D - D / 2 - at[b][0], dy = i / D - D / 2 - at[b][1];
            sum += blob[b][3] * sigma * sqrt(2 * pi) * exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma));
        }
        expected[i] = (float)sum;
    }
    assert_true(correlation(image, expected, D * D) > 0.9999);
    for (int i = 0; i < D * D; i++) assert_true(fabsf(image[i] - expected[i]) < 0.02f);
    het_release(points);
    het_points_free(&list);
    het_slicer_free(&slicer);
    het_volume_free(&volume);
}

/* S(q) between grid points against the plain sum, to the kernel's accuracy, over the whole box. */
static void samples_against_plain_sums(void **state)
{
    (void)state;
    enum { D = 16 };
    het_volume volume;
    het_slicer slicer;
    double largest = 0.0, norm = 0.0;
    assert_int_equal(het_volume_new(&volume, D, 1.0), HET_OK);
    het_rng rng = het_rng_at(2, HET_STREAM_INIT, 0, 0);
    for (int i = 0; i < D * D * D; i++) volume.data[i] = het_rng_normal(&rng);
    assert_int_equal(het_slicer_new(&slicer, &volume), HET_OK);
    for (int j = 0; j < 60; j++) {
        double q[3], re = 0, im = 0;
        float value[2];
        for (int a = 0; a < 3; a++) q[a] = (het_rng_uniform(&rng) - 0.5) * (j == 0 ? 0 : D / 1.8);
        for (int i = 0; i < D * D * D; i++) {
            const double phase =
                -2 * pi / D * (q[0] * (i % D - D / 2) + q[1] * (i / D % D - D / 2) + q[2] * (i / D / D - D / 2));
            re += volume.data[i] * cos(phase) / D;
            im += volume.data[i] * sin(phase) / D;
        }
        het_slicer_at(&slicer, value, q[0], q[1], q[2]);
        norm += (re * re + im * im) / 60;
        largest = fmax(largest, hypot(value[0] - re, value[1] - im));
    }
    assert_true(largest < 4e-3 * sqrt(norm));
    float beyond[2] = {1, 1};
    het_slicer_at(&slicer, beyond, 0.0, D / 2 + 0.01, 0.0);
    assert_true(beyond[0] == 0.0f && beyond[1] == 0.0f);
    het_slicer_free(&slicer);
    het_volume_free(&volume);
}

/* Slices of several maps at once are those of each; the gradient of their sum is that of plain sums. */
static void several_maps_at_once(void **state)
{
    (void)state;
    enum { D = 16, N = 3, P = 40 };
    const double e[N] = {1.0, -0.7, 0.4};
    double r[9], difference = 0.0, power = 0.0;
    het_volume map[N];
    het_slicer one[N], all;
    het_points list;
    float single[2 * P], slices[N * 2 * P], gradient[3 * 2 * P];
    het_rng rng = het_rng_at(3, HET_STREAM_INIT, 0, 0);
    for (int m = 0; m < N; m++) {
        assert_int_equal(het_volume_new(&map[m], D, 1.0), HET_OK);
        for (int i = 0; i < D * D * D; i++) map[m].data[i] = het_rng_normal(&rng);
        het_volume_mask_sphere(&map[m], 5.0, 2.0);
        assert_int_equal(het_slicer_new(&one[m], &map[m]), HET_OK);
    }
    assert_int_equal(het_slicer_new_joint(&all, map, N), HET_OK);
    assert_int_equal(het_points_new(&list, D), HET_OK);
    het_rotation_draw(r, &rng);
    het_slicer_slice_joint(&all, slices, gradient, r, e, list.kxy, P);
    for (int m = 0; m < N; m++) {
        het_slicer_slice(&one[m], single, r, list.kxy, P);
        for (int j = 0; j < 2 * P; j++) assert_float_equal(slices[m * 2 * P + j], single[j], 1e-5);
    }
    for (int j = 0; j < P; j++) { /* d/dk_c: -2 pi i/D times the density's place along axis c of the image */
        double plain[3][2] = {{0}};
        for (int i = 0; i < D * D * D; i++) {
            const double x[3] = {i % D - D / 2, i / D % D - D / 2, i / D / D - D / 2};
            double at[3], density = 0.0;
            for (int c = 0; c < 3; c++) at[c] = r[3 * c] * x[0] + r[3 * c + 1] * x[1] + r[3 * c + 2] * x[2];
            for (int m = 0; m < N; m++) density += e[m] * (double)map[m].data[i];
            const double angle = -2.0 * pi / D * (list.kxy[2 * j] * at[0] + list.kxy[2 * j + 1] * at[1]);
            for (int c = 0; c < 3; c++) {
                plain[c][0] += 2.0 * pi / D / D * density * at[c] * sin(angle);
                plain[c][1] -= 2.0 * pi / D / D * density * at[c] * cos(angle);
            }
        }
        for (int c = 0; c < 3; c++) {
            for (int part = 0; part < 2; part++) {
                difference += pow((double)gradient[2 * (c * P + j) + part] - plain[c][part], 2);
                power += plain[c][part] * plain[c][part];
            }
        }
    }
    print_message("gradient: %.4f of its size beside plain sums\n", sqrt(difference / power));
    assert_true(difference < 4e-4 * power);
    for (int m = 0; m < N; m++) {
        het_slicer_free(&one[m]);
        het_volume_free(&map[m]);
    }
    het_slicer_free(&all);
    het_points_free(&list);
}

static void rotate_moves_the_density(void **state)
{
    (void)state;
    enum { D = 32 };
    const double axis[3] = {1.0, -2.0, 0.5};
    double r[9], back[9];
    het_volume in, out, again, expected;
    het_rotation_about(r, axis, 0.8);
    make_blobs(&in, D, identity);
    make_blobs(&expected, D, r); /* a blob at u goes to R u: out(x) = in(R^T x) */
    assert_int_equal(het_volume_new(&out, D, 1.0), HET_OK);
    assert_int_equal(het_volume_new(&again, D, 1.0), HET_OK);
    assert_int_equal(het_volume_rotate(&out, &in, r), HET_OK);
    assert_true(out.apix == in.apix);
    assert_true(correlation(out.data, expected.data, D * D * D) > 0.9999);
    for (int i = 0; i < D * D * D; i++) assert_true(fabsf(out.data[i] - expected.data[i]) < 0.02f);

    /* noise has power at every frequency: there and back */
    het_rng rng = het_rng_at(3, HET_STREAM_INIT, 0, 0);
    for (int i = 0; i < D * D * D; i++) in.data[i] = het_rng_normal(&rng);
    het_volume_mask_sphere(&in, 0.3 * D, 3.0);
    het_rotation_multiply_ta(back, r, identity);
    assert_int_equal(het_volume_rotate(&out, &in, r), HET_OK);
    assert_int_equal(het_volume_rotate(&again, &out, back), HET_OK);
    double curve[D / 2];
    assert_int_equal(het_fsc(curve, &in, &again, NULL), HET_OK);
    for (int s = 1; s <= 7 * D / 20; s++) assert_true(curve[s] > 0.98);
    het_volume_free(&in);
    het_volume_free(&out);
    het_volume_free(&again);
    het_volume_free(&expected);
}

static void resize_and_resample_keep_values(void **state)
{
    (void)state;
    het_volume in, large, small, other, expected;
    make_blobs(&in, 32, identity);
    assert_int_equal(het_volume_new(&large, 48, 1.0), HET_OK);
    assert_int_equal(het_volume_new(&small, 32, 1.0), HET_OK);
    assert_int_equal(het_volume_resize(&large, &in), HET_OK);
    assert_true(fabs(large.apix - 2.0 * 32 / 48) < 1e-12);
    /* voxel (16+2u) of 32 lies at voxel (24+3u) of 48 */
    for (int u = -4; u <= 4; u++) {
        const float a = in.data[((16 + 2 * u) * 32 + 16 + 2 * u) * 32 + 16 - 2 * u];
        const float b = large.data[((24 + 3 * u) * 48 + 24 + 3 * u) * 48 + 24 - 3 * u];
        assert_true(fabsf(a - b) < 1e-3f);
    }
    assert_int_equal(het_volume_resize(&small, &large), HET_OK);
    for (int i = 0; i < 32 * 32 * 32; i++) assert_true(fabsf(small.data[i] - in.data[i]) < 1e-3f);
    /* voxels of 2 A in a box of 40: the same values, 4 voxels further in */
    assert_int_equal(het_volume_new(&other, 40, 2.0), HET_OK);
    make_blobs(&expected, 40, identity);
    assert_int_equal(het_volume_resample(&other, &in, NULL), HET_OK);
    for (int i = 0; i < 40 * 40 * 40; i++) assert_true(fabsf(other.data[i] - expected.data[i]) < 0.01f);
    assert_int_equal(het_volume_rotate(&other, &in, identity), HET_E_SHAPE);
    het_volume_free(&in);
    het_volume_free(&large);
    het_volume_free(&small);
    het_volume_free(&other);
    het_volume_free(&expected);
}

/* The slice of a density map of atoms against the plain 2D sum of Gaussians of the projected atoms. */
static void density_projects_as_atoms(void **state)
{
    (void)state;
    enum { D = 32, N = 50 };
    const double apix = 3.0, width = 1.2;
    double xyz[3 * N], weight[N], r[9];
    het_volume map;
    het_slicer slicer;
    het_points list;
    het_rng rng = het_rng_at(4, HET_STREAM_INIT, 0, 0);
    for (int i = 0; i < 3 * N; i++) xyz[i] = 60.0 * (het_rng_uniform(&rng) - 0.5);
    for (int i = 0; i < N; i++) weight[i] = 6.0 + (double)het_rng_below(&rng, 10);
    het_rotation_uniform(r, 0.3, 0.1, 0.7);
    assert_true(fabs(het_density_sigma(apix) - width) < 1e-12);
    assert_int_equal(het_volume_new(&map, D, apix), HET_OK);
    assert_int_equal(het_density_from_atoms(&map, xyz, weight, N, 0.0), HET_OK);
    double sum = 0.0, total = 0.0;
    for (int i = 0; i < D * D * D; i++) sum += map.data[i];
    for (int i = 0; i < N; i++) total += weight[i];
    assert_true(fabs(sum / total - 1.0) < 1e-4);
    assert_int_equal(het_slicer_new(&slicer, &map), HET_OK);
    assert_int_equal(het_points_new(&list, D), HET_OK);
    float *points = het_alloc((size_t)list.count * 2 * sizeof *points);
    het_slicer_slice(&slicer, points, r, list.kxy, list.count);
    double cross = 0, mine = 0, theirs = 0;
    for (int64_t p = 0; p < list.count; p++) {
        const double kx = list.kxy[2 * p], ky = list.kxy[2 * p + 1];
        const double fall = exp(-2 * pi * pi * width * width * (kx * kx + ky * ky) / (D * apix * D * apix)) / D;
        double re = 0, im = 0;
        for (int i = 0; i < N; i++) {
            const double *x = xyz + 3 * i;
            const double phase = -2 * pi / (D * apix) *
                                 (kx * (r[0] * x[0] + r[1] * x[1] + r[2] * x[2]) +
                                  ky * (r[3] * x[0] + r[4] * x[1] + r[5] * x[2]));
            re += weight[i] * fall * cos(phase);
            im += weight[i] * fall * sin(phase);
        }
        if (p == 0) continue;
        cross += re * points[2 * p] + im * points[2 * p + 1];
        theirs += re * re + im * im;
        mine += points[2 * p] * points[2 * p] + points[2 * p + 1] * points[2 * p + 1];
    }
    /* scattered points have all their power at the edge of the band, where the map's ringing leaves the box: the worst case */
    assert_true(cross / sqrt(mine * theirs) > 0.9995);
    assert_true(fabs(sqrt(mine / theirs) - 1.0) < 1e-3);
    xyz[4] = 47.0;
    assert_int_equal(het_density_from_atoms(&map, xyz, weight, N, 0.0), HET_E_INPUT);
    weight[1] = 0.0; /* an atom without weight may lie anywhere */
    assert_int_equal(het_density_from_atoms(&map, xyz, weight, N, 0.0), HET_OK);
    assert_int_equal(het_density_from_atoms(&map, xyz, weight, N, 0.5), HET_E_SHAPE);
    het_release(points);
    het_points_free(&list);
    het_slicer_free(&slicer);
    het_volume_free(&map);
}

static void mask_is_a_soft_sphere(void **state)
{
    (void)state;
    het_volume v;
    assert_int_equal(het_volume_new(&v, 32, 1.0), HET_OK);
    for (int i = 0; i < 32 * 32 * 32; i++) v.data[i] = 1.0f;
    het_volume_mask_sphere(&v, 8.0, 4.0);
    const float *line = v.data + (16 * 32 + 16) * 32 + 16;
    assert_true(line[0] == 1.0f && line[8] == 1.0f && line[12] == 0.0f && line[-12] == 0.0f);
    assert_true(fabsf(line[10] - 0.5f) < 1e-6f && line[9] > line[10] && line[10] > line[11]);
    het_volume_free(&v);
    assert_int_equal(het_volume_new(&v, 31, 1.0), HET_E_SHAPE);
    assert_int_equal(het_volume_new(&v, 32, 0.0), HET_E_SHAPE);
}

static void nothing_leaks(void **state)
{
    (void)state;
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fft_against_plain_sums),    cmocka_unit_test(slice_is_the_projection),
        cmocka_unit_test(samples_against_plain_sums), cmocka_unit_test(several_maps_at_once),
        cmocka_unit_test(rotate_moves_the_density),
        cmocka_unit_test(resize_and_resample_keep_values), cmocka_unit_test(density_projects_as_atoms),
        cmocka_unit_test(mask_is_a_soft_sphere),     cmocka_unit_test(nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
