#include "averages.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"

/* A ring of a real image is one real function of the whole circle, g = Re F + Im F: with Re F(theta+pi) = Re
 * F(theta) and Im F(theta+pi) = -Im F(theta) the mixed terms of a correlation over the circle cancel, and
 *     sum over 72 angles of g_A g_X = 2 sum over 36 of Re conj(A) X.
 * The harmonics of ring r end near 2 pi r times the particle's radius over D (Bessel functions), so 32 hold
 * all of it. With spectra a, x per ring, the four sums over rings
 *     p1 = ar xr,  p2 = ai xi,  p3 = ar xi,  p4 = ai xr
 * give both mirrors at all angles phi and -phi:
 *     direct   (p1 + p2) cos(m phi) - (p3 - p4) sin(m phi)
 *     mirrored (p1 - p2) cos(m phi) - (p3 + p4) sin(m phi)
 * The penalty C^2 |A|^2 is one more such correlation, of the squares, without shifts. */
enum {
    ANGLES = HET_POLAR_ANGLES,
    HALF = HET_POLAR_HALF,
    HARMONICS = 32,
    SPECTRUM = 2 * HARMONICS,
    TURNS = 40, /* angles 0 .. 36, padded to whole vectors */
    SIDE_MAX = 9,
    SHIFTS_MAX = SIDE_MAX * SIDE_MAX,
    BATCH = 16, /* images whose spectra are made together */
    CHUNK = 32  /* references correlated together, per thread: the products stay in cache */
};
static const double pi = 3.14159265358979323846;

typedef struct work {
    const het_averages_spec *spec;
    het_device *dev;
    int64_t points;         /* radius x HALF, angle fastest */
    int64_t shifts, planes; /* planes: one per shift and one for the penalty */
    float shift[2 * SHIFTS_MAX];
    double weight[HET_POLAR_SHELLS]; /* w_r */
    float *phase;                    /* (shifts,2,points): exp(+2 pi i k.t) */
    float *transform, *ctf;          /* (n,2,points): re, im of F; (n,points) */
    float *forward;                  /* (SPECTRUM,ANGLES): harmonics of a ring */
    float *cosine, *sine;            /* (TURNS,HARMONICS): back */
    float *reference;                /* (m,2,radius,SPECTRUM): of A and of |A|^2 */
    float *ring, *spectrum;          /* (BATCH,planes,radius,ANGLES or SPECTRUM) */
    float *even, *odd;               /* (chunk,planes,2,HARMONICS): p1, p2 and p3, p4 */
    float *even_turn, *odd_turn;     /* (chunk,planes,2,TURNS) */
    float *score;                    /* (m,n) */
    int32_t *where;                  /* (m,n): (shift 2 + mirrored) ANGLES + angle */
} work;

/* ---- correlation ---- */

/* P = (mean |F|^2 - noise) / mean C^2 per shell, and the weights of the score. */
static void measure_power(het_averages *a, work *w)
{
    const double count = (double)(a->spec.images * HALF);
    for (int r = 0; r < a->spec.radius; r++) {
        double power = 0.0, ctf2 = 0.0;
        for (int64_t j = 0; j < a->spec.images; j++) {
            const float *re = w->transform + j * 2 * w->points + r * HALF, *im = re + w->points;
            const float *c = w->ctf + j * w->points + r * HALF;
            for (int h = 0; h < HALF; h++) {
                power += (double)(re[h] * re[h] + im[h] * im[h]);
                ctf2 += (double)(c[h] * c[h]);
            }
        }
        ctf2 = fmax(ctf2 / count, 1e-6);
        const double signal = fmax(power / count - a->noise, 1e-3 * a->noise);
        a->power[r] = signal / ctf2;
        w->weight[r] = (double)(r + 1) / (a->noise + 0.2 * signal);
    }
}

