#include "collapse.h"

#include <math.h>
#include <stdio.h>

#include "../arena.h"
#include "../rng.h"
#include "stats.h"

/* Limits of the findings: the header states them. */
static const double SETTLED_IMAGES = 20000.0; /* earlier, losses and poses of any run look like a failure */
static const double COLLAPSED_SPREAD = 2.0; /* a third of the uniform mean: views within about 60 degrees */
static const double WEAK = 0.8; /* of the signal: right poses explain 0.97 and more on simulated images, lost ones 0.67 to 0.95 */
static const double NEAR_END = 0.9;
static const double INVERTED_SKEWNESS = -0.3;
static const double UNUSED_Z = 0.1; /* a tenth of the prior's */
enum { IN_A_ROW = 3 };

het_status het_health_spread(double *spread, const float *rotation, int64_t count, int64_t pairs,
                             uint64_t seed)
{
    *spread = 0.0;
    if (count < 2 || pairs < 1)
        return het_fail(HET_E_SHAPE, "the spread of rotations needs at least two of them");
    double *d = het_alloc((size_t)pairs * sizeof *d);
    if (d == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld pairs of rotations", (long long)pairs);
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 2, 0);
    for (int64_t p = 0; p < pairs; p++) {
        const int64_t i = (int64_t)het_rng_below(&rng, (uint64_t)count);
        const int64_t j = (i + 1 + (int64_t)het_rng_below(&rng, (uint64_t)(count - 1))) % count;
        d[p] = 0.0;
        for (int k = 0; k < 9; k++) {
            const double difference = (double)rotation[9 * i + k] - (double)rotation[9 * j + k];
            d[p] += difference * difference;
        }
    }
    *spread = het_median(d, pairs);
    het_release(d);
    return HET_OK;
}

double het_health_skewness(const float *volume, int64_t box)
{
    const int64_t half = box / 2;
    double moment[4] = {0}, mean = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < box * box * box; i++) {
            const int64_t x = i % box - half, y = i / box % box - half, z = i / box / box - half;
            if (x * x + y * y + z * z >= half * half) continue;
            const double v = (double)volume[i] - mean;
            if (pass == 0) {
                moment[0] += 1.0;
                moment[1] += v;
            } else {
                moment[2] += v * v;
                moment[3] += v * v * v;
            }
        }
        mean = moment[1] / moment[0];
    }
    const double variance = moment[2] / moment[0];
    if (!(variance > 0.0)) return 0.0;
    return moment[3] / moment[0] / pow(variance, 1.5);
}

/* Count the reports in a row; a number that is not known leaves the count as it is. */
static int in_a_row(int *reports, int known, int found)
{
    if (known) *reports = found ? *reports + 1 : 0;
    return *reports >= IN_A_ROW;
}

double het_health_explained(const het_health_numbers *now)
{
    const double signal = now->zero_loss - now->noise_loss;
    return signal > 0.0 ? (now->zero_loss - now->image_loss) / signal : NAN;
}

int het_health_judge(het_health *health, const het_health_numbers *now)
{
    int findings = HET_HEALTH_GOOD;
    const int settled = now->images_seen >= SETTLED_IMAGES;
    const int compared = settled && isfinite(now->image_loss) && isfinite(now->zero_loss);
    const int unfit = compared && now->image_loss >= now->zero_loss;
    if (now->non_finite > 0.0) findings |= HET_HEALTH_NAN;
    if (isfinite(now->snr) && isfinite(now->snr_floor) && now->snr <= now->snr_floor)
        findings |= HET_HEALTH_NO_SNR;
    if (in_a_row(&health->collapsed, settled && isfinite(now->spread), now->spread < COLLAPSED_SPREAD))
        findings |= HET_HEALTH_COLLAPSE;
    if (in_a_row(&health->unfit, compared, unfit)) findings |= HET_HEALTH_UNFIT;
    /* the sign of a map that explains nothing means nothing */
    if (in_a_row(&health->inverted, compared && isfinite(now->skewness),
                 !unfit && now->skewness < INVERTED_SKEWNESS))
        findings |= HET_HEALTH_INVERTED;
    if (isfinite(now->z_rms) && health->released == 0.0) health->released = now->images_seen;
    if (in_a_row(&health->unused, isfinite(now->z_rms) && now->images_seen - health->released >= SETTLED_IMAGES,
                 now->z_rms < UNUSED_Z))
        findings |= HET_HEALTH_UNUSED;
    if (compared && !unfit && now->progress >= NEAR_END && het_health_explained(now) < WEAK) findings |= HET_HEALTH_WEAK;
    return findings;
}

void het_health_names(char *text, size_t size, int findings)
{
    static const char *const names[] = {"not finite", "no signal", "collapsed", "explains nothing", "inverted",
                                        "z unused", "explains little"};
    size_t used = (size_t)snprintf(text, size, "%s", findings == HET_HEALTH_GOOD ? "ok" : "");
    for (int i = 0; i < 7; i++)
        if (findings >> i & 1 && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", names[i]);
}

het_health_finding het_health_words(char *text, size_t size, int findings, const het_health_numbers *now)
{
    if (findings & HET_HEALTH_NAN) {
        snprintf(text, size,
                 "%.0f losses or gradients were not finite: run again from the last checkpoint with lower "
                 "rates (--set train.rate_encoder, train.rate_decoder), or with --set train.precision=fp32",
                 now->non_finite);
        return HET_HEALTH_NAN;
    }
    if (findings & HET_HEALTH_NO_SNR) {
        snprintf(text, size,
                 "estimated SNR %.2g: the particles do not stand out from the pixels outside the inscribed "
                 "circle; check that the box is wider than the particle and the images are particles, or "
                 "give the SNR with --set train.snr",
                 now->snr);
        return HET_HEALTH_NO_SNR;
    }
    if (findings & HET_HEALTH_COLLAPSE) {
        snprintf(text, size,
                 "predicted rotations have collapsed: mean distance %.2f where all views give %.1f; try "
                 "another train.seed, a smaller train.rate_encoder, more train.pose_steps, or a lower "
                 "train.march_start",
                 now->spread, HET_SPREAD_MEAN);
        return HET_HEALTH_COLLAPSE;
    }
    if (findings & HET_HEALTH_UNFIT) {
        snprintf(text, size,
                 "the volume explains the images no better than nothing (loss %.5g, of predicting zero "
                 "%.5g): check pixel size, CTF and sign of the stack (hetacumn info), or start at a lower "
                 "train.march_start",
                 now->image_loss, now->zero_loss);
        return HET_HEALTH_UNFIT;
    }
    if (findings & HET_HEALTH_INVERTED) {
        snprintf(text, size,
                 "the map's dense part is negative (skewness %.2f): contrast looks inverted; import the "
                 "stack again with the other --sign",
                 now->skewness);
        return HET_HEALTH_INVERTED;
    }
    if (findings & HET_HEALTH_WEAK) {
        snprintf(text, size,
                 "the volumes explain %.0f %% of what is not white noise in the images: poses or volumes are probably wrong; "
                 "try --method hetacumn with more --starts, another train.seed or more train.epochs",
                 100.0 * het_health_explained(now));
        return HET_HEALTH_WEAK;
    }
    if (findings & HET_HEALTH_UNUSED) {
        snprintf(text, size,
                 "conformations are not used: z stays near 0 (%.3f, where 1 is common): the images hold one "
                 "state, or give a smaller train.lambda_z or init.prior_z, or a longer train.freeze_epochs",
                 now->z_rms);
        return HET_HEALTH_UNUSED;
    }
    if (size > 0) text[0] = '\0';
    return HET_HEALTH_GOOD;
}
