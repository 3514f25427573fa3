#include <math.h>

#include "clones.h"
#include "fourier.h"

/* exp(-2 pi i (kx tx + ky ty)/D) is a product of a factor per column and a factor per row: two tables. */
enum { BOX_MAX = 4096 };
typedef struct shift_phase {
    float x_re[BOX_MAX / 2], x_im[BOX_MAX / 2]; /* kx = 0 .. D/2-1 */
    float y_re[BOX_MAX], y_im[BOX_MAX];         /* ky = -D/2 .. D/2, at ky + D/2 */
} shift_phase;

/* Powers of one complex number: in double the error of the recurrence stays below 1e-12. */
static void fill_phase(shift_phase *phase, const float *shift, int64_t box)
{
    const double step = -2.0 * 3.14159265358979323846 / (double)box;
    const double xr = cos(step * shift[0]), xi = sin(step * shift[0]);
    const double yr = cos(step * shift[1]), yi = sin(step * shift[1]);
    const int64_t half = box / 2;
    double ar = 1.0, ai = 0.0, br = 1.0, bi = 0.0;
    for (int64_t k = 0; k < half; k++) {
        phase->x_re[k] = (float)ar;
        phase->x_im[k] = (float)ai;
        phase->y_re[half + k] = phase->y_re[half - k] = (float)br;
        phase->y_im[half + k] = (float)bi;
        phase->y_im[half - k] = (float)-bi;
        const double next_ar = ar * xr - ai * xi, next_br = br * yr - bi * yi;
        ai = ar * xi + ai * xr;
        bi = br * yi + bi * yr;
        ar = next_ar;
        br = next_br;
    }
}

HET_CLONES static void project_row(const het_fourier *plan, float *restrict model,
                                   const float *restrict slice, const float *restrict ctf,
                                   const shift_phase *phase, int64_t p)
{
    const int32_t *restrict kx = plan->kx, *restrict ky = plan->ky;
    const float *y_re = phase->y_re + plan->box / 2, *y_im = phase->y_im + plan->box / 2;
    for (int64_t i = 0; i < p; i++) {
        const float xr = phase->x_re[kx[i]], xi = phase->x_im[kx[i]], yr = y_re[ky[i]], yi = y_im[ky[i]];
        const float re = ctf[i] * (xr * yr - xi * yi), im = ctf[i] * (xr * yi + xi * yr);
        model[2 * i] = re * slice[2 * i] - im * slice[2 * i + 1];
        model[2 * i + 1] = re * slice[2 * i + 1] + im * slice[2 * i];
    }
}

void het_cpu_project(het_fourier *plan, float *model, const float *slice, const float *ctf,
                     const float *shift, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        shift_phase phase;
        fill_phase(&phase, shift + 2 * i, plan->box);
        project_row(plan, model + 2 * i * p, slice + 2 * i * p, ctf + i * p, &phase, p);
    }
}

typedef struct loss_sums {
    double loss, x, y; /* sums of |d|^2, kx Im(conj(target) model), ky Im(conj(target) model) */
} loss_sums;

/* With f = C exp(-i phi), model m = f s and weight w: d loss/ds = 2 w/D^2 conj(f) (m - target), and because
 * dm/dtx = -i (2 pi kx/D) m,  d loss/dtx = -(4 pi/D^3) sum w kx Im(conj(target) m). The weight is 2 here
 * throughout; the caller takes back half of the DC, whose phase is 1 and whose k is 0. */
HET_CLONES static loss_sums loss_row(const het_fourier *plan, float *restrict dslice,
                                     const float *restrict slice, const float *restrict ctf,
                                     const shift_phase *phase, const float *restrict target, int64_t p)
{
    const int32_t *restrict kx = plan->kx, *restrict ky = plan->ky;
    const float *y_re = phase->y_re + plan->box / 2, *y_im = phase->y_im + plan->box / 2;
    const float gain = 4.0f / (float)(plan->box * plan->box);
    double loss = 0.0, x = 0.0, y = 0.0;
#pragma omp simd reduction(+ : loss, x, y)
    for (int64_t i = 0; i < p; i++) {
        const float xr = phase->x_re[kx[i]], xi = phase->x_im[kx[i]], yr = y_re[ky[i]], yi = y_im[ky[i]];
        const float re = ctf[i] * (xr * yr - xi * yi), im = ctf[i] * (xr * yi + xi * yr);
        const float model_re = re * slice[2 * i] - im * slice[2 * i + 1];
        const float model_im = re * slice[2 * i + 1] + im * slice[2 * i];
        const float target_re = target[2 * i], target_im = target[2 * i + 1];
        const float d_re = model_re - target_re, d_im = model_im - target_im;
        const double across = target_re * model_im - target_im * model_re;
        loss += d_re * d_re + d_im * d_im;
        x += across * kx[i];
        y += across * ky[i];
        dslice[2 * i] = gain * (re * d_re + im * d_im);
        dslice[2 * i + 1] = gain * (re * d_im - im * d_re);
    }
    return (loss_sums){loss, x, y};
}

void het_cpu_project_loss(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                          const float *ctf, const float *shift, const float *target, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    const double box = (double)plan->box, pixels = box * box;
    const double per_pixel = -8.0 * 3.14159265358979323846 / (pixels * box);
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        shift_phase phase;
        fill_phase(&phase, shift + 2 * i, plan->box);
        float *gradient = dslice + 2 * i * p;
        const float *from = slice + 2 * i * p, *to = target + 2 * i * p, *c = ctf + i * p;
        const loss_sums sums = loss_row(plan, gradient, from, c, &phase, to, p);
        const double re = (double)c[0] * from[0] - to[0], im = (double)c[0] * from[1] - to[1];
        gradient[0] *= 0.5f;
        gradient[1] *= 0.5f;
        loss[i] = (float)((2.0 * sums.loss - (re * re + im * im)) / pixels);
        dshift[2 * i] = (float)(per_pixel * sums.x);
        dshift[2 * i + 1] = (float)(per_pixel * sums.y);
    }
}

HET_CLONES static double power_row(const float *points, int64_t p)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < 2 * p; i++) sum += (double)points[i] * points[i];
    return 2.0 * sum - ((double)points[0] * points[0] + (double)points[1] * points[1]);
}

/* Partial sums over fixed subsets of the images: the same sum for any number of threads. */
enum { POWER_PARTS = 32 };

void het_cpu_points_power(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p,
                          int64_t groups)
{
    HET_ASSERT(p <= plan->max_points && b % groups == 0);
    const int64_t images = b / groups;
    for (int64_t g = 0; g < groups; g++) {
        double parts[POWER_PARTS] = {0}, sum = 0.0;
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
        for (int64_t part = 0; part < POWER_PARTS; part++)
            for (int64_t i = part; i < images; i += POWER_PARTS)
                parts[part] += power_row(points + 2 * (g * images + i) * p, p);
        for (int i = 0; i < POWER_PARTS; i++) sum += parts[i];
        power[g] = (float)(sum / ((double)images * (double)(plan->box * plan->box)));
    }
}
