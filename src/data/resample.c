#include "resample.h"

#include <complex.h>
#include <fftw3.h>
#include <math.h>
#include <string.h>

#include "../arena.h"

struct het_resample {
    int64_t from, to;
    float *image;            /* (from, from) */
    float complex *spectrum; /* (from, from/2+1) of the input */
    float complex *half;     /* (to, to/2+1) of the output; the inverse transform overwrites it */
    float *out;              /* (to, to) */
    float complex *phase;    /* (2, to/2+1): per axis, the factor of frequency k >= 0 */
    fftwf_plan forward, inverse;
};

het_status het_resample_new(het_resample **resample, int64_t from, int64_t to)
{
    *resample = NULL;
    if (from < 4 || from > 16384 || to < 4 || to > from || to % 2 != 0)
        return het_fail(
            HET_E_SHAPE,
            "cannot bring images of %lld pixels to a box of %lld: it must be even, 4 or more, and "
            "not larger than the images",
            (long long)from, (long long)to);
    het_resample *r = het_alloc(sizeof *r);
    if (r == NULL) return het_fail(HET_E_MEMORY, "no memory to resample images");
    r->from = from;
    r->to = to;
    r->image = het_alloc((size_t)(from * from) * sizeof *r->image);
    r->spectrum = het_alloc((size_t)(from * (from / 2 + 1)) * sizeof *r->spectrum);
    r->half = het_alloc((size_t)(to * (to / 2 + 1)) * sizeof *r->half);
    r->out = het_alloc((size_t)(to * to) * sizeof *r->out);
    r->phase = het_alloc((size_t)(2 * (to / 2 + 1)) * sizeof *r->phase);
    if (r->image != NULL && r->spectrum != NULL && r->half != NULL && r->out != NULL && r->phase != NULL) {
        /* Estimated, not measured: measured plans differ from run to run, and with them the last bit. */
        r->forward = fftwf_plan_dft_r2c_2d((int)from, (int)from, r->image, r->spectrum, FFTW_ESTIMATE);
        r->inverse = fftwf_plan_dft_c2r_2d((int)to, (int)to, r->half, r->out, FFTW_ESTIMATE);
    }
    if (r->forward == NULL || r->inverse == NULL) {
        het_resample_free(r);
        return het_fail(HET_E_MEMORY, "no memory to resample images");
    }
    *resample = r;
    return HET_OK;
}

void het_resample_free(het_resample *r)
{
    if (r == NULL) return;
    if (r->forward != NULL) fftwf_destroy_plan(r->forward);
    if (r->inverse != NULL) fftwf_destroy_plan(r->inverse);
    het_release(r->image);
    het_release(r->spectrum);
    het_release(r->half);
    het_release(r->out);
    het_release(r->phase);
    het_release(r);
}

/* exp(2 pi i k (c0/D0 - c1/D - t/D0)): the input's centre, the output's, the shift. The first two cancel for
 * even D0. */
static void set_phases(het_resample *r, const double *shift)
{
    const int64_t half = r->to / 2;
    for (int axis = 0; axis < 2; axis++) {
        const double t = shift == NULL ? 0.0 : shift[axis];
        const double turn = (double)(r->from / 2) / (double)r->from - 0.5 - t / (double)r->from;
        for (int64_t k = 0; k <= half; k++) {
            const double angle = 2.0 * M_PI * (double)k * turn;
            r->phase[axis * (half + 1) + k] = (float)cos(angle) + (float)sin(angle) * I;
        }
    }
}

/* The input's transform at any signed frequency, times the phases of both axes. */
static float complex value_at(const het_resample *r, int64_t kx, int64_t ky)
{
    const int64_t half = r->to / 2, width = r->from / 2 + 1;
    if (kx < 0) return conjf(value_at(r, -kx, -ky));
    const float complex y = ky < 0 ? conjf(r->phase[half + 1 - ky]) : r->phase[half + 1 + ky];
    const int64_t row = ky < 0 ? ky + r->from : ky;
    return r->spectrum[row * width + kx] * r->phase[kx] * y;
}

/* What goes to frequency (kx, ky) of the output's grid, where one of both is +-to/2. */
static float complex edge_value(const het_resample *r, int64_t kx, int64_t ky)
{
    const int64_t half = r->to / 2;
    const int both_x = kx == half, both_y = ky == half;
    float complex sum = 0.0f;
    for (int sx = 0; sx <= both_x; sx++)
        for (int sy = 0; sy <= both_y; sy++) sum += value_at(r, sx ? -kx : kx, sy ? -ky : ky);
    return sum / (float)((1 + both_x) * (1 + both_y));
}

static void crop(het_resample *r)
{
    const int64_t half = r->to / 2, width = r->from / 2 + 1;
    for (int64_t j = 0; j < r->to; j++) {
        float complex *to = r->half + j * (half + 1);
        const int64_t ky = j <= half ? j : j - r->to;
        if (ky == half) {
            for (int64_t kx = 0; kx <= half; kx++) to[kx] = edge_value(r, kx, ky);
            continue;
        }
        const float complex *row = r->spectrum + (ky < 0 ? ky + r->from : ky) * width;
        const float complex y = ky < 0 ? conjf(r->phase[half + 1 - ky]) : r->phase[half + 1 + ky];
        for (int64_t kx = 0; kx < half; kx++) to[kx] = row[kx] * (r->phase[kx] * y);
        to[half] = edge_value(r, half, ky);
    }
}

void het_resample_run(het_resample *r, float *out, const float *image, const double *shift)
{
    const size_t pixels = (size_t)(r->to * r->to);
    if (r->from == r->to && (shift == NULL || (shift[0] == 0.0 && shift[1] == 0.0))) {
        memcpy(out, image, pixels * sizeof *out);
        return;
    }
    memcpy(r->image, image, (size_t)(r->from * r->from) * sizeof *image);
    fftwf_execute(r->forward);
    set_phases(r, shift);
    crop(r);
    fftwf_execute(r->inverse);
    const float scale = (float)(1.0 / ((double)r->from * (double)r->from));
    for (size_t i = 0; i < pixels; i++) out[i] = r->out[i] * scale;
}
