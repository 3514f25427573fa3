#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../kernels/cpu/bf16.h"
#include "../src/arena.h"
#include "ref/act.h"
#include "ref/device.h"
#include "ref/layers.h"

/* Every test runs on each of these; bf16 is skipped aloud where the chip has none. */
static const struct {
    het_precision precision;
    int threads;
    double tolerance; /* of activations: rounding of one result */
} devices[] = {{HET_PRECISION_F32, 1, 2e-6},
               {HET_PRECISION_F32, 2, 2e-6},
               {HET_PRECISION_BF16, 1, 5e-3},
               {HET_PRECISION_BF16, 2, 5e-3}};

typedef void check_function(het_device *dev, double tolerance);

static void on_all_devices(check_function *check)
{
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        het_device dev;
        if (ref_device_open(&dev, devices[i].threads, devices[i].precision) != HET_OK) {
            print_message("skipped: %s\n", het_status_message());
            continue;
        }
        check(&dev, devices[i].tolerance);
        het_device_close(&dev);
        assert_int_equal(het_arena_live(), 0);
    }
}

static double *doubles(int64_t n)
{
    double *p = calloc((size_t)n, sizeof *p);
    assert_non_null(p);
    return p;
}

static void expect(const ref_array *array, const double *expected, double tolerance)
{
    const double error = ref_array_error(array, expected);
    if (!(error < tolerance)) print_error("error %.3e, tolerance %.1e\n", error, tolerance);
    assert_true(error < tolerance);
}

/* ---- normalisation ---- */

/* The offset is large against the spread, so that a variance by E[x^2] - mean^2 would fail. */
static void check_norm_spec(het_device *dev, const het_norm_spec *s, double offset, double tolerance)
{
    const het_ops *ops = dev->ops;
    const int64_t n = s->batch * s->hw * s->channels, gc = s->groups * s->channels;
    ref_array x = ref_array_random(dev, n, 1, 1.0, offset, 1), y = ref_array_random(dev, n, 1, 1.0, 0.0, 2);
    ref_array dx = ref_array_random(dev, n, 1, 1.0, 0.0, 3), dy = ref_array_random(dev, n, 1, 1.0, 0.0, 4);
    ref_array gamma = ref_array_random(dev, s->channels, 0, 0.3, 1.0, 5),
              beta = ref_array_random(dev, s->channels, 0, 0.3, 0.0, 6);
    ref_array dgamma = ref_array_random(dev, s->channels, 0, 1.0, 0.0, 7),
              dbeta = ref_array_random(dev, s->channels, 0, 1.0, 0.0, 8);
    ref_array mean = ref_array_random(dev, gc, 0, 1.0, 0.0, 9),
              var = ref_array_random(dev, gc, 0, 1.0, 0.0, 10);
    double *y_ref = doubles(n), *dx_ref = doubles(n), *mean_ref = doubles(gc), *var_ref = doubles(gc);
    het_norm *norm;
    assert_int_equal(ops->norm_new(dev, &norm, s), HET_OK);
    ops->norm_forward(norm, y.device, mean.device, var.device, x.device, gamma.device, beta.device);
    ref_norm(y_ref, mean_ref, var_ref, x.host, gamma.host, beta.host, s);
    expect(&mean, mean_ref, 1e-6);
    expect(&var, var_ref, 1e-5);
    expect(&y, y_ref, tolerance + 1e-5);

    double *mask = ref_array_download(&y);
    ops->norm_backward(norm, dx.device, dgamma.device, dbeta.device, dy.device, x.device, y.device,
                       gamma.device, beta.device, mean.device, var.device);
    ref_norm_backward(dx_ref, dgamma.host, dbeta.host, dy.host, x.host, mask, gamma.host, s);
    expect(&dx, dx_ref, tolerance + 1e-5);
    expect(&dgamma, dgamma.host, 2e-5 + 1e-7 * offset); /* the mean is rounded to fp32 */
    expect(&dbeta, dbeta.host, 2e-5);

    /* given statistics: of the first group for all */
    ops->norm_infer(norm, y.device, x.device, gamma.device, beta.device, mean.device, var.device);
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = i % s->channels;
        const double v = gamma.host[c] * (x.host[i] - mean_ref[c]) / sqrt(var_ref[c] + 1e-5) + beta.host[c];
        y_ref[i] = s->relu && v < 0.0 ? 0.0 : v;
    }
    expect(&y, y_ref, tolerance + 1e-5);
    ops->norm_free(norm);
    ref_array *all[] = {&x, &y, &dx, &dy, &gamma, &beta, &dgamma, &dbeta, &mean, &var};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_array_free(all[i]);
    double *plain[] = {y_ref, dx_ref, mean_ref, var_ref, mask};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) free(plain[i]);
}

