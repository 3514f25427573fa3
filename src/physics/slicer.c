#include "slicer.h"

#include <math.h>

#include "../arena.h"
#include "fft.h"

enum { PAD = 2, TAPS = 4 };

static const double pi = 3.14159265358979323846;

/* Shape of the kernel for TAPS samples on a grid oversampled PAD times: pi sqrt((W/a)^2 (a - 1/2)^2 - 0.8). */
static double kernel_beta(void)
{
    const double ratio = (double)TAPS / PAD;
    return pi * sqrt(ratio * ratio * (PAD - 0.5) * (PAD - 0.5) - 0.8);
}

static double bessel_i0(double x)
{
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 60; k++) {
        term *= x * x / (4.0 * k * k);
        sum += term;
    }
    return sum;
}

/* h(u), u in padded Fourier pixels, |u| <= TAPS/2 */
static double kernel(double u)
{
    const double v = 2.0 * u / TAPS;
    return fabs(v) >= 1.0 ? 0.0 : bessel_i0(kernel_beta() * sqrt(1.0 - v * v)) / bessel_i0(kernel_beta());
}

/* Its transform at x/N of the padded box: integral h(u) exp(2 pi i u x/N) du. */
static double kernel_transform(double x_over_n)
{
    const double beta = kernel_beta(), a = pi * TAPS * x_over_n;
    const double root = sqrt(beta * beta - a * a);
    return TAPS * sinh(root) / (root * bessel_i0(beta));
}

static float *kernel_table(void)
{
    float *table = het_alloc((HET_SLICER_TABLE + 1) * TAPS * sizeof *table);
    if (table == NULL) return NULL;
    for (int i = 0; i <= HET_SLICER_TABLE; i++)
        for (int t = 0; t < TAPS; t++)
            table[TAPS * i + t] = (float)kernel((double)i / HET_SLICER_TABLE - (t - TAPS / 2 + 1));
    return table;
}

/* Put the corrected map into the middle of the padded box. */
static void pad_corrected(float *padded, const het_volume *volume, const float *correction)
{
    const int64_t d = volume->box, n = PAD * d, offset = n / 2 - d / 2;
    for (int64_t z = 0; z < d; z++) {
        for (int64_t y = 0; y < d; y++) {
            const float *from = volume->data + (z * d + y) * d;
            float *to = padded + ((z + offset) * n + y + offset) * n + offset;
            const float yz = correction[z] * correction[y];
            for (int64_t x = 0; x < d; x++) to[x] = from[x] * yz * correction[x];
        }
    }
}

/* The coefficient at any integer k of the padded spectrum, from the stored half and periodicity. */
static void fetch(float out[2], const float *spectrum, int64_t n, int64_t kx, int64_t ky, int64_t kz, float scale)
{
    const int fold = kx < 0 || kx > n / 2;
    if (fold) {
        kx = kx < 0 ? -kx : n - kx;
        ky = -ky;
        kz = -kz;
    }
    const int64_t y = (ky + 2 * n) % n, z = (kz + 2 * n) % n;
    const float *value = spectrum + 2 * ((z * n + y) * (n / 2 + 1) + kx);
    out[0] = scale * value[0];
    out[1] = fold ? -scale * value[1] : scale * value[1];
}

/* Copy the spectrum into an order without wrap-around, with a margin for the kernel. */
static void store(het_slicer *slicer, const float *spectrum, int64_t n)
{
    const int64_t d = slicer->box;
    /* het_fft is orthonormal over N = 2D, S(q) has the factor 1/D. */
    const float scale = (float)(pow((double)n, 1.5) / (double)d);
    for (int64_t z = 0; z < slicer->rows; z++)
        for (int64_t y = 0; y < slicer->rows; y++)
            for (int64_t x = 0; x < slicer->columns; x++)
                fetch(slicer->block + 2 * ((z * slicer->rows + y) * slicer->columns + x), spectrum, n, x - 1, y - d - 1,
                      z - d - 1, scale);
}

