#include "search.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"
#include "points.h"
#include "phases.h"
#include "rotation.h"

enum { CHUNK = HET_SEARCH_CHUNK, TILE = 256, CHILDREN = 8, NEAR = 3, SCRATCH = NEAR * NEAR + 4 };
enum { LEVELS_MAX = 8 };
static const double LEAST_SHIFT = 0.2, BASE_STEP = 2.0 * M_PI / HET_SEARCH_TURNS;
_Static_assert(HET_SEARCH_BASE % TILE == 0, "the base grid is searched in whole tiles");

struct het_search {
    het_search_spec spec;
    het_device *dev;
    het_points points;
    int64_t base_points, all_points;
    int64_t side, shifts;     /* base grid of shifts: side^2 */
    double spacing;           /* px between them */
    het_search_slices slices;
    void *context;
    float *rotation;          /* (BASE,9) */
    float *shift, *phase;     /* (shifts,2) px; (shifts,p,2) exp(+2 pi i k.t/D) */
    float *host, *product;    /* host copies: what is uploaded; (CHUNK,shifts,TILE) and (CHUNK,TILE) */
    float *templates, *power; /* [device] (BASE,2p) and |.|^2 (BASE,p) */
    float *terms, *norms;     /* [device] (CHUNK,shifts,2p) 2 g C conj(T) X, (CHUNK,p) g C^2 */
    float *cross, *square;    /* [device] (CHUNK,shifts,TILE), (CHUNK,TILE): products with the templates */
    het_search_pose *now, *next; /* (CHUNK,keep) */
    float *child, *slice;     /* (CHUNK,keep,CHILDREN,9); (CHUNK,keep,CHILDREN,P,2) */
    float *near;              /* (NEAR^2,P,2) phases of the shifts about a candidate, of this level */
    float *scratch;           /* (CHUNK,SCRATCH,2P) */
};

/* ---- base grid ---- */

static void make_shifts(het_search *s)
{
    const double range = s->spec.shift_range, d = (double)s->spec.box;
    const int64_t half = range < LEAST_SHIFT ? 0 : (int64_t)ceil(5.0 * range * s->spec.base_radius / d);
    s->side = 2 * half + 1;
    s->shifts = s->side * s->side;
    s->spacing = half > 0 ? range / (double)half : 0.0;
}

static void fill_shifts(het_search *s)
{
    const int64_t half = s->side / 2;
    for (int64_t i = 0; i < s->shifts; i++) {
        s->shift[2 * i] = (float)(s->spacing * (double)(i % s->side - half));
        s->shift[2 * i + 1] = (float)(s->spacing * (double)(i / s->side - half));
        for (int64_t p = 0; p < s->base_points; p++) {
            const int32_t *k = s->points.kxy + 2 * p;
            const double angle = 2.0 * M_PI / (double)s->spec.box *
                                 ((double)k[0] * s->shift[2 * i] + (double)k[1] * s->shift[2 * i + 1]);
            s->phase[2 * (i * s->base_points + p)] = (float)cos(angle);
            s->phase[2 * (i * s->base_points + p) + 1] = (float)sin(angle);
        }
    }
}

static void make_rotations(het_search *s, const double *turn)
{
    for (int i = 0; i < HET_SEARCH_DIRECTIONS; i++) {
        const double tilt = acos(1.0 - 2.0 * (i + 0.5) / HET_SEARCH_DIRECTIONS);
        const double azimuth = M_PI * (1.0 + sqrt(5.0)) * i; /* the golden angle */
        for (int j = 0; j < HET_SEARCH_TURNS; j++) {
            double r[9], turned[9];
            het_rotation_from_euler(r, azimuth, tilt, BASE_STEP * j);
            if (turn != NULL) het_rotation_multiply(turned, r, turn);
            else memcpy(turned, r, sizeof r);
            for (int c = 0; c < 9; c++) s->rotation[9 * (i * HET_SEARCH_TURNS + j) + c] = (float)turned[c];
        }
    }
}

