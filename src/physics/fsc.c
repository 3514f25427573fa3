#include "fsc.h"

#include <math.h>

#include "../arena.h"
#include "fft.h"

/* spectrum = transform of the (masked) map; scratch (D,D,D) */
static void transform(const het_fft *fft, float *spectrum, float *scratch, const het_volume *map,
                      const het_volume *mask)
{
    const int64_t n = map->box * map->box * map->box;
    if (mask == NULL) {
        het_fft_forward(fft, spectrum, map->data);
        return;
    }
    for (int64_t i = 0; i < n; i++) scratch[i] = map->data[i] * mask->data[i];
    het_fft_forward(fft, spectrum, scratch);
}

/* sums (D/2,3): cross term, power of a, power of b */
static void sum_shells(double *sums, const float *a, const float *b, int64_t d)
{
    const int64_t half = d / 2, columns = half + 1;
    for (int64_t row = 0; row < d * d; row++) {
        const int64_t ky = row % d < half ? row % d : row % d - d, kz = row / d < half ? row / d : row / d - d;
        for (int64_t kx = 0; kx < half; kx++) {
            const int64_t shell = (int64_t)(sqrt((double)(kx * kx + ky * ky + kz * kz)) + 0.5);
            if (shell >= half) continue;
            const float *p = a + 2 * (row * columns + kx), *q = b + 2 * (row * columns + kx);
            const double weight = kx == 0 ? 1.0 : 2.0; /* the half that is not stored is the conjugate */
            sums[3 * shell] += weight * ((double)p[0] * q[0] + (double)p[1] * q[1]);
            sums[3 * shell + 1] += weight * ((double)p[0] * p[0] + (double)p[1] * p[1]);
            sums[3 * shell + 2] += weight * ((double)q[0] * q[0] + (double)q[1] * q[1]);
        }
    }
}

het_status het_fsc(double *curve, const het_volume *a, const het_volume *b, const het_volume *mask)
{
    het_status status = HET_OK;
    het_fft *fft = NULL;
    float *first = NULL, *second = NULL, *scratch = NULL;
    double *sums = NULL;
    const int64_t d = a->box, half = d / 2;
    if (b->box != d || (mask != NULL && mask->box != d))
        return het_fail(HET_E_SHAPE, "FSC of maps of box %lld and %lld%s: they must be equal", (long long)d,
                        (long long)b->box, mask != NULL && mask->box != d ? " with a mask of another box" : "");
    HET_TRY(het_fft_new(&fft, 3, d));
    first = het_alloc((size_t)het_fft_size(fft) * sizeof *first);
    second = het_alloc((size_t)het_fft_size(fft) * sizeof *second);
    scratch = mask != NULL ? het_alloc((size_t)(d * d * d) * sizeof *scratch) : NULL;
    sums = het_alloc((size_t)half * 3 * sizeof *sums);
    if (first == NULL || second == NULL || sums == NULL || (mask != NULL && scratch == NULL)) {
        status = het_fail(HET_E_MEMORY, "no memory for the FSC of maps of box %lld", (long long)d);
        goto done;
    }
    transform(fft, first, scratch, a, mask);
    transform(fft, second, scratch, b, mask);
    sum_shells(sums, first, second, d);
    for (int64_t s = 0; s < half; s++) {
        const double norm = sqrt(sums[3 * s + 1]) * sqrt(sums[3 * s + 2]);
        curve[s] = norm > 0.0 ? sums[3 * s] / norm : 0.0;
    }
done:
    het_fft_free(fft);
    het_release(first);
    het_release(second);
    het_release(scratch);
    het_release(sums);
    return status;
}

double het_fsc_shell(const double *curve, int64_t box, double threshold, int *crossed)
{
    double before = 1.0;
    for (int64_t s = 1; s < box / 2; s++) {
        if (!(curve[s] >= threshold)) {
            if (crossed != NULL) *crossed = 1;
            const double here = isfinite(curve[s]) ? curve[s] : 0.0;
            return (double)(s - 1) + (before - threshold) / (before - here);
        }
        before = curve[s];
    }
    if (crossed != NULL) *crossed = 0;
    return (double)(box / 2);
}
