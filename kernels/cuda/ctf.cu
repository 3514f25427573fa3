/* The CTF of points, one sine for each (kernels/ctf_phase.h). */
#include "../ctf_phase.h"
#include "fourier.h"
#include "members.h"

/* Grid (images): the block's first thread works out the image's phase for all. */
__global__ void ctf_points(float *ctf, const het_ctf_row *rows, const uint8_t *mirrored, const float *envelope,
                           const int32_t *kxy, double length, int64_t p)
{
    __shared__ het_ctf_phase phase;
    const int64_t image = blockIdx.x;
    const bool has_ctf = rows[image].voltage != 0.0f;
    if (threadIdx.x == 0 && has_ctf) phase = het_ctf_phase_of(&rows[image], mirrored != NULL && mirrored[image], length);
    __syncthreads();
    for (int64_t i = threadIdx.x; i < p; i += blockDim.x) {
        const int32_t kx = kxy[2 * i], ky = kxy[2 * i + 1];
        float value = 1.0f;
        if (has_ctf) {
            const double turns = het_ctf_turns(&phase, kx * kx + ky * ky, kx * kx - ky * ky, 2 * kx * ky);
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
