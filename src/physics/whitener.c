#include "whitener.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "fft.h"

/* Powers outside [LEAST, MOST] times the mean are taken as those: a frequency without noise was taken out of the images. */
static const double LEAST = 0.2, MOST = 400.0;
static const double LOWEST = 3.0; /* Fourier pixels: what is lower went with the plane */
static const double WHITE = 0.3; /* power that differs by less is that of white noise, as far as some hundred images and a taper tell */

enum { DIRECTIONS = 8 };

struct het_whitener {
    int64_t box, wide;    /* 2 box: no pixel meets another around the edge */
    het_fft *fft, *padded; /* of an image; of one in a frame of zeros */
    float *spectrum, *image; /* of the wide box */
    float *rim;           /* (D,D) 1 outside the inscribed circle */
    double *power;        /* (wide spectrum) sum over images of |F(m X)|^2 */
    double *pairs;        /* (2, D+1, D+1) */
    int64_t images;
};

het_status het_whitener_new(het_whitener **made, int64_t box)
{
    het_status status = HET_OK;
    het_whitener *w = *made = het_alloc(sizeof *w);
    if (w == NULL) return het_fail(HET_E_MEMORY, "no memory to whiten images");
    w->box = box;
    w->wide = 2 * box;
    HET_TRY(het_fft_new(&w->fft, 2, box));
    HET_TRY(het_fft_new(&w->padded, 2, w->wide));
    w->spectrum = het_alloc((size_t)het_fft_size(w->padded) * sizeof *w->spectrum);
    w->image = het_alloc((size_t)(w->wide * w->wide) * sizeof *w->image);
    w->rim = het_alloc((size_t)(box * box) * sizeof *w->rim);
    w->power = het_alloc((size_t)(het_fft_size(w->padded) / 2) * sizeof *w->power);
    w->pairs = het_alloc((size_t)(2 * (box + 1) * (box + 1)) * sizeof *w->pairs);
    if (w->pairs == NULL || w->spectrum == NULL || w->image == NULL || w->rim == NULL || w->power == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to whiten images of box %lld", (long long)box));
    for (int64_t y = 0; y < box; y++)
        for (int64_t x = 0; x < box; x++) w->rim[y * box + x] = hypot((double)(x - box / 2), (double)(y - box / 2)) > (double)(box / 2) ? 1.0F : 0.0F;
done:
    if (status != HET_OK) {
        het_whitener_free(w);
        *made = NULL;
    }
    return status;
}

void het_whitener_free(het_whitener *w)
{
    if (w == NULL) return;
    het_fft_free(w->fft);
    het_fft_free(w->padded);
    void *const mine[] = {w->spectrum, w->image, w->rim, w->power, w->pairs, w};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* mean + x along_x + y along_y, from the middle. */
typedef struct plane {
    double mean, along_x, along_y;
} plane;

static double plane_at(const plane *ground, int64_t x, int64_t y)
{
    return ground->mean + ground->along_x * (double)x + ground->along_y * (double)y;
}

/* That of the rim, by least squares. The rim is not quite symmetric, as a box has one pixel more to the left of its middle: steps. */
static plane plane_of(const het_whitener *w, const float *image)
{
    const int64_t d = w->box, half = d / 2;
    plane ground = {0};
    for (int step = 0; step < 3; step++) {
        double sum[3] = {0}, count = 0.0, square = 0.0;
        for (int64_t y = -half; y < half; y++)
            for (int64_t x = -half; x < half; x++) {
                const int64_t i = (y + half) * d + x + half;
                if (!(w->rim[i] > 0.0F)) continue;
                const double left = (double)image[i] - plane_at(&ground, x, y);
                sum[0] += left;
                sum[1] += left * (double)x;
                sum[2] += left * (double)y;
                count += 1.0;
                square += (double)(x * x);
            }
        ground = (plane){ground.mean + sum[0] / count, ground.along_x + sum[1] / square, ground.along_y + sum[2] / square};
    }
    return ground;
}

/* Transform of rim (image - ground) in a frame of zeros; image NULL: of the rim. */
static void transform_rim(het_whitener *w, const float *image, const plane *ground)
{
    const int64_t d = w->box;
    memset(w->image, 0, (size_t)(w->wide * w->wide) * sizeof *w->image);
    for (int64_t y = 0; y < d; y++)
        for (int64_t x = 0; x < d; x++)
            w->image[y * w->wide + x] = w->rim[y * d + x] * (image != NULL ? image[y * d + x] - (float)plane_at(ground, x - d / 2, y - d / 2) : 1.0F);
    het_fft_forward(w->padded, w->spectrum, w->image);
}

static double square(const float *f)
{
    return (double)f[0] * (double)f[0] + (double)f[1] * (double)f[1];
}

void het_whitener_add(het_whitener *w, const float *image)
{
    const plane ground = plane_of(w, image);
    transform_rim(w, image, &ground);
    for (int64_t i = 0; i < het_fft_size(w->padded) / 2; i++) w->power[i] += square(w->spectrum + 2 * i);
    w->images++;
}

/* to (D+1,D+1): sums over pairs of pixels that are d apart, |dx|, |dy| <= D/2, from the power in `spectrum`. */
static void sum_pairs(double *to, het_whitener *w)
{
    const int64_t n = w->wide, reach = w->box / 2, side = 2 * reach + 1;
    het_fft_inverse(w->padded, w->image, w->spectrum); /* d = 0 is the middle */
    for (int64_t y = 0; y < side; y++)
        for (int64_t x = 0; x < side; x++) to[y * side + x] = (double)w->image[(y - reach + n / 2) * n + x - reach + n / 2];
}

/* The overlap of two discs of diameter 1 whose centres are t apart, 1 at t = 0: as all its Fourier coefficients are positive, no strong frequency
 * makes the power of others negative. */
static double taper(double t)
{
    return t < 1.0 ? 2.0 / M_PI * (acos(t) - t * sqrt(1.0 - t * t)) : 0.0;
}

/* S at radius k of covariances c (D+1,D+1), over directions. */
static double power_at(const double *c, int64_t box, double k)
{
    const int64_t reach = box / 2, side = 2 * reach + 1;
    double sum = 0.0;
    for (int direction = 0; direction < DIRECTIONS; direction++) {
        const double angle = M_PI * direction / DIRECTIONS, by = 2.0 * M_PI * k / (double)box, kx = by * cos(angle), ky = by * sin(angle);
        for (int64_t y = -reach; y <= reach; y++)
            for (int64_t x = -reach; x <= reach; x++) sum += c[(y + reach) * side + x + reach] * cos(kx * (double)x + ky * (double)y);
    }
    return sum / DIRECTIONS;
}

void het_whitener_find(het_whitener *w, het_whitening *whitening)
{
    const int64_t reach = w->box / 2, side = 2 * reach + 1, middle = reach * side + reach, size = het_fft_size(w->padded) / 2;
    double *c = w->pairs, *rim = w->pairs + side * side, most = 0.0;
    *whitening = (het_whitening){0};
    if (w->images == 0) return;
    for (int64_t i = 0; i < size; i++) {
        w->spectrum[2 * i] = (float)(w->power[i] / (double)w->images);
        w->spectrum[2 * i + 1] = 0.0F;
    }
    sum_pairs(c, w);
    transform_rim(w, NULL, NULL);
    for (int64_t i = 0; i < size; i++) {
        w->spectrum[2 * i] = (float)square(w->spectrum + 2 * i);
        w->spectrum[2 * i + 1] = 0.0F;
    }
    sum_pairs(rim, w);
    const double variance = c[middle] / rim[middle]; /* the mean of S, too */
    if (!(variance > 0.0)) return;
    for (int64_t i = 0; i < side * side; i++) {
        const double d = hypot((double)(i / side - reach), (double)(i % side - reach));
        c[i] = rim[i] > 0.5 ? taper(d / (double)reach) * c[i] / rim[i] / variance : 0.0;
    }
    for (int i = 0; i < HET_WHITENING_KNOTS; i++) {
        const double power = power_at(c, w->box, fmax(het_whitening_knot(i) * 0.5 * (double)w->box, LOWEST));
        most = fmax(most, fabs(power - 1.0));
        whitening->at[i] = 1.0 / sqrt(fmin(fmax(power, LEAST), MOST));
    }
    if (most < WHITE) *whitening = (het_whitening){0};
}

void het_whitener_apply(het_whitener *w, const het_whitening *whitening, float *image)
{
    if (!het_whitening_is(whitening)) return;
    const int64_t d = w->box, columns = d / 2 + 1;
    const plane ground = plane_of(w, image);
    for (int64_t i = 0; i < d * d; i++) image[i] -= (float)plane_at(&ground, i % d - d / 2, i / d - d / 2);
    het_fft_forward(w->fft, w->spectrum, image);
    for (int64_t y = 0; y < d; y++)
        for (int64_t kx = 0; kx < columns; kx++) {
            const double ky = (double)(y < d / 2 ? y : y - d);
            const float by = (float)het_whitening_at(whitening, hypot((double)kx, ky), d);
            w->spectrum[2 * (y * columns + kx)] *= by;
            w->spectrum[2 * (y * columns + kx) + 1] *= by;
        }
    het_fft_inverse(w->fft, image, w->spectrum);
}
