/* A start without a volume: averages of alike images, common lines between them, poses of their members. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/physics/align.h"
#include "../src/physics/ctf.h"
#include "../src/physics/fft.h"
#include "../src/physics/lines.h"
#include "../src/physics/rotation.h"
#include "../src/rng.h"

enum { D = 32, BLOBS = 12, RADIUS = 8, POLAR = RADIUS * HET_POLAR_HALF };
static const double PI = 3.14159265358979323846;
static const double APIX = 6.0, RANGE = 2.0, SNR = 3.1622776601683795; /* 5 dB */

static void random_rotation(float r[9], het_rng *rng)
{
    double one[9];
    const double u1 = het_rng_uniform(rng), u2 = het_rng_uniform(rng), u3 = het_rng_uniform(rng);
    het_rotation_uniform(one, u1, u2, u3);
    for (int k = 0; k < 9; k++) r[k] = (float)one[k];
}

/* ---- synchronisation ---- */

/* The lines that views at `rotation` share, the share `wrong` of them replaced by random directions. */
static void exact_lines(float *direction, float *shift, const float *rotation, const float *centre, int64_t m,
                        double wrong, het_rng *rng)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = i + 1; j < m; j++) {
            const float *p = rotation + 9 * i, *q = rotation + 9 * j;
            const float line[3] = {p[7] * q[8] - p[8] * q[7], p[8] * q[6] - p[6] * q[8],
                                   p[6] * q[7] - p[7] * q[6]};
            double at[2];
            for (int k = 0; k < 2; k++) {
                const float *r = k == 0 ? p : q;
                at[k] = atan2(r[3] * line[0] + r[4] * line[1] + r[5] * line[2],
                              r[0] * line[0] + r[1] * line[1] + r[2] * line[2]);
            }
            if (het_rng_uniform(rng) < wrong)
                for (int k = 0; k < 2; k++) at[k] = 2.0 * PI * het_rng_uniform(rng);
            float *c = direction + 2 * (i * m + j), *d = direction + 2 * (j * m + i);
            c[0] = (float)cos(at[0]);
            c[1] = (float)sin(at[0]);
            d[0] = (float)cos(at[1]);
            d[1] = (float)sin(at[1]);
            shift[i * m + j] = c[0] * centre[2 * i] + c[1] * centre[2 * i + 1] - d[0] * centre[2 * j] -
                               d[1] * centre[2 * j + 1];
            shift[j * m + i] = -shift[i * m + j];
        }
}

static void wrong_lines_are_outvoted(void **state)
{
    (void)state;
    enum { M = 150 };
    float *truth = calloc(M * 9, sizeof *truth), *found = calloc(M * 9, sizeof *found),
          *share = calloc(M, sizeof *share);
    float *direction = calloc(M * M * 2, sizeof *direction), *shift = calloc(M * M, sizeof *shift);
    float *centre = calloc(M * 2, sizeof *centre), *centred = calloc(M * 2, sizeof *centred);
    het_rng rng = het_rng_at(7, HET_STREAM_SIMULATE, 0, 0);
    for (int i = 0; i < M; i++) {
        random_rotation(truth + 9 * i, &rng);
        for (int k = 0; k < 2; k++) centre[2 * i + k] = 4.0f * het_rng_uniform(&rng) - 2.0f;
    }
    for (int run = 0; run < 2; run++) {
        const double wrong = run == 0 ? 0.0 : 0.6, tolerance = run == 0 ? 1e-6 : 0.01;
        exact_lines(direction, shift, truth, centre, M, wrong, &rng);
        assert_int_equal(het_lines_synchronise(found, share, direction, M, 1), HET_OK);
        het_align align;
        assert_int_equal(het_align_rotations(&align, NULL, found, truth, M, HET_ALIGN_ANCHORS, 1), HET_OK);
        assert_true(align.median < tolerance);
        assert_true(align.mean < 2.0 * tolerance);
        double mean = 0.0;
        for (int i = 0; i < M; i++) mean += (double)share[i] / M;
        /* views more than 30 degrees apart: a share of cos 30 degrees */
        assert_true(fabs(mean - 0.866 * (1.0 - wrong + 0.017 * wrong)) < 0.03);

        assert_int_equal(het_lines_centre(centred, direction, shift, found, M, 1), HET_OK);
        het_origin origin;
        assert_int_equal(het_align_shifts(&origin, centred, centre, truth, M), HET_OK);
        assert_true(origin.corrected < 0.01);
    }
    assert_int_equal(het_lines_synchronise(found, share, direction, 2, 1), HET_E_SHAPE);
    free(truth);
    free(found);
    free(share);
    free(direction);
    free(shift);
    free(centre);
    free(centred);
}

