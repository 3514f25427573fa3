#include "decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/arena.h"
#include "isa.h"
#include "tile.h"

enum { STRIDE = 8 }; /* phases of k = 8 j + i are products of those of 8 j and of i */

/* What one thread needs; all pointers into `memory`. */
typedef struct worker {
    char *memory;
    het_tile tile;
    het_phases phases; /* of image `current` (index into the list of the call), -1: none */
    int64_t current;
    float *turns;      /* (5,F): coarse and fine phase of one step in x and in y, the plane offset */
    float *steps;      /* (2 STRIDE + 2, F): cos, sin of k = 0 .. STRIDE-1, and of one multiple of STRIDE */
    het_net_grad grad;
    float *dphase;     /* (2,F): da, db of the current image */
    int64_t head;      /* image that began in another thread's rows, -1: none; its share is added at the end */
    float *head_bias, head_rot[6];
} worker;

struct het_decode {
    const het_tile_ops *ops;
    int threads;
    het_decode_spec spec;
    int32_t *kxy;
    int32_t *reach; /* (max_points): largest |kx|, |ky| of points 0..p */
    float *freq;    /* (F,3) */
    float *nought;  /* (H) zeros: bias of padding rows */
    char *memory;   /* the arrays above and those of net */
    het_net net;
    worker *workers;
};

/* The arguments of one call, shared by its threads. */
typedef struct call {
    const float *rot, *bias, *kz, *dslice;
    const int32_t *which;
    float *slice, *drot, *dbias;
    int64_t points, rows;
} call;

/* The next `bytes` of a block; with base NULL only their sum is taken. */
static void *take(char *base, size_t *used, int64_t bytes)
{
    void *piece = base == NULL ? NULL : base + *used;
    *used += het_arena_round((size_t)bytes);
    return piece;
}

static int64_t inputs_of(const het_decode_spec *spec, int64_t layer)
{
    return layer == 0 ? 2 * spec->frequencies : spec->width;
}

static size_t net_layout(het_decode *dec, char *base)
{
    const het_decode_spec *s = &dec->spec;
    const int64_t element = het_dtype_size(dec->ops->type), width = s->width;
    size_t used = 0;
    dec->kxy = take(base, &used, s->max_points * 2 * (int64_t)sizeof *dec->kxy);
    dec->reach = take(base, &used, s->max_points * (int64_t)sizeof *dec->reach);
    dec->freq = take(base, &used, s->frequencies * 3 * (int64_t)sizeof(float));
    dec->nought = take(base, &used, width * (int64_t)sizeof(float));
    dec->net.out = take(base, &used, 2 * width * (int64_t)sizeof(float));
    for (int64_t l = 0; l < s->layers; l++) {
        dec->net.forward[l] = take(base, &used, inputs_of(s, l) * width * element);
        dec->net.backward[l] = take(base, &used, inputs_of(s, l) * width * element);
        dec->net.bias[l] = take(base, &used, width * (int64_t)sizeof(float));
    }
    return used;
}

static void tile_layout(const het_decode *dec, het_tile *tile, char *base, size_t *used)
{
    const het_decode_spec *s = &dec->spec;
    const int64_t rows = dec->ops->capacity, element = het_dtype_size(dec->ops->type), f2 = 2 * s->frequencies;
    const int64_t most = f2 > s->width ? f2 : s->width, four = (int64_t)sizeof(float);
    tile->capacity = rows;
    tile->kx = take(base, used, rows * four);
    tile->ky = take(base, used, rows * four);
    tile->sign = take(base, used, rows * four);
    tile->bias = take(base, used, rows * (int64_t)sizeof *tile->bias);
    tile->out = take(base, used, 2 * rows * four);
    tile->x = take(base, used, rows * (f2 * element + 64));
    for (int64_t l = 0; l < (s->layers > 2 ? s->layers : 2); l++) {
        tile->h[l] = take(base, used, rows * (s->width * element + 64));
        tile->mask[l] = take(base, used, rows * s->width);
    }
    tile->dh = take(base, used, rows * (s->width * four + 64));
    for (int i = 0; i < 2; i++) tile->dz[i] = take(base, used, rows * (s->width * element + 64));
    tile->dx = take(base, used, rows * (f2 * four + 64));
    tile->left = take(base, used, het_tile_round(most, dec->ops->row_step) * (rows * element + 64));
    tile->right = take(base, used, rows * s->width * element);
}

