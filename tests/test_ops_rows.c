/* Operations on rows (kernels/ops.h, "the two tasks") against plain loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/rng.h"
#include "ref/device.h"

static het_device device;

static void fill(float *x, int64_t n, uint64_t sample)
{
    het_rng rng = het_rng_at(13, HET_STREAM_SIMULATE, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = het_rng_normal(&rng);
}

static void assert_close(const float *x, const double *exact, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(x[i] - exact[i]) <= 1e-6 * (1.0 + fabs(exact[i])))) fail_msg("number %d: %g, not %g", (int)i, x[i], exact[i]);
}

enum { B = 6, N = 37, THREADS = 2 };

/* What the host does for a device of any kind has the threads that were asked for. */
static void threads_are_those_asked_for(void **state)
{
    (void)state;
    assert_int_equal(device.threads, THREADS);
}

static void winners_are_the_least(void **state)
{
    (void)state;
    float loss[B], kl[B], shift[2 * B], total[B], weight[B];
    int32_t which[B];
    double exact[B];
    fill(loss, B, 1), fill(kl, B, 2), fill(shift, 2 * B, 3);
    loss[3] = loss[2], kl[3] = kl[2], shift[6] = shift[4], shift[7] = -shift[5]; /* equal: the first wins */
    loss[4] = 9.0f, loss[5] = -9.0f;
    for (int i = 0; i < B; i++)
        exact[i] = loss[i] + 0.1 * kl[i] + 0.5 * 0.2 * (fabs((double)shift[2 * i]) + fabs((double)shift[2 * i + 1]));
    for (int group = 1; group <= 2; group++) {
        device.ops->winners(&device, total, which, weight, loss, kl, shift, 0.1f, 0.2f, 0.25f, B, group);
        assert_close(total, exact, B);
        for (int i = 0; i < B; i++) {
            const int other = i % 2 == 0 ? i + 1 : i - 1, first = i % 2 == 0;
            const int wins = group == 1 || exact[i] < exact[other] - 1e-9 || (first && !(exact[other] < exact[i] - 1e-9));
            assert_true(weight[i] == (wins ? 0.25f : 0.0f));
            if (wins) assert_int_equal(which[i / group], i);
        }
    }
}

static void shifts_go_backward(void **state)
{
    (void)state;
    float dpx[2 * B], shift[2 * B], weight[B], dshift[2 * B];
    double exact[2 * B];
    fill(dpx, 2 * B, 4), fill(shift, 2 * B, 5), fill(weight, B, 6);
    shift[3] = 0.0f;
    for (int i = 0; i < 2 * B; i++)
        exact[i] = weight[i / 2] * (64.0 * dpx[i] + 0.5 * 0.3 * ((shift[i] > 0) - (shift[i] < 0)));
    device.ops->shift_backward(&device, dshift, dpx, shift, weight, 0.3f, 64.0f, B);
    assert_close(dshift, exact, 2 * B);
}

static void rows_are_scaled_and_summed(void **state)
{
    (void)state;
    float x[B * N], y[B * N], scale[B], sum[N], old[N];
    double exact[B * N];
    fill(x, B * N, 7), fill(scale, B, 8), fill(sum, N, 9);
    for (int i = 0; i < B * N; i++) exact[i] = (double)scale[i / N] * x[i];
    device.ops->scale_rows(&device, y, x, scale, B, N);
    assert_close(y, exact, B * N);
    memcpy(old, sum, sizeof sum);
    for (int j = 0; j < N; j++) exact[j] = old[j];
    for (int i = 0; i < B * N; i++) exact[i % N] += 0.125 * x[i];
    device.ops->sum_rows(&device, sum, x, 0.125f, B, N);
    assert_close(sum, exact, N);
    for (int j = 0; j < N; j++) exact[j] = 0.9 * old[j] + 0.1 * x[j];
    device.ops->blend(&device, old, x, 0.1f, N);
    assert_close(old, exact, N);
}

static void rows_are_gathered(void **state)
{
    (void)state;
    const int32_t index[] = {4, 0, 5};
    float x[B * N], y[B * N];
    fill(x, B * N, 10);
    device.ops->gather_rows(&device, y, x, index, 6, 2, N);
    for (int j = 0; j < 6; j++) assert_memory_equal(y + j * N, x + index[j / 2] * N, N * sizeof *x);
    device.ops->gather_rows(&device, y, x, NULL, 5, 3, N);
    for (int j = 0; j < 5; j++) assert_memory_equal(y + j * N, x + j / 3 * N, N * sizeof *x);
}

static void rows_are_filled(void **state)
{
    (void)state;
    float y[N + 1];
    y[N] = 3.0f;
    device.ops->fill(&device, y, 0.25f, N);
    for (int i = 0; i < N; i++) assert_true(y[i] == 0.25f);
    assert_true(y[N] == 3.0f);
}

static void images_get_unit_scale(void **state)
{
    (void)state;
    const float power[] = {4.0f, 0.01f, 0.0f};
    const double exact[B] = {0.5, 0.5, 10.0, 10.0, 1e6, 1e6};
    float scale[B];
    device.ops->unit_scale(&device, scale, power, B, 3);
    assert_close(scale, exact, B);
}

/* fp16 to the bit: ordinary numbers of both signs, subnormal ones, the largest. */
static void images_are_taken(void **state)
{
    (void)state;
    const int64_t index[] = {3, 3, 0};
    float x[B * N], y[B * N];
    _Float16 half[B * N];
    fill(x, B * N, 11);
    x[3 * N] = 65504.0f, x[3 * N + 1] = -3e-7f, x[3 * N + 2] = 0.0f;
    for (int i = 0; i < B * N; i++) half[i] = (_Float16)x[i];
    device.ops->take_images(&device, y, x, 0, index, 3, N);
    for (int j = 0; j < 3; j++) assert_memory_equal(y + j * N, x + index[j] * N, N * sizeof *x);
    device.ops->take_images(&device, y, half, 1, index, 3, N);
    for (int j = 0; j < 3 * N; j++) assert_true(y[j] == (float)half[index[j / N] * N + j % N]);
    device.ops->take_images(&device, y, half, 1, NULL, B, N);
    for (int j = 0; j < B * N; j++) assert_true(y[j] == (float)half[j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_those_asked_for),
        cmocka_unit_test(winners_are_the_least),
        cmocka_unit_test(shifts_go_backward),
        cmocka_unit_test(rows_are_scaled_and_summed),
        cmocka_unit_test(rows_are_gathered),
        cmocka_unit_test(rows_are_filled),
        cmocka_unit_test(images_get_unit_scale),
        cmocka_unit_test(images_are_taken),
    };
    ref_device_open_staged(&device, THREADS, HET_PRECISION_F32);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    het_device_close(&device);
    return failed;
}
