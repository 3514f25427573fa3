#include "simulate.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"
#include "ctf.h"
#include "rotation.h"

/* Steps of HET_STREAM_SIMULATE: independent sequences of one image. */
enum { DRAW_POSE, DRAW_NOISE, DRAW_JUNK };

static const double two_pi = 6.28318530717958647692;

static het_status copy_ctf(het_simulator *sim, const het_simulate_spec *spec)
{
    double sum = 0.0;
    const int64_t n = spec->ctf_count;
    if (n == 0) return HET_OK;
    sim->ctf = het_alloc((size_t)n * sizeof *sim->ctf);
    sim->ctf_end = het_alloc((size_t)n * sizeof *sim->ctf_end);
    if (sim->ctf == NULL || sim->ctf_end == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %lld CTFs", (long long)n);
    memcpy(sim->ctf, spec->ctf, (size_t)n * sizeof *sim->ctf);
    for (int64_t i = 0; i < n; i++) {
        const double weight = spec->ctf_weight != NULL ? spec->ctf_weight[i] : 1.0;
        if (!(weight >= 0.0) || !isfinite(weight))
            return het_fail(HET_E_INPUT, "CTF row %lld is to be drawn %g times", (long long)i + 1, weight);
        sim->ctf_end[i] = sum += weight;
    }
    if (!(sum > 0.0)) return het_fail(HET_E_INPUT, "the %lld CTF rows have no particles", (long long)n);
    for (int64_t i = 0; i < n; i++) sim->ctf_end[i] /= sum;
    return HET_OK;
}

/* The amplitude of coloured noise by Fourier points, its mean square 1 over all of them. */
static het_status make_colour(het_simulator *sim)
{
    const int64_t d = sim->box, columns = d / 2 + 1;
    double sum = 0.0, count = 0.0;
    if (!(sim->spec.colour > 0.0)) return HET_OK;
    sim->colour = het_alloc((size_t)(d * columns) * sizeof *sim->colour);
    if (sim->colour == NULL) return het_fail(HET_E_MEMORY, "no memory for the noise");
    for (int64_t i = 0; i < d * columns; i++) {
        const int64_t y = i / columns, kx = i % columns, ky = y < d / 2 ? y : y - d;
        const double r = 8.0 * hypot((double)kx, (double)ky) / (double)d, power = 1.0 + (sim->spec.colour - 1.0) * exp(-r * r);
        const double times = kx == 0 || kx == d / 2 ? 1.0 : 2.0; /* with its conjugate */
        sim->colour[i] = (float)sqrt(power);
        sum += times * power;
        count += times;
    }
    for (int64_t i = 0; i < d * columns; i++) sim->colour[i] *= (float)sqrt(count / sum);
    return HET_OK;
}

het_status het_simulator_new(het_simulator *sim, const het_simulate_spec *spec, const het_volume *maps,
                             int64_t classes)
{
    het_status status = HET_OK;
    *sim = (het_simulator){.spec = *spec, .box = maps[0].box, .classes = classes, .apix = maps[0].apix, .scale = 1.0};
    sim->slicer = het_alloc((size_t)classes * sizeof *sim->slicer);
    if (sim->slicer == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for %lld classes", (long long)classes);
        goto done;
    }
    HET_TRY(copy_ctf(sim, spec));
    HET_TRY(het_points_new(&sim->points, sim->box));
    HET_TRY(het_fft_new(&sim->fft, 2, sim->box));
    HET_TRY(make_colour(sim));
    for (int64_t k = 0; k < classes; k++) {
        if (maps[k].box != sim->box || maps[k].apix != sim->apix) {
            status = het_fail(HET_E_SHAPE, "map %lld differs from the first in box or pixel size", (long long)k + 1);
            goto done;
        }
        HET_TRY(het_slicer_new(&sim->slicer[k], &maps[k]));
    }
done:
    if (status != HET_OK) het_simulator_free(sim);
    return status;
}

void het_simulator_free(het_simulator *sim)
{
    for (int64_t k = 0; sim->slicer != NULL && k < sim->classes; k++) het_slicer_free(&sim->slicer[k]);
    het_release(sim->slicer);
    het_points_free(&sim->points);
    het_fft_free(sim->fft);
    het_release(sim->ctf);
    het_release(sim->ctf_end);
    het_release(sim->colour);
    *sim = (het_simulator){0};
}

/* The row whose interval of the running sum holds u. */
static int64_t row_at(const double *end, int64_t n, double u)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (end[middle] > u) high = middle;
        else low = middle + 1;
    }
    return low;
}

het_simulated het_simulator_truth(const het_simulator *sim, int64_t i)
{
    het_simulated truth = {.klass = i % sim->classes};
    het_rng rng = het_rng_at(sim->spec.seed, HET_STREAM_SIMULATE, DRAW_POSE, (uint64_t)i);
    het_rotation_draw(truth.rotation, &rng);
    for (int a = 0; a < 2; a++) truth.shift[a] = sim->spec.shift * (2.0 * het_rng_uniform(&rng) - 1.0);
    const double u = het_rng_uniform(&rng);
    if (sim->ctf != NULL) truth.ctf = sim->ctf[row_at(sim->ctf_end, sim->spec.ctf_count, u)];
    het_rng junk = het_rng_at(sim->spec.seed, HET_STREAM_SIMULATE, DRAW_JUNK, (uint64_t)i);
    if (het_rng_uniform(&junk) < sim->spec.junk) truth.klass = -1;
    return truth;
}

typedef struct scratch {
    float *points, *spectrum, *grain;
} scratch;

