#include "fourier.h"

#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "../../src/arena.h"
#include "clones.h"

static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER; /* FFTW's planner is one for the process */

static int64_t spectrum_width(const het_fourier *plan)
{
    return plan->box / 2 + 1;
}

static int64_t bin_of(const het_fourier *plan, int32_t kx, int32_t ky)
{
    return (ky < 0 ? ky + plan->box : ky) * spectrum_width(plan) + kx;
}

static int allocate(het_fourier *plan)
{
    const size_t points = (size_t)plan->max_points, threads = (size_t)plan->dev->threads;
    const size_t pixels = (size_t)(plan->box * plan->box), bins = (size_t)(plan->box * spectrum_width(plan));
    int32_t **integers[] = {&plan->bin, &plan->mirror, &plan->turn, &plan->kx, &plan->ky};
    float **floats[] = {&plan->factor, &plan->k2, &plan->kc, &plan->ks};
    for (int i = 0; i < 5; i++) {
        *integers[i] = het_alloc(points * sizeof(int32_t));
        if (*integers[i] == NULL) return 0;
    }
    for (int i = 0; i < 4; i++) {
        *floats[i] = het_alloc(points * sizeof(float));
        if (*floats[i] == NULL) return 0;
    }
    plan->real = het_alloc(threads * sizeof *plan->real);
    plan->spectrum = het_alloc(threads * sizeof *plan->spectrum);
    if (plan->real == NULL || plan->spectrum == NULL) return 0;
    for (size_t t = 0; t < threads; t++) {
        plan->real[t] = het_alloc(pixels * sizeof **plan->real);
        plan->spectrum[t] = het_alloc(bins * sizeof **plan->spectrum);
        if (plan->real[t] == NULL || plan->spectrum[t] == NULL) return 0;
    }
    return 1;
}

/* FFTW_ESTIMATE chooses without timing: the same plan, and so the same rounding, in every run. */
static void make_plans(het_fourier *plan)
{
    const int box = (int)plan->box;
    pthread_mutex_lock(&planner);
    plan->forward = fftwf_plan_dft_r2c_2d(box, box, plan->real[0], plan->spectrum[0], FFTW_ESTIMATE);
    plan->inverse = fftwf_plan_dft_c2r_2d(box, box, plan->spectrum[0], plan->real[0], FFTW_ESTIMATE);
    pthread_mutex_unlock(&planner);
}

/* The point of any k, or ~(point of -k), whose conjugate the value at k is. */
static int32_t locate(const het_fourier *plan, const int32_t *point_at, int32_t kx, int32_t ky, int *missing)
{
    const int other = kx < 0 || (kx == 0 && ky < 0);
    const int32_t point = point_at[other ? bin_of(plan, -kx, -ky) : bin_of(plan, kx, ky)];
    *missing |= point < 0;
    return other ? ~point : point;
}

/* Fill the tables; `point_at` (box, box/2+1) is scratch, filled with -1. */
static het_status index_points(het_fourier *plan, const int32_t *kxy, int32_t *point_at)
{
    const int32_t half = (int32_t)(plan->box / 2 - 1);
    for (int64_t p = 0; p < plan->max_points; p++) {
        const int32_t kx = kxy[2 * p], ky = kxy[2 * p + 1];
        if (kx < 0 || kx > half || ky < -half || ky > half || (kx == 0 && ky < 0))
            return het_fail(HET_E_SHAPE, "Fourier point %lld (%d,%d) is outside the half-plane of box %lld",
                            (long long)p, kx, ky, (long long)plan->box);
        const int64_t bin = bin_of(plan, kx, ky);
        if (point_at[bin] >= 0) return het_fail(HET_E_SHAPE, "Fourier point (%d,%d) is listed twice", kx, ky);
        point_at[bin] = (int32_t)p;
        plan->bin[p] = (int32_t)bin;
        plan->factor[p] = ((kx + ky) % 2 == 0 ? 1.0f : -1.0f) / (float)plan->box;
        plan->kx[p] = kx;
        plan->ky[p] = ky;
        plan->k2[p] = (float)(kx * kx + ky * ky);
        plan->kc[p] = (float)(kx * kx - ky * ky);
        plan->ks[p] = (float)(2 * kx * ky);
    }
    for (int64_t p = 0; p < plan->max_points; p++) {
        const int32_t kx = plan->kx[p], ky = plan->ky[p];
        int missing = 0;
        plan->mirror[p] = locate(plan, point_at, -kx, ky, &missing);
        plan->turn[p] = locate(plan, point_at, ky, -kx, &missing);
        if (missing)
            return het_fail(HET_E_SHAPE, "Fourier point (%d,%d) is listed without (%d,%d) and (%d,%d)", kx, ky,
                            -kx, ky, ky, -kx);
    }
    return HET_OK;
}