void het_search_load(het_search *s, het_search_slices slices, void *context, const double *turn)
{
    const het_ops *ops = s->dev->ops;
    const int64_t p = s->base_points;
    s->slices = slices;
    s->context = context;
    make_rotations(s, turn);
    for (int64_t tile = 0; tile < HET_SEARCH_BASE; tile += TILE) {
        float *slice = s->host, *power = s->host + TILE * 2 * p;
        slices(context, slice, s->rotation + 9 * tile, TILE, p);
        for (int64_t i = 0; i < TILE * p; i++) {
            const float re = slice[2 * i], im = slice[2 * i + 1];
            power[i] = re * re + im * im;
        }
        ops->upload(s->dev, s->templates + tile * 2 * p, slice, (size_t)(TILE * 2 * p) * sizeof *slice);
        ops->upload(s->dev, s->power + tile * p, power, (size_t)(TILE * p) * sizeof *power);
    }
}

/* 2 g C X (P,2) and g C^2 (P) of one image. */
static void weigh(const het_search *s, float *data, float *norm, const float *x, const float *ctf,
                  const float *noise, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const float g = 0.5f * s->points.weight[i] / noise[i];
        data[2 * i] = 2.0f * g * ctf[i] * x[2 * i];
        data[2 * i + 1] = 2.0f * g * ctf[i] * x[2 * i + 1];
        norm[i] = g * ctf[i] * ctf[i];
    }
}

/* out = a times phase, p complex numbers */
static HET_CLONES void turn_points(float *restrict out, const float *restrict a, const float *restrict phase,
                                   int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const float re = a[2 * i], im = a[2 * i + 1], c = phase[2 * i], sn = phase[2 * i + 1];
        out[2 * i] = c * re - sn * im;
        out[2 * i + 1] = c * im + sn * re;
    }
}

/* The best shift for each rotation of a tile. */
static HET_CLONES void best_shifts(float *restrict best, int32_t *restrict which, const float *restrict cross,
                                   const float *restrict square, int64_t shifts)
{
    for (int64_t r = 0; r < TILE; r++) {
        best[r] = cross[r];
        which[r] = 0;
    }
    for (int64_t t = 1; t < shifts; t++) {
        for (int64_t r = 0; r < TILE; r++) {
            const float now = cross[t * TILE + r];
            which[r] = now > best[r] ? (int32_t)t : which[r];
            best[r] = now > best[r] ? now : best[r];
        }
    }
    for (int64_t r = 0; r < TILE; r++) best[r] -= square[r];
}

/* Put `pose` in its place of a list of `keep`, the likeliest first. */
static void insert(het_search_pose *list, int64_t keep, const het_search_pose *pose)
{
    if (!(pose->loglik > list[keep - 1].loglik)) return;
    int64_t at = keep - 1;
    for (; at > 0 && pose->loglik > list[at - 1].loglik; at--) list[at] = list[at - 1];
    list[at] = *pose;
}

static void clear(het_search_pose *list, int64_t n)
{
    const het_search_pose none = {.rotation = {1, 0, 0, 0, 1, 0, 0, 0, 1}, .loglik = -INFINITY};
    for (int64_t i = 0; i < n; i++) list[i] = none;
}

static void keep_of_tile(het_search *s, int64_t tile, const float *cross, const float *square, int64_t n)
{
#pragma omp parallel for num_threads(s->dev->threads) schedule(static)
    for (int64_t b = 0; b < n; b++) {
        float best[TILE];
        int32_t which[TILE];
        het_search_pose *list = s->now + b * s->spec.keep;
        best_shifts(best, which, cross + b * s->shifts * TILE, square + b * TILE, s->shifts);
        for (int64_t r = 0; r < TILE; r++) {
            if (!(best[r] > list[s->spec.keep - 1].loglik)) continue;
            het_search_pose pose = {.loglik = best[r]};
            memcpy(pose.rotation, s->rotation + 9 * (tile + r), sizeof pose.rotation);
            memcpy(pose.shift, s->shift + 2 * which[r], sizeof pose.shift);
            insert(list, s->spec.keep, &pose);
        }
    }
}