het_status het_slicer_new(het_slicer *slicer, const het_volume *volume)
{
    het_status status = HET_OK;
    const int64_t d = volume->box, n = PAD * d;
    *slicer = (het_slicer){.box = d, .columns = d + 4, .rows = 2 * d + 4};
    float *padded = NULL, *spectrum = NULL, *correction = NULL;
    het_fft *fft = NULL;
    HET_TRY(het_fft_new(&fft, 3, n));
    padded = het_alloc((size_t)(n * n * n) * sizeof *padded);
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    correction = het_alloc((size_t)d * sizeof *correction);
    slicer->table = kernel_table();
    slicer->block = het_alloc((size_t)(slicer->rows * slicer->rows * slicer->columns * 2) * sizeof(float));
    if (padded == NULL || spectrum == NULL || correction == NULL || slicer->table == NULL || slicer->block == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the padded transform of a map of box %lld", (long long)d);
        goto done;
    }
    for (int64_t x = 0; x < d; x++) correction[x] = (float)(1.0 / kernel_transform((double)(x - d / 2) / (double)n));
    pad_corrected(padded, volume, correction);
    het_fft_forward(fft, spectrum, padded);
    store(slicer, spectrum, n);
done:
    het_fft_free(fft);
    het_release(padded);
    het_release(spectrum);
    het_release(correction);
    if (status != HET_OK) het_slicer_free(slicer);
    return status;
}

void het_slicer_free(het_slicer *slicer)
{
    het_release(slicer->block);
    het_release(slicer->table);
    *slicer = (het_slicer){0};
}

/* The four weights of one axis, from the table by linear interpolation, and the first sample's index. */
static int64_t axis_weights(float weight[TAPS], const float *table, double p)
{
    const double base = floor(p);
    const double place = (p - base) * HET_SLICER_TABLE;
    const int i = (int)place < HET_SLICER_TABLE ? (int)place : HET_SLICER_TABLE - 1;
    const float part = (float)(place - i);
    const float *low = table + TAPS * i;
    for (int t = 0; t < TAPS; t++) weight[t] = low[t] + part * (low[TAPS + t] - low[t]);
    return (int64_t)base - (TAPS / 2 - 1);
}

void het_slicer_at(const het_slicer *slicer, float out[2], double qx, double qy, double qz)
{
    out[0] = out[1] = 0.0f;
    const double half = 0.5 * (double)slicer->box;
    if (!(qx * qx + qy * qy + qz * qz <= half * half)) return;
    const int fold = qx < 0.0;
    const double way = fold ? -PAD : PAD;
    float wx[TAPS], wy[TAPS], wz[TAPS], both[2 * TAPS], sum[2 * TAPS] = {0};
    const int64_t x = axis_weights(wx, slicer->table, way * qx) + 1;
    const int64_t y = axis_weights(wy, slicer->table, way * qy) + slicer->box + 1;
    const int64_t z = axis_weights(wz, slicer->table, way * qz) + slicer->box + 1;
    for (int t = 0; t < TAPS; t++) both[2 * t] = both[2 * t + 1] = wx[t];
    for (int j = 0; j < TAPS; j++) {
        for (int i = 0; i < TAPS; i++) {
            const float *line = slicer->block + 2 * (((z + j) * slicer->rows + y + i) * slicer->columns + x);
            const float w = wz[j] * wy[i];
            for (int t = 0; t < 2 * TAPS; t++) sum[t] += w * line[t];
        }
    }
    for (int t = 0; t < TAPS; t++) {
        out[0] += both[2 * t] * sum[2 * t];
        out[1] += both[2 * t + 1] * sum[2 * t + 1];
    }
    if (fold) out[1] = -out[1];
}

void het_slicer_slice(const het_slicer *slicer, float *points, const double r[9], const int32_t *kxy, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const double kx = kxy[2 * i], ky = kxy[2 * i + 1];
        het_slicer_at(slicer, points + 2 * i, kx * r[0] + ky * r[3], kx * r[1] + ky * r[4], kx * r[2] + ky * r[5]);
    }
}

void het_slicer_slices(const het_slicer *slicer, float *slices, const float *rot, int64_t n, const int32_t *kxy, int64_t p,
                       int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double r[9];
        for (int c = 0; c < 9; c++) r[c] = (double)rot[9 * i + c];
        het_slicer_slice(slicer, slices + 2 * i * p, r, kxy, p);
    }
}
