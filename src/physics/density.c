#include "density.h"

#include <math.h>

#include "../arena.h"

enum { REACH_MAX = 64 };

double het_density_sigma(double apix)
{
    return fmax(1.0, 0.4 * apix);
}

/* Values of the Gaussian along one axis at grid points first .. first+2 reach, and `first`. */
static int64_t axis_values(float *value, double place, double sigma, int64_t reach)
{
    const int64_t first = (int64_t)floor(place + 0.5) - reach;
    for (int64_t i = 0; i <= 2 * reach; i++) {
        const double u = ((double)(first + i) - place) / sigma;
        value[i] = (float)(exp(-0.5 * u * u) / (sigma * 2.50662827463100050242));
    }
    return first;
}

/* Add one atom; at (3) and sigma in fine voxels. Its tails are cut at the box. */
static void add_atom(het_volume *fine, const double at[3], double weight, double sigma, int64_t reach)
{
    const int64_t n = fine->box;
    float values[3][2 * REACH_MAX + 1];
    int64_t first[3], low[3], high[3];
    for (int a = 0; a < 3; a++) {
        first[a] = axis_values(values[a], at[a], sigma, reach);
        low[a] = first[a] < 0 ? 0 : first[a];
        high[a] = first[a] + 2 * reach < n - 1 ? first[a] + 2 * reach : n - 1;
    }
    for (int64_t z = low[2]; z <= high[2]; z++) {
        for (int64_t y = low[1]; y <= high[1]; y++) {
            const float yz = (float)weight * values[2][z - first[2]] * values[1][y - first[1]];
            float *line = fine->data + (z * n + y) * n;
            for (int64_t x = low[0]; x <= high[0]; x++) line[x] += yz * values[0][x - first[0]];
        }
    }
}

/* The half-width of the cube that holds all weighted atoms, in A. */
static double half_extent(const double *xyz, const double *weight, int64_t n)
{
    double extent = 0.0;
    for (int64_t i = 0; i < 3 * n; i++)
        if (weight == NULL || weight[i / 3] != 0.0) extent = fmax(extent, fabs(xyz[i]));
    return extent;
}

het_status het_density_from_atoms(het_volume *volume, const double *xyz, const double *weight, int64_t n, double sigma)
{
    het_status status = HET_OK;
    const double apix = volume->apix, width = sigma > 0.0 ? sigma : het_density_sigma(apix);
    const double step = 0.5 * apix, extent = half_extent(xyz, weight, n);
    const int64_t reach = (int64_t)ceil(4.5 * width / step);
    het_volume fine = {0};
    if (width < 0.35 * apix || reach > REACH_MAX)
        return het_fail(HET_E_SHAPE, "atoms %.3g A wide on voxels of %.3g A: the width must be 0.35 to 7 voxels", width,
                        apix);
    if (!(extent < 0.5 * apix * (double)volume->box - apix))
        return het_fail(HET_E_INPUT,
                        "atoms reach %.1f A from the centre, but a box of %lld pixels of %.3g A holds only %.1f A: use a "
                        "box of at least %lld pixels or larger pixels",
                        extent, (long long)volume->box, apix, 0.5 * apix * (double)volume->box - apix,
                        2 * (long long)ceil(extent / apix + 2.0));
    HET_TRY(het_volume_new(&fine, 2 * volume->box, step));
    for (int64_t i = 0; i < n; i++) {
        const double w = weight != NULL ? weight[i] : 1.0;
        if (w == 0.0) continue;
        double at[3];
        for (int a = 0; a < 3; a++) at[a] = xyz[3 * i + a] / step + (double)volume->box;
        add_atom(&fine, at, 8.0 * w, width / step, reach); /* 8 fine voxels make one */
    }
    HET_TRY(het_volume_resize(volume, &fine));
    volume->apix = apix;
done:
    het_volume_free(&fine);
    return status;
}