static void check_norm(het_device *dev, double tolerance)
{
    const het_norm_spec specs[] = {{6, 9, 5, 1, 0, 1},    {6, 9, 70, 2, 1, 1}, {6, 1, 16, 3, 0, 1},
                                   {4, 300, 64, 2, 1, 1}, {1, 7, 3, 1, 1, 1},  {200, 90, 8, 1, 1, 1},
                                   {3, 11, 264, 1, 0, 1}, {8, 33, 40, 4, 1, 1},
                                   {6, 9, 32, 6, 1, 16},  {3, 1, 48, 3, 0, 16}, {2, 700, 6, 2, 1, 3}, /* group norm */
                                   {70, 5, 32, 70, 1, 16}, {2, 70, 128, 2, 1, 64}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) check_norm_spec(dev, specs + i, 3.0, tolerance);
}

static void norm_agrees(void **state)
{
    (void)state;
    on_all_devices(check_norm);
}

/* Half the rows of the first group are its first row, whose output is 0 but for rounding; a channel's is NaN. With dy = 1
   the gradient of beta counts what the relu let through in the forward. gamma and beta lie `ahead` numbers into memory. */
static void check_mask(het_device *dev, const het_norm_spec *s, int ahead)
{
    const int64_t ch = s->channels, n = s->batch * s->hw * ch, gc = s->groups * ch, rows = n / gc;
    ref_array x = ref_array_random(dev, n, 1, 1.0, 0.5, 1), y = ref_array_random(dev, n, 1, 1.0, 0.0, 2);
    ref_array dx = ref_array_random(dev, n, 1, 1.0, 0.0, 3), dy = ref_array_random(dev, n, 1, 0.0, 1.0, 4);
    ref_array gamma = ref_array_random(dev, ch + ahead, 0, 0.3, 1.0, 5),
              beta = ref_array_random(dev, ch + ahead, 0, 0.0, 0.0, 6);
    ref_array dgamma = ref_array_random(dev, ch, 0, 0.0, 0.0, 7), dbeta = ref_array_random(dev, ch, 0, 0.0, 0.0, 8);
    ref_array mean = ref_array_random(dev, gc, 0, 1.0, 0.0, 9), var = ref_array_random(dev, gc, 0, 1.0, 0.0, 10);
    const float *of_gamma = (const float *)gamma.device + ahead, *of_beta = (const float *)beta.device + ahead;
    het_norm *norm;
    for (int64_t i = ch; i < rows / 2 * ch; i++) x.host[i] = x.host[i - ch];
    ref_array_upload(&x);
    assert_int_equal(dev->ops->norm_new(dev, &norm, s), HET_OK);
    dev->ops->norm_forward(norm, y.device, mean.device, var.device, x.device, of_gamma, of_beta);
    double *m = ref_array_download(&mean), *v = ref_array_download(&var);
    for (int64_t c = 0; c < ch; c++)
        beta.host[ahead + c] = c == 2 ? NAN : -gamma.host[ahead + c] * (x.host[c] - m[c]) / sqrt(v[c] + 1e-5);
    ref_array_upload(&beta);
    dev->ops->norm_forward(norm, y.device, mean.device, var.device, x.device, of_gamma, of_beta);
    dev->ops->norm_backward(norm, dx.device, dgamma.device, dbeta.device, dy.device, x.device, y.device, of_gamma, of_beta,
                            mean.device, var.device);
    double *out = ref_array_download(&y), *passed = ref_array_download(&dbeta);
    for (int64_t c = 0; c < ch; c++) {
        int64_t count = 0;
        for (int64_t i = c; i < n; i += ch) count += out[i] > 0.0;
        assert_true(passed[c] == (double)count);
        assert_true(c == 2 ? isnan(out[c]) && count == 0 : fabs(out[c]) < 1e-5);
    }
    dev->ops->norm_free(norm);
    ref_array *all[] = {&x, &y, &dx, &dy, &gamma, &beta, &dgamma, &dbeta, &mean, &var};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_array_free(all[i]);
    free(m), free(v), free(out), free(passed);
}

