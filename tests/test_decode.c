/* The fused coordinate network on the CPU against tests/ref/decode.c, for every instruction set of this machine. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../kernels/cpu/decode.h"
#include "../kernels/cpu/isa.h"
#include "../src/arena.h"
#include "../src/physics/points.h"
#include "../src/rng.h"
#include "ref/decode.h"
#include "ref/device.h"

/* A random network, poses and gradients; one block of memory per array. */
typedef struct problem {
    het_points points;
    het_decode_spec spec;
    int64_t b, p, params_count;
    float *params, *freq, *rot, *bias, *kz, *dslice;
} problem;

static float *random_array(int64_t n, double scale, uint64_t sample)
{
    float *x = het_alloc((size_t)n * sizeof *x);
    assert_non_null(x);
    het_rng rng = het_rng_at(7, HET_STREAM_INIT, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = (float)scale * het_rng_normal(&rng);
    return x;
}

/* Random orthonormal rows by Gram-Schmidt. */
static void orthonormalise(float *rot)
{
    for (int i = 0; i < 2; i++) {
        double v[3], dot = 0, norm = 0;
        for (int d = 0; d < 3; d++) dot += i == 0 ? 0 : (double)rot[d] * rot[3 + d];
        for (int d = 0; d < 3; d++) v[d] = rot[3 * i + d] - (i == 0 ? 0 : dot * rot[d]);
        for (int d = 0; d < 3; d++) norm += v[d] * v[d];
        for (int d = 0; d < 3; d++) rot[3 * i + d] = (float)(v[d] / sqrt(norm));
    }
    for (int d = 0; d < 3; d++)
        rot[6 + d] = rot[(d + 1) % 3] * rot[3 + (d + 2) % 3] - rot[(d + 2) % 3] * rot[3 + (d + 1) % 3];
}

static problem problem_new(int64_t box, int64_t f, int64_t h, int64_t layers, int64_t b, double radius)
{
    problem t = {.b = b};
    assert_int_equal(het_points_new(&t.points, box), HET_OK);
    t.p = het_points_within(&t.points, radius);
    t.spec = (het_decode_spec){box, f, h, layers, t.points.count, t.points.kxy, 0};
    t.params_count = het_decode_params_count(f, h, layers);
    t.params = random_array(t.params_count, sqrt(1.5 / (double)h), 1);
    t.freq = random_array(3 * f, (double)box / 4, 2);
    t.rot = random_array(9 * b, 1, 3);
    t.bias = random_array(h * b, 0.3, 4);
    t.kz = random_array(b, (double)box / 6, 5);
    t.dslice = random_array(2 * b * t.p, 1, 6);
    for (int64_t i = 0; i < b; i++) orthonormalise(t.rot + 9 * i);
    return t;
}

static void problem_free(problem *t)
{
    float *arrays[] = {t->params, t->freq, t->rot, t->bias, t->kz, t->dslice};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) het_release(arrays[i]);
    het_points_free(&t->points);
}

static ref_decode reference(const problem *t, het_dtype precision)
{
    return (ref_decode){t->spec.box, t->spec.frequencies, t->spec.width, t->spec.layers, t->points.kxy, t->params,
                        t->freq, precision == HET_BF16, t->spec.plain};
}

static het_device device; /* of the last variant */
static const het_ops *ops;

/* Another device than the CPU stands for two of the variants, the ones of either precision. */
static int open_other(int isa, het_dtype precision)
{
    if (isa != HET_ISA_PLAIN && isa != HET_ISA_BF16) return 0;
    if (device.close != NULL && device.precision == precision) return 1;
    het_device_close(&device);
    ref_device_open_staged(&device, 1, precision == HET_BF16 ? HET_PRECISION_BF16 : HET_PRECISION_F32);
    ops = device.ops;
    return 1;
}

static het_decode *loaded(het_decode *dec, const problem *t)
{
    ops->decode_load(dec, t->params, t->freq);
    return dec;
}

