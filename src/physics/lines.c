#include "lines.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"

enum {
    ANGLES = HET_POLAR_ANGLES,
    HALF = HET_POLAR_HALF,
    REACH_MAX = 8,
    SHIFTS_MAX = 2 * REACH_MAX + 1,
    PARTNERS = 16 /* views compared with one view together: the products stay in cache */
};
static const double pi = 3.14159265358979323846;

/* Rays of all views (m,HALF,2 radius): (re | im) of the Wiener estimate times the root of its weight, each of
 * length 1. */
static void make_rays(float *ray, const het_averages *a)
{
    const int64_t radius = a->spec.radius, points = radius * HALF, m = a->spec.averages;
    double noise[HET_POLAR_SHELLS], root[HET_POLAR_SHELLS];
    for (int64_t r = 0; r < radius; r++) {
        double weight = 0.0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t h = 0; h < HALF; h++) weight += (double)a->weight[i * points + r * HALF + h];
        noise[r] = a->noise * (double)(m * HALF) / fmax(weight, 1e-6);
        const double gain = 1.0 / (1.0 + noise[r] / a->power[r]);
        root[r] = 1.0 / sqrt(2.0 * gain * (noise[r] + 0.2 * a->power[r]));
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t h = 0; h < HALF; h++) {
            float *y = ray + (i * HALF + h) * 2 * radius;
            double norm = 1e-30;
            for (int64_t r = 0; r < radius; r++) {
                const int64_t p = r * HALF + h;
                const double f = root[r] / ((double)a->weight[i * points + p] + a->noise / a->power[r]);
                y[r] = (float)(f * (double)a->sum[2 * i * points + p]);
                y[radius + r] = (float)(f * (double)a->sum[(2 * i + 1) * points + p]);
                norm += (double)(y[r] * y[r] + y[radius + r] * y[radius + r]);
            }
            for (int64_t r = 0; r < 2 * radius; r++) y[r] *= (float)(1.0 / sqrt(norm));
        }
}

/* The rays of one view over the whole circle, moved by every shift: (shifts,ANGLES,2 radius). */
static void move_rays(float *moved, const float *ray, const double *shift, int shifts, int64_t radius,
                      int64_t box)
{
    for (int s = 0; s < shifts; s++)
        for (int64_t r = 0; r < radius; r++) {
            const double angle = 2.0 * pi * shift[s] * (double)(r + 1) / (double)box;
            const float c = (float)cos(angle), sn = (float)sin(angle);
            for (int a = 0; a < ANGLES; a++) {
                const float *y = ray + a % HALF * 2 * radius;
                const float re = y[r], im = a < HALF ? y[radius + r] : -y[radius + r];
                float *x = moved + (int64_t)(s * ANGLES + a) * 2 * radius;
                x[r] = c * re - sn * im;
                x[radius + r] = c * im + sn * re;
            }
        }
}

/* The place (ray of j, moved ray of i) of the largest of products (HALF,columns). */
HET_CLONES
static void largest(int *row, int *column, const float *product, int columns)
{
    float best[SHIFTS_MAX * ANGLES];
    int32_t at[SHIFTS_MAX * ANGLES];
    for (int c = 0; c < columns; c++) {
        best[c] = product[c];
        at[c] = 0;
    }
    for (int h = 1; h < HALF; h++)
        for (int c = 0; c < columns; c++) {
            const float v = product[h * columns + c];
            at[c] = v > best[c] ? h : at[c];
            best[c] = v > best[c] ? v : best[c];
        }
    *column = 0;
    for (int c = 1; c < columns; c++)
        if (best[c] > best[*column]) *column = c;
    *row = at[*column];
}

static void set_direction(float *direction, int angle)
{
    direction[0] = (float)cos(2.0 * pi * angle / ANGLES);
    direction[1] = (float)sin(2.0 * pi * angle / ANGLES);
}

/* Shifts along a line: twice the range, because both views may be off, in steps that turn the outermost ring
 * by a quarter. */
