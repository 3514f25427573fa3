#pragma once
#include <math.h>

#include "../src/both.h"
#include "ops.h"

/** The phase of the CTF, the same for every backend. C and C++.
 *
 *  sqrt(1-w^2) sin(gamma) + w cos(gamma) = sin(gamma + arcsin w): one sine per point. In turns of 2 pi,
 *  with k in cycles per box and s = k/(D apix):
 *      turns = mean k^2 + astig_c (kx^2-ky^2) + astig_s (2 kx ky) + spherical k^4 + constant.
 *  A gamma of hundreds of radians needs double until its whole turns are gone. */
typedef struct het_ctf_phase {
    double mean, astig_c, astig_s, spherical, constant;
} het_ctf_phase;

/** Of a row with a voltage; `length` D apix in A, angle -> pi - angle where `mirrored`. The relativistic wavelength in A is
 *  h / sqrt(2 m e V (1 + e V / 2 m c^2)). */
HET_BOTH het_ctf_phase het_ctf_phase_of(const het_ctf_row *row, int mirrored, double length)
{
    const double pi = 3.14159265358979323846, voltage = row->voltage;
    const double lambda = 12.26425968 / sqrt(voltage + 0.97847560e-6 * voltage * voltage);
    const double per_k2 = 0.5 * lambda / (length * length); /* turns of 1 A of defocus at k = 1 */
    const double difference = 0.5 * ((double)row->defocus_u - row->defocus_v);
    const double angle = mirrored ? pi - row->angle : row->angle;
    het_ctf_phase phase;
    phase.mean = per_k2 * 0.5 * ((double)row->defocus_u + row->defocus_v);
    phase.astig_c = per_k2 * difference * cos(2.0 * angle);
    phase.astig_s = per_k2 * difference * sin(2.0 * angle);
    phase.spherical = -0.25 * row->cs * pow(lambda, 3.0) / pow(length, 4.0);
    phase.constant = (row->phase + asin((double)row->amplitude)) / (2.0 * pi);
    return phase;
}

/** At a point with k2 = kx^2+ky^2, kc = kx^2-ky^2, ks = 2 kx ky. */
HET_BOTH double het_ctf_turns(const het_ctf_phase *phase, double k2, double kc, double ks)
{
    return k2 * (phase->mean + phase->spherical * k2) + phase->astig_c * kc + phase->astig_s * ks + phase->constant;
}