/* The variant's plan, loaded; NULL where this machine lacks it. */
static het_decode *variant_new(const problem *t, int isa, het_dtype precision, int threads)
{
    het_decode *dec = NULL;
    if (!ref_device_is_cpu()) {
        if (!open_other(isa, precision)) return NULL;
        assert_int_equal(ops->decode_new(&device, &dec, &t->spec), HET_OK);
        return loaded(dec, t);
    }
    static const char *const names[] = {"plain", "avx2", "avx512", "bf16", "amx"};
    unsetenv("HET_CPU_ISA");
    if ((int)het_isa_get() < isa) return NULL;
    setenv("HET_CPU_ISA", names[isa], 1);
    assert_int_equal(het_isa_get(), isa);
    device = (het_device){.ops = &het_ops_cpu, .precision = precision, .threads = threads};
    ops = &het_ops_cpu;
    assert_int_equal(ops->decode_new(&device, &dec, &t->spec), HET_OK);
    unsetenv("HET_CPU_ISA");
    return loaded(dec, t);
}

/* The kernels of fp32 end at avx512; the two above it are those of bf16. */
static het_dtype precision_of(int isa)
{
    return isa >= HET_ISA_BF16 ? HET_BF16 : HET_F32;
}

static void assert_close(const float *x, const double *truth, int64_t n, double tolerance)
{
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        worst = fmax(worst, fabs(x[i] - truth[i]));
        largest = fmax(largest, fabs(truth[i]));
    }
    if (getenv("HET_TEST_VERBOSE") != NULL) print_message("error %.2e of %.2e\n", worst / largest, tolerance);
    assert_true(largest > 0 && worst <= tolerance * largest);
}

static float *slices_of(const problem *t, het_decode *dec, const float *kz, int64_t p)
{
    float *slice = random_array(2 * t->b * p, 1, 9);
    ops->decode_forward(dec, slice, t->rot, t->bias, kz, t->b, p);
    return slice;
}

static void check_forward(const problem *t, int isa, const float *kz)
{
    const ref_decode net = reference(t, HET_F32);
    het_decode *dec = variant_new(t, isa, precision_of(isa), 1);
    if (dec == NULL) return;
    double *truth = calloc((size_t)(2 * t->b * t->p), sizeof *truth);
    assert_non_null(truth);
    for (int64_t b = 0; b < t->b; b++) {
        double rot[9];
        for (int i = 0; i < 9; i++) rot[i] = t->rot[9 * b + i];
        ref_decode_forward(&net, truth + 2 * b * t->p, rot, t->bias + b * t->spec.width, kz == NULL ? 0 : kz[b], t->p);
    }
    float *slice = slices_of(t, dec, kz, t->p);
    assert_close(slice, truth, 2 * t->b * t->p, precision_of(isa) == HET_BF16 ? 2e-2 : 1e-5);
    het_release(slice);
    free(truth);
    ops->decode_free(dec);
}

/* Shapes: rows of several images in a tile; several tiles to an image; one layer; an image larger than the features; no
 * residual sums. Widths 128 and 256 are those of the fused kernels on GPUs (kernels/cuda/decode_fused.cu). */
static void test_forward(void **state)
{
    (void)state;
    static const struct { int64_t box, f, h, layers, b; double radius; int plain; } shapes[] = {
        {16, 16, 32, 3, 5, 3.0, 0}, {32, 48, 64, 4, 2, 15.0, 0}, {8, 16, 96, 1, 3, 3.0, 0},
        {128, 16, 32, 2, 1, 40.0, 0}, {64, 192, 256, 4, 3, 4.0, 0}, {16, 16, 32, 2, 5, 3.0, 1}, {32, 48, 64, 4, 2, 15.0, 1},
        {32, 48, 128, 3, 2, 12.0, 0}, {16, 16, 128, 1, 30, 2.0, 0}, {16, 32, 256, 2, 4, 4.0, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem t = problem_new(shapes[i].box, shapes[i].f, shapes[i].h, shapes[i].layers, shapes[i].b, shapes[i].radius);
        t.spec.plain = shapes[i].plain;
        for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) check_forward(&t, isa, NULL);
        problem_free(&t);
    }
}

