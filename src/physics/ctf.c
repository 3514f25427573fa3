#include "ctf.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

double het_ctf_wavelength(double voltage)
{
    const double h = 6.62607015e-34, m = 9.1093837015e-31, e = 1.602176634e-19, c = 299792458.0;
    const double energy = e * voltage;
    return 1e10 * h / sqrt(2.0 * m * energy * (1.0 + energy / (2.0 * m * c * c)));
}

double het_ctf_at(const het_ctf_row *row, double sx, double sy)
{
    if (row->voltage <= 0.0f) return 1.0;
    const double u = row->defocus_u, v = row->defocus_v, w = row->amplitude;
    const double lambda = het_ctf_wavelength(row->voltage), s2 = sx * sx + sy * sy;
    const double defocus = 0.5 * (u + v + (u - v) * cos(2.0 * (atan2(sy, sx) - (double)row->angle)));
    const double gamma =
        pi * lambda * s2 * (defocus - 0.5 * (double)row->cs * lambda * lambda * s2) + (double)row->phase;
    return -(sqrt(1.0 - w * w) * sin(gamma) + w * cos(gamma));
}