static size_t worker_layout(const het_decode *dec, worker *w, char *base)
{
    const het_decode_spec *s = &dec->spec;
    const int64_t four = (int64_t)sizeof(float), f = s->frequencies, table = s->box / 2 * f * four;
    size_t used = 0;
    tile_layout(dec, &w->tile, base, &used);
    w->phases.cx = take(base, &used, table);
    w->phases.sx = take(base, &used, table);
    w->phases.cy = take(base, &used, table);
    w->phases.sy = take(base, &used, table);
    w->turns = take(base, &used, 5 * f * four);
    w->steps = take(base, &used, (2 * STRIDE + 2) * f * four);
    w->dphase = take(base, &used, 2 * f * four);
    w->head_bias = take(base, &used, s->width * four);
    for (int64_t l = 0; l < s->layers; l++) {
        const int64_t rows = het_tile_round(inputs_of(s, l), dec->ops->row_step);
        w->grad.weight[l] = take(base, &used, rows * s->width * four);
        w->grad.bias[l] = take(base, &used, s->width * four);
    }
    w->grad.out = take(base, &used, 2 * s->width * four);
    return used;
}

static het_status check_spec(const het_decode_spec *s)
{
    if (s->frequencies < 16 || s->frequencies % 16 != 0)
        return het_fail(HET_E_SHAPE, "decoder: %lld frequencies, must be a multiple of 16", (long long)s->frequencies);
    if (s->width < 32 || s->width % 32 != 0)
        return het_fail(HET_E_SHAPE, "decoder: width %lld, must be a multiple of 32", (long long)s->width);
    if (s->layers < 1 || s->layers > HET_DECODE_LAYERS_MAX)
        return het_fail(HET_E_SHAPE, "decoder: %lld layers, must be 1 to %d", (long long)s->layers,
                        HET_DECODE_LAYERS_MAX);
    if (s->box < 4 || s->box > 4096 || s->box % 2 != 0 || s->max_points < 1)
        return het_fail(HET_E_SHAPE, "decoder: box %lld with %lld points, must be even, 4 to 4096, with at least one",
                        (long long)s->box, (long long)s->max_points);
    for (int64_t i = 0; i < 2 * s->max_points; i++) {
        const int64_t k = s->kxy[i], half = s->box / 2 - 1;
        if (k > half || k < (i % 2 == 0 ? 0 : -half))
            return het_fail(HET_E_SHAPE, "decoder: point %lld lies outside the half-plane of box %lld",
                            (long long)(i / 2), (long long)s->box);
    }
    return HET_OK;
}

static het_status choose_ops(const het_tile_ops **ops, het_dtype precision)
{
    const het_isa isa = het_isa_get();
    *ops = &het_tile_plain;
#if defined(__x86_64__)
    if (precision == HET_BF16) {
        if (isa < HET_ISA_BF16)
            return het_fail(HET_E_USAGE, "decoder: bf16 needs AVX512-BF16, this run has %s; use precision f32",
                            het_isa_name(isa));
        *ops = isa >= HET_ISA_AMX ? &het_tile_amx : &het_tile_bf16;
    } else if (isa >= HET_ISA_AVX512) {
        *ops = &het_tile_avx512;
    } else if (isa == HET_ISA_AVX2) {
        *ops = &het_tile_avx2;
    }
#else
    if (precision == HET_BF16)
        return het_fail(HET_E_USAGE, "decoder: bf16 needs AVX512-BF16, this run has %s; use precision f32",
                        het_isa_name(isa));
#endif
    return HET_OK;
}