static void test_forward_planes(void **state)
{
    (void)state;
    for (int64_t width = 64; width <= 128; width *= 2) {
        problem t = problem_new(32, 32, width, 3, 4, 9.0);
        t.kz[0] = 3.0f;
        t.kz[1] = -15.0f;
        for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) check_forward(&t, isa, t.kz);
        problem_free(&t);
    }
}

typedef struct gradients {
    float *params, *rot, *bias;
} gradients;

static gradients gradients_of(const problem *t, het_decode *dec, const int32_t *which, int64_t n)
{
    gradients g = {random_array(t->params_count, 0, 0), random_array(9 * t->b, 1, 8), random_array(t->b * t->spec.width, 1, 8)};
    ops->decode_backward(dec, g.params, g.rot, g.bias, t->dslice, t->rot, t->bias, which, n, t->b, t->p);
    return g;
}

static void gradients_free(gradients *g)
{
    het_release(g->params);
    het_release(g->rot);
    het_release(g->bias);
}

static void check_backward(const problem *t, int isa, int threads, const int32_t *which, int64_t n)
{
    const ref_decode net = reference(t, precision_of(isa)); /* a rounded sum may pass another way through a relu */
    het_decode *dec = variant_new(t, isa, precision_of(isa), threads);
    if (dec == NULL) return;
    const int64_t h = t->spec.width;
    double *params = calloc((size_t)t->params_count, sizeof(double)), *bias = calloc((size_t)(t->b * h), sizeof(double));
    double *rot = calloc((size_t)(9 * t->b), sizeof(double));
    assert_true(params != NULL && bias != NULL && rot != NULL);
    for (int64_t i = 0; i < n; i++) {
        const int64_t b = which == NULL ? i : which[i];
        double pose[9];
        for (int j = 0; j < 9; j++) pose[j] = t->rot[9 * b + j];
        ref_decode_backward(&net, params, rot + 9 * b, bias + b * h, t->dslice + 2 * b * t->p, pose, t->bias + b * h, t->p);
    }
    gradients g = gradients_of(t, dec, which, n);
    const double tolerance = precision_of(isa) == HET_BF16 ? 2e-2 : 1e-5;
    assert_close(g.params, params, t->params_count, tolerance);
    assert_close(g.rot, rot, 9 * t->b, tolerance);
    assert_close(g.bias, bias, t->b * h, tolerance);
    gradients_free(&g);
    free(params);
    free(bias);
    free(rot);
    ops->decode_free(dec);
}

static void test_backward(void **state)
{
    (void)state;
    static const struct { int64_t box, f, h, layers, b; double radius; int plain; } shapes[] = {
        {16, 16, 32, 3, 5, 3.0, 0}, {32, 48, 64, 4, 2, 15.0, 0}, {8, 16, 96, 1, 3, 3.0, 0},
        {64, 192, 256, 4, 3, 4.0, 0}, {16, 16, 32, 2, 5, 3.0, 1}, {32, 48, 64, 4, 2, 15.0, 1},
        {32, 48, 128, 3, 2, 12.0, 0}, {16, 16, 128, 1, 30, 2.0, 0}, {16, 32, 256, 2, 4, 4.0, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        problem t = problem_new(shapes[i].box, shapes[i].f, shapes[i].h, shapes[i].layers, shapes[i].b, shapes[i].radius);
        t.spec.plain = shapes[i].plain;
        for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) check_backward(&t, isa, 1, NULL, t.b);
        problem_free(&t);
    }
}

static void test_backward_of_listed_images(void **state)
{
    (void)state;
    static const int32_t which[] = {1, 2, 5};
    for (int64_t width = 32; width <= 128; width *= 4) {
        problem t = problem_new(16, 16, width, 3, 6, 5.0);
        for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) {
            check_backward(&t, isa, 1, which, 3); /* rows of the others must be 0 like the reference's */
            check_backward(&t, isa, 3, which, 3);
            check_backward(&t, isa, 5, which, 1);
        }
        problem_free(&t);
    }
}

