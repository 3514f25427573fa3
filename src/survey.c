#include "survey.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "mpi/fold.h"
#include "observe.h"
#include "physics/noise.h"

enum { SURVEYED = 2048 };
static const double SNR_FLOOR = 0.002, LEAST_AMPLITUDE = 0.02;

/* Buffers of one survey. */
typedef struct work {
    het_points points;
    het_observer observer;
    float *images, *transform, *ctf; /* of a block */
    double *sums;                    /* (3 shells): power, points, C^2; and after them the noise tally; added over ranks */
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

static het_status work_new(work *w, const het_comm *comm, het_device *dev, const het_stack_info *info)
{
    het_status status = HET_OK;
    const int64_t box = info->box;
    HET_TRY(het_points_new(&w->points, box));
    HET_TRY(het_observer_new(&w->observer, dev, &w->points, info->apix, &info->whitening, (double)(box / 2 - 1)));
    const size_t each = (size_t)(HET_OBSERVED * w->points.count) * sizeof(float);
    w->images = het_alloc((size_t)(HET_OBSERVED * box * box) * sizeof *w->images);
    w->transform = het_alloc(2 * each);
    w->ctf = het_alloc(each);
    w->sums = het_alloc(sums_of(box) * sizeof *w->sums);
    if (w->images == NULL || w->transform == NULL || w->ctf == NULL || w->sums == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the survey of the stack"));
    w->tally = (het_noise_tally *)(w->sums + 3 * (box / 2));
    status = het_fold_open(&w->fold, comm, sums_of(box), sizeof *w->sums);
done:
    return status;
}

static void work_free(work *w)
{
    het_observer_free(&w->observer);
    het_release(w->images);
    het_release(w->transform);
    het_release(w->ctf);
    het_release(w->sums);
    het_fold_close(&w->fold);
    het_points_free(&w->points);
}

static het_status add_block(work *w, const het_stack *stack, const int64_t *index, int64_t n)
{
    het_status status = HET_OK;
    const int64_t d = w->points.box, p = w->points.count, shells = d / 2;
    HET_TRY(het_observe_stack(&w->observer, w->transform, w->ctf, w->images, stack, index, n));
    het_noise_tally_add(w->tally, w->images, n, d);
    het_noise_power_add(w->sums, w->sums + shells, w->transform, w->points.kxy, p, n, d);
    for (int64_t i = 0; i < n * p; i++) {
        const int32_t *k = w->points.kxy + 2 * (i % p);
        const int64_t shell = (int64_t)(hypot(k[0], k[1]) + 0.5);
        if (shell < shells) w->sums[2 * shells + shell] += (double)w->ctf[i] * w->ctf[i];
    }
done:
    return status;
}

/* The sums of this rank's part-th part of the `images` looked at. */
static het_status add_part(work *w, const het_comm *comm, const het_stack *stack, int64_t part, int64_t images)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t first, count, index[HET_OBSERVED];
    het_comm_part(comm, part, images, &first, &count);
    memset(w->sums, 0, sums_of(info->box) * sizeof *w->sums);
    for (int64_t i = first; i < first + count; i += HET_OBSERVED) {
        const int64_t n = first + count - i < HET_OBSERVED ? first + count - i : HET_OBSERVED;
        for (int64_t j = 0; j < n; j++) index[j] = (i + j) * info->count / images;
        HET_TRY(add_block(w, stack, index, n));
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
    status = work_new(&w, comm, dev, info);
    for (int64_t part = 0; part < het_comm_parts(comm) && status == HET_OK; part++)
        status = add_part(&w, comm, stack, part, images);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_comm_sum_f64(comm, (double *)w.tally, HET_NOISE_TALLY_DOUBLES));
    HET_TRY(het_comm_sum_f64(comm, w.sums, (size_t)(3 * survey->shells)));
    conclude(survey, &w, config, images, info->box);
done:
    work_free(&w);
    return status;
}
