#include "place.h"

#include <math.h>

#include "../arena.h"
#include "fft.h"
#include "rotation.h"

static const double TWO_PI = 6.28318530717958647692;

static void mirrored_z(float *out, const float *in, int64_t box)
{
    const int64_t plane = box * box;
    for (int64_t z = 0; z < box; z++) {
        const float *from = in + ((box - z) % box) * plane;
        for (int64_t i = 0; i < plane; i++) out[z * plane + i] = from[i];
    }
}

het_status het_place_shift(het_volume *volume, const double u[3])
{
    het_status status = HET_OK;
    const int64_t d = volume->box, half = d / 2;
    het_fft *fft = NULL;
    float *spectrum = NULL;
    HET_TRY(het_fft_new(&fft, 3, d));
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    if (spectrum == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the transform of a map of box %lld", (long long)d);
        goto done;
    }
    het_fft_forward(fft, spectrum, volume->data);
    for (int64_t z = 0; z < d; z++) {
        for (int64_t y = 0; y < d; y++) {
            const int64_t kz = z < half ? z : z - d, ky = y < half ? y : y - d;
            float *line = spectrum + 2 * (z * d + y) * (half + 1);
            for (int64_t kx = 0; kx <= half; kx++) {
                const int nyquist = kx == half || ky == -half || kz == -half; /* has no phase of its own */
                const double phase = -TWO_PI * ((double)kx * u[0] + (double)ky * u[1] + (double)kz * u[2]) / (double)d;
                const double c = nyquist ? 0.0 : cos(phase), s = nyquist ? 0.0 : sin(phase);
                const double re = line[2 * kx], im = line[2 * kx + 1];
                line[2 * kx] = (float)(re * c - im * s);
                line[2 * kx + 1] = (float)(re * s + im * c);
            }
        }
    }
    het_fft_inverse(fft, volume->data, spectrum);
done:
    het_fft_free(fft);
    het_release(spectrum);
    return status;
}

het_status het_place_volume(het_volume *out, const het_volume *in, const double a[9], int hand, const double u[3])
{
    het_status status = HET_OK;
    het_volume mirrored = {0};
    const het_volume *source = in;
    double r[9]; /* out(x) = source(A x) = source(R^T x) */
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) r[3 * i + j] = a[3 * j + i];
    if (hand < 0) {
        HET_TRY(het_volume_new(&mirrored, in->box, in->apix));
        mirrored_z(mirrored.data, in->data, in->box);
        source = &mirrored;
    }
    HET_TRY(het_volume_rotate(out, source, r));
    if (u != NULL) HET_TRY(het_place_shift(out, u));
done:
    het_volume_free(&mirrored);
    return status;
}
