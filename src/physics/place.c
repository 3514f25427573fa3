#include "place.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "fft.h"
#include "rotation.h"
#include "slicer.h"

/* The search: Fourier pixels of its first grid and that grid's side, for turns of 8 degrees and for wider ones; peaks that are
 * climbed; steps from the middle to a side at most. */
enum { REACH = 8, GRID = 32, WIDE_REACH = 6, WIDE_GRID = 16, PEAKS = 6, AXIS_MAX = 12 };
enum { CHUNK = 512 }; /* points that a thread sums at a time */
static const double STEP = 8.0; /* degrees */
static const double TWO_PI = 6.28318530717958647692, DEGREES = 57.29577951308232;

/* out(x) = in(x, y, -z) about the origin voxel. */
static void mirror_z(float *out, const float *in, int64_t box)
{
    const int64_t plane = box * box;
    for (int64_t z = 0; z < box; z++) {
        const float *from = in + ((box - z) % box) * plane;
        for (int64_t i = 0; i < plane; i++) out[z * plane + i] = from[i];
    }
}

/* volume(x) becomes volume(x - u), periodic. */
static het_status shift(het_volume *volume, const double u[3])
{
    het_status status = HET_OK;
    const int64_t d = volume->box, half = d / 2;
    het_fft *fft = NULL;
    float *spectrum = NULL;
    HET_TRY(het_fft_new(&fft, 3, d));
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    if (spectrum == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the transform of a map of box %lld", (long long)d);
        goto done;
    }
    het_fft_forward(fft, spectrum, volume->data);
    for (int64_t z = 0; z < d; z++) {
        for (int64_t y = 0; y < d; y++) {
            const int64_t kz = z < half ? z : z - d, ky = y < half ? y : y - d;
            float *line = spectrum + 2 * (z * d + y) * (half + 1);
            for (int64_t kx = 0; kx <= half; kx++) {
                const int nyquist = kx == half || ky == -half || kz == -half; /* has no phase of its own */
                const double phase =
                    -TWO_PI * ((double)kx * u[0] + (double)ky * u[1] + (double)kz * u[2]) / (double)d;
                const double c = nyquist ? 0.0 : cos(phase), s = nyquist ? 0.0 : sin(phase);
                const double re = line[2 * kx], im = line[2 * kx + 1];
                line[2 * kx] = (float)(re * c - im * s);
                line[2 * kx + 1] = (float)(re * s + im * c);
            }
        }
    }
    het_fft_inverse(fft, volume->data, spectrum);
done:
    het_fft_free(fft);
    het_release(spectrum);
    return status;
}

het_status het_place_volume(het_volume *out, const het_volume *in, const het_pose3 *pose)
{
    het_status status = HET_OK;
    het_volume mirrored = {0};
    const het_volume *source = in;
    double r[9]; /* out(x) = source(A x) = source(R^T x) */
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) r[3 * i + j] = pose->a[3 * j + i];
    if (pose->hand < 0) {
        HET_TRY(het_volume_new(&mirrored, in->box, in->apix));
        mirror_z(mirrored.data, in->data, in->box);
        source = &mirrored;
    }
    HET_TRY(het_volume_rotate(out, source, r));
    HET_TRY(shift(out, pose->u));
done:
    het_volume_free(&mirrored);
    return status;
}

/* What the correlation is summed over: Fourier points k of the half-space with their truth, whitened by
 * shell. */
typedef struct fit {
    het_slicer slicer; /* of the map, mirrored for hand -1 */
    int64_t box, points;
    int side;          /* of the search's grid */
    int16_t *k;        /* (points,3) */
    float *truth;      /* (points,2) */
    float *weight;     /* (points) 1 / mean power of the truth's shell */
    double power;      /* sum of weight |truth|^2 */
    float *slice;      /* (points,2): the map at a pose tried */
    int64_t reach;     /* of k on any axis */
    double *phase;     /* (3, 2 reach + 1, 2): cos and sin of -2 pi k u/D of each axis, u of a pose tried */
    double *part;      /* (chunks,2): sums of a chunk's points */
} fit;

static void make_phases(const fit *f, const double u[3])
{
    for (int c = 0; c < 3; c++) {
        for (int64_t k = -f->reach; k <= f->reach; k++) {
            double *to = f->phase + 2 * (c * (2 * f->reach + 1) + k + f->reach);
            const double angle = -TWO_PI * (double)k * u[c] / (double)f->box;
            to[0] = cos(angle);
            to[1] = sin(angle);
        }
    }
}

