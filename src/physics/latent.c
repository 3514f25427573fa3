#include "latent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"
#include "eigen.h"
#include "stats.h"

het_status het_latent_pca(het_pca *pca, const float *z, int64_t count, int64_t dim)
{
    *pca = (het_pca){.dim = dim};
    if (count < 1 || dim < 1 || dim > HET_LATENT_DIM)
        return het_fail(HET_E_SHAPE,
                        "principal components of %lld points in %lld dimensions: 1..%d dimensions can be "
                        "done",
                        (long long)count, (long long)dim, HET_LATENT_DIM);
    double covariance[HET_LATENT_DIM * HET_LATENT_DIM] = {0};
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < dim; k++) pca->mean[k] += (double)z[i * dim + k] / (double)count;
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < dim; j++) {
            const double x = (double)z[i * dim + j] - pca->mean[j];
            for (int64_t k = 0; k <= j; k++)
                covariance[j * dim + k] += x * ((double)z[i * dim + k] - pca->mean[k]) / (double)count;
        }
    }
    for (int64_t j = 0; j < dim; j++)
        for (int64_t k = j + 1; k < dim; k++) covariance[j * dim + k] = covariance[k * dim + j];
    het_eigen_symmetric(covariance, pca->variance, pca->axis, (int)dim);
    return HET_OK;
}

void het_latent_project(double *out, const het_pca *pca, int component, const float *z, int64_t count)
{
    const double *axis = pca->axis + component * pca->dim;
    for (int64_t i = 0; i < count; i++) {
        out[i] = 0.0;
        for (int64_t k = 0; k < pca->dim; k++)
            out[i] += axis[k] * ((double)z[i * pca->dim + k] - pca->mean[k]);
    }
}

het_status het_latent_threshold(double *threshold, const double *value, int64_t count)
{
    double *sorted = het_alloc((size_t)count * sizeof *sorted);
    if (sorted == NULL) return het_fail(HET_E_MEMORY, "no memory to split %lld values", (long long)count);
    memcpy(sorted, value, (size_t)count * sizeof *sorted);
    het_sort(sorted, count);
    double total = 0.0, below = 0.0, best = -1.0;
    *threshold = count > 0 ? sorted[0] : 0.0;
    const double mean = het_mean_std(sorted, count, NULL);
    for (int64_t i = 0; i < count; i++) total += sorted[i] - mean;
    for (int64_t i = 1; i < count; i++) { /* least within-group squares = largest between-group squares */
        below += sorted[i - 1] - mean;
        if (sorted[i] == sorted[i - 1]) continue;
        const double low = below / (double)i, high = (total - below) / (double)(count - i);
        const double between = (double)i * low * low + (double)(count - i) * high * high;
        if (between <= best) continue;
        best = between;
        *threshold = mean + 0.5 * (low + high);
    }
    het_release(sorted);
    return HET_OK;
}

het_split het_latent_split(const double *value, const int64_t *label, int64_t count, double threshold)
{
    int64_t wrong = 0; /* when class 1 lies above */
    for (int64_t i = 0; i < count; i++) wrong += (value[i] > threshold) != (label[i] == 1);
    const int above = 2 * wrong <= count;
    if (!above) wrong = count - wrong;
    return (het_split){threshold, count > 0 ? (double)wrong / (double)count : 0.0, above};
}

typedef struct labelled {
    double value;
    int64_t label;
} labelled;

static int by_value(const void *a, const void *b)
{
    const labelled *p = a, *q = b;
    return (p->value > q->value) - (p->value < q->value);
}

het_status het_latent_best_split(het_split *split, const double *value, const int64_t *label, int64_t count)
{
    labelled *sorted = het_alloc((size_t)count * sizeof *sorted);
    if (sorted == NULL) return het_fail(HET_E_MEMORY, "no memory to split %lld values", (long long)count);
    int64_t wrong = 0; /* threshold below all, class 1 above: all of class 0 are wrong */
    for (int64_t i = 0; i < count; i++) {
        sorted[i] = (labelled){value[i], label[i]};
        wrong += label[i] != 1;
    }
    if (count > 1) qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    int64_t least = count + 1;
    double threshold = 0.0;
    for (int64_t i = 0; i <= count; i++) { /* the first i values lie below */
        const int64_t fewer = wrong < count - wrong ? wrong : count - wrong;
        const int gap = i == 0 || i == count || sorted[i].value > sorted[i - 1].value;
        if (gap && fewer < least) {
            least = fewer;
            threshold = count == 0 ? 0.0
                        : i == 0   ? sorted[0].value - 1.0
                        : i < count ? 0.5 * (sorted[i - 1].value + sorted[i].value) : sorted[i - 1].value;
        }
        if (i < count) wrong += sorted[i].label == 1 ? 1 : -1;
    }
    het_release(sorted);
    *split = het_latent_split(value, label, count, threshold);
    return HET_OK;
}

/* The values of one class, packed; returns their number. */
static int64_t pick(double *out, const double *value, const int64_t *label, int64_t klass, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (label[i] == klass) out[n++] = value[i];
    return n;
}

/* Phi(-step / spread), 0.5 for two classes that do not differ at all. */
static double tail(double step, double spread)
{
    if (spread > 0.0) return 0.5 * erfc(step / spread / sqrt(2.0));
    return step > 0.0 ? 0.0 : step < 0.0 ? 1.0 : 0.5;
}

