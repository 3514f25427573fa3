#include "physics.h"

#include <complex.h>
#include <math.h>

static const double pi = 3.14159265358979323846;

void ref_image_to_points(double *points, const double *image, const int32_t *kxy, int64_t box, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        double complex sum = 0.0;
        for (int64_t y = 0; y < box; y++)
            for (int64_t x = 0; x < box; x++) {
                const int64_t turns = kxy[2 * i] * (x - box / 2) + kxy[2 * i + 1] * (y - box / 2);
                sum += image[y * box + x] * cexp(-2.0 * pi * I * (double)turns / (double)box);
            }
        points[2 * i] = creal(sum) / (double)box;
        points[2 * i + 1] = cimag(sum) / (double)box;
    }
}

void ref_points_to_image(double *image, const double *points, const int32_t *kxy, int64_t box, int64_t p)
{
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) {
            double sum = 0.0;
            for (int64_t i = 0; i < p; i++) {
                const int64_t turns = kxy[2 * i] * (x - box / 2) + kxy[2 * i + 1] * (y - box / 2);
                const double complex f = points[2 * i] + I * points[2 * i + 1];
                /* 2: with the conjugate at -k */
                const double both = kxy[2 * i] == 0 && kxy[2 * i + 1] == 0 ? 1.0 : 2.0;
                sum += both * creal(f * cexp(2.0 * pi * I * (double)turns / (double)box));
            }
            image[y * box + x] = sum / (double)box;
        }
}

double ref_wavelength(double volt)
{
    const double h = 6.62607015e-34, m = 9.1093837015e-31, e = 1.602176634e-19, c = 299792458.0;
    return 1e10 * h / sqrt(2.0 * m * e * volt * (1.0 + e * volt / (2.0 * m * c * c)));
}

double ref_ctf(const het_ctf_row *row, double kx, double ky, int64_t box, double apix)
{
    if (row->voltage == 0.0f) return 1.0;
    const double volt = row->voltage, w = row->amplitude;
    const double lambda = ref_wavelength(volt);
    const double sx = kx / ((double)box * apix), sy = ky / ((double)box * apix), s2 = sx * sx + sy * sy;
    const double u = row->defocus_u, v = row->defocus_v;
    const double defocus = 0.5 * (u + v + (u - v) * cos(2.0 * (atan2(ky, kx) - row->angle)));
    const double gamma =
        pi * lambda * defocus * s2 - 0.5 * pi * row->cs * pow(lambda, 3) * s2 * s2 + row->phase;
    return -(sqrt(1.0 - w * w) * sin(gamma) + w * cos(gamma));
}

void ref_project(double *model, const double *slice, const double *ctf, const double *shift,
                 const int32_t *kxy, int64_t box, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const double turns = (kxy[2 * i] * shift[0] + kxy[2 * i + 1] * shift[1]) / (double)box;
        const double complex f = ctf[i] * (slice[2 * i] + I * slice[2 * i + 1]) * cexp(-2.0 * pi * I * turns);
        model[2 * i] = creal(f);
        model[2 * i + 1] = cimag(f);
    }
}

double ref_project_loss(const double *slice, const double *ctf, const double *shift, const double *target,
                        const int32_t *kxy, int64_t box, int64_t p)
{
    double sum = 0.0;
    for (int64_t i = 0; i < p; i++) {
        double model[2];
        ref_project(model, slice + 2 * i, ctf + i, shift, kxy + 2 * i, box, 1);
        const double re = target[2 * i] - model[0], im = target[2 * i + 1] - model[1];
        sum += (kxy[2 * i] == 0 && kxy[2 * i + 1] == 0 ? 1.0 : 2.0) * (re * re + im * im);
    }
    return sum / (double)(box * box);
}

void ref_s2s2(double *rot, const double *v)
{
    const double *a = v, *b = v + 3;
    const double a_length = sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]);
    double *e1 = rot, *e2 = rot + 3, *e3 = rot + 6;
    for (int i = 0; i < 3; i++) e1[i] = a[i] / a_length;
    const double along = e1[0] * b[0] + e1[1] * b[1] + e1[2] * b[2];
    for (int i = 0; i < 3; i++) e2[i] = b[i] - along * e1[i];
    const double u_length = sqrt(e2[0] * e2[0] + e2[1] * e2[1] + e2[2] * e2[2]);
    for (int i = 0; i < 3; i++) e2[i] /= u_length;
    for (int i = 0; i < 3; i++) {
        const int j = (i + 1) % 3, k = (i + 2) % 3;
        e3[i] = e1[j] * e2[k] - e1[k] * e2[j];
    }
}

double ref_latent(double *z, const double *head, const double *eps, int64_t zdim)
{
    double kl = 0.0;
    for (int64_t i = 0; i < zdim; i++) {
        const double mu = head[i], logvar = fmin(fmax(head[zdim + i], -10.0), 10.0);
        z[i] = mu + exp(logvar / 2.0) * eps[i];
        kl += 0.5 * (mu * mu + exp(logvar) - 1.0 - logvar);
    }
    return kl;
}

double ref_conformation_loss(const double *head, const double *z, int64_t zdim)
{
    double sum = 0.0;
    for (int64_t i = 0; i < zdim; i++) {
        const double logvar = fmin(fmax(head[zdim + i], -10.0), 10.0);
        sum += (z[i] - head[i]) * (z[i] - head[i]) / exp(logvar) + logvar;
    }
    return sum / (2.0 * (double)zdim);
}

double ref_pose_loss(const double *rot, const double *shift, const double *rot_true, const double *shift_true)
{
    double rotation = 0.0;
    for (int i = 0; i < 9; i++) rotation += (rot[i] - rot_true[i]) * (rot[i] - rot_true[i]);
    return rotation / 9.0 + 0.5 * (fabs(shift[0] - shift_true[0]) + fabs(shift[1] - shift_true[1]));
}