het_status het_cpu_decode_new(het_device *dev, het_decode **out, const het_decode_spec *spec)
{
    het_status status = HET_OK;
    het_decode *dec = NULL;
    *out = NULL;
    HET_TRY(check_spec(spec));
    dec = calloc(1, sizeof *dec);
    if (dec == NULL) return het_fail(HET_E_MEMORY, "decoder: no memory");
    dec->spec = *spec;
    dec->threads = dev->threads > 0 ? dev->threads : 1;
    HET_TRY(choose_ops(&dec->ops, dev->precision));

    size_t bytes = net_layout(dec, NULL);
    dec->memory = het_alloc(bytes);
    dec->workers = calloc((size_t)dec->threads, sizeof *dec->workers);
    if (dec->memory != NULL) net_layout(dec, dec->memory);
    for (int t = 0; t < dec->threads && dec->workers != NULL; t++) {
        worker *w = &dec->workers[t];
        bytes += worker_layout(dec, w, NULL);
        w->memory = het_alloc(worker_layout(dec, w, NULL));
        if (w->memory == NULL) break;
        worker_layout(dec, w, w->memory);
    }
    if (dec->memory == NULL || dec->workers == NULL || dec->workers[dec->threads - 1].memory == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "decoder: no memory for %zu bytes of tiles on %d threads", bytes, dec->threads));

    dec->net.frequencies = spec->frequencies;
    dec->net.width = spec->width;
    dec->net.layers = spec->layers;
    dec->net.plain = spec->plain;
    memcpy(dec->kxy, spec->kxy, (size_t)spec->max_points * 2 * sizeof *dec->kxy);
    dec->spec.kxy = dec->kxy;
    for (int64_t p = 0; p < spec->max_points; p++) {
        const int32_t x = dec->kxy[2 * p], y = abs(dec->kxy[2 * p + 1]), before = p > 0 ? dec->reach[p - 1] : 0;
        const int32_t here = x > y ? x : y;
        dec->reach[p] = here > before ? here : before;
    }
    *out = dec;
    dec = NULL;
done:
    het_cpu_decode_free(dec);
    return status;
}

void het_cpu_decode_free(het_decode *dec)
{
    if (dec == NULL) return;
    for (int t = 0; t < dec->threads && dec->workers != NULL; t++) het_release(dec->workers[t].memory);
    free(dec->workers);
    het_release(dec->memory);
    free(dec);
}

void het_cpu_decode_load(het_decode *dec, const float *params, const float *freq)
{
    const int64_t width = dec->spec.width, layers = dec->spec.layers;
    memcpy(dec->freq, freq, (size_t)dec->spec.frequencies * 3 * sizeof(float));
    for (int64_t l = 0; l < layers; l++) {
        const int64_t k = inputs_of(&dec->spec, l);
        dec->ops->pack(dec->net.forward[l], params, k, width, width, 1);
        dec->ops->pack(dec->net.backward[l], params, width, k, 1, width);
        params += k * width;
        if (l == 0) continue;
        memcpy(dec->net.bias[l], params, (size_t)width * sizeof(float));
        params += width;
    }
    for (int64_t j = 0; j < width; j++) {
        dec->net.out[j] = params[2 * j];
        dec->net.out[width + j] = params[2 * j + 1];
    }
    memcpy(dec->net.out_bias, params + 2 * width, sizeof dec->net.out_bias);
}

/* ---- phases ---------------------------------------------------------------------------------------------------- */

/* Turns modulo 1, exactly split: a multiple of 2^-12, whose product with k is exact in fp32, and the rest. */
static void split_turns(float *coarse, float *fine, double turns)
{
    const double shift = 0x1.8p52; /* adding it rounds to an integer */
    const double rest = turns - ((turns + shift) - shift);
    const double head = ((rest * 4096 + shift) - shift) / 4096;
    *coarse = (float)head;
    *fine = (float)(rest - head);
}