static void make_tables(work *w)
{
    for (int m = 0; m < HARMONICS; m++) {
        for (int a = 0; a < ANGLES; a++) {
            const double angle = 2.0 * pi * (double)(m * a % ANGLES) / ANGLES;
            w->forward[m * ANGLES + a] = (float)cos(angle);
            w->forward[(HARMONICS + m) * ANGLES + a] = (float)-sin(angle);
        }
        /* 1/72 of the inverse transform, 2 for the harmonics -m, 1/2 for the half circle */
        const double factor = (m == 0 ? 0.5 : 1.0) / ANGLES;
        for (int a = 0; a <= HALF; a++) {
            const double angle = 2.0 * pi * (double)(m * a % ANGLES) / ANGLES;
            w->cosine[a * HARMONICS + m] = (float)(factor * cos(angle));
            w->sine[a * HARMONICS + m] = (float)(factor * sin(angle));
        }
    }
    for (int64_t t = 0; t < w->shifts; t++)
        for (int64_t p = 0; p < w->points; p++) {
            float *phase = w->phase + 2 * t * w->points + p;
            het_polar_phase(phase, phase + w->points, p, w->shift + 2 * t, w->spec->box);
        }
}

/* g = Re + Im over the circle from the half circle. */
static void ring_value(float *ring, float re, float im, int h)
{
    ring[h] = re + im;
    ring[h + HALF] = re - im;
}

/* Spectra of A and |A|^2 of reference i; `ring` (2,radius,ANGLES) is scratch. */
static void make_references(work *w, const het_averages *a)
{
    const int64_t radius = a->spec.radius, size = 2 * radius;
    for (int64_t i = 0; i < a->spec.averages; i++) {
        const float *re = w->transform + i * 2 * w->points, *im = re + w->points, *c = w->ctf + i * w->points;
        for (int64_t p = 0; p < w->points; p++) {
            const int64_t r = p / HALF;
            const int h = (int)(p % HALF);
            const float gain = c[p] / (c[p] * c[p] + (float)(a->noise / a->power[r]));
            ring_value(w->ring + r * ANGLES, gain * re[p], gain * im[p], h);
            ring_value(w->ring + (radius + r) * ANGLES, gain * gain * (re[p] * re[p] + im[p] * im[p]), 0.0f,
                       h);
        }
        w->dev->ops->linear(w->dev, w->reference + i * size * SPECTRUM, w->ring, w->forward, NULL, size,
                            SPECTRUM, ANGLES, 0);
    }
}

/* Rings of one image: w C F moved back by every shift, and -1/2 w C^2. */
static void make_rings(float *rings, const work *w, int64_t j)
{
    const float *re = w->transform + j * 2 * w->points, *im = re + w->points, *c = w->ctf + j * w->points;
    for (int64_t t = 0; t < w->planes; t++) {
        const float *ct = w->phase + 2 * t * w->points, *st = ct + w->points;
        for (int64_t p = 0; p < w->points; p++) {
            const int h = (int)(p % HALF);
            float *ring = rings + (t * w->spec->radius + p / HALF) * ANGLES;
            const float f = (float)w->weight[p / HALF] * c[p];
            if (t == w->shifts) ring_value(ring, -0.5f * f * c[p], 0.0f, h);
            else
                ring_value(ring, f * (re[p] * ct[p] - im[p] * st[p]), f * (re[p] * st[p] + im[p] * ct[p]), h);
        }
    }
}

/* Sums over rings of one reference with every plane of one image. */
HET_CLONES
static void correlate(float *restrict even, float *restrict odd, const float *reference,
                      const float *spectrum, int64_t planes, int64_t radius)
{
    enum { LANES = 16 };
    for (int64_t t = 0; t < planes; t++) {
        const float *a = reference + (t == planes - 1 ? radius * SPECTRUM : 0),
                    *x = spectrum + t * radius * SPECTRUM;
        for (int m = 0; m < HARMONICS; m += LANES) {
            float p1[LANES] = {0}, p2[LANES] = {0}, p3[LANES] = {0}, p4[LANES] = {0};
            for (int64_t r = 0; r < radius; r++) {
                const float *ar = a + r * SPECTRUM + m, *ai = ar + HARMONICS, *xr = x + r * SPECTRUM + m,
                            *xi = xr + HARMONICS;
                for (int l = 0; l < LANES; l++) {
                    p1[l] += ar[l] * xr[l];
                    p2[l] += ai[l] * xi[l];
                    p3[l] += ar[l] * xi[l];
                    p4[l] += ai[l] * xr[l];
                }
            }
            float *e = even + 2 * t * HARMONICS + m, *o = odd + 2 * t * HARMONICS + m;
            for (int l = 0; l < LANES; l++) {
                e[l] = p1[l];
                e[HARMONICS + l] = p2[l];
                o[l] = p3[l];
                o[HARMONICS + l] = p4[l];
            }
        }
    }
}

