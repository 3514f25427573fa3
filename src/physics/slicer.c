#include "slicer.h"

#include <math.h>
#include <string.h>

#include "../../kernels/cpu/clones.h"
#include "../arena.h"
#include "fft.h"

enum { PAD = 2, TAPS = 4, AT_ONCE = 8 };

static const double pi = 3.14159265358979323846;

/* Shape of the kernel for TAPS samples on a grid oversampled PAD times: pi sqrt((W/a)^2 (a - 1/2)^2 - 0.8). */
static double kernel_beta(void)
{
    const double ratio = (double)TAPS / PAD;
    return pi * sqrt(ratio * ratio * (PAD - 0.5) * (PAD - 0.5) - 0.8);
}

static double bessel_i0(double x)
{
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 60; k++) {
        term *= x * x / (4.0 * k * k);
        sum += term;
    }
    return sum;
}

/* h(u), u in padded Fourier pixels, |u| <= TAPS/2 */
static double kernel(double u)
{
    const double v = 2.0 * u / TAPS;
    return fabs(v) >= 1.0 ? 0.0 : bessel_i0(kernel_beta() * sqrt(1.0 - v * v)) / bessel_i0(kernel_beta());
}

/* Its transform at x/N of the padded box: integral h(u) exp(2 pi i u x/N) du. */
static double kernel_transform(double x_over_n)
{
    const double beta = kernel_beta(), a = pi * TAPS * x_over_n;
    const double root = sqrt(beta * beta - a * a);
    return TAPS * sinh(root) / (root * bessel_i0(beta));
}

static float *kernel_table(void)
{
    float *table = het_alloc((HET_SLICER_TABLE + 1) * TAPS * sizeof *table);
    if (table == NULL) return NULL;
    for (int i = 0; i <= HET_SLICER_TABLE; i++)
        for (int t = 0; t < TAPS; t++)
            table[TAPS * i + t] = (float)kernel((double)i / HET_SLICER_TABLE - (t - TAPS / 2 + 1));
    return table;
}

/* Put the corrected map into the middle of the padded box. */
static void pad_corrected(float *padded, const het_volume *volume, const float *correction)
{
    const int64_t d = volume->box, n = PAD * d, offset = n / 2 - d / 2;
    for (int64_t z = 0; z < d; z++) {
        for (int64_t y = 0; y < d; y++) {
            const float *from = volume->data + (z * d + y) * d;
            float *to = padded + ((z + offset) * n + y + offset) * n + offset;
            const float yz = correction[z] * correction[y];
            for (int64_t x = 0; x < d; x++) to[x] = from[x] * yz * correction[x];
        }
    }
}

/* The coefficient at any integer k of the padded spectrum, from the stored half and periodicity. */
static void fetch(float out[2], const float *spectrum, int64_t n, int64_t kx, int64_t ky, int64_t kz, float scale)
{
    const int fold = kx < 0 || kx > n / 2;
    if (fold) {
        kx = kx < 0 ? -kx : n - kx;
        ky = -ky;
        kz = -kz;
    }
    const int64_t y = (ky + 2 * n) % n, z = (kz + 2 * n) % n;
    const float *value = spectrum + 2 * ((z * n + y) * (n / 2 + 1) + kx);
    out[0] = scale * value[0];
    out[1] = fold ? -scale * value[1] : scale * value[1];
}

/* Copy the spectrum of a map into an order without wrap-around, with a margin for the kernel. */
static void store(het_slicer *slicer, int map, const float *spectrum, int64_t n)
{
    const int64_t d = slicer->box;
    /* het_fft is orthonormal over N = 2D, S(q) has the factor 1/D. */
    const float scale = (float)(pow((double)n, 1.5) / (double)d);
    for (int64_t z = 0; z < slicer->rows; z++)
        for (int64_t y = 0; y < slicer->rows; y++)
            for (int64_t x = 0; x < slicer->columns; x++)
                fetch(slicer->block + 2 * (((z * slicer->rows + y) * slicer->maps + map) * slicer->columns + x), spectrum, n, x - 1, y - d - 1,
                      z - d - 1, scale);
}

het_status het_slicer_new(het_slicer *slicer, const het_volume *volume)
{
    return het_slicer_new_joint(slicer, volume, 1);
}

