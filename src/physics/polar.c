#include "polar.h"

#include <math.h>

#include "../arena.h"
#include "ctf.h"

static const double pi = 3.14159265358979323846;

static double theta_of(int64_t p)
{
    return 2.0 * pi * (double)(p % HET_POLAR_HALF) / HET_POLAR_ANGLES;
}

static double radius_of(int64_t p)
{
    return (double)(p / HET_POLAR_HALF + 1);
}

/* The window at pixel i, and where the pixel lies. */
static double window_at(double *x, double *y, int64_t i, int64_t d)
{
    const double half = 0.5 * (double)d;
    *x = (double)(i % d) - half;
    *y = (double)(i / d) - half;
    return fmin(1.0, fmax(0.0, (0.99 * half - hypot(*x, *y)) / (0.14 * half)));
}

/* Rows of windowed cosines and -sines, one per point: the transform is a matrix product. */
static void make_basis(float *basis, int64_t points, int64_t d, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < points; p++) {
        const double theta = theta_of(p), factor = 2.0 * pi * radius_of(p) / (double)d;
        for (int64_t i = 0; i < d * d; i++) {
            double x, y;
            const double window = window_at(&x, &y, i, d) / (double)d;
            const double angle = factor * (x * cos(theta) + y * sin(theta));
            basis[p * d * d + i] = (float)(window * cos(angle));
            basis[(points + p) * d * d + i] = (float)(-window * sin(angle));
        }
    }
}

het_status het_polar_images(float *transform, float *ctf, het_device *dev, const float *images,
                            const het_ctf_row *rows, int64_t n, int64_t box, int radius, double apix)
{
    const int64_t points = (int64_t)radius * HET_POLAR_HALF;
    float *basis = het_alloc((size_t)(2 * points * box * box) * sizeof *basis);
    if (basis == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the polar transform of box %lld", (long long)box);
    make_basis(basis, points, box, dev->threads);
    dev->ops->linear(dev, transform, images, basis, NULL, n, 2 * points, box * box, 0);
    het_release(basis);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t j = 0; j < n; j++)
        for (int64_t p = 0; p < points; p++) {
            const double s = radius_of(p) / ((double)box * apix);
            ctf[j * points + p] = (float)het_ctf_at(rows + j, s * cos(theta_of(p)), s * sin(theta_of(p)));
        }
    return HET_OK;
}

double het_polar_noise(double variance, int64_t box)
{
    double sum = 0.0;
    for (int64_t i = 0; i < box * box; i++) {
        double x, y;
        const double window = window_at(&x, &y, i, box);
        sum += window * window;
    }
    return variance * sum / (double)(box * box);
}

void het_polar_phase(float *re, float *im, int64_t p, const float shift[2], int64_t box)
{
    const double along = (double)shift[0] * cos(theta_of(p)) + (double)shift[1] * sin(theta_of(p));
    const double angle = 2.0 * pi * radius_of(p) * along / (double)box;
    *re = (float)cos(angle);
    *im = (float)sin(angle);
}