het_status het_latent_overlap(double *e_z, double *mean, double *std, const double *value,
                              const int64_t *label, int64_t count, int64_t classes)
{
    *e_z = 0.0;
    double *scratch = het_alloc((size_t)(count + 2 * classes) * sizeof *scratch);
    if (scratch == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld classes", (long long)classes);
    double *m = scratch + count, *s = m + classes;
    int64_t used = 0; /* classes that have images, packed to the front */
    for (int64_t k = 0; k < classes; k++) {
        const int64_t n = pick(scratch, value, label, k, count);
        if (mean != NULL) mean[k] = 0.0;
        if (std != NULL) std[k] = 0.0;
        if (n == 0) continue;
        m[used] = het_mean_std(scratch, n, &s[used]);
        if (mean != NULL) mean[k] = m[used];
        if (std != NULL) std[k] = s[used];
        used++;
    }
    const double sign = used > 1 && m[used - 1] < m[0] ? -1.0 : 1.0;
    for (int64_t k = 0; k + 1 < used; k++)
        *e_z += tail(sign * (m[k + 1] - m[k]), s[k] + s[k + 1]) / (double)(used - 1);
    het_release(scratch);
    return HET_OK;
}

het_status het_latent_class_mode(float *z_star, double *mode, const float *z, const double *pc1,
                                 const int64_t *label, int64_t klass, int64_t count, int64_t dim)
{
    het_status status = HET_OK;
    HET_ASSERT(dim >= 1 && dim <= HET_LATENT_DIM);
    double *scratch = het_alloc((size_t)count * sizeof *scratch);
    if (scratch == NULL)
        return het_fail(HET_E_MEMORY, "no memory for a mode among %lld images", (long long)count);
    const int64_t n = pick(scratch, pc1, label, klass, count);
    if (n == 0) {
        status =
            het_fail(HET_E_INPUT, "class %lld has no images: its volume is not defined", (long long)klass);
        goto done;
    }
    double at;
    HET_TRY(het_density_mode(&at, scratch, n));
    if (mode != NULL) *mode = at;
    for (int64_t i = 0; i < n; i++) scratch[i] = fabs(scratch[i] - at);
    het_sort(scratch, n);
    const int64_t wanted = n / 20 < 1 ? 1 : n / 20 > 200 ? 200 : n / 20;
    const double reach = scratch[wanted - 1];
    double sum[HET_LATENT_DIM] = {0};
    int64_t near = 0;
    for (int64_t i = 0; i < count; i++) {
        if (label[i] != klass || fabs(pc1[i] - at) > reach) continue;
        for (int64_t k = 0; k < dim; k++) sum[k] += (double)z[i * dim + k];
        near++;
    }
    for (int64_t k = 0; k < dim; k++) z_star[k] = (float)(sum[k] / (double)near);
done:
    het_release(scratch);
    return status;
}

enum { QUERIES = 2000, OTHERS = 20000, MOST_NEIGHBOURS = 64 };

/* Share of the k nearest drawn images of image i that have its class. */
static double same_share(const float *z, const int64_t *label, const int64_t *drawn, int64_t n, int64_t i,
                         int64_t dim, int k)
{
    double nearest[MOST_NEIGHBOURS];
    int64_t klass[MOST_NEIGHBOURS];
    int held = 0, same = 0;
    for (int64_t j = 0; j < n; j++) {
        if (drawn[j] == i) continue;
        const float *a = z + i * dim, *b = z + drawn[j] * dim;
        double d = 0.0;
        for (int64_t c = 0; c < dim; c++) d += ((double)a[c] - (double)b[c]) * ((double)a[c] - (double)b[c]);
        if (held == k && d >= nearest[k - 1]) continue;
        int at = held < k ? held++ : k - 1;
        for (; at > 0 && nearest[at - 1] > d; at--) {
            nearest[at] = nearest[at - 1];
            klass[at] = klass[at - 1];
        }
        nearest[at] = d;
        klass[at] = label[drawn[j]];
    }
    for (int j = 0; j < held; j++) same += klass[j] == label[i];
    return held > 0 ? (double)same / held : 0.0;
}

het_status het_latent_neighbours(double *similarity, double *chance, const float *z, const int64_t *label,
                                 int64_t count, int64_t dim, int64_t classes, int k, uint64_t seed)
{
    if (count < 2) return het_fail(HET_E_SHAPE, "neighbours need at least two images");
    HET_ASSERT(k >= 1 && k <= MOST_NEIGHBOURS);
    int64_t *drawn = het_alloc((size_t)count * sizeof *drawn);
    if (drawn == NULL) return het_fail(HET_E_MEMORY, "no memory to draw from %lld images", (long long)count);
    const int64_t others = count < OTHERS ? count : OTHERS, queries = count < QUERIES ? count : QUERIES;
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 0, 2);
    for (int64_t i = 0; i < count; i++) drawn[i] = i;
    het_rng_choose(&rng, drawn, count, others);
    double sum = 0.0;
#pragma omp parallel for schedule(static) reduction(+ : sum)
    for (int64_t q = 0; q < queries; q++) sum += same_share(z, label, drawn, others, drawn[q], dim, k);
    *similarity = sum / (double)queries;
    *chance = 0.0;
    for (int64_t c = 0; c < classes; c++) {
        int64_t n = 0;
        for (int64_t i = 0; i < count; i++) n += label[i] == c;
        *chance += (double)n / (double)count * ((double)n / (double)count);
    }
    het_release(drawn);
    return HET_OK;
}