/* drot against differences of the reference's loss sum(dslice slice) (independent of any backward). */
static void test_rotation_gradient_by_differences(void **state)
{
    (void)state;
    problem t = problem_new(16, 32, 64, 3, 1, 6.0);
    const ref_decode net = reference(&t, HET_F32);
    double *slice = calloc((size_t)(2 * t.p), sizeof *slice);
    assert_non_null(slice);
    het_decode *dec = variant_new(&t, HET_ISA_PLAIN, HET_F32, 1);
    gradients g = gradients_of(&t, dec, NULL, 1);
    double truth[9] = {0};
    for (int i = 0; i < 6; i++) {
        for (int side = -1; side <= 1; side += 2) {
            const double step = 1e-6;
            double rot[9];
            for (int j = 0; j < 9; j++) rot[j] = t.rot[j] + (i == j ? side * step : 0);
            ref_decode_forward(&net, slice, rot, t.bias, 0, t.p);
            for (int64_t p = 0; p < 2 * t.p; p++) truth[i] += side * slice[p] * t.dslice[p] / (2 * step);
        }
    }
    assert_close(g.rot, truth, 9, 1e-4);
    gradients_free(&g);
    ops->decode_free(dec);
    free(slice);
    problem_free(&t);
}

/* V(-q) = conj V(q) exactly: rows 0 and 1 of the rotation negated. Also with identity, where q_z is 0 everywhere. */
static void check_hermitian_symmetry(int64_t width)
{
    problem t = problem_new(16, 16, width, 3, 4, 7.0);
    for (int i = 0; i < 9; i++) t.rot[18 + i] = i % 4 == 0 ? 1.0f : 0.0f;
    for (int b = 0; b < 4; b += 2) {
        for (int i = 0; i < 9; i++) t.rot[9 * (b + 1) + i] = i < 6 ? -t.rot[9 * b + i] : t.rot[9 * b + i];
        memcpy(t.bias + (b + 1) * width, t.bias + b * width, (size_t)width * sizeof(float));
    }
    for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) {
        het_decode *dec = variant_new(&t, isa, precision_of(isa), 1);
        if (dec == NULL) continue;
        float *slice = slices_of(&t, dec, NULL, t.p);
        for (int64_t i = 0; i < 2 * t.p; i++) {
            const float flip = i % 2 == 0 ? 1.0f : -1.0f;
            assert_true(slice[2 * t.p + i] == flip * slice[i]);
            assert_true(slice[6 * t.p + i] == flip * slice[4 * t.p + i]);
        }
        assert_true(slice[1] == 0.0f);
        het_release(slice);
        ops->decode_free(dec);
    }
    problem_free(&t);
}

static void test_hermitian_symmetry(void **state)
{
    (void)state;
    check_hermitian_symmetry(32);
    check_hermitian_symmetry(128);
}

/* Another number of rows may take another algorithm on a GPU, and so other roundings. */
static void assert_same(const float *x, const float *y, int64_t n)
{
    if (ref_device_is_cpu()) assert_memory_equal(x, y, (size_t)n * sizeof *x);
    const float tolerance = device.precision == HET_BF16 ? 2e-2f : 1e-5f;
    for (int64_t i = 0; i < n; i++) assert_true(fabsf(x[i] - y[i]) <= tolerance * (1 + fabsf(x[i])));
}

/* Frequency marching: fewer points are a prefix, bit by bit; so is the answer of any number of threads. */
static void test_forward_is_the_same_however_cut(void **state)
{
    (void)state;
    problem t = problem_new(32, 32, 64, 3, 5, 15.0);
    for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) {
        het_decode *dec = variant_new(&t, isa, precision_of(isa), 1);
        if (dec == NULL) continue;
        const int64_t few = het_points_within(&t.points, 3.0);
        float *full = slices_of(&t, dec, t.kz, t.p), *part = slices_of(&t, dec, t.kz, few);
        for (int64_t b = 0; b < t.b; b++)
            assert_same(full + 2 * b * t.p, part + 2 * b * few, 2 * few);
        for (int threads = 2; threads <= 7; threads += 5) {
            het_decode *other = variant_new(&t, isa, precision_of(isa), threads);
            float *again = slices_of(&t, other, t.kz, t.p);
            assert_same(full, again, 2 * t.b * t.p);
            het_release(again);
            ops->decode_free(other);
        }
        het_release(full);
        het_release(part);
        ops->decode_free(dec);
    }
    problem_free(&t);
}