/* ---- images of blobs ---- */

typedef struct particles {
    int64_t n;
    float *image, *rotation, *shift; /* (n,D,D), (n,9), (n,2) */
    het_ctf_row *ctf;
    double noise; /* variance per pixel */
} particles;

/* Projections of Gaussian blobs without any symmetry, by their transform:
 *     F(k) = C(k) sum_b a_b exp(-2 pi^2 s^2 |k|^2 / D^2) exp(-2 pi i k.(P p_b + t) / D) */
static void draw_image(float *image, const het_fft *fft, float *spectrum, const float *r, const float *t,
                       const het_ctf_row *ctf)
{
    double at[BLOBS][2], height[BLOBS];
    het_rng rng = het_rng_at(3, HET_STREAM_SIMULATE, 1, 0);
    for (int b = 0; b < BLOBS; b++) {
        double p[3];
        for (int e = 0; e < 3; e++) p[e] = 15.0 * ((double)het_rng_uniform(&rng) - 0.5);
        height[b] = 0.5 + (double)het_rng_uniform(&rng);
        for (int k = 0; k < 2; k++)
            at[b][k] = r[3 * k] * p[0] + r[3 * k + 1] * p[1] + r[3 * k + 2] * p[2] + t[k];
    }
    for (int y = 0; y < D; y++)
        for (int x = 0; x <= D / 2; x++) {
            const double kx = x, ky = y < D / 2 ? y : y - D, k2 = (kx * kx + ky * ky) / (D * D);
            double re = 0.0, im = 0.0;
            for (int b = 0; b < BLOBS && kx * kx + ky * ky < D * D / 4; b++) {
                const double angle = -2.0 * PI * (kx * at[b][0] + ky * at[b][1]) / D;
                re += height[b] * cos(angle);
                im += height[b] * sin(angle);
            }
            const double f = het_ctf_at(ctf, kx / (D * APIX), ky / (D * APIX)) *
                             exp(-2.0 * PI * PI * 1.5 * 1.5 * k2);
            spectrum[2 * (y * (D / 2 + 1) + x)] = (float)(f * re);
            spectrum[2 * (y * (D / 2 + 1) + x) + 1] = (float)(f * im);
        }
    het_fft_inverse(fft, image, spectrum);
}

static particles make_particles(int64_t n)
{
    particles s = {.n = n};
    s.image = calloc((size_t)(n * D * D), sizeof *s.image);
    s.rotation = calloc((size_t)(n * 9), sizeof *s.rotation);
    s.shift = calloc((size_t)(n * 2), sizeof *s.shift);
    s.ctf = calloc((size_t)n, sizeof *s.ctf);
    float *spectrum = calloc(D * (D / 2 + 1) * 2, sizeof *spectrum);
    het_fft *fft;
    assert_int_equal(het_fft_new(&fft, 2, D), HET_OK);
    double power = 0.0;
    for (int64_t i = 0; i < n; i++) {
        het_rng rng = het_rng_at(4, HET_STREAM_SIMULATE, 2, (uint64_t)i);
        random_rotation(s.rotation + 9 * i, &rng);
        for (int k = 0; k < 2; k++) s.shift[2 * i + k] = (float)RANGE * (2.0f * het_rng_uniform(&rng) - 1.0f);
        const float defocus = 12000.0f + 12000.0f * het_rng_uniform(&rng);
        s.ctf[i] = (het_ctf_row){.defocus_u = defocus + 800.0f,
                                 .defocus_v = defocus,
                                 .angle = 3.0f * het_rng_uniform(&rng),
                                 .voltage = 300e3f,
                                 .cs = 2.7e7f,
                                 .amplitude = 0.1f};
        draw_image(s.image + i * D * D, fft, spectrum, s.rotation + 9 * i, s.shift + 2 * i, s.ctf + i);
        for (int64_t p = i * D * D; p < (i + 1) * D * D; p++) power += (double)(s.image[p] * s.image[p]);
    }
    power /= (double)(n * D * D);
    s.noise = power / SNR / (power + power / SNR);
    const double scale = 1.0 / sqrt(power + power / SNR);
    het_rng rng = het_rng_at(4, HET_STREAM_SIMULATE, 3, 0);
    for (int64_t p = 0; p < n * D * D; p++)
        s.image[p] = (float)(scale * (double)s.image[p] + sqrt(s.noise) * (double)het_rng_normal(&rng));
    het_fft_free(fft);
    free(spectrum);
    return s;
}

static void free_particles(particles *s)
{
    free(s->image);
    free(s->rotation);
    free(s->shift);
    free(s->ctf);
}

