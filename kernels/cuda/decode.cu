/* The plan of the coordinate network, its calls, and what both of its ways share (decode.h).
 *
 * Rows - points of listed images, in order - go through all layers in chunks (rows_most). Features, hidden activations, weights
 * and dz enter products in the device's precision, all else is fp32, as on the CPU. Sums over rows go by slices that are
 * joined in order: no atomics, the same bits in every run. */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

#include "members.h"
#include "product.h"

typedef het_decode_row row;
typedef het_decode_chunk chunk;

/* +1 or -1 by the half-space of q, 0 at the origin */
__device__ static inline float fold_sign(const float *rot, float kx, float ky, float kz)
{
    for (int d = 2; d >= 0; d--) {
        const float q = kx * rot[d] + ky * rot[3 + d] + kz * rot[6 + d];
        if (q != 0.0f) return q > 0.0f ? 1.0f : -1.0f;
    }
    return 0.0f;
}

__global__ void fill_rows(row *rows, chunk c, const float *rot, const float *kz)
{
    HET_FOR(r, c.rows)
    {
        const int64_t listed = (c.first + r) / c.points, point = (c.first + r) % c.points;
        const int32_t image = het_decode_image_of(c, listed);
        const int32_t kx = c.kxy[2 * point], ky = c.kxy[2 * point + 1];
        const float sign = fold_sign(rot + 9 * image, (float)kx, (float)ky, kz == NULL ? 0.0f : kz[image]);
        rows[r] = {image, (int32_t)(listed - c.first_image), (int32_t)point, (float)kx, (float)ky, sign};
    }
}

/* drot (2,3) += 2 pi/D sum_f (da, db) freq_f, for each image of the chunk */
__global__ void rotation_sums(float *drot, const float *dphase, const float *freq, chunk c, int64_t f, int64_t box)
{
    HET_FOR(i, c.images * 6)
    {
        const int64_t slot = i / 6, axis = i / 3 % 2, d = i % 3;
        double sum = 0.0;
        for (int64_t n = 0; n < f; n++) sum += (double)dphase[(2 * slot + axis) * f + n] * freq[3 * n + d];
        const double scale = 2.0 * 3.14159265358979323846 / (double)box;
        drot[9 * het_decode_image_of(c, c.first_image + slot) + 3 * axis + d] += (float)(scale * sum);
    }
}