static int make_line_shifts(double *shift, const het_averages_spec *spec)
{
    const double range = spec->shift_range < 0.2 ? 0.0 : 2.0 * spec->shift_range;
    const int reach = (int)fmin(REACH_MAX, ceil(range * 4.0 * spec->radius / (double)spec->box - 1e-6));
    for (int s = -reach; s <= reach; s++) shift[s + reach] = reach == 0 ? 0.0 : range * s / reach;
    return 2 * reach + 1;
}

het_status het_lines_find(float *direction, float *shift, het_device *dev, const het_averages *averages)
{
    const int64_t m = averages->spec.averages, radius = averages->spec.radius;
    double steps[SHIFTS_MAX];
    const int shifts = make_line_shifts(steps, &averages->spec), columns = shifts * ANGLES;
    float *ray = het_alloc((size_t)(m * HALF * 2 * radius) * sizeof *ray);
    float *moved = het_alloc((size_t)(columns * 2 * radius) * sizeof *moved);
    float *product = het_alloc((size_t)((int64_t)PARTNERS * HALF * columns) * sizeof *product);
    if (ray == NULL || moved == NULL || product == NULL) {
        het_release(ray);
        het_release(moved);
        het_release(product);
        return het_fail(HET_E_MEMORY, "no memory for the common lines of %lld views", (long long)m);
    }
    memset(direction, 0, (size_t)(m * m * 2) * sizeof *direction);
    memset(shift, 0, (size_t)(m * m) * sizeof *shift);
    make_rays(ray, averages);
    for (int64_t i = 0; i < m - 1; i++) {
        move_rays(moved, ray + i * HALF * 2 * radius, steps, shifts, radius, averages->spec.box);
        for (int64_t first = i + 1; first < m; first += PARTNERS) {
            const int64_t count = m - first < PARTNERS ? m - first : PARTNERS;
            dev->ops->linear(dev, product, ray + first * HALF * 2 * radius, moved, NULL, count * HALF,
                             columns, 2 * radius, 0);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
            for (int64_t q = 0; q < count; q++) {
                const int64_t j = first + q;
                int row, column;
                largest(&row, &column, product + q * HALF * columns, columns);
                set_direction(direction + 2 * (i * m + j), column % ANGLES);
                set_direction(direction + 2 * (j * m + i), row);
                shift[i * m + j] = (float)steps[column / ANGLES];
                shift[j * m + i] = -shift[i * m + j];
            }
        }
    }
    het_release(ray);
    het_release(moved);
    het_release(product);
    return HET_OK;
}

/* P^T G: rotation of the member, and shift + G^T centre. */
static void member_pose(float *rotation, float *shift, const het_member *member, const float *view,
                        const float *centre)
{
    const float c = cosf(member->angle), s = sinf(member->angle), side = member->mirrored ? -1.0f : 1.0f;
    const float g[4] = {c, s, -side * s, side * c};
    for (int e = 0; e < 3; e++) {
        rotation[e] = g[0] * view[e] + g[2] * view[3 + e];
        rotation[3 + e] = g[1] * view[e] + g[3] * view[3 + e];
        rotation[6 + e] = side * view[6 + e];
    }
    for (int e = 0; e < 2; e++) shift[e] = member->shift[e] + g[e] * centre[0] + g[2 + e] * centre[1];
}

void het_lines_poses(float *images_rotation, float *images_shift, int64_t *average,
                     const het_averages *averages, const float *rotation, const float *centre,
                     const float *consistency)
{
    const int64_t k = averages->spec.neighbours, n = averages->spec.images, m = averages->spec.averages;
    const het_member *const member = averages->member;
    double mean = 0.0;
    for (int64_t i = 0; i < m; i++) mean += (double)consistency[i] / (double)m;
    for (int64_t j = 0; j < n; j++) average[j] = -1;
    for (int64_t i = 0; i < m * k; i++) { /* the best membership first, then the average it is in */
        const int64_t j = member[i].image;
        if ((double)consistency[i / k] < 0.5 * mean) continue;
        if (average[j] < 0 || member[i].score > member[average[j]].score) average[j] = i;
    }
    for (int64_t j = 0; j < n; j++) {
        if (average[j] < 0) continue;
        const het_member *const best = member + average[j];
        average[j] /= k;
        member_pose(images_rotation + 9 * j, images_shift + 2 * j, best, rotation + 9 * average[j],
                    centre + 2 * average[j]);
    }
}