/* cos and sin of 2 pi (k step + offset) for k = 0 .. reach */
static void axis_phases(const het_decode *dec, worker *w, float *c, float *s, const float *coarse, const float *fine,
                        const float *offset, int64_t reach)
{
    const int64_t f = dec->spec.frequencies;
    float *major = w->steps + 2 * STRIDE * f;
    for (int64_t i = 0; i < STRIDE && i <= reach; i++)
        dec->ops->unit(w->steps + 2 * i * f, w->steps + (2 * i + 1) * f, coarse, fine, NULL, (float)i, f);
    for (int64_t k = 0; k <= reach; k++) {
        const float *minor = w->steps + 2 * (k % STRIDE) * f;
        if (k % STRIDE == 0) dec->ops->unit(major, major + f, coarse, fine, offset, (float)k, f);
        dec->ops->multiply(c + k * f, s + k * f, major, major + f, minor, minor + f, f);
    }
}

/* The tables of an image: phase = 2 pi freq (kx R[0,:] + ky R[1,:] + kz R[2,:])/D, separated in kx and ky. */
static void image_phases(const het_decode *dec, worker *w, const float *rot, float kz, int64_t reach)
{
    const int64_t f = dec->spec.frequencies;
    float *turns = w->turns;
    for (int64_t i = 0; i < f; i++) {
        double u[3];
        for (int j = 0; j < 3; j++) {
            u[j] = 0.0;
            for (int d = 0; d < 3; d++) u[j] += (double)dec->freq[3 * i + d] * rot[3 * j + d];
            u[j] /= (double)dec->spec.box;
        }
        const double plane = u[2] * kz, shift = 0x1.8p52;
        split_turns(&turns[i], &turns[f + i], u[0]);
        split_turns(&turns[2 * f + i], &turns[3 * f + i], u[1]);
        turns[4 * f + i] = (float)(plane - ((plane + shift) - shift));
    }
    axis_phases(dec, w, w->phases.cx, w->phases.sx, turns, turns + f, turns + 4 * f, reach);
    axis_phases(dec, w, w->phases.cy, w->phases.sy, turns + 2 * f, turns + 3 * f, NULL, reach);
}

