/* Fourier points of images: plain sums over a table of the circle, first along x, then along y, where cuFFT is not there or not
 * worth it (cufft.h).
 *
 * What is wanted is a disc of points and not a square, with the origin in the middle of the image and the rows in the order
 * of the points: the sums give just that, cost 6 D^3 operations forward (0.04 % of a step at box 128) or fewer for a
 * smaller disc, have one order, and need no library. */
#include "fourier.h"

#include <math.h>
#include <string.h>

#include "cufft.h"
#include "members.h"

/* rows[y][kx] = sum_x I[y][x] exp(-2 pi i kx (x-D/2)/D), kx <= reach */
__global__ void transform_rows(float2 *rows, const float *image, const float2 *circle, int64_t images, int64_t box,
                               int64_t half, int64_t reach)
{
    HET_FOR(i, images * box * (reach + 1))
    {
        const int64_t kx = i % (reach + 1), line = i / (reach + 1);
        const float *pixels = image + line * box;
        int64_t at = kx * half % box;
        float re = 0.0f, im = 0.0f;
        for (int64_t x = 0; x < box; x++) { /* -D/2 is +D/2 on the circle */
            re += pixels[x] * circle[at].x;
            im -= pixels[x] * circle[at].y;
            at += kx;
            if (at >= box) at -= box;
        }
        rows[line * half + kx] = make_float2(re, im);
    }
}

__global__ void transform_columns(float *points, const float2 *rows, const int32_t *kxy, const float2 *circle,
                                  int64_t images, int64_t box, int64_t half, int64_t p)
{
    HET_FOR(i, images * p)
    {
        const int64_t kx = kxy[2 * (i % p)], step = (kxy[2 * (i % p) + 1] + box) % box;
        const float2 *column = rows + i / p * box * half + kx;
        int64_t at = step * half % box;
        float re = 0.0f, im = 0.0f;
        for (int64_t y = 0; y < box; y++) {
            const float2 v = column[y * half], e = circle[at];
            re += v.x * e.x + v.y * e.y;
            im += v.y * e.x - v.x * e.y;
            at += step;
            if (at >= box) at -= box;
        }
        points[2 * i] = re / (float)box;
        points[2 * i + 1] = im / (float)box;
    }
}

/* Points to spectrum[kx][ky mod D]; the column kx = 0 whole, with the conjugates at -ky. */
__global__ void scatter_points(float2 *spectrum, const float *points, const int32_t *kxy, int64_t images, int64_t box,
                               int64_t half, int64_t p)
{
    HET_FOR(i, images * p)
    {
        const int64_t kx = kxy[2 * (i % p)], ky = kxy[2 * (i % p) + 1];
        float2 *grid = spectrum + i / p * half * box;
        grid[kx * box + (ky + box) % box] = make_float2(points[2 * i], points[2 * i + 1]);
        if (kx == 0 && ky > 0) grid[box - ky] = make_float2(points[2 * i], -points[2 * i + 1]);
    }
}

/* rows[y][kx] = sum_ky spectrum[kx][ky] exp(2 pi i ky (y-D/2)/D) */
__global__ void invert_columns(float2 *rows, const float2 *spectrum, const float2 *circle, int64_t images, int64_t box,
                               int64_t half, int64_t reach)
{
    HET_FOR(i, images * box * (reach + 1))
    {
        const int64_t kx = i % (reach + 1), line = i / (reach + 1), y = line % box, step = (y + half) % box;
        const float2 *column = spectrum + (line / box * half + kx) * box;
        int64_t at = (box - reach) * step % box;
        float re = 0.0f, im = 0.0f;
        for (int64_t ky = -reach; ky <= reach; ky++) {
            const float2 v = column[ky < 0 ? ky + box : ky], e = circle[at];
            re += v.x * e.x - v.y * e.y;
            im += v.y * e.x + v.x * e.y;
            at += step;
            if (at >= box) at -= box;
        }
        rows[line * half + kx] = make_float2(re, im);
    }
}

/* image = scale window 1/D (Re rows[y][0] + 2 sum_{kx > 0} Re(rows[y][kx] exp(2 pi i kx (x-D/2)/D))) */
__global__ void invert_rows(float *image, const float2 *rows, const float *window, const float *scale,
                            const float2 *circle, int64_t images, int64_t box, int64_t half, int64_t reach)
{
    HET_FOR(i, images * box * box)
    {
        const int64_t line = i / box, step = (i % box + half) % box;
        const float2 *row = rows + line * half;
        int64_t at = 0;
        float sum = 0.0f;
        for (int64_t kx = 1; kx <= reach; kx++) {
            at += step;
            if (at >= box) at -= box;
            sum += row[kx].x * circle[at].x - row[kx].y * circle[at].y;
        }
        image[i] = scale[line / box] * window[i % (box * box)] * (row[0].x + 2.0f * sum) / (float)box;
    }
}

