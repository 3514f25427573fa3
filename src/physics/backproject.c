#include "backproject.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"
#include "phases.h"
#include "solve.h"

enum { PAD = 2, SHELLS_MAX = 513 }; /* a map has at most 1024 voxels (volume.h) */
enum { MAPS = HET_BACKPROJECT_MAPS, NUMBERS = 2 * MAPS + MAPS * (MAPS + 1) / 2 };

/* A sample among the eight points of the grid around it. */
typedef struct sample {
    int64_t base[3];
    double fraction[3];
} sample;

static het_status new_masks(het_backproject *back)
{
    back->mine = het_alloc((size_t)((back->box + 1) * (back->box + 1)));
    back->row = het_alloc((size_t)(back->box + 1));
    return back->mine == NULL || back->row == NULL ? het_fail(HET_E_MEMORY, "no memory to share the work of a map") : HET_OK;
}

int64_t het_backproject_box(double radius)
{
    return 2 * ((int64_t)ceil(radius) + 2);
}

/* What a point of the grid holds. */
static int numbers_of(int maps)
{
    return 2 * maps + maps * (maps + 1) / 2;
}

het_status het_backproject_new(het_backproject *back, int64_t box, int64_t image_box)
{
    return het_backproject_new_joint(back, 1, box, image_box);
}

