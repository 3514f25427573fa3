#include "noise.h"

#include <math.h>
#include <stddef.h>

void het_noise_tally_add(het_noise_tally *tally, const float *images, int64_t n, int64_t box)
{
    const int64_t half = box / 2;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t y = -half; y < half; y++) {
            const float *line = images + (i * box + y + half) * box + half;
            for (int64_t x = -half; x < half; x++) {
                const double value = line[x];
                const int rim = x * x + y * y > half * half;
                tally->sum += value;
                tally->square += value * value;
                if (!rim) continue;
                tally->rim_count += 1.0;
                tally->rim_sum += value;
                tally->rim_square += value * value;
            }
        }
    }
    tally->count += (double)(n * box * box);
}

static double variance(double count, double sum, double square)
{
    if (count < 2.0) return 0.0;
    const double mean = sum / count;
    return fmax(square / count - mean * mean, 0.0);
}

double het_noise_variance(const het_noise_tally *tally)
{
    return variance(tally->rim_count, tally->rim_sum, tally->rim_square);
}

double het_noise_snr(const het_noise_tally *tally, double floor, int *floored)
{
    const double noise = het_noise_variance(tally);
    const double all = variance(tally->count, tally->sum, tally->square);
    const double snr = noise > 0.0 ? (all - noise) / noise : 0.0;
    *floored = !(snr >= floor);
    return *floored ? floor : snr;
}

void het_noise_power_add(double *power, double *count, const float *points, const int32_t *kxy, int64_t p, int64_t n,
                         int64_t box)
{
    for (int64_t j = 0; j < p; j++) {
        const double kx = kxy[2 * j], ky = kxy[2 * j + 1];
        const int64_t shell = (int64_t)(sqrt(kx * kx + ky * ky) + 0.5);
        if (shell >= box / 2) continue;
        double sum = 0.0;
        for (int64_t i = 0; i < n; i++) {
            const float *f = points + 2 * (i * p + j);
            sum += (double)f[0] * f[0] + (double)f[1] * f[1];
        }
        power[shell] += sum;
        count[shell] += (double)n;
    }
}

/* Signal power of one shell before the CTF. */
static double shell_signal(const double *power, const double *count, const double *ctf2, double noise, int64_t s)
{
    if (count[s] <= 0.0) return 0.0;
    const double excess = fmax(power[s] / count[s] - noise, 0.0);
    return ctf2 != NULL ? excess / fmax(ctf2[s], 0.05) : excess;
}

void het_noise_envelope(float *envelope, const double *power, const double *count, const double *ctf2, double noise,
                        double least, int64_t shells)
{
    double largest = 0.0;
    for (int64_t s = 0; s < shells; s++) {
        double sum = 0.0, weights = 0.0;
        for (int64_t near = s - 2; near <= s + 2; near++) {
            if (near < 1 || near >= shells) continue; /* the window shrinks at both ends */
            const double weight = 3.0 - (double)(near > s ? near - s : s - near);
            sum += weight * shell_signal(power, count, ctf2, noise, near);
            weights += weight;
        }
        envelope[s] = weights > 0.0 ? (float)sqrt(sum / weights) : 0.0f;
        if (s > 0) largest = fmax(largest, envelope[s]);
    }
    if (shells > 1) envelope[0] = envelope[1];
    for (int64_t s = 0; s < shells; s++)
        envelope[s] = largest > 0.0 ? (float)fmax(envelope[s], least * largest) : 1.0f;
}