static void upload_terms(het_search *s, const float *transform, const float *ctf, const float *noise,
                         int64_t n)
{
    const int64_t p = s->base_points, row = 2 * p * s->shifts;
    float *norms = s->host + n * row;
#pragma omp parallel for num_threads(s->dev->threads) schedule(static)
    for (int64_t b = 0; b < n; b++) {
        float *data = s->scratch + b * SCRATCH * 2 * s->all_points;
        weigh(s, data, norms + b * p, transform + b * 2 * s->all_points, ctf + b * s->all_points, noise, p);
        for (int64_t t = 0; t < s->shifts; t++)
            turn_points(s->host + b * row + t * 2 * p, data, s->phase + t * 2 * p, p);
    }
    s->dev->ops->upload(s->dev, s->terms, s->host, (size_t)(n * row) * sizeof *s->host);
    s->dev->ops->upload(s->dev, s->norms, norms, (size_t)(n * p) * sizeof *norms);
}

static void search_base(het_search *s, const float *transform, const float *ctf, const float *noise,
                        int64_t n)
{
    const het_ops *ops = s->dev->ops;
    const int64_t p = s->base_points, rows = n * s->shifts;
    float *square = s->product + rows * TILE;
    clear(s->now, n * s->spec.keep);
    upload_terms(s, transform, ctf, noise, n);
    for (int64_t tile = 0; tile < HET_SEARCH_BASE; tile += TILE) {
        ops->linear(s->dev, s->cross, s->terms, s->templates + tile * 2 * p, NULL, rows, TILE, 2 * p, 0);
        ops->linear(s->dev, s->square, s->norms, s->power + tile * p, NULL, n, TILE, p, 0);
        ops->download(s->dev, s->product, s->cross, (size_t)(rows * TILE) * sizeof *s->product);
        ops->download(s->dev, square, s->square, (size_t)(n * TILE) * sizeof *square);
        keep_of_tile(s, tile, s->product, square, n);
    }
}

/* ---- refinement ---- */

static int64_t kept_after(const het_search *s, int level)
{
    const int64_t keep = s->spec.keep >> level;
    return level == s->spec.levels || keep < s->spec.result ? s->spec.result : keep;
}

static int64_t points_of(const het_search *s, int level)
{
    const double radius = s->spec.base_radius * (double)(1 << level);
    if (level == s->spec.levels || radius > s->spec.radius) return s->all_points;
    return het_points_within(&s->points, radius);
}

/* The 8 rotations at +-half a step about x, y and z of the image. */
static void make_children(float *child, const float *rotation, double step)
{
    double r[9];
    for (int c = 0; c < 9; c++) r[c] = rotation[c];
    for (int i = 0; i < CHILDREN; i++) {
        const double axis[3] = {i & 1 ? 1.0 : -1.0, i & 2 ? 1.0 : -1.0, i & 4 ? 1.0 : -1.0};
        double turn[9], turned[9];
        het_rotation_about(turn, axis, 0.5 * sqrt(3.0) * step);
        het_rotation_multiply(turned, turn, r);
        for (int c = 0; c < 9; c++) child[9 * i + c] = (float)turned[c];
    }
}

/* phase (p,2) = exp(+2 pi i k.t/D) */
static void make_phase(const het_search *s, float *phase, const float shift[2], int64_t p)
{
    het_phases phases;
    het_phases_set(&phases, shift, s->spec.box, s->points.kxy, p);
    for (int64_t i = 0; i < p; i++) {
        double at[2];
        het_phases_at(at, &phases, s->points.kxy + 2 * i);
        phase[2 * i] = (float)at[0];
        phase[2 * i + 1] = (float)at[1];
    }
}

static HET_CLONES float dot(const float *restrict a, const float *restrict b, int64_t n)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static HET_CLONES float weighted_power(const float *restrict norm, const float *restrict slice, int64_t p)
{
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < p; i++) {
        const float re = slice[2 * i], im = slice[2 * i + 1];
        sum += norm[i] * (re * re + im * im);
    }
    return sum;
}

/* The children of one candidate, each with its best shift, into `list`. work (SCRATCH,2p): rows 0 and 1 are
   the image's 2 g C X and g C^2 of weigh(), the rest is scratch. */