/* +1 or -1 by the half-space of q, 0 at the origin */
static float fold_sign(const float *rot, float kx, float ky, float kz)
{
    for (int d = 2; d >= 0; d--) {
        const float q = kx * rot[d] + ky * rot[3 + d] + kz * rot[6 + d];
        if (q != 0.0f) return q > 0.0f ? 1.0f : -1.0f;
    }
    return 0.0f;
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

static int64_t image_of(const call *c, int64_t listed)
{
    return c->which == NULL ? listed : c->which[listed];
}

/* Rows [first, last) of the call become the tile's rows. */
static void fill_tile(const het_decode *dec, worker *w, const call *c, int64_t first, int64_t last)
{
    het_tile *tile = &w->tile;
    for (int64_t r = first; r < last;) {
        const int64_t listed = r / c->points, end = (listed + 1) * c->points, stop = end < last ? end : last;
        const int64_t image = image_of(c, listed);
        const float *rot = c->rot + 9 * image, kz = c->kz == NULL ? 0.0f : c->kz[image];
        if (listed != w->current) image_phases(dec, w, rot, kz, dec->reach[c->points - 1]);
        w->current = listed;
        const int64_t begin = r - first;
        for (; r < stop; r++) {
            const int32_t *k = dec->kxy + 2 * (r - listed * c->points);
            tile->kx[r - first] = k[0];
            tile->ky[r - first] = k[1];
            tile->sign[r - first] = fold_sign(rot, (float)k[0], (float)k[1], kz);
            tile->bias[r - first] = c->bias + image * dec->spec.width;
        }
        dec->ops->features(&dec->net, tile, &w->phases, begin, stop - first);
    }
    const int64_t used = last - first, row = 2 * dec->spec.frequencies * het_dtype_size(dec->ops->type) + 64;
    tile->rows = het_tile_round(used, dec->ops->row_step);
    for (int64_t i = used; i < tile->rows; i++) {
        tile->kx[i] = tile->ky[i] = 0;
        tile->sign[i] = 0.0f;
        tile->bias[i] = dec->nought;
    }
    memset((char *)tile->x + used * row, 0, (size_t)((tile->rows - used) * row));
    memset(tile->out + 2 * used, 0, (size_t)(2 * (tile->rows - used)) * sizeof(float));
}

static void forward_tile(const het_decode *dec, worker *w, const call *c, int64_t first, int64_t last)
{
    fill_tile(dec, w, c, first, last);
    dec->ops->hidden(&dec->net, &w->tile, 0);
    dec->ops->output(&dec->net, &w->tile);
    memcpy(c->slice + 2 * first, w->tile.out, (size_t)(2 * (last - first)) * sizeof(float));
}

/* drot (2,3) += 2 pi/D sum_f (da, db) freq_f */
static void add_rotation_grad(const het_decode *dec, float *drot, const float *dphase)
{
    const int64_t f = dec->spec.frequencies;
    const double scale = 2.0 * 3.14159265358979323846 / (double)dec->spec.box;
    for (int64_t j = 0; j < 2; j++) {
        double total[3] = {0};
        for (int64_t i = 0; i < f; i++) {
            for (int d = 0; d < 3; d++) total[d] += (double)dphase[j * f + i] * dec->freq[3 * i + d];
        }
        for (int d = 0; d < 3; d++) drot[3 * j + d] += (float)(scale * total[d]);
    }
}

/* The images' shares of a tile that went backward; `start` is the thread's first row. */
static void add_image_grads(const het_decode *dec, worker *w, const call *c, int64_t start, int64_t first, int64_t last)
{
    for (int64_t r = first; r < last;) {
        const int64_t listed = r / c->points, end = (listed + 1) * c->points, stop = end < last ? end : last;
        const int64_t image = image_of(c, listed);
        const int shared = listed * c->points < start; /* another thread has its first rows */
        float *dbias = shared ? w->head_bias : c->dbias + image * dec->spec.width;
        float *drot = shared ? w->head_rot : c->drot + 9 * image;
        if (shared) w->head = image;
        memset(w->dphase, 0, (size_t)(2 * dec->spec.frequencies) * sizeof(float));
        dec->ops->bias_grad(&dec->net, dbias, &w->tile, r - first, stop - first);
        dec->ops->phase_grad(&dec->net, w->dphase, w->dphase + dec->spec.frequencies, &w->tile, r - first, stop - first);
        add_rotation_grad(dec, drot, w->dphase);
        r = stop;
    }
}

static void backward_tile(const het_decode *dec, worker *w, const call *c, int64_t start, int64_t first, int64_t last)
{
    het_tile *tile = &w->tile;
    fill_tile(dec, w, c, first, last);
    for (int64_t r = first; r < last; r++) {
        const int64_t from = image_of(c, r / c->points) * c->points + r % c->points;
        tile->out[2 * (r - first)] = c->dslice[2 * from];
        tile->out[2 * (r - first) + 1] = c->dslice[2 * from + 1] * tile->sign[r - first];
    }
    dec->ops->hidden(&dec->net, tile, 1);
    dec->ops->backward(&dec->net, &w->grad, tile);
    add_image_grads(dec, w, c, start, first, last);
}

/* Thread t's share of the rows, in tiles of about equal size. */
static void run_worker(const het_decode *dec, const call *c, int t)
{
    const int64_t step = dec->ops->row_step;
    const int64_t share = het_tile_round((c->rows + dec->threads - 1) / dec->threads, step);
    const int64_t start = share * t < c->rows ? share * t : c->rows;
    const int64_t stop = start + share < c->rows ? start + share : c->rows;
    worker *w = &dec->workers[t];
    w->current = -1;
    if (start == stop) return;
    const int64_t tiles = (stop - start + dec->ops->capacity - 1) / dec->ops->capacity;
    const int64_t size = het_tile_round((stop - start + tiles - 1) / tiles, step);
    dec->ops->enter();
    for (int64_t first = start; first < stop; first += size) {
        const int64_t last = first + size < stop ? first + size : stop;
        if (c->dslice == NULL)
            forward_tile(dec, w, c, first, last);
        else
            backward_tile(dec, w, c, start, first, last);
    }
    dec->ops->leave();
}

void het_cpu_decode_forward(het_decode *dec, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                            int64_t p)
{
    const call c = {.rot = rot, .bias = bias, .kz = kz, .slice = slice, .points = p, .rows = b * p};
    HET_ASSERT(p >= 1 && p <= dec->spec.max_points);
#pragma omp parallel for num_threads(dec->threads) schedule(static, 1)
    for (int t = 0; t < dec->threads; t++) run_worker(dec, &c, t);
}

static void clear_worker(const het_decode *dec, worker *w)
{
    const int64_t width = dec->spec.width;
    w->head = -1;
    memset(w->head_bias, 0, (size_t)width * sizeof(float));
    memset(w->head_rot, 0, sizeof w->head_rot);
    for (int64_t l = 0; l < dec->spec.layers; l++) {
        memset(w->grad.weight[l], 0, (size_t)(inputs_of(&dec->spec, l) * width) * sizeof(float));
        memset(w->grad.bias[l], 0, (size_t)width * sizeof(float));
    }
    memset(w->grad.out, 0, (size_t)(2 * width) * sizeof(float));
    w->grad.out_bias[0] = w->grad.out_bias[1] = 0.0f;
}

/* to (n) += the weight or bias gradients of a layer over all threads, in their order; returns the end of `to`. */
static float *add_shares(const het_decode *dec, float *to, int64_t layer, int bias, int64_t n)
{
    enum { CHUNK = 1024 };
#pragma omp parallel for num_threads(dec->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t stop = i + CHUNK < n ? i + CHUNK : n;
        for (int t = 0; t < dec->threads; t++) {
            const het_net_grad *grad = &dec->workers[t].grad;
            const float *from = bias ? grad->bias[layer] : grad->weight[layer];
            for (int64_t j = i; j < stop; j++) to[j] += from[j];
        }
    }
    return to + n;
}