het_status het_slicer_new_joint(het_slicer *slicer, const het_volume *volumes, int maps)
{
    het_status status = HET_OK;
    const int64_t d = volumes->box, n = PAD * d;
    *slicer = (het_slicer){.box = d, .maps = maps, .columns = d + 4, .rows = 2 * d + 4};
    float *padded = NULL, *spectrum = NULL, *correction = NULL;
    het_fft *fft = NULL;
    HET_TRY(het_fft_new(&fft, 3, n));
    padded = het_alloc((size_t)(n * n * n) * sizeof *padded);
    spectrum = het_alloc((size_t)het_fft_size(fft) * sizeof *spectrum);
    correction = het_alloc((size_t)d * sizeof *correction);
    slicer->table = kernel_table();
    slicer->block = het_alloc((size_t)(slicer->rows * slicer->rows * maps * slicer->columns * 2) * sizeof(float));
    if (padded == NULL || spectrum == NULL || correction == NULL || slicer->table == NULL || slicer->block == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the padded transform of a map of box %lld", (long long)d);
        goto done;
    }
    for (int64_t x = 0; x < d; x++) correction[x] = (float)(1.0 / kernel_transform((double)(x - d / 2) / (double)n));
    for (int m = 0; m < maps; m++) {
        HET_ASSERT(volumes[m].box == d);
        pad_corrected(padded, &volumes[m], correction);
        het_fft_forward(fft, spectrum, padded);
        store(slicer, m, spectrum, n);
    }
done:
    het_fft_free(fft);
    het_release(padded);
    het_release(spectrum);
    het_release(correction);
    if (status != HET_OK) het_slicer_free(slicer);
    return status;
}

int64_t het_slicer_bytes(int64_t box, int maps)
{
    const int64_t n = PAD * box, rows = 2 * box + 4, columns = box + 4, floats = 2 * rows * rows * columns * maps + n * n * n + n * n * (n + 2);
    return floats * (int64_t)sizeof(float);
}

void het_slicer_free(het_slicer *slicer)
{
    het_release(slicer->block);
    het_release(slicer->table);
    *slicer = (het_slicer){0};
}

/* Four numbers: the weights of one axis; four complex ones: what the kernel takes of a line along x. */
typedef float four __attribute__((vector_size(TAPS * sizeof(float))));
typedef float line __attribute__((vector_size(2 * TAPS * sizeof(float))));

static HET_INLINE void load(void *to, const float *from, size_t bytes)
{
    memcpy(to, from, bytes); /* from anywhere in the array */
}

/* Where some points lie: of each axis the grid's sample before them, the table's row and the part of the way to its next one.
 * way: 1, -1 for a conjugate, 0 beyond |q| = D/2. */
typedef struct places {
    int32_t base[3][AT_ONCE], row[3][AT_ONCE];
    float part[3][AT_ONCE], way[AT_ONCE];
} places;

static HET_INLINE void locate(places *at, const het_slicer *slicer, double q[3][AT_ONCE], int n)
{
    const double half = 0.5 * (double)slicer->box, middle = (double)(slicer->box + 1);
    for (int i = 0; i < n; i++) {
        const double inside = q[0][i] * q[0][i] + q[1][i] * q[1][i] + q[2][i] * q[2][i] <= half * half ? 1.0 : 0.0;
        const double way = copysign(inside, q[0][i]);
        at->way[i] = (float)way;
        for (int c = 0; c < 3; c++) q[c][i] = (inside > 0.0 ? PAD * way * q[c][i] : 0.0) + (c == 0 ? 1.0 : middle);
    }
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < n; i++) {
            const int32_t base = (int32_t)q[c][i];
            const double place = (q[c][i] - base) * HET_SLICER_TABLE;
            const int32_t row = (int32_t)place;
            at->base[c][i] = base - (TAPS / 2 - 1);
            at->row[c][i] = row;
            at->part[c][i] = (float)(place - row);
        }
    }
}

/* The weights of one axis, from the table by linear interpolation. */
static HET_INLINE four weights(const het_slicer *slicer, const places *at, int axis, int i)
{
    four low, high;
    const float *row = slicer->table + TAPS * (int64_t)at->row[axis][i];
    load(&low, row, sizeof low);
    load(&high, row + TAPS, sizeof high);
    return low + at->part[axis][i] * (high - low);
}

