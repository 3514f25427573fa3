#include <math.h>
#include <string.h>

#include "../arena.h"
#include "components.h"
#include "solve.h"

enum { MOVES = 6 }; /* three turns, three shifts */

/* V_0's moves to first order, and their spectra. */
typedef struct hold {
    het_fft *fft;
    float *move[MOVES], *spectrum[MOVES]; /* maps; their transforms */
    float *other;                         /* the transform of another map */
    double *weight;                       /* (shells) of a point: 1 over the power of V_0 in its shell; 0 beyond the images */
} hold;

/* d/d(rad) of V turned about an axis (0, 1, 2), d/d(voxel) of V moved along it (3, 4, 5): by differences of neighbours. */
static void derive(float *to, const het_volume *map, int move)
{
    const int64_t d = map->box, next[3] = {1, d, d * d};
    const int a = move % 3, b = (a + 1) % 3, c = (a + 2) % 3; /* a turn about a takes b to c */
    memset(to, 0, (size_t)(d * d * d) * sizeof *to);
    for (int64_t z = 1; z < d - 1; z++) {
        for (int64_t y = 1; y < d - 1; y++) {
            for (int64_t x = 1; x < d - 1; x++) {
                const float place[3] = {(float)(x - d / 2), (float)(y - d / 2), (float)(z - d / 2)};
                const int64_t at = (z * d + y) * d + x;
                const float *v = map->data + at;
                to[at] = move >= 3 ? 0.5F * (v[-next[a]] - v[next[a]])
                                   : 0.5F * (place[c] * (v[next[b]] - v[-next[b]]) - place[b] * (v[next[c]] - v[-next[c]]));
            }
        }
    }
}

/* The shell of a point of a spectrum, 0 for those beyond `last`; how often it counts: what has kx > 0 stands for its opposite, too. */
static int64_t shell_of(int64_t d, int64_t at, int64_t last, double *count)
{
    const int64_t half = d / 2 + 1, x = at % half, y = at / half % d, z = at / half / d;
    const double ky = (double)(y < d / 2 ? y : y - d), kz = (double)(z < d / 2 ? z : z - d), k = sqrt((double)(x * x) + ky * ky + kz * kz);
    *count = x == 0 ? 1.0 : 2.0;
    return k < (double)last + 0.5 ? lround(k) : 0;
}

/* sum_k weight Re(conj(f) g) */
static double product(const hold *h, const het_components *c, const float *f, const float *g)
{
    const int64_t d = c->map[0].box, points = het_fft_size(h->fft) / 2;
    double sum = 0.0;
    for (int64_t i = 0; i < points; i++) {
        double count;
        const int64_t s = shell_of(d, i, d / 2 - 2, &count);
        sum += count * h->weight[s] * (double)(f[2 * i] * g[2 * i] + f[2 * i + 1] * g[2 * i + 1]);
    }
    return sum;
}

/* Maps are two voxels wider than the images' points on either side (het_backproject_box). */
static void weigh(hold *h, const het_components *c)
{
    const int64_t d = c->map[0].box, points = het_fft_size(h->fft) / 2;
    double n[HET_COMPONENTS_SHELLS] = {0};
    het_fft_forward(h->fft, h->other, c->map[0].data);
    for (int64_t i = 0; i < points; i++) {
        double count;
        const int64_t s = shell_of(d, i, d / 2 - 2, &count);
        h->weight[s] += count * (double)(h->other[2 * i] * h->other[2 * i] + h->other[2 * i + 1] * h->other[2 * i + 1]);
        n[s] += count;
    }
    for (int64_t s = 0; s < het_components_shells(c); s++) h->weight[s] = s > 0 && h->weight[s] > 0.0 ? n[s] / h->weight[s] : 0.0;
}

static het_status prepare(hold *h, const het_components *c)
{
    het_status status = HET_OK;
    const size_t d = (size_t)c->map[0].box;
    HET_TRY(het_fft_new(&h->fft, 3, c->map[0].box));
    const size_t size = (size_t)het_fft_size(h->fft);
    h->other = het_alloc(size * sizeof *h->other);
    h->weight = het_alloc((size_t)het_components_shells(c) * sizeof *h->weight);
    int complete = h->other != NULL && h->weight != NULL;
    for (int m = 0; m < MOVES; m++) {
        h->move[m] = het_alloc(d * d * d * sizeof(float));
        h->spectrum[m] = het_alloc(size * sizeof(float));
        complete = complete && h->move[m] != NULL && h->spectrum[m] != NULL;
    }
    if (!complete) return het_fail(HET_E_MEMORY, "no memory for the frame of conformations");
    weigh(h, c);
    for (int m = 0; m < MOVES; m++) {
        derive(h->move[m], &c->map[0], m);
        het_fft_forward(h->fft, h->spectrum[m], h->move[m]);
    }
done:
    return status;
}

het_status het_components_hold(het_components *c)
{
    het_status status = HET_OK;
    const int64_t voxels = c->map[0].box * c->map[0].box * c->map[0].box;
    double matrix[MOVES * MOVES], part[MOVES], by[MOVES];
    hold h = {0};
    if (c->count == 0) return HET_OK;
    HET_TRY(prepare(&h, c));
    for (int m = 0; m < MOVES; m++)
        for (int l = 0; l <= m; l++) matrix[m * MOVES + l] = matrix[l * MOVES + m] = product(&h, c, h.spectrum[m], h.spectrum[l]);
    for (int k = 1; k <= c->count; k++) {
        het_fft_forward(h.fft, h.other, c->map[k].data);
        for (int m = 0; m < MOVES; m++) part[m] = product(&h, c, h.spectrum[m], h.other);
        if (!het_solve_damped(by, matrix, part, MOVES, 0.0)) continue; /* a round particle, or none */
        for (int m = 0; m < MOVES; m++)
            for (int64_t i = 0; i < voxels; i++) c->map[k].data[i] -= (float)by[m] * h.move[m][i];
    }
done:
    het_fft_free(h.fft);
    het_release(h.other);
    het_release(h.weight);
    for (int m = 0; m < MOVES; m++) {
        het_release(h.move[m]);
        het_release(h.spectrum[m]);
    }
    return status;
}
