#include "volume.h"

#include <math.h>

#include "../arena.h"
#include "fft.h"
#include "rotation.h"
#include "slicer.h"

het_status het_volume_new(het_volume *volume, int64_t box, double apix)
{
    *volume = (het_volume){.box = box, .apix = apix};
    if (box < 4 || box > 1024 || box % 2 != 0)
        return het_fail(HET_E_SHAPE, "map of box %lld: it must be even and between 4 and 1024", (long long)box);
    if (!(apix > 0.0) || !isfinite(apix)) return het_fail(HET_E_SHAPE, "map with a pixel size of %g A", apix);
    volume->data = het_alloc((size_t)(box * box * box) * sizeof *volume->data);
    if (volume->data == NULL) return het_fail(HET_E_MEMORY, "no memory for a map of box %lld", (long long)box);
    return HET_OK;
}

void het_volume_free(het_volume *volume)
{
    het_release(volume->data);
    *volume = (het_volume){0};
}

/* Index of the frequency k in an axis of n in the transform's order. */
static int64_t wrapped(int64_t k, int64_t n)
{
    return k < 0 ? k + n : k;
}

/* A transform and its spectrum, both to be freed by the caller also on failure. */
static het_status open_spectrum(het_fft **fft, float **spectrum, int64_t box)
{
    het_status status = het_fft_new(fft, 3, box);
    if (status != HET_OK) return status;
    *spectrum = het_alloc((size_t)het_fft_size(*fft) * sizeof **spectrum);
    if (*spectrum == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the transform of a map of box %lld", (long long)box);
    return HET_OK;
}

het_status het_volume_resize(het_volume *out, const het_volume *in)
{
    het_status status = HET_OK;
    het_fft *from_fft = NULL, *to_fft = NULL;
    float *from = NULL, *to = NULL;
    const int64_t n = in->box, m = out->box, half = (n < m ? n : m) / 2;
    /* orthonormal sums over fewer or more samples of the same values */
    const float scale = (float)pow((double)m / (double)n, 1.5);
    HET_TRY(open_spectrum(&from_fft, &from, n));
    HET_TRY(open_spectrum(&to_fft, &to, m));
    het_fft_forward(from_fft, from, in->data);
    for (int64_t kz = 1 - half; kz < half; kz++) {
        for (int64_t ky = 1 - half; ky < half; ky++) {
            const float *line = from + 2 * (wrapped(kz, n) * n + wrapped(ky, n)) * (n / 2 + 1);
            float *target = to + 2 * (wrapped(kz, m) * m + wrapped(ky, m)) * (m / 2 + 1);
            for (int64_t x = 0; x < 2 * half; x++) target[x] = scale * line[x];
        }
    }
    het_fft_inverse(to_fft, out->data, to);
    out->apix = in->apix * (double)n / (double)m;
done:
    het_fft_free(from_fft);
    het_fft_free(to_fft);
    het_release(from);
    het_release(to);
    return status;
}

het_status het_volume_resample(het_volume *out, const het_volume *in, const double r[9])
{
    static const double none[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    het_status status = HET_OK;
    het_slicer slicer = {0};
    het_fft *fft = NULL;
    float *spectrum = NULL;
    const double *turn = r != NULL ? r : none;
    const int64_t m = out->box, half = m / 2;
    /* one Fourier pixel of out in Fourier pixels of in; sums over out count (apix_in/apix_out)^3 times those over in */
    const double step = (double)in->box * in->apix / ((double)m * out->apix);
    const double scale = (double)in->box * pow(in->apix / out->apix, 3.0) / pow((double)m, 1.5);
    HET_TRY(het_slicer_new(&slicer, in));
    HET_TRY(open_spectrum(&fft, &spectrum, m));
    #pragma omp parallel for schedule(static)
    for (int64_t kz = 1 - half; kz < half; kz++) {
        for (int64_t ky = 1 - half; ky < half; ky++) {
            float *target = spectrum + 2 * (wrapped(kz, m) * m + wrapped(ky, m)) * (half + 1);
            for (int64_t kx = 0; kx < half && kx * kx + ky * ky + kz * kz < half * half; kx++) {
                double q[3];
                for (int i = 0; i < 3; i++)
                    q[i] = step * ((double)kx * turn[i] + (double)ky * turn[3 + i] + (double)kz * turn[6 + i]);
                het_slicer_at(&slicer, target + 2 * kx, q[0], q[1], q[2]);
                target[2 * kx] *= (float)scale;
                target[2 * kx + 1] *= (float)scale;
            }
        }
    }
    het_fft_inverse(fft, out->data, spectrum);
done:
    het_slicer_free(&slicer);
    het_fft_free(fft);
    het_release(spectrum);
    return status;
}

het_status het_volume_rotate(het_volume *out, const het_volume *in, const double r[9])
{
    if (out->box != in->box)
        return het_fail(HET_E_SHAPE, "rotating a map of box %lld into one of box %lld", (long long)in->box,
                        (long long)out->box);
    out->apix = in->apix;
    return het_volume_resample(out, in, r);
}

void het_volume_mask_sphere(het_volume *volume, double radius, double edge)
{
    const int64_t d = volume->box;
    for (int64_t i = 0; i < d * d * d; i++) {
        const double x = (double)(i % d - d / 2), y = (double)(i / d % d - d / 2), z = (double)(i / d / d - d / 2);
        const double beyond = sqrt(x * x + y * y + z * z) - radius;
        if (beyond <= 0.0) continue;
        volume->data[i] *= beyond >= edge ? 0.0f : (float)(0.5 + 0.5 * cos(3.14159265358979323846 * beyond / edge));
    }
}