/* How they change with the place, within the kernel: it steps to 0 at its ends, the table's first and last row. */
static HET_INLINE four slopes(const het_slicer *slicer, const places *at, int axis, int i)
{
    four low, high;
    const int32_t row = at->row[axis][i], inner = row < 1 ? 1 : row > HET_SLICER_TABLE - 2 ? HET_SLICER_TABLE - 2 : row;
    const float *from = slicer->table + TAPS * (int64_t)inner;
    load(&low, from, sizeof low);
    load(&high, from + TAPS, sizeof high);
    return (high - low) * (float)HET_SLICER_TABLE;
}

/* Weight t of an axis for a whole line. */
#define HET_ALL(weight, t) __builtin_shufflevector(weight, weight, t, t, t, t, t, t, t, t)

static HET_INLINE void load_plane(line l[TAPS], const float *from, int64_t row)
{
    for (int i = 0; i < TAPS; i++) load(&l[i], from + i * row, sizeof l[i]);
}

/* sum_i w[i] of four lines. */
#define HET_LINES(w, l) (HET_ALL(w, 0) * (l)[0] + HET_ALL(w, 1) * (l)[1] + HET_ALL(w, 2) * (l)[2] + HET_ALL(w, 3) * (l)[3])
#define HET_PLANES(w, l) ((HET_ALL(w, 0) * (l)[0] + HET_ALL(w, 1) * (l)[1]) + (HET_ALL(w, 2) * (l)[2] + HET_ALL(w, 3) * (l)[3]))

/* sum_t w[t] of a line's complex numbers; of the opposite point the conjugate. */
static HET_INLINE void along_line(float out[2], const line *sum, const four *w, float way)
{
    const line part = *sum * __builtin_shufflevector(*w, *w, 0, 0, 1, 1, 2, 2, 3, 3);
    const four halves = __builtin_shufflevector(part, part, 0, 1, 2, 3) + __builtin_shufflevector(part, part, 4, 5, 6, 7);
    out[0] = (halves[0] + halves[2]) * fabsf(way);
    out[1] = (halves[1] + halves[3]) * way;
}

/* The corner of the first map's samples that the kernel takes. */
static HET_INLINE const float *corner_of(const het_slicer *slicer, const places *at, int i)
{
    const int64_t row = 2 * slicer->maps * slicer->columns, plane = row * slicer->rows;
    return slicer->block + at->base[2][i] * plane + at->base[1][i] * row + 2 * (int64_t)at->base[0][i];
}

/* Of the first map. */
static HET_INLINE void sample(const het_slicer *slicer, float out[2], const places *at, int i)
{
    const four wx = weights(slicer, at, 0, i), wy = weights(slicer, at, 1, i), wz = weights(slicer, at, 2, i);
    const int64_t row = 2 * slicer->maps * slicer->columns, plane = row * slicer->rows;
    const float *corner = corner_of(slicer, at, i);
    line of[TAPS], l[TAPS];
    for (int j = 0; j < TAPS; j++) {
        load_plane(l, corner + j * plane, row);
        of[j] = HET_LINES(wy, l);
    }
    const line sum = HET_PLANES(wz, of);
    along_line(out, &sum, &wx, at->way[i]);
}

/* Of all maps, and d/dq of their sum with weights e (n): that of the opposite point is minus the conjugate. */
static HET_INLINE void sample_joint(const het_slicer *slicer, float *out, int64_t step, float gradient[3][2], const float *e, const places *at, int i)
{
    const four wx = weights(slicer, at, 0, i), wy = weights(slicer, at, 1, i), wz = weights(slicer, at, 2, i);
    const four sx = slopes(slicer, at, 0, i), sy = slopes(slicer, at, 1, i), sz = slopes(slicer, at, 2, i);
    const int64_t row = 2 * slicer->maps * slicer->columns, plane = row * slicer->rows;
    const float *corner = corner_of(slicer, at, i);
    const float way = at->way[i];
    line all = {0}, all_y = {0}, all_z = {0};
    for (int m = 0; m < slicer->maps; m++, corner += 2 * slicer->columns) {
        line of[TAPS], of_y[TAPS], l[TAPS];
        for (int j = 0; j < TAPS; j++) {
            load_plane(l, corner + j * plane, row);
            of[j] = HET_LINES(wy, l);
            of_y[j] = HET_LINES(sy, l);
        }
        const line sum = HET_PLANES(wz, of);
        along_line(out + m * step, &sum, &wx, way);
        all += e[m] * sum;
        all_y += e[m] * HET_PLANES(wz, of_y);
        all_z += e[m] * HET_PLANES(sz, of);
    }
    along_line(gradient[0], &all, &sx, way);
    along_line(gradient[1], &all_y, &wx, way);
    along_line(gradient[2], &all_z, &wx, way);
    for (int c = 0; c < 3; c++)
        for (int part = 0; part < 2; part++) gradient[c][part] *= PAD * copysignf(1.0F, way);
}

