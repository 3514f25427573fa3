#include "points.h"

#include <stdlib.h>

#include "../arena.h"

static int64_t radius2(const int32_t *k)
{
    return (int64_t)k[0] * k[0] + (int64_t)k[1] * k[1];
}

static int by_radius(const void *a, const void *b)
{
    const int32_t *p = a, *q = b;
    const int64_t rp = radius2(p), rq = radius2(q);
    if (rp != rq) return rp < rq ? -1 : 1;
    if (p[0] != q[0]) return p[0] < q[0] ? -1 : 1;
    return (p[1] > q[1]) - (p[1] < q[1]);
}

het_status het_points_new(het_points *points, int64_t box)
{
    *points = (het_points){.box = box};
    if (box < 4 || box > 4096 || box % 2 != 0)
        return het_fail(HET_E_SHAPE, "box %lld: it must be even and between 4 and 4096", (long long)box);
    const int64_t half = box / 2 - 1;
    const size_t most = (size_t)((half + 1) * (2 * half + 1));
    points->kxy = het_alloc(most * 2 * sizeof *points->kxy);
    points->weight = het_alloc(most * sizeof *points->weight);
    points->prefix = het_alloc((size_t)(half + 1) * sizeof *points->prefix);
    points->shells = het_alloc((size_t)(half + 1) * sizeof *points->shells);
    if (points->kxy == NULL || points->weight == NULL || points->prefix == NULL || points->shells == NULL) {
        het_points_free(points);
        return het_fail(HET_E_MEMORY, "no memory for the Fourier points of box %lld", (long long)box);
    }
    for (int64_t kx = 0; kx <= half; kx++) {
        for (int64_t ky = kx == 0 ? 0 : -half; ky <= half; ky++) {
            if (kx * kx + ky * ky > half * half) continue;
            points->kxy[2 * points->count] = (int32_t)kx;
            points->kxy[2 * points->count + 1] = (int32_t)ky;
            points->count++;
        }
    }
    qsort(points->kxy, (size_t)points->count, 2 * sizeof *points->kxy, by_radius);
    for (int64_t p = 0; p < points->count; p++) points->weight[p] = p == 0 ? 1.0f : 2.0f;
    for (int64_t r = 0, p = 0, s = 0; r <= half; r++) {
        while (p < points->count && radius2(points->kxy + 2 * p) <= r * r) p++;
        while (s < points->count && radius2(points->kxy + 2 * s) <= r * r + r) s++; /* |k| < r + 1/2 */
        points->prefix[r] = p;
        points->shells[r] = s;
    }
    return HET_OK;
}

void het_points_free(het_points *points)
{
    het_release(points->kxy);
    het_release(points->weight);
    het_release(points->prefix);
    het_release(points->shells);
    *points = (het_points){0};
}

int64_t het_points_within(const het_points *points, double radius)
{
    const double largest = (double)(points->box / 2 - 1);
    const double r = radius < 1.0 ? 1.0 : radius > largest ? largest : radius;
    int64_t p = points->prefix[(int64_t)r];
    while (p < points->count && (double)radius2(points->kxy + 2 * p) <= r * r) p++;
    return p;
}
