#include "components.h"

#include <math.h>
#include <string.h>

#include "../arena.h"

static const double NOISE_LEAST = 1e-3;  /* of images of variance 1 */
static const double SHARE = 0.1;         /* of the signal's variance in a component, at most, as its prior has it */
static const double SIGNAL_LEAST = 0.01; /* of the noise */
static const double FINER = 8.0;         /* points of the grid of sums in a Fourier pixel: each holds so much less of what images tell of it */

/* Where the sums of e_k begin. */
static int place(int k)
{
    return k * (k + 1) / 2;
}

int het_components_sums(const het_components *c)
{
    return place(c->count + 1);
}

int64_t het_components_shells(const het_components *c)
{
    return c->map[0].box / 2 + 1;
}

int64_t het_components_shell(const int32_t *kxy)
{
    return lround(hypot((double)kxy[0], (double)kxy[1]));
}

het_status het_components_new(het_components *c, int count, int64_t box, int64_t image_box, double noise, double turn, double shift)
{
    het_status status = HET_OK;
    const double finer = (double)image_box / (double)box;
    const size_t shells = (size_t)(box / 2 + 1);
    *c = (het_components){.count = count, .turn = turn, .shift = shift, .slice_scale = finer * finer};
    HET_ASSERT(count >= 0 && count <= HET_COMPONENTS_MOST);
    c->prior = het_alloc(shells * sizeof *c->prior);
    c->noise = het_alloc(shells * sizeof *c->noise);
    if (c->prior == NULL || c->noise == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %d components", count));
    for (size_t s = 0; s < shells; s++) c->noise[s] = fmax(noise, NOISE_LEAST);
    for (int k = 0; k <= count; k++) HET_TRY(het_volume_new(&c->map[k], box, 1.0));
    for (int i = 0; i < het_components_sums(c); i++) HET_TRY(het_backproject_new(&c->sum[i], box, image_box));
done:
    return status;
}

/* What belongs to the components from `first` on. */
static void free_from(het_components *c, int first)
{
    for (int k = first; k <= c->count; k++) {
        het_slicer_free(&c->slicer[k]);
        het_volume_free(&c->map[k]);
    }
    for (int i = place(first); i < het_components_sums(c); i++) het_backproject_free(&c->sum[i]);
}

void het_components_free(het_components *c)
{
    free_from(c, 0);
    het_release(c->prior);
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

het_status het_components_measure(het_components *c, const het_components_images *images)
{
    const int64_t shells = het_components_shells(c);
    double *sum = het_alloc((size_t)(3 * shells) * sizeof *sum), *data = sum, *weight = sum + shells, *square = sum + 2 * shells;
    if (sum == NULL) return het_fail(HET_E_MEMORY, "no memory for the images' power");
    for (int64_t i = 0; i < images->count; i++) {
        for (int64_t j = 0; j < images->p; j++) {
            const int64_t s = het_components_shell(images->points->kxy + 2 * j);
            const double re = (double)images->a[2 * (i * images->p + j)], im = (double)images->a[2 * (i * images->p + j) + 1],
                         b = (double)images->b[i * images->p + j];
            data[s] += re * re + im * im;
            weight[s] += b;
            square[s] += b * b;
        }
    }
    for (int64_t s = 0; s < shells; s++) {
        const double signal = square[s] > 0.0 ? (data[s] - c->noise[s] * weight[s]) / square[s] : 0.0;
        c->prior[s] = c->noise[s] / FINER / fmax(signal, SIGNAL_LEAST * c->noise[s]);
    }
    het_release(sum);
    return HET_OK;
}

het_status het_components_add(het_components *c, int which, const het_components_answer *answer, const het_components_images *images)
{
    int k = 0;
    while (place(k + 1) <= which) k++;
    const int l = which - place(k), n = c->count + 1;
    const int64_t p = images->p;
    float *one = het_alloc((size_t)(3 * p) * sizeof *one);
    if (one == NULL) return het_fail(HET_E_MEMORY, "no memory for an image");
    het_backproject_clear(&c->sum[which]);
    for (int64_t i = 0; i < images->count; i++) {
        const double ek = answer[i].mean[k], both = ek * answer[i].mean[l] + answer[i].covariance[k * n + l];
        for (int64_t j = 0; j < 2 * p; j++) one[j] = l == 0 ? (float)ek * images->a[i * 2 * p + j] : 0.0F;
        for (int64_t j = 0; j < p; j++) one[2 * p + j] = (float)both * images->b[i * p + j];
        het_backproject_add(&c->sum[which], one, one + 2 * p, images->rotation + 9 * i, 1.0, images->points->kxy, p);
    }
    het_release(one);
    return HET_OK;
}

/* Slicers of the maps as they are now. */
static het_status new_slicers(het_components *c)
{
    het_status status = HET_OK;
    for (int k = 0; k <= c->count; k++) {
        het_slicer_free(&c->slicer[k]);
        HET_TRY(het_slicer_new(&c->slicer[k], &c->map[k]));
    }
done:
    return status;
}

het_status het_components_solve(het_components *c)
{
    het_status status = HET_OK;
    double share[HET_COMPONENTS_MOST + 1];
    for (int k = 0; k <= c->count; k++) share[k] = k == 0 ? 1.0 : SHARE;
    het_backproject_solve_joint(c->sum, c->count + 1, c->map, c->prior, share);
    HET_TRY(het_components_hold(c));
    status = new_slicers(c);
done:
    return status;
}

het_status het_components_keep(het_components *c, const het_components_axes *axes, int count)
{
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
    free_from(c, count + 1);
    c->count = count;
    return new_slicers(c);
}
