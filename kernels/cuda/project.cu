/* Projection of slices and its loss: model = ctf slice exp(-2 pi i (kx tx + ky ty)/D). Sums are double. */
#include "fourier.h"
#include "members.h"

/* ctf times the shift's phase */
__device__ static inline float2 factor_of(const int32_t *k, const float *shift, float ctf, int64_t box)
{
    const double turns = -((double)k[0] * shift[0] + (double)k[1] * shift[1]) / (double)box;
    float sine, cosine;
    sincospif(2.0f * (float)(turns - rint(turns)), &sine, &cosine);
    return make_float2(ctf * cosine, ctf * sine);
}

__global__ void project_points(float *model, const float *slice, const float *ctf, const float *shift,
                               const int32_t *kxy, int64_t box, int64_t b, int64_t p)
{
    HET_FOR(i, b * p)
    {
        const float2 f = factor_of(kxy + 2 * (i % p), shift + 2 * (i / p), ctf[i], box);
        const float re = slice[2 * i], im = slice[2 * i + 1];
        model[2 * i] = f.x * re - f.y * im;
        model[2 * i + 1] = f.x * im + f.y * re;
    }
}

/* Grid (images). With f = C exp(-i phi), m = f s and weight w: d loss/ds = 2 w/D^2 conj(f) (m - target), and because
 * dm/dtx = -i (2 pi kx/D) m,  d loss/dtx = -(4 pi/D^3) sum w kx Im(conj(target) m). */
__global__ void loss_points(float *loss, float *dslice, float *dshift, const float *slice, const float *ctf,
                            const float *shift, const float *target, const int32_t *kxy, int64_t box, int64_t p)
{
    const int64_t image = blockIdx.x;
    const double pixels = (double)box * (double)box;
    double sums[3] = {0.0, 0.0, 0.0};
    for (int64_t j = threadIdx.x; j < p; j += blockDim.x) {
        const int64_t i = image * p + j;
        const int32_t kx = kxy[2 * j], ky = kxy[2 * j + 1];
        const float2 f = factor_of(kxy + 2 * j, shift + 2 * image, ctf[i], box);
        const float re = slice[2 * i], im = slice[2 * i + 1], to_re = target[2 * i], to_im = target[2 * i + 1];
        const float model_re = f.x * re - f.y * im, model_im = f.x * im + f.y * re;
        const float d_re = model_re - to_re, d_im = model_im - to_im;
        const double weight = kx == 0 && ky == 0 ? 1.0 : 2.0, across = (double)to_re * model_im - (double)to_im * model_re;
        const float gain = (float)(2.0 * weight / pixels);
        sums[0] += weight * ((double)d_re * d_re + (double)d_im * d_im);
        sums[1] += weight * across * kx;
        sums[2] += weight * across * ky;
        dslice[2 * i] = gain * (f.x * d_re + f.y * d_im);
        dslice[2 * i + 1] = gain * (f.x * d_im - f.y * d_re);
    }
    het_block_sums(sums, 3);
    if (threadIdx.x != 0) return;
    const double per_pixel = -4.0 * 3.14159265358979323846 / (pixels * (double)box);
    loss[image] = (float)(sums[0] / pixels);
    dshift[2 * image] = (float)(per_pixel * sums[1]);
    dshift[2 * image + 1] = (float)(per_pixel * sums[2]);
}

/* parts (groups, PARTS): sums of weighted squares; grid (PARTS, groups) */
__global__ void power_parts(double *parts, const float *points, const int32_t *kxy, int64_t images, int64_t p)
{
    const int64_t part = blockIdx.x, group = blockIdx.y, n = images * p;
    const float *from = points + 2 * group * n;
    double sum = 0.0;
    for (int64_t i = n * part / HET_FOURIER_PARTS + threadIdx.x; i < n * (part + 1) / HET_FOURIER_PARTS; i += blockDim.x) {
        const int32_t *k = kxy + 2 * (i % p);
        const double weight = k[0] == 0 && k[1] == 0 ? 1.0 : 2.0;
        sum += weight * ((double)from[2 * i] * from[2 * i] + (double)from[2 * i + 1] * from[2 * i + 1]);
    }
    het_block_sums(&sum, 1);
    if (threadIdx.x == 0) parts[group * HET_FOURIER_PARTS + part] = sum;
}

__global__ void join_power(float *power, const double *parts, double pixels, int64_t groups)
{
    HET_FOR(g, groups)
    {
        double sum = 0.0;
        for (int64_t i = 0; i < HET_FOURIER_PARTS; i++) sum += parts[g * HET_FOURIER_PARTS + i];
        power[g] = (float)(sum / pixels);
    }
}

void het_cuda_project(het_fourier *plan, float *model, const float *slice, const float *ctf, const float *shift,
                      int64_t b, int64_t p)
{
    HET_LAUNCH(plan->cuda, project_points, het_blocks(b * p), HET_BLOCK, model, slice, ctf, shift, plan->kxy, plan->box, b, p);
}

void het_cuda_project_loss(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                           const float *ctf, const float *shift, const float *target, int64_t b, int64_t p)
{
    HET_LAUNCH_MEET(plan->cuda, loss_points, (unsigned)b, HET_BLOCK, loss, dslice, dshift, slice, ctf, shift, target,
                    plan->kxy, plan->box, p);
}

void het_cuda_points_power(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p, int64_t groups)
{
    const int64_t images = b / groups;
    const double pixels = (double)images * (double)(plan->box * plan->box);
    for (int64_t first = 0; first < groups; first += HET_FOURIER_GROUPS) {
        const int64_t n = het_least(groups - first, HET_FOURIER_GROUPS);
        HET_LAUNCH_MEET(plan->cuda, power_parts, dim3(HET_FOURIER_PARTS, (unsigned)n), HET_BLOCK, plan->parts,
                        points + 2 * first * images * p, plan->kxy, images, p);
        HET_LAUNCH(plan->cuda, join_power, het_blocks(n), HET_BLOCK, power + first, plan->parts, pixels, n);
    }
}
