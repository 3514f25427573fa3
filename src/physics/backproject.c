#include "backproject.h"

#include <math.h>
#include <string.h>

#include "../arena.h"

enum { PAD = 2 };

/* One of the eight grid points around a sample. */
typedef struct corner {
    int64_t at, opposite; /* opposite >= 0: kx = 0, where both k and -k are stored */
    double weight;
    int conjugate;        /* kx < 0: the point -k is stored instead */
} corner;

het_status het_backproject_new(het_backproject *back, int64_t box, int64_t image_box)
{
    het_status status = HET_OK;
    const int64_t side = PAD * box;
    *back = (het_backproject){.box = box, .image_box = image_box};
    HET_TRY(het_fft_new(&back->fft, 3, side));
    back->sum = het_alloc((size_t)(het_fft_size(back->fft) / 2 * 3) * sizeof *back->sum);
    back->spectrum = het_alloc((size_t)het_fft_size(back->fft) * sizeof *back->spectrum);
    back->real = het_alloc((size_t)(side * side * side) * sizeof *back->real);
    if (back->sum == NULL || back->spectrum == NULL || back->real == NULL)
        status = het_fail(HET_E_MEMORY, "no memory to reconstruct a map of box %lld", (long long)box);
done:
    if (status != HET_OK) het_backproject_free(back);
    return status;
}

void het_backproject_free(het_backproject *back)
{
    het_fft_free(back->fft);
    het_release(back->sum);
    het_release(back->spectrum);
    het_release(back->real);
    *back = (het_backproject){0};
}

void het_backproject_clear(het_backproject *back)
{
    memset(back->sum, 0, (size_t)(het_fft_size(back->fft) / 2 * 3) * sizeof *back->sum);
}

static int64_t place(int64_t side, int64_t x, int64_t y, int64_t z)
{
    return (((z + side) % side) * side + (y + side) % side) * (side / 2 + 1) + x;
}

static void corners_of(int64_t side, corner corners[8], const float *r, const int32_t *k)
{
    double fraction[3];
    int64_t base[3];
    for (int j = 0; j < 3; j++) {
        const double q = PAD * ((double)k[0] * (double)r[j] + (double)k[1] * (double)r[3 + j]);
        base[j] = (int64_t)floor(q);
        fraction[j] = q - (double)base[j];
    }
    for (int c = 0; c < 8; c++) {
        int64_t at[3];
        double weight = 1.0;
        for (int j = 0; j < 3; j++) {
            const int up = c >> j & 1;
            at[j] = base[j] + up;
            weight *= up ? fraction[j] : 1.0 - fraction[j];
        }
        const int64_t sign = at[0] < 0 ? -1 : 1;
        corners[c] = (corner){.at = place(side, sign * at[0], sign * at[1], sign * at[2]),
                              .opposite = at[0] == 0 ? place(side, 0, -at[1], -at[2]) : -1,
                              .weight = weight, .conjugate = sign < 0};
    }
}

static void add_point(het_backproject *back, const float a[2], float b, const float *rotation, double weight,
                      const int32_t *k)
{
    corner corners[8];
    corners_of(PAD * back->box, corners, rotation, k);
    for (int c = 0; c < 8; c++) {
        const double w = weight * corners[c].weight;
        double *sum = back->sum + 3 * corners[c].at;
        sum[0] += w * a[0];
        sum[1] += corners[c].conjugate ? -w * a[1] : w * a[1];
        sum[2] += w * b;
        if (corners[c].opposite < 0) continue;
        sum = back->sum + 3 * corners[c].opposite;
        sum[0] += w * a[0];
        sum[1] -= w * a[1];
        sum[2] += w * b;
    }
}

void het_backproject_add(het_backproject *back, const float *a, const float *b, const float *rotation,
                         double weight, const int32_t *kxy, int64_t p)
{
    for (int64_t i = 0; i < p; i++) add_point(back, a + 2 * i, b[i], rotation, weight, kxy + 2 * i);
}

void het_backproject_image(het_backproject *back, const float *transform, const float *ctf, const float *rotation,
                           const float *shift, double weight, const int32_t *kxy, int64_t p)
{
    const double unit = 2.0 * M_PI / (double)back->image_box;
    for (int64_t i = 0; i < p; i++) {
        const int32_t *k = kxy + 2 * i;
        const double angle = unit * ((double)k[0] * (double)shift[0] + (double)k[1] * (double)shift[1]);
        const float re = ctf[i] * (float)cos(angle), im = ctf[i] * (float)sin(angle);
        const float *x = transform + 2 * i;
        const float a[2] = {re * x[0] - im * x[1], re * x[1] + im * x[0]};
        add_point(back, a, ctf[i] * ctf[i], rotation, weight, k);
    }
}

/* spectrum = scale sum a / (sum b + prior) */
static void divide(het_backproject *back, const double *prior, double scale)
{
    const int64_t side = PAD * back->box, last = back->box / 2;
    for (int64_t z = 0; z < side; z++) {
        for (int64_t y = 0; y < side; y++) {
            for (int64_t x = 0; x <= side / 2; x++) {
                const double kx = (double)x, ky = (double)(y < side / 2 ? y : y - side);
                const double kz = (double)(z < side / 2 ? z : z - side);
                const int64_t shell = lround(sqrt(kx * kx + ky * ky + kz * kz) / PAD);
                const int64_t at = place(side, x, y, z);
                const double *sum = back->sum + 3 * at;
                const double factor = scale / (sum[2] + prior[shell < last ? shell : last]);
                back->spectrum[2 * at] = (float)(factor * sum[0]);
                back->spectrum[2 * at + 1] = (float)(factor * sum[1]);
            }
        }
    }
}

/* 1/sinc^2: what spreading over a step of the padded grid took from a voxel at `offset` from the centre. */
static double restore(int64_t offset, int64_t side)
{
    const double u = M_PI * (double)offset / (double)side, sinc = offset == 0 ? 1.0 : sin(u) / u;
    return 1.0 / (sinc * sinc);
}

void het_backproject_solve(het_backproject *back, het_volume *map, const double *prior)
{
    const int64_t d = back->box, side = PAD * d, offset = side / 2 - d / 2;
    HET_ASSERT(map->box == d);
    /* to the orthonormal transform of the padded box, and to the voxels of the image's grid (slicer.h) */
    const double ratio = (double)d / (double)back->image_box;
    divide(back, prior, (double)d * pow((double)side, -1.5) * ratio * ratio);
    het_fft_inverse(back->fft, back->real, back->spectrum);
    for (int64_t z = 0; z < d; z++)
        for (int64_t y = 0; y < d; y++)
            for (int64_t x = 0; x < d; x++)
                map->data[(z * d + y) * d + x] =
                    (float)(back->real[((z + offset) * side + y + offset) * side + x + offset] *
                            restore(x - d / 2, side) * restore(y - d / 2, side) * restore(z - d / 2, side));
    het_volume_mask_sphere(map, 0.45 * (double)d, 0.05 * (double)d);
}