/* The four scores of angle +-l from the four turned sums: direct at l, at -l; mirrored at l, at -l. */
static HET_INLINE void four_scores(float s[4], float e1, float e2, float o1, float o2)
{
    s[0] = e1 + e2 - o1 + o2;
    s[1] = e1 + e2 + o1 - o2;
    s[2] = e1 - e2 - o1 - o2;
    s[3] = e1 - e2 + o1 + o2;
}

/* The best shift at every angle, then the best angle with the penalty, which is the last plane. */
HET_CLONES
static float best_match(int32_t *where, const float *even, const float *odd, int64_t planes)
{
    float best[4][TURNS];
    int32_t at[4][TURNS];
    for (int q = 0; q < 4; q++)
        for (int l = 0; l < TURNS; l++) {
            best[q][l] = -INFINITY;
            at[q][l] = 0;
        }
    for (int64_t t = 0; t < planes - 1; t++) {
        const float *e = even + 2 * t * TURNS, *o = odd + 2 * t * TURNS;
        for (int l = 0; l < TURNS; l++) {
            float s[4];
            four_scores(s, e[l], e[TURNS + l], o[l], o[TURNS + l]);
            for (int q = 0; q < 4; q++) {
                at[q][l] = s[q] > best[q][l] ? (int32_t)t : at[q][l];
                best[q][l] = s[q] > best[q][l] ? s[q] : best[q][l];
            }
        }
    }
    const float *e = even + 2 * (planes - 1) * TURNS, *o = odd + 2 * (planes - 1) * TURNS;
    float highest = -INFINITY;
    *where = 0;
    for (int l = 0; l <= HALF; l++) {
        float s[4];
        four_scores(s, e[l], e[TURNS + l], o[l], o[TURNS + l]);
        for (int q = 0; q < 4; q++) {
            if (!(best[q][l] + s[q] > highest)) continue;
            highest = best[q][l] + s[q];
            *where = (2 * at[q][l] + q / 2) * ANGLES + (q % 2 == 0 ? l : ANGLES - l) % ANGLES;
        }
    }
    return highest;
}

/* Scores of references first .. first+count-1 with image j. */
static void match(work *w, const float *spectrum, int64_t j, int64_t first, int64_t count)
{
    const int64_t radius = w->spec->radius, rows = 2 * w->planes;
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        correlate(w->even + i * rows * HARMONICS, w->odd + i * rows * HARMONICS,
                  w->reference + (first + i) * 2 * radius * SPECTRUM, spectrum, w->planes, radius);
    w->dev->ops->linear(w->dev, w->even_turn, w->even, w->cosine, NULL, count * rows, TURNS, HARMONICS, 0);
    w->dev->ops->linear(w->dev, w->odd_turn, w->odd, w->sine, NULL, count * rows, TURNS, HARMONICS, 0);
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = (first + i) * w->spec->images + j;
        w->score[at] = best_match(w->where + at, w->even_turn + i * rows * TURNS,
                                  w->odd_turn + i * rows * TURNS, w->planes);
    }
}