/* Over points [first, end): sum of weight Re(conj(placed) truth), and of weight |placed|^2. */
static void correlate(const fit *f, const het_pose3 *pose, int64_t first, int64_t end, double sums[2])
{
    const double *middle = f->phase + 2 * f->reach;
    const int64_t axis = 2 * (2 * f->reach + 1);
    double cross = 0.0, power = 0.0;
    het_slicer_turned(&f->slicer, f->slice + 2 * first, pose->a, f->k + 3 * first, end - first);
    for (int64_t p = first; p < end; p++) {
        const int16_t *k = f->k + 3 * p;
        const double *x = middle + 2 * k[0], *y = middle + axis + 2 * k[1], *z = middle + 2 * axis + 2 * k[2];
        const double xy[2] = {x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]};
        const double c = xy[0] * z[0] - xy[1] * z[1], d = xy[0] * z[1] + xy[1] * z[0];
        const float *s = f->slice + 2 * p, *t = f->truth + 2 * p;
        const double re = s[0] * c - s[1] * d, im = s[0] * d + s[1] * c, w = f->weight[p];
        cross += w * (re * (double)t[0] + im * (double)t[1]);
        power += w * (re * re + im * im);
    }
    sums[0] = cross;
    sums[1] = power;
}

/* Correlation of the map placed by `pose` with the truth: the same to the bit on any number of threads, as poses are told apart by it. */
static double correlation(const fit *f, const het_pose3 *pose)
{
    const int64_t chunks = (f->points + CHUNK - 1) / CHUNK;
    double cross = 0.0, power = 0.0;
    make_phases(f, pose->u);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < chunks; i++)
        correlate(f, pose, i * CHUNK, (i + 1) * CHUNK < f->points ? (i + 1) * CHUNK : f->points, f->part + 2 * i);
    for (int64_t i = 0; i < chunks; i++) {
        cross += f->part[2 * i];
        power += f->part[2 * i + 1];
    }
    return power > 0.0 && f->power > 0.0 ? cross / sqrt(power * f->power) : 0.0;
}

/* The points of shells 1 .. reach with the truth's transform; called with NULL arrays to count first. */
static void collect(fit *f, const float *spectrum, int64_t reach, double *shell_power, int64_t *shell_count)
{
    const int64_t d = f->box;
    f->points = 0;
    for (int64_t kz = -reach; kz <= reach; kz++) {
        for (int64_t ky = -reach; ky <= reach; ky++) {
            for (int64_t kx = 0; kx <= reach; kx++) {
                const int64_t shell = llround(sqrt((double)(kx * kx + ky * ky + kz * kz)));
                if (shell < 1 || shell > reach) continue;
                const int64_t p = f->points++;
                if (f->k == NULL) continue;
                const float *t = spectrum + 2 * (((kz + d) % d * d + (ky + d) % d) * (d / 2 + 1) + kx);
                for (int c = 0; c < 2; c++) f->truth[2 * p + c] = t[c];
                f->k[3 * p] = (int16_t)kx;
                f->k[3 * p + 1] = (int16_t)ky;
                f->k[3 * p + 2] = (int16_t)kz;
                shell_power[shell] += (double)t[0] * (double)t[0] + (double)t[1] * (double)t[1];
                shell_count[shell]++;
            }
        }
    }
    for (int64_t p = 0; f->k != NULL && p < f->points; p++) {
        const int16_t *k = f->k + 3 * p;
        const int64_t shell = llround(sqrt((double)k[0] * k[0] + (double)k[1] * k[1] + (double)k[2] * k[2]));
        const double mean = shell_power[shell] / (double)shell_count[shell];
        f->weight[p] = mean > 0.0 ? (float)(1.0 / mean) : 0.0f;
        f->power += (double)f->weight[p] * ((double)f->truth[2 * p] * (double)f->truth[2 * p] +
                                            (double)f->truth[2 * p + 1] * (double)f->truth[2 * p + 1]);
    }
}