static void check_masks(het_device *dev, double tolerance)
{
    (void)tolerance;
    for (int ahead = 0; ahead < 2; ahead++) {
        check_mask(dev, &(het_norm_spec){6, 9, 5, 2, 1, 1}, ahead);
        check_mask(dev, &(het_norm_spec){6, 70, 264, 2, 1, 1}, ahead);
        check_mask(dev, &(het_norm_spec){4, 33, 64, 4, 1, 16}, ahead);
    }
}

static void norm_masks_as_forward(void **state)
{
    (void)state;
    on_all_devices(check_masks);
}

/* mean 1000, deviation 1: E[x^2] - mean^2 in fp32 would be off by 6 %. */
static void norm_keeps_small_variance(void **state)
{
    (void)state;
    het_device dev;
    assert_int_equal(ref_device_open(&dev, 1, HET_PRECISION_F32), HET_OK);
    const het_norm_spec spec = {4, 500, 6, 2, 0, 1};
    check_norm_spec(&dev, &spec, 1000.0, 1e-3);
    het_device_close(&dev);
}

/* Reference gradients against central differences of the reference along random directions of x, gamma and beta. */
static void check_norm_reference(het_device *dev, const het_norm_spec *s)
{
    enum { N = 6 * 5 * 4, C = 4, ALL = N + 2 * C };
    ref_array at = ref_array_random(dev, ALL, 0, 1.0, 1.0, 1), v = ref_array_random(dev, ALL, 0, 1.0, 0.0, 2);
    ref_array dy = ref_array_random(dev, N, 0, 1.0, 0.0, 3);
    const double h = 1e-6;
    double y[2][N], mean[6 * C], var[6 * C], slope[ALL] = {0}, numeric = 0.0, exact = 0.0;
    for (int side = 0; side < 2; side++) {
        double moved[ALL];
        for (int i = 0; i < ALL; i++) moved[i] = at.host[i] + (side ? h : -h) * v.host[i];
        ref_norm(y[side], mean, var, moved, moved + N, moved + N + C, s);
    }
    for (int i = 0; i < N; i++) numeric += dy.host[i] * (y[1][i] - y[0][i]) / (2 * h);
    ref_norm_backward(slope, slope + N, slope + N + C, dy.host, at.host, y[1], at.host + N, s);
    for (int i = 0; i < ALL; i++) exact += slope[i] * v.host[i];
    assert_true(fabs(numeric - exact) < 1e-7 * (1.0 + fabs(exact)));
    ref_array_free(&at);
    ref_array_free(&v);
    ref_array_free(&dy);
}

static void norm_reference_gradient(void **state)
{
    (void)state;
    het_device dev;
    assert_int_equal(ref_device_open(&dev, 1, HET_PRECISION_F32), HET_OK);
    check_norm_reference(&dev, &(het_norm_spec){6, 5, 4, 2, 1, 1});
    check_norm_reference(&dev, &(het_norm_spec){6, 5, 4, 6, 1, 2});
    het_device_close(&dev);
}

static void norm_refuses(void **state)
{
    (void)state;
    het_device dev;
    het_norm *norm;
    assert_int_equal(ref_device_open(&dev, 1, HET_PRECISION_F32), HET_OK);
    assert_int_equal(dev.ops->norm_new(&dev, &norm, &(het_norm_spec){6, 4, 8, 4, 0, 1}), HET_E_SHAPE);
    assert_null(norm);
    assert_int_equal(dev.ops->norm_new(&dev, &norm, &(het_norm_spec){6, 4, 8, 6, 0, 3}), HET_E_SHAPE);
    assert_null(norm);
    het_device_close(&dev);
}

/* ---- pooling ---- */