static void match_all(work *w)
{
    const int64_t n = w->spec->images, m = w->spec->averages, radius = w->spec->radius;
    const int64_t chunk = (int64_t)CHUNK * w->dev->threads;
    for (int64_t b = 0; b < n; b += BATCH) {
        const int64_t batch = n - b < BATCH ? n - b : BATCH;
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
        for (int64_t j = 0; j < batch; j++) make_rings(w->ring + j * w->planes * radius * ANGLES, w, b + j);
        w->dev->ops->linear(w->dev, w->spectrum, w->ring, w->forward, NULL, batch * w->planes * radius,
                            SPECTRUM, ANGLES, 0);
        for (int64_t j = 0; j < batch; j++)
            for (int64_t i = 0; i < m; i += chunk)
                match(w, w->spectrum + j * w->planes * radius * SPECTRUM, b + j, i,
                      m - i < chunk ? m - i : chunk);
    }
}

/* ---- averages ---- */

/* The k best images of reference i, of equals the first. */
static void choose_members(het_member *member, const work *w, int64_t i)
{
    const float *score = w->score + i * w->spec->images;
    for (int k = 0; k < w->spec->neighbours; k++) {
        int64_t best = -1;
        for (int64_t j = 0; j < w->spec->images; j++) {
            const int after = k == 0 || score[j] < member[k - 1].score ||
                              (score[j] == member[k - 1].score && j > member[k - 1].image);
            if (after && (best < 0 || score[j] > score[best])) best = j;
        }
        const int32_t where = w->where[i * w->spec->images + best], shift = where / (2 * ANGLES);
        member[k] = (het_member){.image = best,
                                 .score = score[best],
                                 .angle = (float)(2.0 * pi * (where % ANGLES) / ANGLES),
                                 .shift = {w->shift[2 * shift], w->shift[2 * shift + 1]},
                                 .mirrored = where / ANGLES % 2};
    }
}

/* Point k of the image lies at G k: at the angle theta - turn, or mirrored at turn - theta. */
static void add_member(float *sum, float *weight, const work *w, const het_member *member)
{
    const float *re = w->transform + member->image * 2 * w->points, *im = re + w->points;
    const float *c = w->ctf + member->image * w->points;
    const int turn = (int)lround(member->angle * ANGLES / (2.0 * pi));
    for (int64_t p = 0; p < w->points; p++) {
        const int h = (int)(p % HALF), at = (member->mirrored ? turn - h : h - turn) + ANGLES;
        float ct, st;
        het_polar_phase(&ct, &st, p, member->shift, w->spec->box);
        const int64_t q = p - h + at % HALF;
        sum[q] += c[p] * (re[p] * ct - im[p] * st);
        sum[w->points + q] += (at % ANGLES < HALF ? c[p] : -c[p]) * (re[p] * st + im[p] * ct);
        weight[q] += c[p] * c[p];
    }
}

static void average_all(het_averages *a, const work *w)
{
    const int64_t k = a->spec.neighbours;
#pragma omp parallel for num_threads(w->dev->threads) schedule(static)
    for (int64_t i = 0; i < a->spec.averages; i++) {
        choose_members(a->member + i * k, w, i);
        for (int64_t j = 0; j < k; j++)
            add_member(a->sum + i * 2 * w->points, a->weight + i * w->points, w, a->member + i * k + j);
    }
}

/* ---- set-up ---- */

static het_status check_spec(const het_averages_spec *s)
{
    const int64_t half = s->box / 2 - 1;
    if (s->box < 8 || s->box > 4096 || s->box % 2 != 0 || s->radius < 2 || s->radius > HET_POLAR_SHELLS ||
        s->radius > half)
        return het_fail(HET_E_USAGE,
                        "averages of box %lld to a radius of %d: the box must be even and at least 8, the "
                        "radius 2 to %d and within the box",
                        (long long)s->box, s->radius, HET_POLAR_SHELLS);
    if (s->averages < 1 || s->averages > s->images || s->neighbours < 1 || s->neighbours > s->images)
        return het_fail(HET_E_USAGE, "%lld averages of %d images each need more than %lld images",
                        (long long)s->averages, s->neighbours, (long long)s->images);
    return HET_OK;
}

