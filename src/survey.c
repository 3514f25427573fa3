#include "survey.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "mpi/fold.h"
#include "physics/noise.h"
#include "physics/points.h"

enum { SURVEYED = 2048, BLOCK = 64 };
static const double SNR_FLOOR = 0.002, LEAST_AMPLITUDE = 0.02;

/* Buffers of one survey; device pointers are marked. */
typedef struct work {
    het_points points;
    het_fourier *plan;
    float *host, *image, *transform, *ctf, *copy; /* host; device; device; device; host, of the last two */
    het_ctf_row *rows;                            /* device */
    int64_t index[BLOCK];
    het_ctf_row host_rows[BLOCK];
    double *sums; /* (3 shells): power, points, C^2; and after them the noise tally; added over ranks */
    het_noise_tally *tally;
    het_fold fold;
} work;

het_status het_survey_new(het_survey *survey, int64_t box)
{
    *survey = (het_survey){.shells = box / 2, .snr = 1.0};
    survey->power = het_alloc((size_t)survey->shells * sizeof *survey->power);
    survey->envelope = het_alloc((size_t)survey->shells * sizeof *survey->envelope);
    if (survey->power == NULL || survey->envelope == NULL) {
        het_survey_free(survey);
        return het_fail(HET_E_MEMORY, "no memory for the survey of the stack");
    }
    return HET_OK;
}

void het_survey_free(het_survey *survey)
{
    het_release(survey->power);
    het_release(survey->envelope);
    *survey = (het_survey){0};
}

static size_t sums_of(int64_t box)
{
    return (size_t)(3 * (box / 2) + HET_NOISE_TALLY_DOUBLES);
}

static het_status work_new(work *w, const het_comm *comm, het_device *dev, int64_t box)
{
    het_status status = HET_OK;
    HET_TRY(het_points_new(&w->points, box));
    HET_TRY(dev->ops->fourier_new(dev, &w->plan, box, w->points.count, w->points.kxy));
    const size_t pixels = (size_t)(BLOCK * box * box) * sizeof(float);
    const size_t points = (size_t)(BLOCK * w->points.count * 2) * sizeof(float);
    w->host = het_alloc(pixels);
    w->image = dev->ops->alloc(dev, pixels);
    w->transform = dev->ops->alloc(dev, points);
    w->ctf = dev->ops->alloc(dev, points / 2);
    w->copy = het_alloc(points);
    w->rows = dev->ops->alloc(dev, BLOCK * sizeof *w->rows);
    w->sums = het_alloc(sums_of(box) * sizeof *w->sums);
    if (w->host == NULL || w->image == NULL || w->transform == NULL || w->ctf == NULL || w->copy == NULL ||
        w->rows == NULL || w->sums == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the survey of the stack"));
    w->tally = (het_noise_tally *)(w->sums + 3 * (box / 2));
    status = het_fold_open(&w->fold, comm, sums_of(box), sizeof *w->sums);
done:
    return status;
}

static void work_free(work *w, het_device *dev)
{
    if (w->plan != NULL) dev->ops->fourier_free(w->plan);
    void *on_device[] = {w->image, w->transform, w->ctf, w->rows};
    for (int i = 0; i < 4; i++)
        if (on_device[i] != NULL) dev->ops->release(dev, on_device[i]);
    het_release(w->host);
    het_release(w->copy);
    het_release(w->sums);
    het_fold_close(&w->fold);
    het_points_free(&w->points);
}

static het_status add_block(work *w, het_device *dev, const het_stack *stack, int64_t n)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const int64_t d = info->box, p = w->points.count, shells = d / 2;
    HET_TRY(het_stack_read_standardised(stack, w->host, w->index, n));
    het_noise_tally_add(w->tally, w->host, n, d);
    dev->ops->upload(dev, w->image, w->host, (size_t)(n * d * d) * sizeof *w->host);
    dev->ops->image_to_points(w->plan, w->transform, w->image, n, p);
    dev->ops->download(dev, w->copy, w->transform, (size_t)(n * p * 2) * sizeof *w->copy);
    het_noise_power_add(w->sums, w->sums + shells, w->copy, w->points.kxy, p, n, d);
    HET_TRY(het_stack_read_ctf(stack, w->host_rows, w->index, n));
    dev->ops->upload(dev, w->rows, w->host_rows, (size_t)n * sizeof *w->rows);
    dev->ops->ctf(w->plan, w->ctf, w->rows, NULL, NULL, (float)info->apix, n, p);
    dev->ops->download(dev, w->copy, w->ctf, (size_t)(n * p) * sizeof *w->copy);
    for (int64_t i = 0; i < n * p; i++) {
        const int32_t *k = w->points.kxy + 2 * (i % p);
        const int64_t shell = (int64_t)(hypot(k[0], k[1]) + 0.5);
        if (shell < shells) w->sums[2 * shells + shell] += (double)w->copy[i] * w->copy[i];
    }
done:
    return status;
}

/* The sums of this rank's part-th part of the `images` looked at. */
static het_status add_part(work *w, const het_comm *comm, het_device *dev, const het_stack *stack, int64_t part, int64_t images)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t first, count;
    het_comm_part(comm, part, images, &first, &count);
    memset(w->sums, 0, sums_of(info->box) * sizeof *w->sums);
    for (int64_t i = first; i < first + count; i += BLOCK) {
        const int64_t n = first + count - i < BLOCK ? first + count - i : BLOCK;
        for (int64_t j = 0; j < n; j++) w->index[j] = (i + j) * info->count / images;
        HET_TRY(add_block(w, dev, stack, n));
    }
    het_fold_add(&w->fold, w->sums);
done:
    return status;
}

static void conclude(het_survey *survey, const work *w, const het_config *config, int64_t images, int64_t box)
{
    const int64_t shells = survey->shells;
    const double *power = w->sums, *count = w->sums + shells;
    double *ctf2 = w->sums + 2 * shells;
    survey->noise_variance = het_noise_variance(w->tally);
    survey->snr = het_noise_snr(w->tally, SNR_FLOOR, &survey->floored);
    if (config->train.snr > 0.0) survey->snr = config->train.snr;
    for (int64_t r = 0; r < shells; r++) {
        survey->power[r] = (r == 0 ? 1.0 : 2.0) * power[r] / ((double)images * (double)(box * box));
        if (count[r] > 0.0) ctf2[r] /= count[r];
    }
    het_noise_envelope(survey->envelope, power, count, ctf2, survey->noise_variance, LEAST_AMPLITUDE, shells);
}

het_status het_survey_take(het_survey *survey, het_comm *comm, het_device *dev, const het_stack *stack,
                           const het_config *config)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const int64_t images = info->count < SURVEYED ? info->count : SURVEYED;
    work w = {0};
    status = work_new(&w, comm, dev, info->box);
    for (int64_t part = 0; part < het_comm_parts(comm) && status == HET_OK; part++)
        status = add_part(&w, comm, dev, stack, part, images);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_sum_f64(comm, (double *)w.tally, HET_NOISE_TALLY_DOUBLES));
    HET_TRY(het_comm_sum_f64(comm, w.sums, (size_t)(3 * survey->shells)));
    conclude(survey, &w, config, images, info->box);
done:
    work_free(&w, dev);
    return status;
}
