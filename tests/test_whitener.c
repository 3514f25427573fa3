#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/fft.h"
#include "../src/physics/whitener.h"
#include "../src/rng.h"

enum { D = 48, N = 400 };

/* The power of coloured noise: a bump at low frequencies, as in recorded images. */
static double power_at(double k)
{
    return 1.0 + 7.0 * exp(-k * k / 36.0);
}

/* Noise of this power, or white; inside the circle something else, of which the rim must not know; ground: height and slope of a plane. */
static float *make(int coloured, double ground, double *mean_power)
{
    const int columns = D / 2 + 1;
    float *images = het_alloc(N * D * D * sizeof *images), *spectrum = het_alloc(2 * D * columns * sizeof *spectrum);
    het_fft *fft;
    double sum = 0.0;
    assert_int_equal(het_fft_new(&fft, 2, D), HET_OK);
    for (int y = 0; y < D; y++)
        for (int x = 0; x < D; x++) sum += coloured ? power_at(hypot(x < D / 2 ? x : x - D, y < D / 2 ? y : y - D)) : 1.0;
    *mean_power = sum / (D * D);
    for (int i = 0; i < N; i++) {
        float *image = images + i * D * D;
        het_rng rng = het_rng_at(5, HET_STREAM_NOISE, 0, (uint64_t)i);
        for (int p = 0; p < D * D; p++) image[p] = het_rng_normal(&rng);
        het_fft_forward(fft, spectrum, image);
        for (int p = 0; coloured && p < D * columns; p++) {
            const int y = p / columns, ky = y < D / 2 ? y : y - D;
            const float by = (float)sqrt(power_at(hypot(p % columns, ky)));
            spectrum[2 * p] *= by;
            spectrum[2 * p + 1] *= by;
        }
        het_fft_inverse(fft, image, spectrum);
        for (int p = 0; p < D * D; p++) {
            const int x = p % D - D / 2, y = p / D - D / 2;
            if (x * x + y * y < 400) image[p] += 10.0F;
            image[p] += (float)(ground * (i % 3 - 1) * (5.0 + 0.2 * x - 0.1 * y));
        }
    }
    het_fft_free(fft);
    het_release(spectrum);
    return images;
}

static het_whitening find(const float *images)
{
    het_whitener *whitener;
    het_whitening found;
    assert_int_equal(het_whitener_new(&whitener, D), HET_OK);
    for (int i = 0; i < N; i++) het_whitener_add(whitener, images + i * D * D);
    het_whitener_find(whitener, &found);
    het_whitener_free(whitener);
    return found;
}

static void the_power_of_noise_is_found(void **state)
{
    (void)state;
    for (int ground = 0; ground < 2; ground++) {
        double mean;
        float *images = make(1, ground, &mean);
        const het_whitening found = find(images);
        assert_true(het_whitening_is(&found));
        for (double k = 4.0; k <= 23.0; k += 1.0) {
            const double wanted = sqrt(mean / power_at(k)), is = het_whitening_at(&found, k, D);
            if (!(fabs(is / wanted - 1.0) < 0.08)) fail_msg("|k| = %g: %g where %g was wanted", k, is, wanted);
        }
        assert_true(het_whitening_at(&found, 0.0, D) == het_whitening_at(&found, 2.0, D)); /* the plane took these */
        assert_true(het_whitening_at(&found, 24.0, D) == het_whitening_at(&found, 40.0, D));
        het_release(images);
    }
    assert_int_equal(het_arena_live(), 0);
}

static void whitened_noise_is_white(void **state)
{
    (void)state;
    double mean;
    float *images = make(1, 0.0, &mean);
    const het_whitening found = find(images);
    het_whitener *whitener;
    assert_int_equal(het_whitener_new(&whitener, D), HET_OK);
    for (int i = 0; i < N; i++) het_whitener_apply(whitener, &found, images + i * D * D);
    het_whitener_free(whitener);
    const het_whitening again = find(images);
    assert_false(het_whitening_is(&again));
    het_release(images);
    assert_int_equal(het_arena_live(), 0);
}

static void white_noise_stays(void **state)
{
    (void)state;
    double mean;
    float *images = make(0, 1.0, &mean);
    const het_whitening found = find(images), none = {0};
    assert_false(het_whitening_is(&found));
    assert_true(het_whitening_at(&none, 7.0, D) == 1.0);
    het_release(images);

    static float blank[D * D];
    het_whitener *whitener;
    het_whitening of;
    assert_int_equal(het_whitener_new(&whitener, D), HET_OK);
    het_whitener_find(whitener, &of); /* of no images */
    assert_false(het_whitening_is(&of));
    het_whitener_add(whitener, blank);
    het_whitener_find(whitener, &of);
    assert_false(het_whitening_is(&of));
    het_whitener_free(whitener);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_power_of_noise_is_found), cmocka_unit_test(whitened_noise_is_white),
                                       cmocka_unit_test(white_noise_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