static het_averages_spec spec_of(const particles *s, int64_t averages, int neighbours)
{
    return (het_averages_spec){.box = D,
                               .images = s->n,
                               .averages = averages,
                               .neighbours = neighbours,
                               .radius = RADIUS,
                               .apix = APIX,
                               .shift_range = RANGE,
                               .noise_variance = s->noise};
}

/* ---- the score against its definition ---- */

/* F (POLAR,2) of a windowed image and C (POLAR) at radius p / HALF + 1 and angle p % HALF. */
static void plain_transform(double *f, double *c, const float *image, const het_ctf_row *ctf)
{
    for (int p = 0; p < POLAR; p++) {
        const double theta = PI * (p % HET_POLAR_HALF) / HET_POLAR_HALF, r = p / HET_POLAR_HALF + 1;
        double re = 0.0, im = 0.0;
        for (int i = 0; i < D * D; i++) {
            const double x = i % D - D / 2, y = i / D - D / 2;
            const double window = fmin(1.0, fmax(0.0, (0.99 - hypot(x, y) / (D / 2)) / 0.14));
            const double angle = -2.0 * PI * r * (x * cos(theta) + y * sin(theta)) / D;
            re += window * image[i] * cos(angle) / D;
            im += window * image[i] * sin(angle) / D;
        }
        f[2 * p] = re;
        f[2 * p + 1] = im;
        c[p] = het_ctf_at(ctf, r * cos(theta) / (D * APIX), r * sin(theta) / (D * APIX));
    }
}

/* The score of header averages.h at one turn (in steps of 5 degrees), mirror and shift. */
static double plain_score(const het_averages *a, const double *weight, const double *fi, const double *ci,
                          const double *fj, const double *cj, int turn, int mirrored, const float shift[2])
{
    double sum = 0.0;
    for (int p = 0; p < POLAR; p++) {
        const int r = p / HET_POLAR_HALF, h = p % HET_POLAR_HALF;
        const int at = ((mirrored ? turn - h : h - turn) % 72 + 72) % 72,
                  q = r * HET_POLAR_HALF + at % HET_POLAR_HALF;
        const double gain = ci[q] / (ci[q] * ci[q] + a->noise / a->power[r]);
        const double re = gain * fi[2 * q], im = (at < HET_POLAR_HALF ? gain : -gain) * fi[2 * q + 1];
        const double theta = PI * h / HET_POLAR_HALF;
        const double angle = 2.0 * PI * (r + 1) * (shift[0] * cos(theta) + shift[1] * sin(theta)) / D;
        const double x = cj[p] * (fj[2 * p] * cos(angle) - fj[2 * p + 1] * sin(angle));
        const double y = cj[p] * (fj[2 * p] * sin(angle) + fj[2 * p + 1] * cos(angle));
        sum += weight[r] * (re * x + im * y - 0.5 * cj[p] * cj[p] * (re * re + im * im));
    }
    return sum;
}

static void scores_follow_their_definition(void **state)
{
    (void)state;
    enum { N = 14, M = 2 };
    het_device dev;
    het_averages a;
    particles s = make_particles(N);
    const het_averages_spec spec = spec_of(&s, M, N);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    assert_int_equal(het_averages_new(&a, &dev, &spec, s.image, s.ctf), HET_OK);
    double f[N][2 * POLAR], c[N][POLAR], weight[RADIUS];
    for (int i = 0; i < N; i++) plain_transform(f[i], c[i], s.image + i * D * D, s.ctf + i);
    for (int r = 0; r < RADIUS; r++) {
        double c2 = 0.0;
        for (int i = 0; i < N; i++)
            for (int h = 0; h < HET_POLAR_HALF; h++)
                c2 += c[i][r * HET_POLAR_HALF + h] * c[i][r * HET_POLAR_HALF + h];
        weight[r] = (r + 1) / (a.noise + 0.2 * a.power[r] * c2 / (N * HET_POLAR_HALF));
    }
    int mirrored[2] = {0, 0};
    for (int k = 0; k < M * N; k++) {
        const het_member *e = a.member + k;
        const int i = k / N, j = (int)e->image;
        const int turn = (int)lround((double)e->angle * 36.0 / PI);
        assert_true(k % N == 0 || e->score <= e[-1].score);
        const double own = plain_score(&a, weight, f[i], c[i], f[j], c[j], turn, e->mirrored, e->shift);
        assert_true(fabs((double)e->score - own) < 1e-3 * fabs(a.member[k / N * N].score));
        mirrored[e->mirrored] += turn < 36;
        if (k % 3 != 0) continue;
        double best = -INFINITY;
        for (int q = 0; q < 2 * 72 * 25; q++) {
            const float shift[2] = {(float)(q / 144 % 5 - 2), (float)(q / 720 - 2)};
            best = fmax(best, plain_score(&a, weight, f[i], c[i], f[j], c[j], q % 72, q / 72 % 2, shift));
        }
        assert_true(fabs(best - own) < 1e-3 * fabs(best));
    }
    assert_true(mirrored[0] > 1 && mirrored[1] > 1);
    het_averages_free(&a);
    het_device_close(&dev);
    free_particles(&s);
}

