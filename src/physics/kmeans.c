#include "kmeans.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"

enum { STARTS = 4, ROUNDS = 100 };

typedef struct clusters {
    const float *z;
    int64_t count, dim, clusters;
    double *centre;  /* (clusters,dim) */
    int64_t *label;  /* (count) */
    double *nearest; /* (count) squared distance to the nearest centre so far */
    int64_t *size;   /* (clusters) images */
} clusters;

static double distance2(const float *z, const double *centre, int64_t dim)
{
    double sum = 0.0;
    for (int64_t k = 0; k < dim; k++) sum += ((double)z[k] - centre[k]) * ((double)z[k] - centre[k]);
    return sum;
}

/* Label every image with its nearest centre among the first `known`; returns how many labels changed. */
static int64_t assign(clusters *c, int64_t known)
{
    int64_t changed = 0;
#pragma omp parallel for schedule(static) reduction(+ : changed)
    for (int64_t i = 0; i < c->count; i++) {
        int64_t best = 0;
        double least = INFINITY;
        for (int64_t k = 0; k < known; k++) {
            const double d = distance2(c->z + i * c->dim, c->centre + k * c->dim, c->dim);
            if (d < least) {
                least = d;
                best = k;
            }
        }
        changed += best != c->label[i];
        c->label[i] = best;
        c->nearest[i] = least;
    }
    return changed;
}

static double inertia_of(const clusters *c)
{
    double sum = 0.0;
    for (int64_t i = 0; i < c->count; i++) sum += c->nearest[i];
    return sum;
}

static void set_centre(clusters *c, int64_t k, int64_t image)
{
    for (int64_t j = 0; j < c->dim; j++) c->centre[k * c->dim + j] = (double)c->z[image * c->dim + j];
}

/* k-means++: each next centre is an image drawn with probability proportional to its squared distance. */
static void seed_centres(clusters *c, het_rng *rng)
{
    set_centre(c, 0, (int64_t)het_rng_below(rng, (uint64_t)c->count));
    for (int64_t k = 1; k < c->clusters; k++) {
        assign(c, k);
        double left = (double)het_rng_uniform(rng) * inertia_of(c);
        int64_t image = 0;
        while (image < c->count - 1 && (left -= c->nearest[image]) > 0.0) image++;
        set_centre(c, k, image);
    }
}

/* Centres to the means of their images; a centre that lost all its images moves to the worst served image. */
static void move_centres(clusters *c)
{
    memset(c->centre, 0, (size_t)(c->clusters * c->dim) * sizeof *c->centre);
    memset(c->size, 0, (size_t)c->clusters * sizeof *c->size);
    for (int64_t i = 0; i < c->count; i++) {
        double *centre = c->centre + c->label[i] * c->dim;
        for (int64_t j = 0; j < c->dim; j++) centre[j] += (double)c->z[i * c->dim + j];
        c->size[c->label[i]]++;
    }
    for (int64_t k = 0; k < c->clusters; k++) {
        for (int64_t j = 0; j < c->dim && c->size[k] > 0; j++) c->centre[k * c->dim + j] /= (double)c->size[k];
        if (c->size[k] > 0) continue;
        int64_t worst = 0;
        for (int64_t i = 1; i < c->count; i++)
            if (c->nearest[i] > c->nearest[worst]) worst = i;
        set_centre(c, k, worst);
        c->nearest[worst] = 0.0;
    }
}

static void sort_centres(double *centre, int64_t count, int64_t dim)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t least = i;
        for (int64_t j = i + 1; j < count; j++)
            if (centre[j * dim] < centre[least * dim]) least = j;
        for (int64_t k = 0; k < dim && least != i; k++) {
            const double t = centre[i * dim + k];
            centre[i * dim + k] = centre[least * dim + k];
            centre[least * dim + k] = t;
        }
    }
}

het_status het_kmeans(double *centre, int64_t *label, double *inertia, const float *z, int64_t count,
                      int64_t dim, int64_t number, uint64_t seed)
{
    if (number < 1 || number > count || dim < 1)
        return het_fail(HET_E_SHAPE,
                        "%lld clusters of %lld images: between 1 and the number of images can be made",
                        (long long)number, (long long)count);
    double *scratch = het_alloc((size_t)(count + number * dim) * sizeof *scratch);
    int64_t *size = het_alloc((size_t)number * sizeof *size);
    if (scratch == NULL || size == NULL) {
        het_release(scratch);
        het_release(size);
        return het_fail(HET_E_MEMORY, "no memory for k-means of %lld images", (long long)count);
    }
    clusters c = {z, count, dim, number, scratch + count, label, scratch, size};
    double least = INFINITY;
    for (uint64_t start = 0; start < STARTS; start++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 1, start);
        seed_centres(&c, &rng);
        assign(&c, number);
        for (int round = 0; round < ROUNDS; round++) {
            move_centres(&c);
            if (assign(&c, number) == 0) break;
        }
        const double sum = inertia_of(&c);
        if (sum >= least && start > 0) continue;
        least = sum;
        memcpy(centre, c.centre, (size_t)(number * dim) * sizeof *centre);
    }
    sort_centres(centre, number, dim);
    c.centre = centre;
    assign(&c, number);
    if (inertia != NULL) *inertia = inertia_of(&c);
    het_release(scratch);
    het_release(size);
    return HET_OK;
}

void het_kmeans_nearest(int64_t *nearest, const double *centre, int64_t number, const float *z, int64_t count,
                        int64_t dim)
{
    for (int64_t k = 0; k < number; k++) {
        double least = INFINITY;
        nearest[k] = 0;
        for (int64_t i = 0; i < count; i++) {
            const double d = distance2(z + i * dim, centre + k * dim, dim);
            if (d >= least) continue;
            least = d;
            nearest[k] = i;
        }
    }
}