static void check_maxpool_size(het_device *dev, int64_t b, int64_t h, int64_t w, int64_t c, double tolerance)
{
    const int64_t oh = (h + 1) / 2, ow = (w + 1) / 2, nx = b * h * w * c, ny = b * oh * ow * c;
    ref_array x = ref_array_random(dev, nx, 1, 1.0, 0.0, 1), y = ref_array_random(dev, ny, 1, 1.0, 0.0, 2);
    ref_array dy = ref_array_random(dev, ny, 1, 1.0, 0.0, 3), dx = ref_array_random(dev, nx, 1, 1.0, 0.0, 4);
    for (int64_t i = 0; i < nx; i += 3) x.host[i] = 0.5; /* ties */
    ref_array_upload(&x);
    uint8_t *argmax = dev->ops->alloc(dev, (size_t)ny);
    double *y_ref = doubles(ny), *dx_ref = doubles(nx);
    int *argmax_ref = malloc((size_t)ny * sizeof *argmax_ref);
    dev->ops->maxpool(dev, y.device, argmax, x.device, b, h, w, c);
    ref_maxpool(y_ref, argmax_ref, x.host, b, h, w, c);
    assert_true(ref_array_error(&y, y_ref) == 0.0);
    uint8_t *taps = malloc((size_t)ny);
    dev->ops->download(dev, taps, argmax, (size_t)ny);
    for (int64_t i = 0; i < ny; i++) assert_int_equal(taps[i], argmax_ref[i]);
    free(taps);
    dev->ops->maxpool_backward(dev, dx.device, dy.device, argmax, b, h, w, c);
    ref_maxpool_backward(dx_ref, dy.host, argmax_ref, b, h, w, c);
    expect(&dx, dx_ref, tolerance);

    x.host[0] = NAN; /* is seen in the one window that holds it */
    ref_array_upload(&x);
    dev->ops->maxpool(dev, y.device, argmax, x.device, b, h, w, c);
    double *got = ref_array_download(&y);
    assert_true(isnan(got[0]));
    dev->ops->release(dev, argmax);
    free(got);
    free(y_ref);
    free(dx_ref);
    free(argmax_ref);
    ref_array *all[] = {&x, &y, &dx, &dy};
    for (int i = 0; i < 4; i++) ref_array_free(all[i]);
}

static void check_maxpool(het_device *dev, double tolerance)
{
    check_maxpool_size(dev, 2, 7, 5, 3, tolerance);
    check_maxpool_size(dev, 3, 8, 8, 64, tolerance);
    check_maxpool_size(dev, 1, 1, 2, 130, tolerance);
    check_maxpool_size(dev, 11, 5, 6, 24, tolerance);
    check_maxpool_size(dev, 4100, 1, 1, 8, tolerance);
}

static void maxpool_agrees(void **state)
{
    (void)state;
    on_all_devices(check_maxpool);
}

static void check_avgpool_size(het_device *dev, int64_t b, int64_t hw, int64_t c, double tolerance)
{
    ref_array x = ref_array_random(dev, b * hw * c, 1, 1.0, 0.5, 1), y = ref_array_random(dev, b * c, 0, 1.0, 0.0, 2);
    ref_array dy = ref_array_random(dev, b * c, 0, 1.0, 0.0, 3), dx = ref_array_random(dev, b * hw * c, 1, 1.0, 0.0, 4);
    double *y_ref = doubles(b * c), *dx_ref = doubles(b * hw * c);
    for (int64_t i = 0; i < b * hw * c; i++) {
        const int64_t at = i / (hw * c) * c + i % c;
        y_ref[at] += x.host[i] / (double)hw;
        dx_ref[i] = dy.host[at] / (double)hw;
    }
    dev->ops->avgpool(dev, y.device, x.device, b, hw, c);
    expect(&y, y_ref, 1e-6);
    dev->ops->avgpool_backward(dev, dx.device, dy.device, b, hw, c);
    expect(&dx, dx_ref, tolerance);
    free(y_ref);
    free(dx_ref);
    ref_array *all[] = {&x, &y, &dx, &dy};
    for (int i = 0; i < 4; i++) ref_array_free(all[i]);
}

static void check_avgpool(het_device *dev, double tolerance)
{
    check_avgpool_size(dev, 3, 7, 21, tolerance);
    check_avgpool_size(dev, 5, 9, 48, tolerance);
}

static void avgpool_agrees(void **state)
{
    (void)state;
    on_all_devices(check_avgpool);
}

/* ---- element by element ---- */