/* ---- from images to poses ---- */

static void poses_from_images(void **state)
{
    (void)state;
    enum { N = 600, M = 80, K = 6 };
    het_device dev;
    het_averages a;
    particles s = make_particles(N);
    const het_averages_spec spec = spec_of(&s, M, K);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    assert_int_equal(het_averages_new(&a, &dev, &spec, s.image, s.ctf), HET_OK);
    float *direction = calloc(M * M * 2, sizeof *direction), *along = calloc(M * M, sizeof *along);
    float *view = calloc(M * 9, sizeof *view), *centre = calloc(M * 2, sizeof *centre), share[M];
    float *rotation = calloc(N * 9, sizeof *rotation), *shift = calloc(N * 2, sizeof *shift);
    int64_t *average = calloc(N, sizeof *average);
    assert_int_equal(het_lines_find(direction, along, &dev, &a), HET_OK);
    assert_int_equal(het_lines_synchronise(view, share, direction, M, 1), HET_OK);
    assert_int_equal(het_lines_centre(centre, direction, along, view, M, 1), HET_OK);
    het_lines_poses(rotation, shift, average, &a, view, centre, share);

    int64_t count = 0, right = 0; /* the images with poses move to the front, with their truth */
    for (int64_t j = 0; j < N; j++) {
        if (average[j] < 0) continue;
        assert_true(average[j] < M);
        memmove(rotation + 9 * count, rotation + 9 * j, 9 * sizeof *rotation);
        memmove(s.rotation + 9 * count, s.rotation + 9 * j, 9 * sizeof *rotation);
        memmove(shift + 2 * count, shift + 2 * j, 2 * sizeof *shift);
        memmove(s.shift + 2 * count, s.shift + 2 * j, 2 * sizeof *shift);
        count++;
    }
    assert_true(count > 2 * M && count < N);
    double *distance2 = calloc(N, sizeof *distance2), sum = 0.0;
    het_align align;
    het_origin origin;
    assert_int_equal(
        het_align_rotations(&align, distance2, rotation, s.rotation, count, HET_ALIGN_ANCHORS, 1), HET_OK);
    assert_int_equal(het_align_shifts(&origin, shift, s.shift, s.rotation, count), HET_OK);
    for (int64_t j = 0; j < count; j++) right += distance2[j] < 1.0;
    for (int64_t i = 0; i < M; i++) sum += (double)share[i] / M;
    print_message("%lld poses, %.3f right, median %.3f, shifts %.3f px^2, consistency %.2f\n",
                  (long long)count, (double)right / (double)count, align.median, origin.corrected, sum);
    assert_true((double)right > 0.85 * (double)count);
    assert_true(align.median < 0.3);
    assert_true(origin.raw < 0.3); /* no move of the whole volume either */
    assert_true(sum > 0.3);

    het_averages again;
    assert_int_equal(het_averages_new(&again, &dev, &spec, s.image, s.ctf), HET_OK);
    assert_memory_equal(a.sum, again.sum, M * 2 * POLAR * sizeof(float));
    het_averages_free(&again);
    het_averages_free(&a);
    het_device_close(&dev);
    free(direction);
    free(along);
    free(view);
    free(centre);
    free(rotation);
    free(shift);
    free(average);
    free(distance2);
    free_particles(&s);
}

static void sizes_are_checked(void **state)
{
    (void)state;
    het_device dev;
    het_averages a;
    particles s = make_particles(2);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    het_averages_spec spec = spec_of(&s, 2, 3); /* more members than images */
    assert_int_equal(het_averages_new(&a, &dev, &spec, s.image, s.ctf), HET_E_USAGE);
    spec = spec_of(&s, 3, 2);
    assert_int_equal(het_averages_new(&a, &dev, &spec, s.image, s.ctf), HET_E_USAGE);
    spec = spec_of(&s, 2, 2);
    spec.radius = HET_POLAR_SHELLS + 1;
    assert_int_equal(het_averages_new(&a, &dev, &spec, s.image, s.ctf), HET_E_USAGE);
    het_device_close(&dev);
    free_particles(&s);
}

static int no_leaks(void **state)
{
    (void)state;
    return het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_lines_are_outvoted),
        cmocka_unit_test(scores_follow_their_definition),
        cmocka_unit_test(poses_from_images),
        cmocka_unit_test(sizes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, no_leaks);
}