/* The value that index entry `at` takes from a row: a point, or the conjugate of ~point. */
__device__ static inline void take(float *to, const float *from, int32_t at, bool flip)
{
    const float *x = from + 2 * (int64_t)(at < 0 ? ~at : at);
    to[0] = x[0];
    to[1] = (at < 0) != flip ? -x[1] : x[1];
}

__global__ void mirror_pairs(float *both, const float *points, const int32_t *mirror, int64_t b, int64_t p)
{
    HET_FOR(i, b * p)
    {
        const int64_t image = i / p, j = i % p;
        const float *from = points + 2 * image * p;
        float *to = both + 4 * image * p;
        to[2 * j] = from[2 * j];
        to[2 * j + 1] = from[2 * j + 1];
        take(to + 2 * (p + j), from, mirror[j], false);
    }
}

/* Two quarters are k -> -k, the conjugate. */
__global__ void turn_points(float *turned, const float *points, const int32_t *turn, const uint8_t *quarters, int64_t b,
                            int64_t p)
{
    HET_FOR(i, b * p)
    {
        const int64_t image = i / p, j = i % p;
        const int32_t at = quarters[image] % 2 == 1 ? turn[j] : (int32_t)j;
        take(turned + 2 * i, points + 2 * image * p, at, quarters[image] >= 2);
    }
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

/* Host tables of a plan while it is made. */
typedef struct tables {
    int32_t *point_at; /* (D/2, D), -1: none */
    int32_t *mirror, *turn;
    float2 *circle;
} tables;

/* The point of any k, or ~(point of -k), whose conjugate the value at k is. */
static int32_t locate(const tables *t, int64_t box, int32_t kx, int32_t ky, int *missing)
{
    const int other = kx < 0 || (kx == 0 && ky < 0);
    if (other) kx = -kx, ky = -ky;
    const int32_t point = t->point_at[kx * box + (ky + box) % box];
    *missing |= point < 0;
    return other ? ~point : point;
}

static het_status index_points(const het_fourier *plan, const tables *t, const int32_t *kxy)
{
    const het_plugin_host *host = plan->cuda->host;
    const int64_t box = plan->box, last = plan->half - 1;
    int64_t most = 0;
    memset(t->point_at, 0xff, (size_t)(plan->half * box) * sizeof *t->point_at);
    for (int64_t p = 0; p < plan->max_points; p++) {
        const int32_t kx = kxy[2 * p], ky = kxy[2 * p + 1];
        if (kx < 0 || kx > last || ky < -last || ky > last || (kx == 0 && ky < 0))
            return host->fail(HET_E_SHAPE, "Fourier point %lld (%d,%d) is outside the half-plane of box %lld", (long long)p,
                              kx, ky, (long long)box);
        int32_t *at = &t->point_at[kx * box + (ky + box) % box];
        if (*at >= 0) return host->fail(HET_E_SHAPE, "Fourier point (%d,%d) is listed twice", kx, ky);
        *at = (int32_t)p;
        const int64_t far = ky < 0 ? -ky : ky;
        most = kx > most ? kx : most;
        most = far > most ? far : most;
        plan->reach[p] = (int32_t)most;
    }
    for (int64_t p = 0; p < plan->max_points; p++) {
        const int32_t kx = kxy[2 * p], ky = kxy[2 * p + 1];
        int missing = 0;
        t->mirror[p] = locate(t, box, -kx, ky, &missing);
        t->turn[p] = locate(t, box, ky, -kx, &missing);
        if (missing)
            return host->fail(HET_E_SHAPE, "Fourier point (%d,%d) is listed without (%d,%d) and (%d,%d)", kx, ky, -kx, ky,
                              ky, -kx);
    }
    for (int64_t i = 0; i < box; i++) {
        const double angle = 2.0 * 3.14159265358979323846 * (double)i / (double)box;
        t->circle[i] = make_float2((float)cos(angle), (float)sin(angle));
    }
    return HET_OK;
}

static het_status fill_plan(het_fourier *plan, const int32_t *kxy)
{
    het_cuda *c = plan->cuda;
    const size_t points = (size_t)plan->max_points, box = (size_t)plan->box, half = (size_t)plan->half;
    const tables t = {new int32_t[half * box], new int32_t[points], new int32_t[points], new float2[box]};
    het_status status = index_points(plan, &t, kxy);
    if (status == HET_OK) {
        plan->kxy = (int32_t *)het_cuda_alloc(c, points * 2 * sizeof(int32_t));
        plan->mirror = (int32_t *)het_cuda_alloc(c, points * sizeof(int32_t));
        plan->turn = (int32_t *)het_cuda_alloc(c, points * sizeof(int32_t));
        plan->circle = (float2 *)het_cuda_alloc(c, box * sizeof(float2));
        plan->rows = (float2 *)het_cuda_alloc(c, HET_FOURIER_IMAGES * box * (half + 1) * sizeof(float2));
        plan->spectrum = (float2 *)het_cuda_alloc(c, HET_FOURIER_IMAGES * box * half * sizeof(float2));
        plan->parts = (double *)het_cuda_alloc(c, (size_t)HET_FOURIER_GROUPS * HET_FOURIER_PARTS * sizeof(double));
        if (plan->kxy == NULL || plan->mirror == NULL || plan->turn == NULL || plan->circle == NULL ||
            plan->rows == NULL || plan->spectrum == NULL || plan->parts == NULL)
            status = c->host->fail(HET_E_MEMORY, "no memory on the GPU for the Fourier plan of box %lld", (long long)box);
    }
    if (status == HET_OK) {
        het_cuda_upload(c, plan->kxy, kxy, points * 2 * sizeof(int32_t));
        het_cuda_upload(c, plan->mirror, t.mirror, points * sizeof(int32_t));
        het_cuda_upload(c, plan->turn, t.turn, points * sizeof(int32_t));
        het_cuda_upload(c, plan->circle, t.circle, box * sizeof(float2));
    }
    delete[] t.point_at;
    delete[] t.mirror;
    delete[] t.turn;
    delete[] t.circle;
    return status;
}

het_status het_cuda_fourier_new(het_device *dev, het_fourier **plan_out, int64_t box, int64_t max_points,
                                const int32_t *kxy_host)
{
    het_cuda *c = het_cuda_of(dev);
    *plan_out = NULL;
    if (box < 4 || box > 4096 || box % 2 != 0)
        return c->host->fail(HET_E_SHAPE, "box %lld: it must be even and between 4 and 4096", (long long)box);
    if (max_points < 1 || max_points > box * box / 2)
        return c->host->fail(HET_E_SHAPE, "%lld Fourier points do not fit box %lld", (long long)max_points, (long long)box);
    het_fourier *plan = new het_fourier();
    plan->cuda = c;
    plan->box = box;
    plan->half = box / 2;
    plan->max_points = max_points;
    plan->reach = new int32_t[max_points];
    const het_status status = fill_plan(plan, kxy_host);
    if (status == HET_OK) het_cufft_plan(plan);
    if (status == HET_OK) *plan_out = plan;
    else het_cuda_fourier_free(plan);
    return status;
}

void het_cuda_fourier_free(het_fourier *plan)
{
    if (plan == NULL) return;
    het_cufft_unplan(plan);
    void *pieces[] = {plan->kxy, plan->mirror, plan->turn, plan->circle, plan->rows, plan->spectrum, plan->parts};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_cuda_free(plan->cuda, pieces[i]);
    delete[] plan->reach;
    delete plan;
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */

void het_cuda_image_to_points(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p)
{
    const int64_t box = plan->box, half = plan->half, reach = plan->reach[p - 1];
    for (int64_t first = 0; first < b; first += HET_FOURIER_IMAGES) {
        const int64_t n = het_least(b - first, HET_FOURIER_IMAGES);
        if (het_cufft_image_to_points(plan, points + 2 * first * p, image + first * box * box, n, p)) continue;
        HET_LAUNCH(plan->cuda, transform_rows, het_blocks(n * box * (reach + 1)), HET_BLOCK, plan->rows,
                   image + first * box * box, plan->circle, n, box, half, reach);
        HET_LAUNCH(plan->cuda, transform_columns, het_blocks(n * p), HET_BLOCK, points + 2 * first * p, plan->rows, plan->kxy,
                   plan->circle, n, box, half, p);
    }
}

void het_cuda_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                              const float *scale, int64_t b, int64_t p)
{
    het_cuda *c = plan->cuda;
    const int64_t box = plan->box, half = plan->half, reach = plan->reach[p - 1];
    for (int64_t first = 0; first < b; first += HET_FOURIER_IMAGES) {
        const int64_t n = het_least(b - first, HET_FOURIER_IMAGES);
        if (het_cufft_points_to_image(plan, image + first * box * box, points + 2 * first * p, window, scale + first, n, p))
            continue;
        HET_CUDA(c, cudaMemsetAsync(plan->spectrum, 0, (size_t)(n * half * box) * sizeof(float2), c->stream));
        HET_LAUNCH(c, scatter_points, het_blocks(n * p), HET_BLOCK, plan->spectrum, points + 2 * first * p, plan->kxy, n, box,
                   half, p);
        HET_LAUNCH(c, invert_columns, het_blocks(n * box * (reach + 1)), HET_BLOCK, plan->rows, plan->spectrum, plan->circle,
                   n, box, half, reach);
        HET_LAUNCH(c, invert_rows, het_blocks(n * box * box), HET_BLOCK, image + first * box * box, plan->rows, window,
                   scale + first, plan->circle, n, box, half, reach);
    }
}

void het_cuda_mirror_pairs(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p)
{
    HET_LAUNCH(plan->cuda, mirror_pairs, het_blocks(b * p), HET_BLOCK, both, points, plan->mirror, b, p);
}

void het_cuda_turn_points(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters, int64_t b,
                          int64_t p)
{
    HET_LAUNCH(plan->cuda, turn_points, het_blocks(b * p), HET_BLOCK, turned, points, plan->turn, quarters, b, p);
}