static void score_children(const het_search *s, het_search_pose *list, int64_t keep,
                           const het_search_pose *from, const float *child, const float *slice, float *work,
                           double step, int64_t p)
{
    const int side = s->shifts > 1 ? NEAR : 1;
    const float *data = work, *norm = work + 2 * p;
    float *phase = work + 2 * 2 * p, *centred = work + 3 * 2 * p, *turned = work + 4 * 2 * p;
    make_phase(s, phase, from->shift, p);
    turn_points(centred, data, phase, p);
    for (int t = 0; t < side * side; t++) turn_points(turned + t * 2 * p, centred, s->near + t * 2 * p, p);
    for (int c = 0; c < CHILDREN; c++) {
        const float *v = slice + c * 2 * p;
        het_search_pose pose = {.loglik = -INFINITY};
        for (int t = 0; t < side * side; t++) {
            const float now = dot(turned + t * 2 * p, v, 2 * p);
            if (now <= pose.loglik) continue;
            pose.loglik = now;
            pose.shift[0] = from->shift[0] + (float)(step * (t % side - side / 2));
            pose.shift[1] = from->shift[1] + (float)(step * (t / side - side / 2));
        }
        pose.loglik -= weighted_power(norm, v, p);
        memcpy(pose.rotation, child + 9 * c, sizeof pose.rotation);
        insert(list, keep, &pose);
    }
}

/* One level: kept_after(level - 1) candidates of each image in `now` give kept_after(level). */
static void refine(het_search *s, int level, const float *transform, const float *ctf, const float *noise,
                   int64_t n)
{
    const int64_t p = points_of(s, level), from = kept_after(s, level - 1), keep = kept_after(s, level);
    const double angle = ldexp(BASE_STEP, -level), step = ldexp(s->spacing, -level);
    const int side = s->shifts > 1 ? NEAR : 1;
    for (int64_t i = 0; i < n * from; i++)
        make_children(s->child + i * CHILDREN * 9, s->now[i].rotation, angle);
    s->slices(s->context, s->slice, s->child, n * from * CHILDREN, p);
    for (int t = 0; t < side * side; t++) {
        const float shift[2] = {(float)(step * (t % side - side / 2)), (float)(step * (t / side - side / 2))};
        make_phase(s, s->near + t * 2 * p, shift, p);
    }
    clear(s->next, n * keep);
#pragma omp parallel for num_threads(s->dev->threads) schedule(static)
    for (int64_t b = 0; b < n; b++) {
        float *work = s->scratch + b * SCRATCH * 2 * s->all_points;
        weigh(s, work, work + 2 * p, transform + b * 2 * s->all_points, ctf + b * s->all_points, noise, p);
        for (int64_t i = b * from; i < (b + 1) * from; i++)
            score_children(s, s->next + b * keep, keep, s->now + i, s->child + i * CHILDREN * 9,
                           s->slice + i * CHILDREN * 2 * p, work, step, p);
    }
    het_search_pose *swap = s->now;
    s->now = s->next;
    s->next = swap;
}

void het_search_run(het_search *s, het_search_pose *poses, const float *transform, const float *ctf,
                    const float *noise, int64_t n)
{
    const int64_t p = s->all_points, result = s->spec.result;
    for (int64_t first = 0; first < n; first += CHUNK) {
        const int64_t m = n - first < CHUNK ? n - first : CHUNK;
        search_base(s, transform + first * 2 * p, ctf + first * p, noise, m);
        for (int level = 1; level <= s->spec.levels; level++)
            refine(s, level, transform + first * 2 * p, ctf + first * p, noise, m);
        const int64_t kept = s->spec.levels == 0 ? s->spec.keep : result;
        for (int64_t b = 0; b < m; b++)
            memcpy(poses + (first + b) * result, s->now + b * kept, (size_t)result * sizeof *poses);
    }
}

/* ---- memory ---- */

int64_t het_search_points(const het_search *s)
{
    return s->all_points;
}

static het_status check(const het_search_spec *spec)
{
    const double half = 0.5 * (double)spec->box;
    if (spec->keep < 1 || spec->keep > HET_SEARCH_KEEP_MAX || spec->result < 1 || spec->result > spec->keep ||
        spec->levels < 0 || spec->levels > LEVELS_MAX)
        return het_fail(HET_E_SHAPE, "pose search: %d levels, %d candidates, %d results do not fit each other",
                        spec->levels, spec->keep, spec->result);
    if (!(spec->base_radius >= 1.0 && spec->base_radius <= spec->radius && spec->radius < half))
        return het_fail(HET_E_SHAPE, "pose search: radii %g and %g must rise and stay below %g",
                        spec->base_radius, spec->radius, half);
    if (!(spec->shift_range >= 0.0 && spec->shift_range <= half))
        return het_fail(HET_E_SHAPE, "pose search: shifts up to %g px do not fit a box of %lld",
                        spec->shift_range, (long long)spec->box);
    return HET_OK;
}