static void check_elementwise_size(het_device *dev, int64_t n, double tolerance)
{
    ref_array a = ref_array_random(dev, n, 1, 1.0, 0.0, 1), b = ref_array_random(dev, n, 1, 1.0, 0.0, 2);
    ref_array y = ref_array_random(dev, n, 1, 1.0, 0.0, 3), dy = ref_array_random(dev, n, 1, 1.0, 0.0, 4);
    double *expected = doubles(n);
    for (int64_t i = 0; i < n; i++) expected[i] = fmax(0.0, a.host[i] + b.host[i]);
    dev->ops->add_relu(dev, y.device, a.device, b.device, n);
    expect(&y, expected, tolerance);
    double *mask = ref_array_download(&y);
    for (int64_t i = 0; i < n; i++) expected[i] = mask[i] > 0.0 ? dy.host[i] : 0.0;
    dev->ops->add_relu_backward(dev, dy.device, dy.device, y.device, n); /* in place */
    assert_true(ref_array_error(&dy, expected) == 0.0);
    for (int64_t i = 0; i < n; i++) expected[i] = a.host[i] + b.host[i];
    /* also from where vectors cannot begin */
    const size_t element = dev->precision == HET_BF16 ? 2 : 4;
    dev->ops->accumulate(dev, a.device, b.device, 8);
    dev->ops->accumulate(dev, (char *)a.device + 8 * element, (char *)b.device + 8 * element, 1);
    dev->ops->accumulate(dev, (char *)a.device + 9 * element, (char *)b.device + 9 * element, 16);
    dev->ops->accumulate(dev, (char *)a.device + 25 * element, (char *)b.device + 25 * element, n - 25);
    expect(&a, expected, tolerance);
    free(mask);
    free(expected);
    ref_array *all[] = {&a, &b, &y, &dy};
    for (int i = 0; i < 4; i++) ref_array_free(all[i]);
}

static void check_elementwise(het_device *dev, double tolerance)
{
    check_elementwise_size(dev, 40001, tolerance); /* odd, and above the size that is split over threads */
    check_elementwise_size(dev, 40000, tolerance);
}

static void elementwise_agrees(void **state)
{
    (void)state;
    on_all_devices(check_elementwise);
}

/* Every bf16 survives the way to fp32 and back; what lies between rounds to nearest, ties to even. */
static void bf16_rounds(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        const float x = het_bf16_to_f32((het_bf16)i);
        const het_bf16 back = het_bf16_from_f32(x);
        if (isnan(x))
            assert_true(isnan(het_bf16_to_f32(back)));
        else
            assert_int_equal(back, i);
    }
    assert_int_equal(het_bf16_from_f32(0x1.01p0f), 0x3F80); /* tie, down to even */
    assert_int_equal(het_bf16_from_f32(0x1.03p0f), 0x3F82); /* tie, up to even */
    assert_int_equal(het_bf16_from_f32(0x1.010002p0f), 0x3F81);
    assert_int_equal(het_bf16_from_f32(-0x1.fffffep127f), 0xFF80); /* overflow */
    const uint32_t bits = 0x7F800001u;                             /* NaN whose mantissa would be cut away */
    float nan;
    memcpy(&nan, &bits, sizeof nan);
    assert_true(isnan(het_bf16_to_f32(het_bf16_from_f32(nan))));
}

/* ---- linear ---- */

static void check_linear_size(het_device *dev, int64_t b, int64_t n, int64_t k, int relu, int bias)
{
    const het_ops *ops = dev->ops;
    ref_array x = ref_array_random(dev, b * k, 0, 1.0, 0.0, 1),
              w = ref_array_random(dev, n * k, 0, 0.1, 0.0, 2);
    ref_array c = ref_array_random(dev, n, 0, 0.1, 0.0, 3), y = ref_array_random(dev, b * n, 0, 1.0, 0.0, 4);
    ref_array dy = ref_array_random(dev, b * n, 0, 1.0, 0.0, 5),
              dx = ref_array_random(dev, b * k, 0, 1.0, 0.0, 6);
    ref_array dw = ref_array_random(dev, n * k, 0, 1.0, 0.0, 7),
              dc = ref_array_random(dev, n, 0, 1.0, 0.0, 8);
    double *y_ref = doubles(b * n), *dx_ref = doubles(b * k);
    ops->linear(dev, y.device, x.device, w.device, bias ? c.device : NULL, b, n, k, relu);
    ref_linear(y_ref, x.host, w.host, bias ? c.host : NULL, b, n, k, relu);
    expect(&y, y_ref, 1e-5);
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < n; j++) {
            const double d = relu && y_ref[i * n + j] <= 0.0 ? 0.0 : dy.host[i * n + j];
            for (int64_t l = 0; l < k; l++) {
                dx_ref[i * k + l] += d * w.host[j * k + l];
                dw.host[j * k + l] += d * x.host[i * k + l];
            }
            dc.host[j] += d;
        }
    ops->linear_backward(dev, dx.device, dw.device, bias ? dc.device : NULL, dy.device, x.device, y.device,
                         w.device, b, n, k, relu);
    expect(&dx, dx_ref, 1e-5);
    expect(&dw, dw.host, 1e-5);
    if (bias) expect(&dc, dc.host, 1e-5);
    ops->linear_backward(dev, NULL, dw.device, NULL, dy.device, x.device, y.device, w.device, b, n, k, relu);
    free(y_ref);
    free(dx_ref);
    ref_array *all[] = {&x, &w, &c, &y, &dy, &dx, &dw, &dc};
    for (int i = 0; i < 8; i++) ref_array_free(all[i]);
}