/* A square grid, at most D/32 px between neighbours. */
static void make_shifts(work *w)
{
    const double range = w->spec->shift_range, step = (double)w->spec->box / 32.0;
    const int most = (SIDE_MAX - 1) / 2;
    const int reach = range < 0.2 ? 0 : (int)fmin(most, fmax(1.0, ceil(range / step - 1e-6))),
              side = 2 * reach + 1;
    w->shifts = (int64_t)side * side;
    w->planes = w->shifts + 1;
    for (int i = 0; i < w->shifts && reach > 0; i++) {
        w->shift[2 * i] = (float)(range * (i % side - reach) / reach);
        w->shift[2 * i + 1] = (float)(range * (i / side - reach) / reach);
    }
}

typedef struct piece {
    void *at; /* address of the pointer */
    int64_t count;
} piece;

static het_status take_all(het_arena *arena, const piece *pieces, size_t count)
{
    het_status status = HET_OK;
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += het_arena_round((size_t)pieces[i].count * sizeof(float));
    HET_TRY(het_arena_new(arena, bytes));
    for (size_t i = 0; i < count; i++) {
        void *const memory = het_arena_take(arena, (size_t)pieces[i].count * sizeof(float));
        memcpy(pieces[i].at, &memory, sizeof memory);
    }
done:
    return status;
}

static het_status allocate(work *w, het_arena *arena)
{
    const int64_t n = w->spec->images, m = w->spec->averages, radius = w->spec->radius, planes = w->planes;
    const int64_t most = (int64_t)CHUNK * w->dev->threads, chunk = m < most ? m : most;
    const piece pieces[] = {
        {&w->phase, w->shifts * 2 * w->points},
        {&w->transform, n * 2 * w->points},
        {&w->ctf, n * w->points},
        {&w->forward, SPECTRUM * ANGLES},
        {&w->cosine, TURNS * HARMONICS},
        {&w->sine, TURNS * HARMONICS},
        {&w->reference, m * 2 * radius * SPECTRUM},
        {&w->ring, BATCH * planes * radius * ANGLES},
        {&w->spectrum, BATCH * planes * radius * SPECTRUM},
        {&w->even, chunk * planes * 2 * HARMONICS},
        {&w->odd, chunk * planes * 2 * HARMONICS},
        {&w->even_turn, chunk * planes * 2 * TURNS},
        {&w->odd_turn, chunk * planes * 2 * TURNS},
        {&w->score, m * n},
        {&w->where, m * n},
    };
    return take_all(arena, pieces, sizeof pieces / sizeof *pieces);
}

het_status het_averages_new(het_averages *averages, het_device *dev, const het_averages_spec *spec,
                            const float *images, const het_ctf_row *ctf)
{
    het_status status = HET_OK;
    het_arena arena = {0};
    work w = {.spec = spec, .dev = dev, .points = (int64_t)spec->radius * HALF};
    *averages = (het_averages){.spec = *spec};
    HET_TRY(check_spec(spec));
    const int64_t m = spec->averages;
    make_shifts(&w);
    HET_TRY(allocate(&w, &arena));
    averages->member = het_alloc((size_t)(m * spec->neighbours) * sizeof *averages->member);
    averages->sum = het_alloc((size_t)(m * 2 * w.points) * sizeof *averages->sum);
    averages->weight = het_alloc((size_t)(m * w.points) * sizeof *averages->weight);
    if (averages->member == NULL || averages->sum == NULL || averages->weight == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld averages", (long long)m));
    HET_TRY(het_polar_images(w.transform, w.ctf, dev, images, ctf, spec->images, spec->box, spec->radius,
                             spec->apix));
    averages->noise = het_polar_noise(spec->noise_variance, spec->box);
    measure_power(averages, &w);
    make_tables(&w);
    make_references(&w, averages);
    match_all(&w);
    average_all(averages, &w);
done:
    het_arena_free(&arena);
    if (status != HET_OK) het_averages_free(averages);
    return status;
}

void het_averages_free(het_averages *averages)
{
    het_release(averages->member);
    het_release(averages->sum);
    het_release(averages->weight);
    averages->member = NULL;
    averages->sum = averages->weight = NULL;
}
