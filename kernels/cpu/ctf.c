#include <math.h>

#include "clones.h"
#include "fourier.h"
#include "vmath.h"

/* sqrt(1-w^2) sin(gamma) + w cos(gamma) = sin(gamma + arcsin w): one sine per point. In turns of 2 pi,
 * with k in cycles per box and s = k/(D apix):
 *     turns = mean k^2 + astig_c (kx^2-ky^2) + astig_s (2 kx ky) + spherical k^4 + constant.
 * A gamma of hundreds of radians needs double until its whole turns are gone. */
typedef struct ctf_phase {
    double mean, astig_c, astig_s, spherical, constant;
} ctf_phase;

/* Relativistic wavelength in A of electrons at `voltage` V: h / sqrt(2 m e V (1 + e V / 2 m c^2)). */
static double wavelength(double voltage)
{
    return 12.26425968 / sqrt(voltage + 0.97847560e-6 * voltage * voltage);
}

static ctf_phase phase_of(const het_ctf_row *row, int mirrored, double length)
{
    const double pi = 3.14159265358979323846, lambda = wavelength(row->voltage);
    const double per_k2 = 0.5 * lambda / (length * length); /* turns of 1 A of defocus at k = 1 */
    const double difference = 0.5 * ((double)row->defocus_u - row->defocus_v);
    const double angle = mirrored ? pi - row->angle : row->angle;
    return (ctf_phase){
        .mean = per_k2 * 0.5 * ((double)row->defocus_u + row->defocus_v),
        .astig_c = per_k2 * difference * cos(2.0 * angle),
        .astig_s = per_k2 * difference * sin(2.0 * angle),
        .spherical = -0.25 * row->cs * pow(lambda, 3) / pow(length, 4),
        .constant = (row->phase + asin(row->amplitude)) / (2.0 * pi),
    };
}

HET_CLONES static void ctf_row(float *restrict ctf, const float *restrict k2, const float *restrict kc,
                               const float *restrict ks, ctf_phase phase, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const double q = k2[i];
        const double turns = q * (phase.mean + phase.spherical * q) + phase.astig_c * kc[i] +
                             phase.astig_s * ks[i] + phase.constant;
        ctf[i] = -het_sin_turns((float)het_fraction(turns));
    }
}

HET_CLONES static void multiply_row(float *restrict y, const float *restrict x, int64_t p)
{
    for (int64_t i = 0; i < p; i++) y[i] *= x[i];
}

void het_cpu_ctf(het_fourier *plan, float *ctf, const het_ctf_row *rows, const uint8_t *mirrored,
                 const float *envelope, float apix, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    const double length = (double)plan->box * apix;
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        float *row = ctf + i * p;
        if (rows[i].voltage == 0.0f) {
            for (int64_t j = 0; j < p; j++) row[j] = 1.0f;
        } else {
            const ctf_phase phase = phase_of(&rows[i], mirrored != NULL && mirrored[i], length);
            ctf_row(row, plan->k2, plan->kc, plan->ks, phase, p);
        }
        if (envelope != NULL) multiply_row(row, envelope, p);
    }
}
