/* The CTF of points (METHOD 2), as in kernels/cpu/ctf.c: one sine per point, phases in turns, double until whole
 * turns are gone. */
#include "fourier.h"
#include "members.h"

/* turns = mean k^2 + astig_c (kx^2-ky^2) + astig_s (2 kx ky) + spherical k^4 + constant */
typedef struct ctf_phase {
    double mean, astig_c, astig_s, spherical, constant;
} ctf_phase;

/* Relativistic wavelength in A of electrons at `voltage` V. */
__device__ static inline double wavelength(double voltage)
{
    return 12.26425968 / sqrt(voltage + 0.97847560e-6 * voltage * voltage);
}

__device__ static inline ctf_phase phase_of(const het_ctf_row &row, bool mirrored, double length)
{
    const double pi = 3.14159265358979323846, lambda = wavelength(row.voltage);
    const double per_k2 = 0.5 * lambda / (length * length);
    const double difference = 0.5 * ((double)row.defocus_u - row.defocus_v);
    const double angle = mirrored ? pi - row.angle : row.angle;
    ctf_phase phase;
    phase.mean = per_k2 * 0.5 * ((double)row.defocus_u + row.defocus_v);
    phase.astig_c = per_k2 * difference * cos(2.0 * angle);
    phase.astig_s = per_k2 * difference * sin(2.0 * angle);
    phase.spherical = -0.25 * row.cs * (lambda * lambda * lambda) / (length * length * length * length);
    phase.constant = (row.phase + asin((double)row.amplitude)) / (2.0 * pi);
    return phase;
}

/* Grid (images): the block's first thread works out the image's phase for all. */
__global__ void ctf_points(float *ctf, const het_ctf_row *rows, const uint8_t *mirrored, const float *envelope,
                           const int32_t *kxy, double length, int64_t p)
{
    __shared__ ctf_phase phase;
    const int64_t image = blockIdx.x;
    const bool has_ctf = rows[image].voltage != 0.0f;
    if (threadIdx.x == 0 && has_ctf) phase = phase_of(rows[image], mirrored != NULL && mirrored[image], length);
    __syncthreads();
    for (int64_t i = threadIdx.x; i < p; i += blockDim.x) {
        const int32_t kx = kxy[2 * i], ky = kxy[2 * i + 1];
        const double k2 = kx * kx + ky * ky;
        float value = 1.0f;
        if (has_ctf) {
            const double turns = k2 * (phase.mean + phase.spherical * k2) + phase.astig_c * (kx * kx - ky * ky) +
                                 phase.astig_s * (2 * kx * ky) + phase.constant;
            value = -sinpif(2.0f * (float)(turns - rint(turns)));
        }
        ctf[image * p + i] = envelope == NULL ? value : value * envelope[i];
    }
}

void het_cuda_ctf(het_fourier *plan, float *ctf, const het_ctf_row *rows, const uint8_t *mirrored, const float *envelope,
                  float apix, int64_t b, int64_t p)
{
    HET_LAUNCH_MEET(plan->cuda, ctf_points, (unsigned)b, HET_BLOCK, ctf, rows, mirrored, envelope, plan->kxy,
                    (double)plan->box * apix, p);
}