static void check_linear(het_device *dev, double tolerance)
{
    (void)tolerance;
    check_linear_size(dev, 5, 7, 13, 1, 1);
    check_linear_size(dev, 64, 33, 130, 0, 1);
    check_linear_size(dev, 1, 6, 128, 1, 0);
}

static void linear_agrees(void **state)
{
    (void)state;
    on_all_devices(check_linear);
}

/* ---- device ---- */

static void device_opens(void **state)
{
    (void)state;
    het_device dev;
    assert_int_equal(het_device_open_cpu(&dev, -1, HET_PRECISION_AUTO), HET_E_USAGE);
    assert_int_equal(setenv("OMP_NUM_THREADS", "3", 1), 0);
    assert_int_equal(het_device_open_cpu(&dev, 0, HET_PRECISION_AUTO), HET_OK);
    assert_int_equal(dev.threads, 3);
    assert_non_null(strstr(het_device_name(&dev), "3 threads"));
    assert_non_null(strstr(het_device_name(&dev), dev.precision == HET_BF16 ? "bf16" : "fp32"));
    unsetenv("OMP_NUM_THREADS");
    het_device_close(&dev);
    assert_int_equal(het_device_open_cpu(&dev, 0, HET_PRECISION_F32), HET_OK);
    assert_true(dev.threads >= 1);
    assert_int_equal(dev.precision, HET_F32);
    het_device_close(&dev);
    het_device_close(&dev); /* twice does no harm */
}

/* A chip without the instructions refuses an explicit bf16 and takes fp32 for auto. */
static void device_refuses_bf16(void **state)
{
    (void)state;
    het_device dev;
    assert_int_equal(setenv("HET_CPU_ISA", "avx2", 1), 0);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_BF16), HET_E_USAGE);
    assert_non_null(strstr(het_status_message(), "bf16"));
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_AUTO), HET_OK);
    assert_int_equal(dev.precision, HET_F32);
    het_device_close(&dev);
    unsetenv("HET_CPU_ISA");
}

/* Without tiles, auto takes bf16 on AMD's chips alone; asked for, it is given wherever it runs. */
static void auto_wants_fast_bf16(void **state)
{
    (void)state;
    het_device dev;
    assert_int_equal(setenv("HET_CPU_ISA", "bf16", 1), 0);
    const het_status offered = het_device_open_cpu(&dev, 1, HET_PRECISION_BF16);
    if (offered == HET_OK) {
        assert_int_equal(dev.precision, HET_BF16);
        het_device_close(&dev);
    }
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_AUTO), HET_OK);
    assert_int_equal(dev.precision, offered == HET_OK && __builtin_cpu_is("amd") ? HET_BF16 : HET_F32);
    het_device_close(&dev);
    unsetenv("HET_CPU_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_agrees),
        cmocka_unit_test(norm_masks_as_forward),
        cmocka_unit_test(norm_keeps_small_variance),
        cmocka_unit_test(norm_reference_gradient),
        cmocka_unit_test(norm_refuses),
        cmocka_unit_test(maxpool_agrees),
        cmocka_unit_test(avgpool_agrees),
        cmocka_unit_test(elementwise_agrees),
        cmocka_unit_test(bf16_rounds),
        cmocka_unit_test(linear_agrees),
        cmocka_unit_test(device_opens),
        cmocka_unit_test(device_refuses_bf16),
        cmocka_unit_test(auto_wants_fast_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