template <class T> __global__ void convert(void *to, const float *from, int64_t n)
{
    HET_FOR(i, n) het_store((T *)to, i, from[i]);
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

static het_status check_spec(const het_cuda *c, const het_decode_spec *s)
{
    if (s->frequencies < 16 || s->frequencies % 16 != 0)
        return c->host->fail(HET_E_SHAPE, "decoder: %lld frequencies, must be a multiple of 16", (long long)s->frequencies);
    if (s->width < 32 || s->width % 32 != 0)
        return c->host->fail(HET_E_SHAPE, "decoder: width %lld, must be a multiple of 32", (long long)s->width);
    if (s->layers < 1 || s->layers > HET_DECODE_LAYERS_MAX)
        return c->host->fail(HET_E_SHAPE, "decoder: %lld layers, must be 1 to %d", (long long)s->layers,
                             (int)HET_DECODE_LAYERS_MAX);
    if (s->box < 4 || s->box > 4096 || s->box % 2 != 0 || s->max_points < 1)
        return c->host->fail(HET_E_SHAPE, "decoder: box %lld with %lld points, must be even, 4 to 4096, with at least one",
                             (long long)s->box, (long long)s->max_points);
    for (int64_t i = 0; i < 2 * s->max_points; i++) {
        const int64_t k = s->kxy[i], half = s->box / 2 - 1;
        if (k > half || k < (i % 2 == 0 ? 0 : -half))
            return c->host->fail(HET_E_SHAPE, "decoder: point %lld lies outside the half-plane of box %lld",
                                 (long long)(i / 2), (long long)s->box);
    }
    return HET_OK;
}

#define TAKE(pointer, type, bytes) \
    complete &= ((pointer) = (type *)het_cuda_alloc(d->cuda, (size_t)(bytes))) != NULL

/* All device memory of a plan; 0 where there is not enough. */
static int allocate(het_decode *d)
{
    const het_decode_spec *s = &d->spec;
    const int64_t rows = het_decode_tiles(d) * HET_DECODE_ROWS, four = sizeof(float);
    const int64_t rows_forward = het_tiles(d->capacity_forward, HET_DECODE_ROWS) * (int64_t)HET_DECODE_ROWS;
    const int64_t element = d->cuda->narrow ? 2 : 4, params = het_decode_params_count(s->frequencies, s->width, s->layers);
    int complete = 1;
    TAKE(d->kxy, int32_t, s->max_points * 2 * (int64_t)sizeof *d->kxy);
    TAKE(d->freq, float, s->frequencies * 3 * four);
    TAKE(d->params, float, params * four);
    if (d->cuda->narrow && !d->fused) TAKE(d->weights, void, params * element);
    TAKE(d->rows, row, rows_forward * (int64_t)sizeof *d->rows);
    TAKE(d->x, void, rows * 2 * s->frequencies * element);
    for (int64_t l = 0; l < s->layers - d->fused; l++) TAKE(d->h[l], void, rows * s->width * element);
    for (int64_t l = 0; l < (d->fused ? s->layers : 1); l++) TAKE(d->dz[l], void, rows * s->width * element);
    TAKE(d->dphase, float, HET_DECODE_IMAGES * 2 * s->frequencies * four);
    if (d->wgmma) complete &= het_cuda_wgmma_allocate(d);
    return complete && (d->fused ? het_cuda_fused_allocate(d) : het_cuda_plain_allocate(d));
}
#undef TAKE

/* HET_CUDA_DECODE=wgmma|fused|plain: the first of them that serves, from the one that is named on (wgmma). */
static het_status choose(het_decode *d)
{
    const char *text = getenv("HET_CUDA_DECODE");
    const int plain = text != NULL && strcmp(text, "plain") == 0, fused = text != NULL && strcmp(text, "fused") == 0;
    if (text != NULL && !plain && !fused && strcmp(text, "wgmma") != 0)
        return d->cuda->host->fail(HET_E_USAGE, "HET_CUDA_DECODE=%s: it must be wgmma, fused or plain", text);
    d->fused = !plain && het_cuda_fused_fits(d->cuda, &d->spec);
    d->wgmma = d->fused && !fused && het_cuda_wgmma_fits(d->cuda, &d->spec);
    return HET_OK;
}

/* Of the fused kernels the forward keeps nothing of a row but the row itself, so that its chunks may be large; the backward's make whole
   turns of the GPU's multiprocessors, a tile each. */
static void choose_chunks(het_decode *d)
{
    enum { LARGER = 16 };
    const int64_t all = HET_DECODE_IMAGES * d->spec.max_points, most = d->cuda->rows_most, turn = d->cuda->processors * HET_DECODE_ROWS;
    d->capacity = d->capacity_forward = het_least(all, most);
    if (!d->fused) return;
    d->capacity_forward = het_least(all, LARGER * most);
    if (d->capacity > turn) d->capacity -= d->capacity % turn;
}

het_status het_cuda_decode_new(het_device *dev, het_decode **dec, const het_decode_spec *spec)
{
    het_cuda *c = het_cuda_of(dev);
    *dec = NULL;
    het_status status = check_spec(c, spec);
    if (status != HET_OK) return status;
    het_decode *d = new het_decode();
    d->cuda = c;
    d->spec = *spec;
    status = choose(d);
    choose_chunks(d);
    if (status == HET_OK) status = het_cuda_long_reserve(c, het_decode_inputs(spec, 0), spec->width);
    if (status == HET_OK) status = het_cuda_long_reserve(c, spec->width, spec->width);
    if (status == HET_OK && !allocate(d)) status = c->host->fail(HET_E_MEMORY, "decoder: no memory on the GPU");
    if (status != HET_OK) {
        het_cuda_decode_free(d);
        return status;
    }
    het_cuda_upload(c, d->kxy, spec->kxy, (size_t)spec->max_points * 2 * sizeof *spec->kxy);
    d->reach = new int32_t[spec->max_points];
    for (int64_t p = 0, most = 0; p < spec->max_points; p++) {
        for (int i = 0; i < 2; i++) {
            const int64_t k = spec->kxy[2 * p + i], far = k < 0 ? -k : k;
            if (far > most) most = far;
        }
        d->reach[p] = (int32_t)most;
    }
    d->spec.kxy = NULL; /* the caller's */
    d->wgmma = d->wgmma && het_cuda_wgmma_agrees(d);
    if (c->status != HET_OK) {
        het_cuda_decode_free(d);
        return c->host->fail(c->status, "%s", c->fault);
    }
    *dec = d;
    return HET_OK;
}

void het_cuda_decode_free(het_decode *d)
{
    if (d == NULL) return;
    void *pieces[] = {d->kxy, d->freq, d->params, d->weights, d->rows, d->x, d->partial, d->dphase, d->tables, d->z, d->dh,
                      d->dx, d->out, d->forward, d->backward, d->turns, d->slots, d->stages};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_cuda_free(d->cuda, pieces[i]);
    for (int l = 0; l < HET_DECODE_LAYERS_MAX; l++) {
        het_cuda_free(d->cuda, d->h[l]);
        het_cuda_free(d->cuda, d->dz[l]);
        het_cuda_free(d->cuda, d->mask[l]);
    }
    delete[] d->reach;
    delete d;
}

void het_cuda_decode_load(het_decode *d, const float *params, const float *freq)
{
    het_cuda *c = d->cuda;
    const int64_t n = het_decode_params_count(d->spec.frequencies, d->spec.width, d->spec.layers);
    HET_LAUNCH(c, convert<float>, het_blocks(n), HET_BLOCK, d->params, params, n);
    if (d->weights != NULL) HET_LAUNCH(c, convert<het_narrow>, het_blocks(n), HET_BLOCK, d->weights, params, n);
    HET_LAUNCH(c, convert<float>, het_blocks(3 * d->spec.frequencies), HET_BLOCK, d->freq, freq, 3 * d->spec.frequencies);
    if (d->wgmma) het_cuda_wgmma_load(d);
    else if (d->fused) het_cuda_fused_load(d);
}

/* ---- steps of both ways ---- */

void het_cuda_decode_rows(het_decode *d, const chunk *k, const float *rot, const float *kz)
{
    HET_LAUNCH(d->cuda, fill_rows, het_blocks(k->rows), HET_BLOCK, d->rows, *k, rot, kz);
}

void het_cuda_decode_weights(het_decode *d, const chunk *k, float *dparams, int64_t l, const void *dz)
{
    const het_decode_spec *s = &d->spec;
    /* rows of a tile beyond the last one are there, and count for nothing, where the kernels were fused */
    const int64_t rows = d->fused ? (int64_t)het_tiles(k->rows, HET_DECODE_ROWS) * HET_DECODE_ROWS : k->rows;
    het_cuda_long_product(d->cuda, dparams + het_decode_layer_at(s, l), l == 0 ? d->x : d->h[l - 1], dz, het_decode_inputs(s, l), s->width,
                          rows);
}

void het_cuda_decode_rotations(het_decode *d, const chunk *k, float *drot)
{
    HET_LAUNCH(d->cuda, rotation_sums, het_blocks(k->images * 6), HET_BLOCK, drot, d->dphase, d->freq, *k,
               d->spec.frequencies, d->spec.box);
}

/* The chunk of `total` rows that begins at row `first`, of at most `most`. */
static chunk chunk_at(const het_decode *d, const int32_t *which, int64_t points, int64_t first, int64_t total, int64_t most)
{
    chunk k = {which, d->kxy, points, first, total - first, first / points, 0};
    if (k.rows > most) k.rows = most;
    const int64_t images_end = (k.first_image + HET_DECODE_IMAGES) * points;
    if (first + k.rows > images_end) k.rows = images_end - first;
    k.images = (first + k.rows - 1) / points - k.first_image + 1;
    return k;
}

/* ---- calls ---- */

void het_cuda_decode_forward(het_decode *d, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                             int64_t p)
{
    for (int64_t first = 0; first < b * p;) {
        const chunk k = chunk_at(d, NULL, p, first, b * p, d->capacity_forward);
        (d->fused ? het_cuda_fused_forward : het_cuda_plain_forward)(d, &k, slice + 2 * first, rot, bias, kz);
        first += k.rows;
    }
}

void het_cuda_decode_backward(het_decode *d, float *dparams, float *drot, float *dbias, const float *dslice,
                              const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p)
{
    het_cuda *c = d->cuda;
    HET_CUDA(c, cudaMemsetAsync(drot, 0, (size_t)(9 * b) * sizeof *drot, c->stream));
    HET_CUDA(c, cudaMemsetAsync(dbias, 0, (size_t)(d->spec.width * b) * sizeof *dbias, c->stream));
    for (int64_t first = 0; first < n * p;) {
        const chunk k = chunk_at(d, which, p, first, n * p, d->capacity);
        (d->fused ? het_cuda_fused_backward : het_cuda_plain_backward)(d, &k, dparams, drot, dbias, dslice, rot, bias);
        first += k.rows;
    }
}
