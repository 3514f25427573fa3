/* A test double of cuFFT: libcufft.so.12 with the functions of kernels/cuda/cufft_calls.h, plain transforms in double. As the
 * library's, the inverse spoils its input, and it takes the spectrum for Hermitian.
 * HET_HOST_CUFFT=decline: transforms fail; =dead: plans do. HET_HOST_CUFFT_LEAST=N: the process must have run so many transforms
 * when it ends. */
#include "../../kernels/cuda/cufft_calls.h"

#include <complex>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "stream.h"

typedef std::complex<double> complex;
typedef std::complex<float> narrow;

struct plan {
    int box, type, batch, live;
    het_host_stream *stream;
};
enum { PLANS = 64, FAILED = 6 };
static plan plans[PLANS];
static long computed;

static void stop(const char *why)
{
    fprintf(stderr, "cufft double: %s\n", why);
    abort();
}

__attribute__((destructor)) static void check_use(void)
{
    const char *least = getenv("HET_HOST_CUFFT_LEAST");
    if (least == NULL || computed >= atol(least)) return;
    fprintf(stderr, "cufft double: %ld transforms\n", computed);
    stop("fewer transforms than it should have been given");
}

static int said(const char *word)
{
    const char *text = getenv("HET_HOST_CUFFT");
    return text != NULL && strcmp(text, word) == 0;
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int cufftGetVersion(int *version)
{
    *version = 12000;
    return CF_SUCCESS;
}

EXPORTED int cufftPlanMany(int *out, int rank, int *sizes, int *in_sizes, int, int, int *out_sizes, int, int, int type, int batch)
{
    if (said("dead")) return FAILED;
    if (rank != 2 || sizes[0] != sizes[1] || in_sizes != NULL || out_sizes != NULL || batch < 1) stop("another plan");
    for (int i = 0; i < PLANS; i++)
        if (!plans[i].live) {
            plans[i] = {sizes[0], type, batch, 1, NULL};
            *out = i;
            return CF_SUCCESS;
        }
    return FAILED;
}

EXPORTED int cufftSetStream(int at, void *stream)
{
    plans[at].stream = (het_host_stream *)stream;
    return CF_SUCCESS;
}

EXPORTED int cufftDestroy(int at)
{
    if (at < 0 || at >= PLANS || !plans[at].live) stop("a plan that there is not");
    plans[at].live = 0;
    return CF_SUCCESS;
}

/* to[k] = sum_x from[x] exp(sign 2 pi i k x / n) */
static void transform_line(complex *to, const complex *from, int n, int count, int sign)
{
    for (int k = 0; k < count; k++) {
        complex sum = 0.0;
        for (int x = 0; x < n; x++) sum += from[x] * std::polar(1.0, sign * 2.0 * M_PI * (double)((int64_t)k * x % n) / n);
        to[k] = sum;
    }
}

static const plan *begin(int at, int type)
{
    const plan *p = &plans[at];
    if (!p->live || p->type != type || p->stream == NULL) stop("the wrong plan");
    if (said("decline")) return NULL;
    p->stream->open();
    computed++;
    return p;
}

EXPORTED int cufftExecR2C(int at, float *from, void *to)
{
    if (het_host_record(plans[at].stream, [=] { cufftExecR2C(at, from, to); })) return CF_SUCCESS;
    const plan *p = begin(at, CF_R2C);
    if (p == NULL) return FAILED;
    const int n = p->box, half = n / 2 + 1;
    std::vector<complex> line(n), out(n), rows((size_t)n * half);
    for (int image = 0; image < p->batch; image++) {
        const float *pixels = from + (size_t)image * n * n;
        narrow *spectrum = (narrow *)to + (size_t)image * n * half;
        for (int y = 0; y < n; y++) {
            for (int x = 0; x < n; x++) line[x] = pixels[y * n + x];
            transform_line(&rows[(size_t)y * half], line.data(), n, half, -1);
        }
        for (int kx = 0; kx < half; kx++) {
            for (int y = 0; y < n; y++) line[y] = rows[(size_t)y * half + kx];
            transform_line(out.data(), line.data(), n, n, -1);
            for (int ky = 0; ky < n; ky++) spectrum[ky * half + kx] = narrow(out[ky]);
        }
    }
    p->stream->close();
    return CF_SUCCESS;
}

EXPORTED int cufftExecC2R(int at, void *from, float *to)
{
    if (het_host_record(plans[at].stream, [=] { cufftExecC2R(at, from, to); })) return CF_SUCCESS;
    const plan *p = begin(at, CF_C2R);
    if (p == NULL) return FAILED;
    const int n = p->box, half = n / 2 + 1;
    std::vector<complex> line(n), out(n), rows((size_t)n * half);
    for (int image = 0; image < p->batch; image++) {
        narrow *spectrum = (narrow *)from + (size_t)image * n * half;
        float *pixels = to + (size_t)image * n * n;
        for (int kx = 0; kx < half; kx++) {
            for (int ky = 0; ky < n; ky++) line[ky] = spectrum[ky * half + kx];
            transform_line(out.data(), line.data(), n, n, 1);
            for (int y = 0; y < n; y++) rows[(size_t)y * half + kx] = out[y];
        }
        for (int y = 0; y < n; y++) {
            const complex *row = &rows[(size_t)y * half];
            for (int kx = 0; kx < n; kx++) line[kx] = kx < half ? row[kx] : std::conj(row[n - kx]);
            line[0] = row[0].real();
            line[n / 2] = row[n / 2].real();
            transform_line(out.data(), line.data(), n, n, 1);
            for (int x = 0; x < n; x++) pixels[y * n + x] = (float)out[x].real();
        }
        for (int i = 0; i < n * half; i++) spectrum[i] = narrow(NAN, NAN);
    }
    p->stream->close();
    return CF_SUCCESS;
}
