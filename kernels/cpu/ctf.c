#include "../ctf_phase.h"
#include "clones.h"
#include "fourier.h"
#include "vmath.h"

HET_CLONES static void ctf_row(float *restrict ctf, const float *restrict k2, const float *restrict kc,
                               const float *restrict ks, het_ctf_phase phase, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const double turns = het_ctf_turns(&phase, k2[i], kc[i], ks[i]);
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
            const het_ctf_phase phase = het_ctf_phase_of(&rows[i], mirrored != NULL && mirrored[i], length);
            ctf_row(row, plan->k2, plan->kc, plan->ks, phase, p);
        }
        if (envelope != NULL) multiply_row(row, envelope, p);
    }
}