het_status het_cpu_fourier_new(het_device *dev, het_fourier **plan_out, int64_t box, int64_t max_points,
                               const int32_t *kxy_host)
{
    het_status status = HET_OK;
    int32_t *point_at = NULL;
    *plan_out = NULL;
    if (box < 4 || box > 4096 || box % 2 != 0)
        return het_fail(HET_E_SHAPE, "box %lld: it must be even and between 4 and 4096", (long long)box);
    if (max_points < 1 || max_points > box * box / 2)
        return het_fail(HET_E_SHAPE, "%lld Fourier points do not fit box %lld", (long long)max_points,
                        (long long)box);
    het_fourier *plan = het_alloc(sizeof *plan);
    if (plan == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the Fourier plan of box %lld", (long long)box);
    plan->dev = dev;
    plan->box = box;
    plan->max_points = max_points;
    const size_t bins = (size_t)(box * spectrum_width(plan));
    point_at = het_alloc(bins * sizeof *point_at);
    if (!allocate(plan) || point_at == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for the Fourier plan of box %lld", (long long)box);
        goto done;
    }
    memset(point_at, 0xff, bins * sizeof *point_at);
    HET_TRY(index_points(plan, kxy_host, point_at));
    make_plans(plan);
    if (plan->forward == NULL || plan->inverse == NULL)
        status = het_fail(HET_E_DEVICE, "FFTW has no plan for box %lld", (long long)box);
done:
    het_release(point_at);
    if (status == HET_OK) *plan_out = plan;
    else het_cpu_fourier_free(plan);
    return status;
}

void het_cpu_fourier_free(het_fourier *plan)
{
    if (plan == NULL) return;
    pthread_mutex_lock(&planner);
    if (plan->forward != NULL) fftwf_destroy_plan(plan->forward);
    if (plan->inverse != NULL) fftwf_destroy_plan(plan->inverse);
    pthread_mutex_unlock(&planner);
    for (int t = 0; t < plan->dev->threads; t++) {
        if (plan->real != NULL) het_release(plan->real[t]);
        if (plan->spectrum != NULL) het_release(plan->spectrum[t]);
    }
    void *pieces[] = {plan->real, plan->spectrum, plan->bin, plan->mirror, plan->turn, plan->kx,
                      plan->ky,   plan->factor,   plan->k2,  plan->kc,     plan->ks};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_release(pieces[i]);
    het_release(plan);
}

static void gather(const het_fourier *plan, float *points, const fftwf_complex *spectrum, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        points[2 * i] = plan->factor[i] * spectrum[plan->bin[i]][0];
        points[2 * i + 1] = plan->factor[i] * spectrum[plan->bin[i]][1];
    }
}

/* The half spectrum stores the whole column kx = 0, so its points are written twice: also at (0,-ky). */
static void scatter(const het_fourier *plan, fftwf_complex *spectrum, const float *points, int64_t p)
{
    memset(spectrum, 0, (size_t)(plan->box * spectrum_width(plan)) * sizeof *spectrum);
    for (int64_t i = 0; i < p; i++) {
        const float re = plan->factor[i] * points[2 * i], im = plan->factor[i] * points[2 * i + 1];
        spectrum[plan->bin[i]][0] = re;
        spectrum[plan->bin[i]][1] = im;
        if (plan->kx[i] == 0 && plan->ky[i] > 0) {
            const int64_t other = bin_of(plan, 0, -plan->ky[i]);
            spectrum[other][0] = re;
            spectrum[other][1] = -im;
        }
    }
}

void het_cpu_image_to_points(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    const int64_t pixels = plan->box * plan->box;
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        const int thread = omp_get_thread_num();
        memcpy(plan->real[thread], image + i * pixels, (size_t)pixels * sizeof *image);
        fftwf_execute_dft_r2c(plan->forward, plan->real[thread], plan->spectrum[thread]);
        gather(plan, points + 2 * i * p, (const fftwf_complex *)plan->spectrum[thread], p);
    }
}

HET_CLONES static void window_image(float *restrict image, const float *restrict inverse,
                                    const float *restrict window, float scale, int64_t pixels)
{
    for (int64_t j = 0; j < pixels; j++) image[j] = scale * window[j] * inverse[j];
}

void het_cpu_points_to_image(het_fourier *plan, float *image, const float *points, const float *window,
                             const float *scale, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    const int64_t pixels = plan->box * plan->box;
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        const int thread = omp_get_thread_num();
        scatter(plan, plan->spectrum[thread], points + 2 * i * p, p);
        fftwf_execute_dft_c2r(plan->inverse, plan->spectrum[thread], plan->real[thread]);
        window_image(image + i * pixels, plan->real[thread], window, scale[i], pixels);
    }
}

/* to[i] = from[index[i]], its conjugate where the index says so, or (flip) where it does not; NULL: i. */
static void take_row(float *to, const float *from, const int32_t *index, int flip, int64_t p)
{
    for (int64_t i = 0; i < p; i++) {
        const int64_t at = index == NULL ? i : index[i];
        const float *x = from + 2 * (at < 0 ? ~at : at);
        to[2 * i] = x[0];
        to[2 * i + 1] = (at < 0) != flip ? -x[1] : x[1];
    }
}

void het_cpu_mirror_pairs(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    HET_ASSERT(p == plan->max_points || plan->k2[p] != plan->k2[p - 1]);
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++) {
        memcpy(both + 4 * i * p, points + 2 * i * p, (size_t)(2 * p) * sizeof *points);
        take_row(both + 4 * i * p + 2 * p, points + 2 * i * p, plan->mirror, 0, p);
    }
}

/* Two quarters are k -> -k, the conjugate. */
void het_cpu_turn_points(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters, int64_t b,
                         int64_t p)
{
    HET_ASSERT(p <= plan->max_points);
    HET_ASSERT(p == plan->max_points || plan->k2[p] != plan->k2[p - 1]);
#pragma omp parallel for schedule(static) num_threads(plan->dev->threads)
    for (int64_t i = 0; i < b; i++)
        take_row(turned + 2 * i * p, points + 2 * i * p, quarters[i] % 2 == 1 ? plan->turn : NULL,
                 quarters[i] >= 2, p);
}