static het_status fit_new(fit *f, const het_volume *in, const het_volume *truth, int hand, int64_t reach)
{
    het_status status = HET_OK;
    het_volume mirrored = {0};
    het_fft *fft = NULL;
    float *spectrum = NULL;
    double shell_power[1024] = {0};
    int64_t shell_count[1024] = {0};
    *f = (fit){.box = in->box, .reach = reach};
    if (in->box != truth->box)
        return het_fail(HET_E_SHAPE, "fitting a map of box %lld to one of box %lld", (long long)in->box,
                        (long long)truth->box);
    HET_TRY(het_volume_new(&mirrored, in->box, in->apix));
    if (hand < 0) mirror_z(mirrored.data, in->data, in->box);
    HET_TRY(het_slicer_new(&f->slicer, hand < 0 ? &mirrored : in));
    HET_TRY(het_fft_new(&fft, 3, truth->box));
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    collect(f, NULL, reach, shell_power, shell_count);
    f->k = het_alloc((size_t)(3 * f->points) * sizeof *f->k);
    f->truth = het_alloc((size_t)(2 * f->points) * sizeof *f->truth);
    f->weight = het_alloc((size_t)f->points * sizeof *f->weight);
    f->slice = het_alloc((size_t)(2 * f->points) * sizeof *f->slice);
    f->phase = het_alloc((size_t)(3 * (2 * reach + 1) * 2) * sizeof *f->phase);
    f->part = het_alloc((size_t)(2 * (f->points / CHUNK + 1)) * sizeof *f->part);
    if (spectrum == NULL || f->k == NULL || f->truth == NULL || f->weight == NULL || f->slice == NULL || f->phase == NULL ||
        f->part == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to fit maps of box %lld", (long long)in->box));
    het_fft_forward(fft, spectrum, truth->data);
    collect(f, spectrum, reach, shell_power, shell_count);
done:
    het_volume_free(&mirrored);
    het_fft_free(fft);
    het_release(spectrum);
    return status;
}

static void fit_free(fit *f)
{
    het_slicer_free(&f->slicer);
    void *const mine[] = {f->k, f->truth, f->weight, f->slice, f->phase, f->part};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* ---- to a local maximum ---- */

/* One of the six moves: turns about the axes of the truth's frame, then steps along them. */
static het_pose3 moved(const het_pose3 *pose, int which, double angle, double step)
{
    het_pose3 next = *pose;
    double axis[3] = {0}, turn[9];
    if (which >= 3) {
        next.u[which - 3] += step;
        return next;
    }
    axis[which] = 1.0;
    het_rotation_about(turn, axis, angle);
    het_rotation_multiply(next.a, pose->a, turn);
    return next;
}

/* From steps of 4 degrees and 1 voxel down to `finest` degrees; returns the correlation there. */
static double climb(const fit *f, het_pose3 *pose, double finest)
{
    double angle = 4.0 / DEGREES, step = 1.0, best = correlation(f, pose);
    for (int pass = 0; pass < 200 && angle > finest / DEGREES; pass++) {
        int better = 0;
        for (int move = 0; move < 12; move++) {
            const double sign = move % 2 == 0 ? 1.0 : -1.0;
            const het_pose3 next = moved(pose, move / 2, sign * angle, sign * step);
            const double found = correlation(f, &next);
            if (found <= best) continue;
            best = found;
            *pose = next;
            better = 1;
        }
        if (better) continue;
        angle /= 2.0;
        step /= 2.0;
    }
    return best;
}

het_status het_place_refine(het_pose3 *pose, const het_volume *in, const het_volume *truth)
{
    het_status status = HET_OK;
    fit f = {0};
    HET_TRY(fit_new(&f, in, truth, pose->hand, in->box / 4));
    climb(&f, pose, 0.05);
done:
    fit_free(&f);
    return status;
}

/* ---- to the best of many ---- */

/* The move that suits a rotation best, and the correlation then: for all moves at once,
 *     c(u) = sum_k weight Re(conj(S(A k)) truth(k) exp(2 pi i k.u / D))
 * is a Fourier transform. Moves of up to D/8 on a grid of D/side voxels. */
static double best_move(const fit *f, const het_fft *fft, float *spectrum, float *map, het_pose3 *pose)
{
    const int side = f->side;
    double power = 0.0, best = -INFINITY;
    memset(spectrum, 0, (size_t)het_fft_size(fft) * sizeof *spectrum);
    het_slicer_turned(&f->slicer, f->slice, pose->a, f->k, f->points);
    for (int64_t p = 0; p < f->points; p++) {
        const int16_t *k = f->k + 3 * p;
        const float *s = f->slice + 2 * p, *t = f->truth + 2 * p, w = f->weight[p];
        float *at = spectrum + 2 * (((k[2] + side) % side * side + (k[1] + side) % side) * (side / 2 + 1) + k[0]);
        at[0] = w * (s[0] * t[0] + s[1] * t[1]);
        at[1] = w * (s[0] * t[1] - s[1] * t[0]);
        power += (double)w * ((double)s[0] * s[0] + (double)s[1] * s[1]);
    }
    het_fft_inverse(fft, map, spectrum);
    for (int z = 3 * side / 8; z <= 5 * side / 8; z++) {
        for (int y = 3 * side / 8; y <= 5 * side / 8; y++) {
            for (int x = 3 * side / 8; x <= 5 * side / 8; x++) {
                const double c = map[(z * side + y) * side + x];
                if (c <= best) continue;
                const int at[3] = {x, y, z};
                best = c;
                for (int i = 0; i < 3; i++) pose->u[i] = (at[i] - side / 2) * (double)f->box / side;
            }
        }
    }
    return power > 0.0 ? best / sqrt(power) : 0.0;
}

typedef struct tried {
    het_pose3 pose;
    double turn[3]; /* axis times angle, from the first pose */
    double score;
} tried;

/* All turns of a grid in the ball of radius `most`; returns how many. */
static int64_t try_all(tried *list, const fit *f, const het_pose3 *from, double most, double step,
                       const het_fft *fft, float *spectrum, float *map)
{
    const int n = (int)(most / step);
    int64_t count = 0;
    for (int i = 0; i < (2 * n + 1) * (2 * n + 1) * (2 * n + 1); i++) {
        const double v[3] = {(i % (2 * n + 1) - n) * step, (i / (2 * n + 1) % (2 * n + 1) - n) * step,
                             (i / (2 * n + 1) / (2 * n + 1) - n) * step};
        const double angle = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        static const double any[3] = {1.0, 0.0, 0.0};
        double turn[9];
        if (angle > most) continue;
        tried *t = &list[count++];
        *t = (tried){.pose = *from, .turn = {v[0], v[1], v[2]}};
        het_rotation_about(turn, angle > 0.0 ? v : any, angle);
        het_rotation_multiply(t->pose.a, from->a, turn);
        t->score = best_move(f, fft, spectrum, map, &t->pose);
    }
    return count;
}

/* The best that is left; what lies within two steps of it will not be taken again. */
static const tried *take_peak(tried *list, int64_t count, double step)
{
    tried *best = list;
    for (int64_t i = 1; i < count; i++)
        if (list[i].score > best->score) best = &list[i];
    if (best->score == -INFINITY) return NULL;
    for (int64_t i = 0; i < count; i++) {
        double d2 = 0.0;
        for (int c = 0; c < 3; c++) d2 += pow(list[i].turn[c] - best->turn[c], 2);
        if (d2 <= 4.01 * step * step) list[i].score = -INFINITY;
    }
    return best;
}

het_status het_place_search(het_pose3 *pose, double correlations[2], const het_volume *in,
                            const het_volume *truth, double most, int64_t reach)
{
    het_status status = HET_OK;
    const double step = fmax(STEP / DEGREES, most / AXIS_MAX);
    const int wide = step > 1.5 * STEP / DEGREES, side = wide ? WIDE_GRID : GRID;
    const int64_t low = wide ? WIDE_REACH : REACH;
    const int64_t axis = 2 * (int64_t)(most / step) + 1;
    const het_pose3 first = *pose;
    fit coarse = {0}, fine = {0};
    het_fft *fft = NULL;
    float *spectrum = NULL, *map = het_alloc((size_t)(side * side * side) * sizeof *map);
    tried *list = het_alloc((size_t)(axis * axis * axis) * sizeof *list);
    HET_TRY(fit_new(&fine, in, truth, pose->hand, reach));
    HET_TRY(fit_new(&coarse, in, truth, pose->hand, reach < low ? reach : low));
    coarse.side = side;
    HET_TRY(het_fft_new(&fft, 3, side));
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    if (map == NULL || list == NULL || spectrum == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory to fit maps"));
    const int64_t count = try_all(list, &coarse, &first, most, step, fft, spectrum, map);
    correlations[0] = correlation(&fine, &first);
    correlations[1] = -INFINITY;
    for (int i = 0; i <= PEAKS; i++) {
        const tried *peak = i == 0 ? NULL : take_peak(list, count, step);
        het_pose3 next = i == 0 ? first : peak == NULL ? *pose : peak->pose;
        climb(&coarse, &next, 1.0);
        const double found = climb(&fine, &next, 0.05);
        if (found <= correlations[1]) continue;
        correlations[1] = found;
        *pose = next;
    }
done:
    fit_free(&coarse);
    fit_free(&fine);
    het_fft_free(fft);
    het_release(spectrum);
    het_release(map);
    het_release(list);
    return status;
}
