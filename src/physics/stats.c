#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void het_sort(double *values, int64_t count)
{
    if (count > 1) qsort(values, (size_t)count, sizeof *values, by_value);
}

/* Quickselect (Hoare's partition): afterwards v[k] is the k-th smallest, nothing before it is larger. */
static double select_nth(double *v, int64_t count, int64_t k)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const double pivot = v[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (pivot < v[j]) j--;
            if (i > j) break;
            const double t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (k <= j) high = j;
        else if (k >= i) low = i;
        else break;
    }
    return v[k];
}

double het_median(double *values, int64_t count)
{
    if (count <= 0) return 0.0;
    const double upper = select_nth(values, count, count / 2);
    if (count % 2 == 1) return upper;
    double lower = values[0];
    for (int64_t i = 1; i < count / 2; i++) lower = fmax(lower, values[i]);
    return 0.5 * (lower + upper);
}

double het_quantile_sorted(const double *sorted, double q, int64_t count)
{
    if (count <= 0) return 0.0;
    const double at = q * (double)(count - 1);
    const int64_t i = (int64_t)at;
    if (i >= count - 1) return sorted[count - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

double het_mean_std(const double *values, int64_t count, double *std)
{
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < count; i++) sum += values[i];
    const double mean = count > 0 ? sum / (double)count : 0.0;
    for (int64_t i = 0; i < count; i++) squares += (values[i] - mean) * (values[i] - mean);
    if (std != NULL) *std = count > 0 ? sqrt(squares / (double)count) : 0.0;
    return mean;
}

typedef struct placed {
    double value;
    int64_t at;
} placed;

static int by_placed(const void *a, const void *b)
{
    const placed *p = a, *q = b;
    if (p->value != q->value) return p->value < q->value ? -1 : 1;
    return (p->at > q->at) - (p->at < q->at);
}

het_status het_ranks(double *ranks, const double *values, int64_t count)
{
    placed *order = het_alloc((size_t)count * sizeof *order);
    if (order == NULL) return het_fail(HET_E_MEMORY, "no memory to rank %lld values", (long long)count);
    for (int64_t i = 0; i < count; i++) order[i] = (placed){values[i], i};
    if (count > 1) qsort(order, (size_t)count, sizeof *order, by_placed);
    for (int64_t first = 0, next; first < count; first = next) {
        for (next = first + 1; next < count && order[next].value == order[first].value;) next++;
        for (int64_t i = first; i < next; i++) ranks[order[i].at] = 0.5 * (double)(first + 1 + next);
    }
    het_release(order);
    return HET_OK;
}

het_status het_spearman(double *correlation, const double *a, const double *b, int64_t count)
{
    het_status status = HET_OK;
    *correlation = 0.0;
    double *ranks = het_alloc((size_t)(2 * count) * sizeof *ranks);
    if (ranks == NULL) return het_fail(HET_E_MEMORY, "no memory to rank %lld values", (long long)count);
    HET_TRY(het_ranks(ranks, a, count));
    HET_TRY(het_ranks(ranks + count, b, count));
    const double middle = 0.5 * (double)(count + 1);
    double aa = 0.0, bb = 0.0, ab = 0.0;
    for (int64_t i = 0; i < count; i++) {
        const double x = ranks[i] - middle, y = ranks[count + i] - middle;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if (aa > 0.0 && bb > 0.0) *correlation = ab / sqrt(aa * bb);
done:
    het_release(ranks);
    return status;
}

enum { BINS = 512 };

/* Density of linearly binned values at the bins' places; width in bins. */
static void smooth_bins(double density[BINS], const double bins[BINS], double width)
{
    for (int i = 0; i < BINS; i++) {
        double sum = 0.0;
        for (int j = 0; j < BINS; j++) {
            const double x = (double)(i - j) / width;
            sum += bins[j] * exp(-0.5 * x * x);
        }
        density[i] = sum;
    }
}

het_status het_density_mode(double *mode, const double *values, int64_t count)
{
    double *sorted = het_alloc((size_t)count * sizeof *sorted);
    if (sorted == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the density of %lld values", (long long)count);
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    het_sort(sorted, count);
    double std;
    het_mean_std(values, count, &std);
    const double iqr =
        (het_quantile_sorted(sorted, 0.75, count) - het_quantile_sorted(sorted, 0.25, count)) / 1.34;
    const double spread = iqr > 0.0 && iqr < std ? iqr : std;
    const double low = sorted[0], high = sorted[count - 1], middle = het_quantile_sorted(sorted, 0.5, count);
    het_release(sorted);
    *mode = middle;
    if (!(high > low) || !(spread > 0.0)) return HET_OK;
    double bins[BINS] = {0}, density[BINS];
    const double step = (high - low) / (BINS - 1);
    for (int64_t i = 0; i < count; i++) {
        const double at = (values[i] - low) / step;
        const int64_t b = at < BINS - 2 ? (int64_t)at : BINS - 2;
        bins[b + 1] += at - (double)b;
        bins[b] += 1.0 - (at - (double)b);
    }
    /* a few far outliers stretch the bins: the kernel never gets narrower than one bin */
    const double width = 0.9 * spread * pow((double)count, -0.2) / step;
    smooth_bins(density, bins, fmax(width, 1.0));
    int best = 0;
    for (int i = 1; i < BINS; i++)
        if (density[i] > density[best]) best = i;
    double offset = 0.0;
    if (best > 0 && best < BINS - 1) {
        const double before = density[best - 1], after = density[best + 1];
        const double bend = before - 2.0 * density[best] + after;
        if (bend < 0.0) offset = 0.5 * (before - after) / bend;
    }
    *mode = low + step * ((double)best + offset);
    return HET_OK;
}