static void add_heads(const het_decode *dec, const call *c)
{
    for (int t = 0; t < dec->threads; t++) {
        const worker *w = &dec->workers[t];
        if (w->head < 0) continue;
        for (int64_t j = 0; j < dec->spec.width; j++) c->dbias[w->head * dec->spec.width + j] += w->head_bias[j];
        for (int64_t j = 0; j < 6; j++) c->drot[w->head * 9 + j] += w->head_rot[j];
    }
}

void het_cpu_decode_backward(het_decode *dec, float *dparams, float *drot, float *dbias, const float *dslice,
                             const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p)
{
    const call c = {.rot = rot, .bias = bias, .dslice = dslice, .which = which, .drot = drot, .dbias = dbias,
                    .points = p, .rows = n * p};
    const int64_t width = dec->spec.width;
    HET_ASSERT(p >= 1 && p <= dec->spec.max_points && n <= b);
    memset(drot, 0, (size_t)(9 * b) * sizeof(float));
    memset(dbias, 0, (size_t)(width * b) * sizeof(float));
#pragma omp parallel for num_threads(dec->threads) schedule(static, 1)
    for (int t = 0; t < dec->threads; t++) {
        clear_worker(dec, &dec->workers[t]);
        run_worker(dec, &c, t);
    }
    add_heads(dec, &c);
    for (int64_t l = 0; l < dec->spec.layers; l++) {
        dparams = add_shares(dec, dparams, l, 0, inputs_of(&dec->spec, l) * width);
        if (l > 0) dparams = add_shares(dec, dparams, l, 1, width);
    }
    for (int t = 0; t < dec->threads; t++) {
        const het_net_grad *grad = &dec->workers[t].grad;
        for (int64_t j = 0; j < width; j++) {
            dparams[2 * j] += grad->out[j];
            dparams[2 * j + 1] += grad->out[width + j];
        }
        dparams[2 * width] += grad->out_bias[0];
        dparams[2 * width + 1] += grad->out_bias[1];
    }
}