static void check_repeats(int64_t width, double radius)
{
    problem t = problem_new(32, 32, width, 3, 3, radius);
    for (int isa = HET_ISA_PLAIN; isa <= HET_ISA_AMX; isa++) {
        for (int threads = 2; threads <= 12; threads += 5) {
            check_backward(&t, isa, threads, NULL, t.b);
            het_decode *dec = variant_new(&t, isa, precision_of(isa), threads);
            if (dec == NULL) continue;
            gradients a = gradients_of(&t, dec, NULL, t.b), b = gradients_of(&t, dec, NULL, t.b);
            assert_memory_equal(a.params, b.params, (size_t)t.params_count * sizeof(float));
            assert_memory_equal(a.rot, b.rot, (size_t)(9 * t.b) * sizeof(float));
            assert_memory_equal(a.bias, b.bias, (size_t)(t.b * t.spec.width) * sizeof(float));
            /* parameter gradients add up */
            ops->decode_backward(dec, a.params, a.rot, a.bias, t.dslice, t.rot, t.bias, NULL, t.b, t.b, t.p);
            for (int64_t i = 0; i < t.params_count; i += 101)
                assert_true(fabsf(a.params[i] - 2 * b.params[i]) <= 1e-4f * (1 + fabsf(b.params[i])));
            gradients_free(&a);
            gradients_free(&b);
            ops->decode_free(dec);
        }
    }
    problem_free(&t);
}

static void test_backward_threads_and_repeats(void **state)
{
    (void)state;
    check_repeats(64, 15.0);
    check_repeats(128, 7.0);
}

static void test_refused_shapes(void **state)
{
    (void)state;
    static const int32_t inside[] = {0, 0, 3, -3}, outside[] = {0, 0, 4, 0}, negative[] = {0, 0, -1, 0};
    const het_decode_spec wrong[] = {{8, 8, 32, 2, 2, inside, 0},  {8, 16, 48, 2, 2, inside, 0},
                                     {8, 16, 32, 0, 2, inside, 0}, {8, 16, 32, 9, 2, inside, 0},
                                     {7, 16, 32, 2, 2, inside, 0}, {8, 16, 32, 2, 0, inside, 0},
                                     {8, 16, 32, 2, 2, outside, 0}, {8, 16, 32, 2, 2, negative, 0}};
    het_decode *dec = NULL;
    if (ref_device_is_cpu()) device = (het_device){.ops = &het_ops_cpu, .precision = HET_F32, .threads = 1};
    else assert_true(open_other(HET_ISA_PLAIN, HET_F32));
    ops = device.ops;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ops->decode_new(&device, &dec, &wrong[i]), HET_E_SHAPE);
        assert_null(dec);
    }
    if (!ref_device_is_cpu()) return;
    setenv("HET_CPU_ISA", "plain", 1);
    device.precision = HET_BF16;
    const het_decode_spec right = {8, 16, 32, 2, 2, inside, 0};
    assert_int_equal(ops->decode_new(&device, &dec, &right), HET_E_USAGE);
    unsetenv("HET_CPU_ISA");
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_planes),
        cmocka_unit_test(test_backward),
        cmocka_unit_test(test_backward_of_listed_images),
        cmocka_unit_test(test_rotation_gradient_by_differences),
        cmocka_unit_test(test_hermitian_symmetry),
        cmocka_unit_test(test_forward_is_the_same_however_cut),
        cmocka_unit_test(test_backward_threads_and_repeats),
        cmocka_unit_test(test_refused_shapes),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    het_device_close(&device);
    return failed;
}