static het_status scratch_new(scratch *s, const het_simulator *sim)
{
    s->points = het_alloc((size_t)sim->points.count * 2 * sizeof(float));
    s->spectrum = het_alloc((size_t)het_fft_size(sim->fft) * sizeof(float));
    s->grain = het_alloc((size_t)(sim->box * sim->box) * sizeof(float));
    if (s->points == NULL || s->spectrum == NULL || s->grain == NULL) return het_fail(HET_E_MEMORY, "no memory for an image's transform");
    return HET_OK;
}

static void scratch_free(scratch *s)
{
    het_release(s->points);
    het_release(s->spectrum);
    het_release(s->grain);
}

/* The clean image i, in the unit of the maps; of junk nothing. */
static void clean_image(const het_simulator *sim, float *image, scratch *s, int64_t i)
{
    const het_simulated truth = het_simulator_truth(sim, i);
    const int64_t d = sim->box, columns = d / 2 + 1;
    const double cycle = 1.0 / ((double)d * sim->apix);
    memset(image, 0, (size_t)(d * d) * sizeof *image);
    if (truth.klass < 0) return;
    memset(s->spectrum, 0, (size_t)het_fft_size(sim->fft) * sizeof *s->spectrum);
    het_slicer_slice(&sim->slicer[truth.klass], s->points, truth.rotation, sim->points.kxy, sim->points.count);
    for (int64_t p = 0; p < sim->points.count; p++) {
        const int64_t kx = sim->points.kxy[2 * p], ky = sim->points.kxy[2 * p + 1];
        const double c = het_ctf_at(&truth.ctf, cycle * (double)kx, cycle * (double)ky);
        const double phase = -two_pi * ((double)kx * truth.shift[0] + (double)ky * truth.shift[1]) / (double)d;
        const double re = c * cos(phase), im = c * sin(phase);
        const double vre = s->points[2 * p], vim = s->points[2 * p + 1];
        float *f = s->spectrum + 2 * (((ky + d) % d) * columns + kx);
        f[0] = (float)(re * vre - im * vim);
        f[1] = (float)(re * vim + im * vre);
        if (kx == 0 && ky > 0) { /* this column is stored whole: the other half is the conjugate */
            float *twin = s->spectrum + 2 * (d - ky) * columns;
            twin[0] = f[0];
            twin[1] = -f[1];
        }
    }
    het_fft_inverse(sim->fft, image, s->spectrum);
}

static void add_noise(const het_simulator *sim, float *image, scratch *s, int64_t i)
{
    het_rng rng = het_rng_at(sim->spec.seed, HET_STREAM_SIMULATE, DRAW_NOISE, (uint64_t)i);
    const float noise = (float)sim->noise, scale = (float)sim->scale;
    const int64_t d = sim->box;
    for (int64_t p = 0; p < d * d; p++) s->grain[p] = noise > 0.0f ? noise * het_rng_normal(&rng) : 0.0f;
    if (sim->colour != NULL && noise > 0.0f) {
        het_fft_forward(sim->fft, s->spectrum, s->grain);
        for (int64_t p = 0; p < het_fft_size(sim->fft); p++) s->spectrum[p] *= sim->colour[p / 2];
        het_fft_inverse(sim->fft, s->grain, s->spectrum);
    }
    for (int64_t p = 0; p < d * d; p++) image[p] = scale * (image[p] + s->grain[p]);
}

het_status het_simulator_images(const het_simulator *sim, float *images, int64_t first, int64_t count)
{
    const int64_t pixels = sim->box * sim->box;
    int lacking = 0;
    #pragma omp parallel reduction(+ : lacking)
    {
        scratch s;
        lacking = scratch_new(&s, sim) != HET_OK;
        #pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            if (lacking) continue;
            clean_image(sim, images + i * pixels, &s, first + i);
            add_noise(sim, images + i * pixels, &s, first + i);
        }
        scratch_free(&s);
    }
    return lacking ? het_fail(HET_E_MEMORY, "no memory for the transforms of simulated images") : HET_OK;
}

het_status het_simulator_measure(const het_simulator *sim, double *sums, int64_t first, int64_t count)
{
    const int64_t pixels = sim->box * sim->box;
    int lacking = 0;
    #pragma omp parallel reduction(+ : lacking)
    {
        scratch s;
        float *image = het_alloc((size_t)pixels * sizeof *image);
        lacking = scratch_new(&s, sim) != HET_OK || image == NULL;
        #pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            if (lacking) continue;
            clean_image(sim, image, &s, first + i);
            sums[2 * i] = sums[2 * i + 1] = 0.0;
            for (int64_t p = 0; p < pixels; p++) {
                sums[2 * i] += image[p];
                sums[2 * i + 1] += (double)image[p] * image[p];
            }
        }
        scratch_free(&s);
        het_release(image);
    }
    return lacking ? het_fail(HET_E_MEMORY, "no memory for the transforms of simulated images") : HET_OK;
}

het_status het_simulator_set_level(het_simulator *sim, const double *sums, int64_t count)
{
    double sum = 0.0, square = 0.0, pixels = 0.0;
    for (int64_t i = 0; i < count; i++) {
        if (het_simulator_truth(sim, i).klass < 0) continue;
        pixels += (double)(sim->box * sim->box);
        sum += sums[2 * i];
        square += sums[2 * i + 1];
    }
    if (pixels == 0.0) return het_fail(HET_E_NUMERIC, "no particle is among the first %lld images: nothing to set the noise by", (long long)count);
    const double variance = square / pixels - sum / pixels * (sum / pixels);
    if (!(variance > 0.0) || !isfinite(variance))
        return het_fail(HET_E_NUMERIC, "the maps give images of variance %g: nothing to simulate", variance);
    const double noise = isinf(sim->spec.snr) ? 0.0 : variance / sim->spec.snr;
    sim->noise = sqrt(noise);
    sim->scale = 1.0 / sqrt(variance + noise);
    return HET_OK;
}
