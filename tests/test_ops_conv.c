#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "ref/act.h"
#include "ref/device.h"
#include "ref/layers.h"

/* Shapes that reach every way conv.c has: direct and columns, cut kernels, weights in runs, several chunks.
 */
static const het_conv_spec shapes[] = {
    {3, 13, 11, 1, 16, 7, 2, 3}, {8, 32, 32, 1, 8, 7, 2, 3},  {4, 9, 7, 16, 32, 3, 1, 1},
    {2, 5, 5, 3, 5, 3, 1, 1},    {64, 4, 4, 16, 16, 3, 1, 1}, {130, 4, 4, 8, 16, 3, 1, 1},
    {4, 8, 8, 16, 32, 3, 2, 1},  {3, 7, 9, 16, 16, 3, 2, 1},  {4, 8, 8, 16, 32, 1, 2, 0},
    {2, 5, 3, 8, 16, 1, 1, 0},   {6, 2, 2, 16, 16, 3, 1, 1},  {6, 2, 2, 16, 32, 3, 2, 1},
    {6, 1, 1, 32, 32, 3, 1, 1},  {4, 1, 2, 16, 16, 3, 1, 1},  {4, 2, 1, 16, 16, 3, 2, 1},
    {3, 2, 2, 5, 7, 1, 2, 0},    {1, 1, 1, 1, 1, 1, 1, 0},    {5, 6, 6, 3, 4, 5, 3, 2},
    {2, 2, 3, 7, 9, 7, 2, 3},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* A device of this precision and thread count; 0 with a spoken reason where there is none. */
static int open_device(het_device *dev, het_precision precision, int threads)
{
    if (ref_device_open(dev, threads, precision) == HET_OK) return 1;
    print_message("skipped: %s\n", het_status_message());
    return 0;
}

typedef struct sample {
    ref_array x, y, w, dx, dw, dy;
    double *y_ref, *dx_ref, *dw_ref;
} sample;

static sample sample_new(het_device *dev, const het_conv_spec *s)
{
    int64_t oh, ow;
    ref_conv_out(s, &oh, &ow);
    const int64_t nx = s->batch * s->in_h * s->in_w * s->in_c, ny = s->batch * oh * ow * s->out_c;
    const int64_t nw = s->out_c * s->kernel * s->kernel * s->in_c;
    sample t = {.x = ref_array_random(dev, nx, 1, 1.0, 0.0, 1),
                .y = ref_array_random(dev, ny, 1, 1.0, 0.0, 2),
                .w = ref_array_random(dev, nw, 0, 0.1, 0.0, 3),
                .dx = ref_array_random(dev, nx, 1, 1.0, 0.0, 4),
                .dw = ref_array_random(dev, nw, 0, 1.0, 0.0, 5),
                .dy = ref_array_random(dev, ny, 1, 1.0, 0.0, 6)};
    t.y_ref = malloc((size_t)ny * sizeof(double));
    t.dx_ref = malloc((size_t)nx * sizeof(double));
    t.dw_ref = malloc((size_t)nw * sizeof(double));
    memcpy(t.dw_ref, t.dw.host, (size_t)nw * sizeof(double)); /* gradients add up */
    return t;
}

static void sample_free(sample *t)
{
    ref_array *all[] = {&t->x, &t->y, &t->w, &t->dx, &t->dw, &t->dy};
    for (int i = 0; i < 6; i++) ref_array_free(all[i]);
    free(t->y_ref);
    free(t->dx_ref);
    free(t->dw_ref);
}

/* dw is fp32 of exact products in both precisions, but for cuDNN's of bf16, which is rounded once. */
static double weights_tolerance(const het_device *dev)
{
    return dev->precision == HET_BF16 && strstr(het_device_name(dev), "cuDNN") != NULL ? 4e-3 : 1e-5;
}

static void check_shape(het_device *dev, const het_conv_spec *s, double tolerance)
{
    const double of_weights = weights_tolerance(dev);
    het_conv *conv;
    assert_int_equal(dev->ops->conv_new(dev, &conv, s), HET_OK);
    sample t = sample_new(dev, s);
    ref_conv(t.y_ref, t.x.host, t.w.host, s);
    ref_conv_backward(t.dx_ref, t.dw_ref, t.dy.host, t.x.host, t.w.host, s);
    dev->ops->conv_forward(conv, t.y.device, t.x.device, t.w.device);
    dev->ops->conv_backward(conv, t.dx.device, t.dw.device, t.dy.device, t.x.device, t.w.device);
    assert_int_equal(dev->ops->sync(dev), HET_OK);
    const double ey = ref_array_error(&t.y, t.y_ref), ex = ref_array_error(&t.dx, t.dx_ref),
                 ew = ref_array_error(&t.dw, t.dw_ref);
    if (!(ey < tolerance && ex < tolerance && ew < of_weights))
        print_error("shape %d: y %.2e dx %.2e dw %.2e\n", (int)(s - shapes), ey, ex, ew);
    assert_true(ey < tolerance && ex < tolerance && ew < of_weights);

    /* without dx, dw adds up again: dw + (dw - dw before) */
    for (int64_t i = 0; i < t.dw.n; i++) t.dw_ref[i] = 2.0 * t.dw_ref[i] - t.dw.host[i];
    dev->ops->conv_backward(conv, NULL, t.dw.device, t.dy.device, t.x.device, t.w.device);
    assert_true(ref_array_error(&t.dw, t.dw_ref) < of_weights);
    sample_free(&t);
    dev->ops->conv_free(conv);
}

static void check_all(het_precision precision, int threads, double tolerance)
{
    het_device dev;
    if (!open_device(&dev, precision, threads)) return;
    for (int i = 0; i < SHAPES; i++) check_shape(&dev, shapes + i, tolerance);
    het_device_close(&dev);
    assert_int_equal(het_arena_live(), 0);
}

static void fp32_agrees(void **state)
{
    (void)state;
    check_all(HET_PRECISION_F32, 1, 1e-5);
    check_all(HET_PRECISION_F32, 2, 1e-5);
}

/* Weights are rounded to bf16 (2^-9 each) and results once more: 2^-9 of the largest value and some. */
static void bf16_agrees(void **state)
{
    (void)state;
    check_all(HET_PRECISION_BF16, 1, 8e-3);
    check_all(HET_PRECISION_BF16, 2, 8e-3);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The reference's own gradients: y is linear in x and in w, so <dy, conv(x', w)> = <dx, x'> for any x', alike
 * for w. */
static void reference_is_its_transpose(void **state)
{
    (void)state;
    het_device dev;
    assert_true(open_device(&dev, HET_PRECISION_F32, 1));
    for (int i = 0; i < SHAPES; i++) {
        sample t = sample_new(&dev, shapes + i);
        memset(t.dw_ref, 0, (size_t)t.dw.n * sizeof(double));
        ref_conv_backward(t.dx_ref, t.dw_ref, t.dy.host, t.x.host, t.w.host, shapes + i);
        ref_conv(t.y_ref, t.dx.host, t.w.host, shapes + i);
        const double by_x = dot(t.dy.host, t.y_ref, t.y.n);
        assert_true(fabs(by_x - dot(t.dx_ref, t.dx.host, t.x.n)) < 1e-9 * (1.0 + fabs(by_x)));
        ref_conv(t.y_ref, t.x.host, t.dw.host, shapes + i);
        const double by_w = dot(t.dy.host, t.y_ref, t.y.n);
        assert_true(fabs(by_w - dot(t.dw_ref, t.dw.host, t.dw.n)) < 1e-9 * (1.0 + fabs(by_w)));
        sample_free(&t);
    }
    het_device_close(&dev);
}

/* The same call twice gives the same bits, also with two threads. */
static void repeats_exactly(void **state)
{
    (void)state;
    het_device dev;
    assert_true(open_device(&dev, HET_PRECISION_AUTO, 2));
    for (int i = 0; i < SHAPES; i++) {
        het_conv *conv;
        assert_int_equal(dev.ops->conv_new(&dev, &conv, shapes + i), HET_OK);
        double *result[2];
        int64_t n = 0;
        for (int round = 0; round < 2; round++) {
            sample t = sample_new(&dev, shapes + i);
            dev.ops->conv_forward(conv, t.y.device, t.x.device, t.w.device);
            dev.ops->conv_backward(conv, t.dx.device, t.dw.device, t.dy.device, t.x.device, t.w.device);
            result[round] = ref_array_download(&t.dw);
            n = t.dw.n;
            sample_free(&t);
        }
        assert_memory_equal(result[0], result[1], (size_t)n * sizeof(double));
        free(result[0]);
        free(result[1]);
        dev.ops->conv_free(conv);
    }
    het_device_close(&dev);
}

static void refuses_wrong_shapes(void **state)
{
    (void)state;
    het_device dev;
    het_conv *conv;
    assert_true(open_device(&dev, HET_PRECISION_F32, 1));
    const het_conv_spec wrong[] = {{0, 8, 8, 4, 4, 3, 1, 1}, {1, 2, 2, 4, 4, 5, 1, 1},
                                   {1, 8, 8, 4, 4, 3, 0, 1}, {1, 8, 8, 0, 4, 3, 1, 1},
                                   {1, 8, 8, 4, 4, 3, 1, 3}, {1, 99, 99, 4, 4, 13, 1, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(dev.ops->conv_new(&dev, &conv, wrong + i), HET_E_SHAPE);
        assert_null(conv);
    }
    dev.ops->conv_free(NULL);
    het_device_close(&dev);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp32_agrees),
        cmocka_unit_test(bf16_agrees),
        cmocka_unit_test(reference_is_its_transpose),
        cmocka_unit_test(repeats_exactly),
        cmocka_unit_test(refuses_wrong_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