het_status het_backproject_new_joint(het_backproject *back, int maps, int64_t box, int64_t image_box)
{
    het_status status = HET_OK;
    const int64_t side = PAD * box;
    *back = (het_backproject){.box = box, .image_box = image_box, .maps = maps};
    HET_ASSERT(maps >= 1 && maps <= MAPS);
    HET_TRY(het_fft_new(&back->fft, 3, side));
    back->sum = het_alloc((size_t)het_backproject_numbers(box, maps) * sizeof *back->sum);
    back->spectrum = het_alloc((size_t)het_fft_size(back->fft) * sizeof *back->spectrum);
    back->real = het_alloc((size_t)(side * side * side) * sizeof *back->real);
    if (back->sum == NULL || back->spectrum == NULL || back->real == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to reconstruct a map of box %lld", (long long)box));
    HET_TRY(new_masks(back));
    het_backproject_share(back, 0, 1);
done:
    if (status != HET_OK) het_backproject_free(back);
    return status;
}

void het_backproject_free(het_backproject *back)
{
    het_fft_free(back->fft);
    het_release(back->sum);
    het_release(back->spectrum);
    het_release(back->real);
    het_release(back->mine);
    het_release(back->row);
    *back = (het_backproject){0};
}

void het_backproject_parts_free(het_backproject *parts, int n)
{
    for (int i = 0; i < n; i++) {
        het_release(parts[i].mine);
        het_release(parts[i].row);
    }
}

/* Of the half of the padded grid's spectrum that is stored. */
static int64_t points_of(int64_t box)
{
    const int64_t side = PAD * box;
    return side * side * (side / 2 + 1);
}

int64_t het_backproject_numbers(int64_t box, int maps)
{
    return numbers_of(maps) * points_of(box);
}

int64_t het_backproject_bytes(int64_t box, int maps)
{
    const int64_t side = PAD * box;
    return het_backproject_numbers(box, maps) * (int64_t)sizeof(double) + (2 * points_of(box) + side * side * side) * (int64_t)sizeof(float);
}

void het_backproject_clear(het_backproject *back)
{
    memset(back->sum, 0, (size_t)het_backproject_numbers(back->box, back->maps) * sizeof *back->sum);
}

/* Columns of the grid that are mirror images of each other in y, z or both are one: a point and its opposite are stored as one. */
static HET_INLINE int64_t column(const het_backproject *back, int64_t y, int64_t z)
{
    return llabs(z) * (back->box + 1) + llabs(y);
}

/* About how many samples of slices in all directions fall into a column: their density is that of 1/|k|. Exact arithmetic: all
 * processes must have the same numbers. */
static double load_of(const het_backproject *back, int64_t y, int64_t z)
{
    const double r = sqrt((double)(y * y + z * z)), reach = (double)(back->box - PAD);
    const double half = r < reach ? sqrt(reach * reach - r * r) : 0.0;
    return (y > 0 ? 2.0 : 1.0) * (z > 0 ? 2.0 : 1.0) * half / (r + half / 3.0);
}

/* Mine: part `part` of `parts` of what is rank's of `ranks`. */
static void share(het_backproject *back, int64_t rank, int64_t ranks, int64_t part, int64_t parts)
{
    const int64_t n = back->box + 1;
    double all = 0.0, before = 0.0;
    for (int64_t c = 0; c < n * n; c++) all += load_of(back, c % n, c / n);
    memset(back->row, 0, (size_t)n);
    for (int64_t c = 0; c < n * n; c++) {
        const double at = (double)ranks * before / all;
        const int64_t owner = (int64_t)fmin(at, (double)(ranks - 1)), piece = (int64_t)((double)parts * (at - (double)owner));
        back->mine[c] = owner == rank && (piece < parts ? piece : parts - 1) == part;
        back->row[c / n] |= back->mine[c];
        before += load_of(back, c % n, c / n);
    }
}

void het_backproject_share(het_backproject *back, int64_t rank, int64_t ranks)
{
    back->rank = rank;
    back->ranks = ranks;
    share(back, rank, ranks, 0, 1);
}

het_status het_backproject_parts(het_backproject *parts, int n, const het_backproject *back)
{
    het_status status = HET_OK;
    for (int i = 0; i < n; i++) parts[i] = (het_backproject){.box = back->box, .image_box = back->image_box, .maps = back->maps, .sum = back->sum};
    for (int i = 0; i < n; i++) {
        HET_TRY(new_masks(&parts[i]));
        share(&parts[i], back->rank, back->ranks, i, n);
    }
done:
    return status;
}

static HET_INLINE int64_t place(int64_t side, int64_t x, int64_t y, int64_t z)
{
    return ((z < 0 ? z + side : z) * side + (y < 0 ? y + side : y)) * (side / 2 + 1) + x;
}

/* Whether any of the points around the sample belongs to this process; the sample is set if so. */
static HET_INLINE int locate(const het_backproject *back, sample *s, const float *r, const int32_t *k)
{
    for (int j = 2; j >= 0; j--) {
        const double q = PAD * ((double)k[0] * (double)r[j] + (double)k[1] * (double)r[3 + j]);
        const int64_t whole = (int64_t)q, *b = s->base;
        s->base[j] = whole - (q < (double)whole); /* floor */
        s->fraction[j] = q - (double)s->base[j];
        if (j == 2 && !(back->row[llabs(b[2])] | back->row[llabs(b[2] + 1)])) return 0;
        if (j == 1 && !(back->mine[column(back, b[1], b[2])] | back->mine[column(back, b[1] + 1, b[2])] |
                        back->mine[column(back, b[1], b[2] + 1)] | back->mine[column(back, b[1] + 1, b[2] + 1)]))
            return 0;
    }
    return 1;
}

/* What a sample adds: value (numbers), times weight; mirrored: those of the opposite point, the conjugates of a. */
static HET_INLINE void spread(het_backproject *back, const sample *s, const double *value, const double *mirrored, double weight, int numbers)
{
    const int64_t side = PAD * back->box;
    for (int c = 0; c < 8; c++) {
        int64_t at[3];
        double w = 1.0;
        for (int j = 0; j < 3; j++) {
            const int up = c >> j & 1;
            at[j] = s->base[j] + up;
            w *= up ? s->fraction[j] : 1.0 - s->fraction[j];
        }
        if (!back->mine[column(back, at[1], at[2])]) continue;
        w = weight * w;
        const int64_t sign = at[0] < 0 ? -1 : 1; /* kx < 0: the point -k is stored instead */
        const double *v = sign < 0 ? mirrored : value;
        double *sum = back->sum + numbers * place(side, sign * at[0], sign * at[1], sign * at[2]);
        for (int i = 0; i < numbers; i++) sum[i] += w * v[i];
        if (at[0] != 0) continue; /* kx = 0: both k and -k are stored */
        sum = back->sum + numbers * place(side, 0, -at[1], -at[2]);
        for (int i = 0; i < numbers; i++) sum[i] += w * mirrored[i];
    }
}

/* Of one map. */
static void spread_one(het_backproject *back, const sample *s, const float a[2], float b, double weight)
{
    const double value[3] = {a[0], a[1], b}, mirrored[3] = {a[0], -a[1], b};
    spread(back, s, value, mirrored, weight, 3);
}

void het_backproject_add(het_backproject *back, const float *a, const float *b, const float *rotation,
                         double weight, const int32_t *kxy, int64_t p)
{
    sample s;
    for (int64_t i = 0; i < p; i++)
        if (locate(back, &s, rotation, kxy + 2 * i)) spread_one(back, &s, a + 2 * i, b[i], weight);
}

HET_CLONES void het_backproject_add_joint(het_backproject *back, const float *a, const float *b, const float *rotation, const double *e, const double *ee,
                                          const int32_t *kxy, int64_t p)
{
    const int n = back->maps, numbers = numbers_of(n);
    double value[NUMBERS], mirrored[NUMBERS];
    sample s;
    for (int64_t i = 0; i < p; i++) {
        if (!locate(back, &s, rotation, kxy + 2 * i)) continue;
        int at = 2 * n;
        for (int k = 0; k < n; k++) {
            value[2 * k] = mirrored[2 * k] = e[k] * (double)a[2 * i];
            value[2 * k + 1] = e[k] * (double)a[2 * i + 1];
            mirrored[2 * k + 1] = -value[2 * k + 1];
            for (int l = 0; l <= k; l++, at++) value[at] = mirrored[at] = ee[k * n + l] * (double)b[i];
        }
        spread(back, &s, value, mirrored, 1.0, numbers);
    }
}

/* a = C exp(2 pi i k.t/D) X */
static void move_back(float a[2], const float x[2], float ctf, const het_phases *phases, const int32_t k[2])
{
    double phase[2];
    het_phases_at(phase, phases, k);
    const float re = ctf * (float)phase[0], im = ctf * (float)phase[1];
    a[0] = re * x[0] - im * x[1];
    a[1] = re * x[1] + im * x[0];
}

void het_backproject_terms(float *a, float *b, const float *transform, const float *ctf, const float *shift, int64_t image_box,
                           const int32_t *kxy, int64_t p)
{
    het_phases phases;
    het_phases_set(&phases, shift, image_box, kxy, p);
    for (int64_t i = 0; i < p; i++) {
        move_back(a + 2 * i, transform + 2 * i, ctf[i], &phases, kxy + 2 * i);
        b[i] = ctf[i] * ctf[i];
    }
}

void het_backproject_image(het_backproject *back, const float *transform, const float *ctf, const float *rotation,
                           const float *shift, double weight, const int32_t *kxy, int64_t p)
{
    het_phases phases;
    sample s;
    het_phases_set(&phases, shift, back->image_box, kxy, p);
    for (int64_t i = 0; i < p; i++) {
        const int32_t *k = kxy + 2 * i;
        if (!locate(back, &s, rotation, k)) continue;
        float a[2];
        move_back(a, transform + 2 * i, ctf[i], &phases, k);
        spread_one(back, &s, a, ctf[i] * ctf[i], weight);
    }
}

/* The shell of a point of the grid, at most box/2. */
static int64_t shell_of(const het_backproject *back, int64_t x, int64_t y, int64_t z)
{
    const int64_t side = PAD * back->box, last = back->box / 2;
    const double kx = (double)x, ky = (double)(y < side / 2 ? y : y - side), kz = (double)(z < side / 2 ? z : z - side);
    const int64_t shell = lround(sqrt(kx * kx + ky * ky + kz * kz) / PAD);
    return shell < last ? shell : last;
}

void het_backproject_weights(const het_backproject *back, double *mean)
{
    const int64_t side = PAD * back->box, shells = back->box / 2 + 1;
    int64_t count[SHELLS_MAX] = {0};
    HET_ASSERT(shells <= SHELLS_MAX);
    for (int64_t s = 0; s < shells; s++) mean[s] = 0.0;
    for (int64_t z = 0; z < side; z++) {
        for (int64_t y = 0; y < side; y++) {
            for (int64_t x = 0; x <= side / 2; x++) {
                const int64_t s = shell_of(back, x, y, z);
                mean[s] += back->sum[3 * place(side, x, y, z) + 2];
                count[s]++;
            }
        }
    }
    for (int64_t s = 0; s < shells; s++) mean[s] /= (double)count[s];
}

/* spectrum = scale sum a / (sum b + prior) */
static void divide(het_backproject *back, const double *prior, double scale)
{
    const int64_t side = PAD * back->box;
    for (int64_t z = 0; z < side; z++) {
        for (int64_t y = 0; y < side; y++) {
            for (int64_t x = 0; x <= side / 2; x++) {
                const int64_t at = place(side, x, y, z);
                const double *sum = back->sum + 3 * at;
                const double factor = scale / (sum[2] + prior[shell_of(back, x, y, z)]);
                back->spectrum[2 * at] = (float)(factor * sum[0]);
                back->spectrum[2 * at + 1] = (float)(factor * sum[1]);
            }
        }
    }
}

/* 1/sinc^2: what spreading over a step of the padded grid took from a voxel at `offset` from the centre. */
static double restore(int64_t offset, int64_t side)
{
    const double u = M_PI * (double)offset / (double)side, sinc = offset == 0 ? 1.0 : sin(u) / u;
    return 1.0 / (sinc * sinc);
}

/* To the orthonormal transform of the padded box, and to the voxels of the image's grid (slicer.h). */
static double scale_of(const het_backproject *back)
{
    const double d = (double)back->box, ratio = d / (double)back->image_box;
    return d * pow(PAD * d, -1.5) * ratio * ratio;
}

/* The map of the spectrum. */
static void finish(het_backproject *back, het_volume *map)
{
    const int64_t d = back->box, side = PAD * d, offset = side / 2 - d / 2;
    HET_ASSERT(map->box == d);
    het_fft_inverse(back->fft, back->real, back->spectrum);
    for (int64_t z = 0; z < d; z++)
        for (int64_t y = 0; y < d; y++)
            for (int64_t x = 0; x < d; x++)
                map->data[(z * d + y) * d + x] =
                    (float)(back->real[((z + offset) * side + y + offset) * side + x + offset] *
                            restore(x - d / 2, side) * restore(y - d / 2, side) * restore(z - d / 2, side));
    het_volume_mask_sphere(map, 0.45 * (double)d, 0.05 * (double)d);
}

void het_backproject_solve(het_backproject *back, het_volume *map, const double *prior)
{
    divide(back, prior, scale_of(back));
    finish(back, map);
}

/* One point of n maps: their values, of the sums' scale, take the place of the sums a. */
static void solve_point(double *sum, int n, double prior, const double *share)
{
    double matrix[MAPS * MAPS] = {0}, lower[MAPS * MAPS], value[2][MAPS];
    const double *b = sum + 2 * n;
    if (!(b[0] > 0.0)) return; /* no image has been here: a is 0 */
    for (int k = 0; k < n; k++) {
        for (int l = 0; l <= k; l++) matrix[k * n + l] = matrix[l * n + k] = *b++;
        matrix[k * n + k] += prior / share[k];
        for (int i = 0; i < 2; i++) value[i][k] = sum[2 * k + i];
    }
    const int solved = het_cholesky(lower, matrix, n, 0.0);
    for (int i = 0; i < 2; i++) {
        het_cholesky_forward(value[i], lower, n);
        het_cholesky_backward(value[i], lower, n);
        for (int k = 0; k < n; k++) sum[2 * k + i] = solved ? value[i][k] : 0.0;
    }
}

void het_backproject_solve_joint(het_backproject *back, het_volume *maps, const double *prior, const double *share, int threads)
{
    const int n = back->maps, numbers = numbers_of(n);
    const int64_t side = PAD * back->box, points = points_of(back->box);
    const double scale = scale_of(back);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t z = 0; z < side; z++)
        for (int64_t y = 0; y < side; y++)
            for (int64_t x = 0; x <= side / 2; x++)
                solve_point(back->sum + numbers * place(side, x, y, z), n, prior[shell_of(back, x, y, z)], share);
    for (int k = 0; k < n; k++) {
        for (int64_t i = 0; i < points; i++)
            for (int j = 0; j < 2; j++) back->spectrum[2 * i + j] = (float)(scale * back->sum[numbers * i + 2 * k + j]);
        finish(back, &maps[k]);
    }
}
