#include "cufft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cufft_calls.h"
#include "library.h"

/* A transform costs about the same whatever the disc, some passes over the memory of the image; the sums cost operations in
 * proportion to the disc's radius. Estimated, not measured: passes of 32 bytes for each pixel at 3 TB/s are as long as
 * WORTH operations at a third of an H100's fp32 rate.
 *
 * The library's half spectrum is [ky mod D][kx], kx <= D/2, with the origin in the image's corner: the origin in its middle is a
 * factor (-1)^(kx+ky), as D is even. The Nyquist lines hold no point. A plan is for HET_FOURIER_IMAGES images; of fewer, the rest
 * is computed of what lies there and left. */

enum { WORTH = 400 };

typedef struct cf_calls {
    CF_FUNCTIONS(HET_CALL_MEMBER)
} cf_calls;

struct het_cufft : cf_calls {
    int always;
};

struct het_fft {
    int forward, inverse, has_forward, has_inverse; /* the library's plans */
};

/* ---- the library ---------------------------------------------------------------------------------------------------- */

het_status het_cufft_open(het_cuda *c)
{
#define NAME(result, name, arguments) "cufft" #name,
    static const char *const names[] = {"libcufft.so.12", "libcufft.so.11", NULL};
    static const char *const functions[] = {CF_FUNCTIONS(NAME)};
    static_assert(sizeof(cf_calls) == sizeof functions, "a table of functions");
    const char *wanted = getenv("HET_CUDA_FFT");
    char why[300];
    if (wanted != NULL && strcmp(wanted, "sums") == 0) return HET_OK;
    if (wanted != NULL && strcmp(wanted, "cufft") != 0)
        return c->host->fail(HET_E_USAGE, "HET_CUDA_FFT=%s: it must be sums or cufft", wanted);
    c->cufft = new het_cufft();
    c->cufft->always = wanted != NULL;
    if (het_cuda_library("cuFFT", "HET_CUFFT_LIBRARY", names, functions, CF_FUNCTIONS(HET_CALL_COUNT), (cf_calls *)c->cufft, why,
                         sizeof why))
        return HET_OK;
    het_cufft_close(c);
    if (wanted != NULL) c->host->warn("Fourier points are computed by sums: %s", why);
    return HET_OK;
}

void het_cufft_close(het_cuda *c)
{
    delete c->cufft;
    c->cufft = NULL;
}

void het_cufft_name(const het_cuda *c, char *text, size_t size)
{
    int version = 0;
    text[0] = '\0';
    if (c->cufft != NULL && c->cufft->GetVersion(&version) == CF_SUCCESS)
        snprintf(text, size, "cuFFT %d.%d", version / 1000, version / 100 % 10);
}

/* ---- plans ---------------------------------------------------------------------------------------------------------- */

static int make(const het_cuda *c, int *plan, int type, int box)
{
    int sizes[2] = {box, box};
    if (c->cufft->PlanMany(plan, 2, sizes, NULL, 1, 0, NULL, 1, 0, type, HET_FOURIER_IMAGES) != CF_SUCCESS) return 0;
    if (c->cufft->SetStream(*plan, (void *)c->stream) == CF_SUCCESS) return 1;
    (void)c->cufft->Destroy(*plan);
    return 0;
}

void het_cufft_plan(het_fourier *plan)
{
    const het_cuda *c = plan->cuda;
    if (c->cufft == NULL || c->status != HET_OK) return;
    het_fft *f = plan->fft = new het_fft();
    f->has_forward = make(c, &f->forward, CF_R2C, (int)plan->box);
    f->has_inverse = make(c, &f->inverse, CF_C2R, (int)plan->box);
    if (c->cufft->always && !(f->has_forward && f->has_inverse))
        c->host->warn("Fourier points of box %lld are computed by sums: cuFFT makes no plan", (long long)plan->box);
    (void)cudaGetLastError(); /* what fails here must not be taken for a fault of a kernel */
}

