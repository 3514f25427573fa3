/* A volume from the decoder: its Fourier transform plane by plane, then one inverse transform. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "model.h"
#include "model_buffers.h"
#include "physics/fft.h"

/* Put F(k) and its conjugate at -k where the half-spectrum of het_fft (kx >= 0) holds them. */
static void place(float *spectrum, int64_t d, int64_t kx, int64_t ky, int64_t kz, float re, float im)
{
    const int64_t half = d / 2 + 1;
    float *at = spectrum + 2 * ((((kz + d) % d) * d + (ky + d) % d) * half + kx);
    at[0] = re;
    at[1] = im;
    if (kx != 0) return;
    at = spectrum + 2 * ((((d - kz) % d) * d + (d - ky) % d) * half);
    at[0] = re;
    at[1] = -im;
}

/* A projection's orthonormal transform is D^-1 of the plain one, a volume's D^-3/2: the factor is D^-1/2. */
static void place_plane(const het_model *m, float *spectrum, int64_t kz, const float *slice)
{
    const int64_t d = m->spec.box;
    const double limit = hypot(m->points.kxy[2 * (m->active - 1)], m->points.kxy[2 * (m->active - 1) + 1]);
    for (int64_t p = 0; p < m->active; p++) {
        const int64_t kx = m->points.kxy[2 * p], ky = m->points.kxy[2 * p + 1];
        const double radius = sqrt((double)(kx * kx + ky * ky + kz * kz));
        if (radius > limit + 1e-6) continue;
        const float scale = het_model_envelope(m, radius) / sqrtf((float)d);
        place(spectrum, d, kx, ky, kz, scale * slice[2 * p], scale * slice[2 * p + 1]);
    }
}

het_status het_model_volume(het_model *m, const float *z, float *volume)
{
    het_status status = HET_OK;
    const het_ops *ops = m->dev->ops;
    het_model_buffers *b = m->buffers;
    const int64_t d = m->spec.box, last = d / 2 - 1, p = m->active, zdim = m->config.z_dim;
    const int64_t chunk = m->spec.batch * (m->config.train.mirror ? 2 : 1);
    static const float identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    het_fft *fft = NULL;
    float *spectrum = NULL, *slice = het_alloc((size_t)(chunk * p * 2) * sizeof *slice);
    HET_TRY(het_fft_new(&fft, 3, d));
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    if (slice == NULL || spectrum == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for a volume of box %lld", (long long)d));
    for (int64_t first = -last; first <= last; first += chunk) {
        const int64_t n = last + 1 - first < chunk ? last + 1 - first : chunk;
        for (int64_t i = 0; i < n; i++) {
            const float kz = (float)(first + i);
            ops->upload(m->dev, b->rot + 9 * i, identity, sizeof identity);
            ops->upload(m->dev, b->z + zdim * i, z, (size_t)zdim * sizeof *z);
            ops->upload(m->dev, b->scale + i, &kz, sizeof kz);
        }
        het_decoder_forward(m->decoder, b->slice, m->params, b->rot, b->z, b->scale, n, p);
        ops->download(m->dev, slice, b->slice, (size_t)(n * p * 2) * sizeof *slice);
        for (int64_t i = 0; i < n; i++) place_plane(m, spectrum, first + i, slice + i * p * 2);
    }
    het_fft_inverse(fft, volume, spectrum);
done:
    het_fft_free(fft);
    het_release(spectrum);
    het_release(slice);
    return status;
}