HET_CLONES void het_slicer_at(const het_slicer *slicer, float out[2], double qx, double qy, double qz)
{
    double q[3][AT_ONCE] = {{qx}, {qy}, {qz}};
    places at;
    locate(&at, slicer, q, 1);
    sample(slicer, out, &at, 0);
}

/* R^T (kx,ky,0) of n points. */
static HET_INLINE void locate_slice(places *at, const het_slicer *slicer, const double r[9], const int32_t *kxy, int n)
{
    double q[3][AT_ONCE] = {{0}};
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) q[c][i] = kxy[2 * i] * r[c] + kxy[2 * i + 1] * r[3 + c];
    locate(at, slicer, q, AT_ONCE);
}

HET_CLONES void het_slicer_slice(const het_slicer *slicer, float *points, const double r[9], const int32_t *kxy, int64_t p)
{
    for (int64_t first = 0; first < p; first += AT_ONCE) {
        const int n = p - first < AT_ONCE ? (int)(p - first) : AT_ONCE;
        places at;
        locate_slice(&at, slicer, r, kxy + 2 * first, n);
        for (int i = 0; i < n; i++) sample(slicer, points + 2 * (first + i), &at, i);
    }
}

HET_CLONES void het_slicer_slice_joint(const het_slicer *slicer, float *slices, float *gradient, const double r[9], const double *e, const int32_t *kxy,
                                       int64_t p)
{
    float weight[HET_SLICER_MAPS], turn[9];
    for (int m = 0; m < slicer->maps; m++) weight[m] = (float)e[m];
    for (int c = 0; c < 9; c++) turn[c] = (float)r[c];
    for (int64_t first = 0; first < p; first += AT_ONCE) {
        const int n = p - first < AT_ONCE ? (int)(p - first) : AT_ONCE;
        places at;
        locate_slice(&at, slicer, r, kxy + 2 * first, n);
        for (int i = 0; i < n; i++) {
            float of[3][2];
            sample_joint(slicer, slices + 2 * (first + i), 2 * p, of, weight, &at, i);
            for (int c = 0; c < 3; c++)
                for (int part = 0; part < 2; part++)
                    gradient[2 * (c * p + first + i) + part] = turn[3 * c] * of[0][part] + turn[3 * c + 1] * of[1][part] + turn[3 * c + 2] * of[2][part];
        }
    }
}

HET_CLONES void het_slicer_turned(const het_slicer *slicer, float *out, const double a[9], const int16_t *k, int64_t n)
{
    for (int64_t first = 0; first < n; first += AT_ONCE) {
        const int m = n - first < AT_ONCE ? (int)(n - first) : AT_ONCE;
        double q[3][AT_ONCE] = {{0}};
        places at;
        for (int i = 0; i < m; i++) {
            const int16_t *of = k + 3 * (first + i);
            for (int c = 0; c < 3; c++) q[c][i] = a[3 * c] * of[0] + a[3 * c + 1] * of[1] + a[3 * c + 2] * of[2];
        }
        locate(&at, slicer, q, AT_ONCE);
        for (int i = 0; i < m; i++) sample(slicer, out + 2 * (first + i), &at, i);
    }
}

void het_slicer_slices(const het_slicer *slicer, float *slices, const float *rot, int64_t n, const int32_t *kxy, int64_t p,
                       int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double r[9];
        for (int c = 0; c < 9; c++) r[c] = (double)rot[9 * i + c];
        het_slicer_slice(slicer, slices + 2 * i * p, r, kxy, p);
    }
}