void het_cufft_unplan(het_fourier *plan)
{
    const het_fft *f = plan->fft;
    if (f == NULL) return;
    if (f->has_forward) (void)plan->cuda->cufft->Destroy(f->forward);
    if (f->has_inverse) (void)plan->cuda->cufft->Destroy(f->inverse);
    delete f;
    plan->fft = NULL;
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */

__device__ static inline float middle(int64_t kx, int64_t ky)
{
    return (kx + ky) % 2 == 0 ? 1.0f : -1.0f;
}

__global__ void gather_half(float *points, const float2 *half, const int32_t *kxy, int64_t images, int64_t box, int64_t p)
{
    HET_FOR(i, images * p)
    {
        const int64_t kx = kxy[2 * (i % p)], ky = kxy[2 * (i % p) + 1], width = box / 2 + 1;
        const float2 v = half[(i / p * box + (ky + box) % box) * width + kx];
        const float factor = middle(kx, ky) / (float)box;
        points[2 * i] = factor * v.x;
        points[2 * i + 1] = factor * v.y;
    }
}

/* The column kx = 0 whole, with the conjugates at -ky. */
__global__ void scatter_half(float2 *half, const float *points, const int32_t *kxy, int64_t images, int64_t box, int64_t p)
{
    HET_FOR(i, images * p)
    {
        const int64_t kx = kxy[2 * (i % p)], ky = kxy[2 * (i % p) + 1], width = box / 2 + 1;
        float2 *grid = half + i / p * box * width;
        const float factor = middle(kx, ky);
        const float re = factor * points[2 * i], im = factor * points[2 * i + 1];
        grid[(ky + box) % box * width + kx] = make_float2(re, im);
        if (kx == 0 && ky > 0) grid[(box - ky) * width] = make_float2(re, -im);
    }
}

__global__ void finish_images(float *image, const float *field, const float *window, const float *scale, int64_t images,
                              int64_t box)
{
    const int64_t pixels = box * box;
    HET_FOR(i, images * pixels) image[i] = scale[i / pixels] * window[i % pixels] * field[i] / (float)box;
}

/* Whether a transform was taken; within a capture what is not ends that, as it was taken before. */
static int taken(const het_fourier *plan, int status)
{
    if (status != CF_SUCCESS && plan->cuda->recording == NULL && plan->cuda->cufft->always)
        plan->cuda->host->warn("Fourier points are computed by sums: cuFFT declines a transform (status %d)", status);
    if (status == CF_SUCCESS || plan->cuda->recording == NULL) return status == CF_SUCCESS;
    het_cuda_fault(plan->cuda, "cufftExec", "it cannot be captured", __FILE__, __LINE__);
    return 1;
}

/* `operations`: of the sums, for each pixel. */
static int is_worth(const het_fourier *plan, int64_t operations)
{
    return plan->cuda->status == HET_OK && (plan->cuda->cufft->always || operations > WORTH);
}

int het_cufft_image_to_points(het_fourier *plan, float *points, const float *image, int64_t n, int64_t p)
{
    het_cuda *c = plan->cuda;
    het_fft *f = plan->fft;
    const int64_t box = plan->box, reach = plan->reach[p - 1];
    if (f == NULL || !f->has_forward || !is_worth(plan, 4 * (reach + 1) + 8 * p / box)) return 0;
    float *field = (float *)plan->spectrum;
    if (n < HET_FOURIER_IMAGES) /* there is no more of the images to read */
        HET_CUDA(c, cudaMemcpyAsync(field, image, (size_t)(n * box * box) * sizeof *field, cudaMemcpyDeviceToDevice, c->stream));
    const int status = c->cufft->ExecR2C(f->forward, n < HET_FOURIER_IMAGES ? field : (float *)image, plan->rows);
    f->has_forward = taken(plan, status);
    if (f->has_forward)
        HET_LAUNCH(c, gather_half, het_blocks(n * p), HET_BLOCK, points, plan->rows, plan->kxy, n, box, p);
    return f->has_forward;
}

int het_cufft_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                              const float *scale, int64_t n, int64_t p)
{
    het_cuda *c = plan->cuda;
    het_fft *f = plan->fft;
    const int64_t box = plan->box, reach = plan->reach[p - 1];
    if (f == NULL || !f->has_inverse || !is_worth(plan, 8 * (reach + 1) * (2 * reach + 1) / box + 4 * reach)) return 0;
    float *field = (float *)plan->spectrum;
    HET_CUDA(c, cudaMemsetAsync(plan->rows, 0, (size_t)(n * box * (box / 2 + 1)) * sizeof(float2), c->stream));
    HET_LAUNCH(c, scatter_half, het_blocks(n * p), HET_BLOCK, plan->rows, points, plan->kxy, n, box, p);
    const int status = c->cufft->ExecC2R(f->inverse, plan->rows, field);
    f->has_inverse = taken(plan, status);
    if (f->has_inverse)
        HET_LAUNCH(c, finish_images, het_blocks(n * box * box), HET_BLOCK, image, field, window, scale, n, box);
    return f->has_inverse;
}