size_t het_search_bytes(int keep, int64_t points)
{
    return CHUNK * ((size_t)keep * CHILDREN + SCRATCH) * 2 * (size_t)points * sizeof(float); /* slice and scratch */
}

static het_status allocate(het_search *s)
{
    het_device *dev = s->dev;
    const size_t f = sizeof(float), p = (size_t)s->base_points, all = (size_t)s->all_points;
    const size_t keep = (size_t)s->spec.keep, rows = CHUNK * (size_t)s->shifts;
    const size_t uploads = rows * 2 * p + CHUNK * p, slices = TILE * 3 * p;
    s->rotation = het_alloc(HET_SEARCH_BASE * 9 * f);
    s->shift = het_alloc((size_t)s->shifts * 2 * f);
    s->phase = het_alloc((size_t)s->shifts * 2 * p * f);
    s->host = het_alloc((slices > uploads ? slices : uploads) * f);
    s->product = het_alloc((rows + CHUNK) * TILE * f);
    s->now = het_alloc(CHUNK * keep * sizeof *s->now);
    s->next = het_alloc(CHUNK * keep * sizeof *s->next);
    s->child = het_alloc(CHUNK * keep * CHILDREN * 9 * f);
    s->slice = het_alloc(CHUNK * keep * CHILDREN * 2 * all * f);
    s->near = het_alloc(NEAR * NEAR * 2 * all * f);
    s->scratch = het_alloc(CHUNK * SCRATCH * 2 * all * f);
    s->templates = dev->ops->alloc(dev, HET_SEARCH_BASE * 2 * p * f);
    s->power = dev->ops->alloc(dev, HET_SEARCH_BASE * p * f);
    s->terms = dev->ops->alloc(dev, rows * 2 * p * f);
    s->norms = dev->ops->alloc(dev, CHUNK * p * f);
    s->cross = dev->ops->alloc(dev, rows * TILE * f);
    s->square = dev->ops->alloc(dev, CHUNK * TILE * f);
    const void *const pieces[] = {s->rotation, s->shift, s->phase,   s->host,      s->product, s->now,
                                  s->next,     s->child, s->slice,   s->near,      s->scratch, s->templates,
                                  s->power,    s->terms, s->norms,   s->cross,     s->square};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        if (pieces[i] == NULL) return het_fail(HET_E_MEMORY, "no memory for the pose search");
    return HET_OK;
}

het_status het_search_new(het_search **search, het_device *dev, const het_search_spec *spec)
{
    het_status status = HET_OK;
    het_search *s = NULL;
    *search = NULL;
    HET_TRY(check(spec));
    s = het_alloc(sizeof *s);
    if (s == NULL) return het_fail(HET_E_MEMORY, "no memory for the pose search");
    s->spec = *spec;
    s->dev = dev;
    HET_TRY(het_points_new(&s->points, spec->box));
    s->base_points = het_points_within(&s->points, spec->base_radius);
    s->all_points = het_points_within(&s->points, spec->radius);
    make_shifts(s);
    HET_TRY(allocate(s));
    fill_shifts(s);
done:
    if (status != HET_OK) het_search_free(s);
    else *search = s;
    return status;
}

void het_search_free(het_search *s)
{
    if (s == NULL) return;
    void *const on_device[] = {s->templates, s->power, s->terms, s->norms, s->cross, s->square};
    for (size_t i = 0; i < sizeof on_device / sizeof *on_device; i++)
        if (on_device[i] != NULL) s->dev->ops->release(s->dev, on_device[i]);
    void *const on_host[] = {s->rotation, s->shift, s->phase, s->host, s->product, s->now,
                             s->next,     s->child, s->slice, s->near, s->scratch};
    for (size_t i = 0; i < sizeof on_host / sizeof *on_host; i++) het_release(on_host[i]);
    het_points_free(&s->points);
    het_release(s);
}
