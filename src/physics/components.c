#include "components.h"

#include <math.h>
#include <string.h>

#include "../arena.h"

static const double NOISE_LEAST = 1e-3;  /* of images of variance 1 */
static const double SHARE = 0.1;         /* of the signal's variance in a component, at most, as its prior has it */
static const double SIGNAL_LEAST = 0.01; /* of the noise */
static const double FINER = 8.0;         /* points of the grid of sums in a Fourier pixel: each holds so much less of what images tell of it */

int64_t het_components_shells(const het_components *c)
{
    return c->map[0].box / 2 + 1;
}

int64_t het_components_shell_end(const het_components_images *images, int64_t shell)
{
    const int64_t end = shell < images->points->box / 2 ? images->points->shells[shell] : images->p;
    return end < images->p ? end : images->p;
}

het_status het_components_new(het_components *c, int count, int64_t box, int64_t image_box, double noise, double turn, double shift)
{
    het_status status = HET_OK;
    const double finer = (double)image_box / (double)box;
    const size_t shells = (size_t)(box / 2 + 1);
    *c = (het_components){.count = count, .turn = turn, .shift = shift, .slice_scale = finer * finer};
    HET_ASSERT(count >= 0 && count <= HET_COMPONENTS_MOST);
    c->power = het_alloc(3 * shells * sizeof *c->power);
    c->noise = het_alloc(shells * sizeof *c->noise);
    if (c->power == NULL || c->noise == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %d components", count));
    for (size_t s = 0; s < shells; s++) c->noise[s] = fmax(noise, NOISE_LEAST);
    for (int k = 0; k <= count; k++) HET_TRY(het_volume_new(&c->map[k], box, 1.0));
    status = het_backproject_new_joint(&c->sum, count + 1, box, image_box);
done:
    return status;
}

void het_components_free(het_components *c)
{
    for (int k = 0; k <= c->count; k++) het_volume_free(&c->map[k]);
    het_slicer_free(&c->slicer);
    het_backproject_free(&c->sum);
    het_release(c->power);
    het_release(c->noise);
    *c = (het_components){0};
}

void het_components_set_noise(het_components *c, const double *left, int64_t n)
{
    const int each = het_components_lefts(c);
    for (int64_t s = 0; s < het_components_shells(c); s++) {
        double sum = 0.0, weight = 0.0;
        for (int64_t i = 0; i < n; i++) {
            sum += left[i * each + 2 * s];
            weight += left[i * each + 2 * s + 1];
        }
        if (weight > 0.0) c->noise[s] = fmax(sum / weight, NOISE_LEAST);
    }
}

void het_components_measure(het_components *c, const het_components_images *images)
{
    memset(c->power, 0, (size_t)(3 * het_components_shells(c)) * sizeof *c->power);
    for (int64_t i = 0; i < images->count; i++) {
        const float *a = images->a + 2 * i * images->p, *b = images->b + i * images->p;
        for (int64_t s = 0, j = 0; s < het_components_shells(c); s++) {
            for (double *of = c->power + 3 * s; j < het_components_shell_end(images, s); j++) {
                of[0] += (double)(a[2 * j] * a[2 * j] + a[2 * j + 1] * a[2 * j + 1]);
                of[1] += (double)b[j];
                of[2] += (double)(b[j] * b[j]);
            }
        }
    }
}

het_status het_components_add(het_components *c, const het_components_answer *answer, const het_components_images *images, int threads)
{
    het_status status = HET_OK;
    const int n = c->count + 1;
    const int64_t p = images->p;
    het_backproject *part = het_alloc((size_t)threads * sizeof *part);
    HET_TRY(part != NULL ? het_backproject_parts(part, threads, &c->sum) : het_fail(HET_E_MEMORY, "no memory for the sums of %d components", c->count));
    het_backproject_clear(&c->sum);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++) {
        for (int64_t i = 0; i < images->count; i++) {
            double both[HET_BACKPROJECT_MAPS * HET_BACKPROJECT_MAPS];
            const het_components_answer *of = answer + i;
            for (int k = 0; k < n; k++)
                for (int l = 0; l <= k; l++) both[k * n + l] = of->mean[k] * of->mean[l] + of->covariance[k * n + l];
            het_backproject_add_joint(&part[t], images->a + i * 2 * p, images->b + i * p, images->rotation + 9 * i, of->mean, both,
                                      images->points->kxy, p);
        }
    }
done:
    if (part != NULL) het_backproject_parts_free(part, threads);
    het_release(part);
    return status;
}

void het_components_prior(const het_components *c, double *prior)
{
    for (int64_t s = 0; s < het_components_shells(c); s++) {
        const double *power = c->power + 3 * s, signal = power[2] > 0.0 ? (power[0] - c->noise[s] * power[1]) / power[2] : 0.0;
        prior[s] = c->noise[s] / FINER / fmax(signal, SIGNAL_LEAST * c->noise[s]);
    }
}

/* Slices of the maps as they are now. */
static het_status renew_slicer(het_components *c)
{
    het_slicer_free(&c->slicer);
    return het_slicer_new_joint(&c->slicer, c->map, c->count + 1);
}

het_status het_components_solve(het_components *c, int threads)
{
    het_status status = HET_OK;
    double share[HET_COMPONENTS_MOST + 1], prior[HET_COMPONENTS_SHELLS];
    for (int k = 0; k <= c->count; k++) share[k] = k == 0 ? 1.0 : SHARE;
    het_components_prior(c, prior);
    het_backproject_solve_joint(&c->sum, c->map, prior, share, threads);
    HET_TRY(het_components_hold(c));
    status = renew_slicer(c);
done:
    return status;
}

het_status het_components_keep(het_components *c, const het_components_axes *axes, int count)
{
    het_status status = HET_OK;
    const int64_t image_box = c->sum.image_box, rank = c->sum.rank, ranks = c->sum.ranks;
    const int64_t voxels = c->map[0].box * c->map[0].box * c->map[0].box;
    for (int64_t i = 0; i < voxels; i++) {
        double old[HET_COMPONENTS_MOST], mean = (double)c->map[0].data[i];
        for (int k = 0; k < c->count; k++) {
            old[k] = (double)c->map[1 + k].data[i];
            mean += axes->mean[k] * old[k];
        }
        c->map[0].data[i] = (float)mean;
        for (int j = 0; j < count; j++) {
            double sum = 0.0;
            for (int k = 0; k < c->count; k++) sum += axes->direction[j][k] * old[k];
            c->map[1 + j].data[i] = (float)sum;
        }
    }
    for (int k = count + 1; k <= c->count; k++) het_volume_free(&c->map[k]);
    c->count = count;
    het_backproject_free(&c->sum);
    HET_TRY(het_backproject_new_joint(&c->sum, count + 1, c->map[0].box, image_box));
    het_backproject_share(&c->sum, rank, ranks);
    status = renew_slicer(c);
done:
    return status;
}
