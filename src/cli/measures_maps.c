/* Measures of maps: FSC with the true map of the class, in three frames and image by image. */
#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../log.h"
#include "../physics/fsc.h"
#include "../physics/stats.h"
#include "../rng.h"
#include "measures.h"

enum { SEED = 1 };

static double *curve_of(const het_measures *m, int64_t k, het_fsc_kind kind)
{
    return m->fsc + (k * HET_FSC_KINDS + kind) * (m->box / 2);
}

static double in_pixels(const double *curve, int64_t box, double threshold)
{
    return (double)box / het_fsc_shell(curve, box, threshold, NULL);
}

static double area_under(const double *curve, int64_t box)
{
    const int64_t last = box / 2 - 1;
    double sum = 0.5 * (1.0 + curve[last]);
    for (int64_t s = 1; s < last; s++) sum += curve[s];
    return sum / (double)box;
}

static het_pose3 common_frame(const het_measures *m)
{
    het_pose3 pose = {.hand = m->align.hand};
    memcpy(pose.a, m->align.refined, sizeof pose.a);
    memcpy(pose.u, m->origin.u, sizeof pose.u);
    return pose;
}

/* curve (box/2) = FSC of the true map and the map placed by `pose`. */
static het_status placed_fsc(double *curve, const het_volume *map, const het_pose3 *pose,
                             const het_volume *truth)
{
    het_status status = HET_OK;
    het_volume placed = {0};
    HET_TRY(het_volume_new(&placed, map->box, map->apix));
    HET_TRY(het_place_volume(&placed, map, pose));
    HET_TRY(het_fsc(curve, &placed, truth, NULL));
done:
    het_volume_free(&placed);
    return status;
}

het_status het_measures_of_map(het_measures *m, int64_t k, const het_volume *predicted,
                               const het_volume *truth)
{
    het_status status = HET_OK;
    het_class_measures *c = &m->klass[k];
    const het_pose3 common = common_frame(m);
    het_pose3 fitted = c->own;
    double *curve = curve_of(m, k, HET_FSC_COMMON), low = 0.0;
    HET_TRY(placed_fsc(curve, predicted, &common, truth));
    c->res = in_pixels(curve, m->box, 0.5);
    c->res143 = in_pixels(curve, m->box, 0.143);
    for (int64_t s = 1; s <= 4 && s < m->box / 2; s++) low += curve[s];
    if (low < -1.0)
        het_warn("the map of class %lld agrees with the true one only when negated: the run's contrast is "
                 "inverted",
                 (long long)k);
    curve = curve_of(m, k, HET_FSC_OWN);
    HET_TRY(placed_fsc(curve, predicted, &c->own, truth));
    c->res_own = in_pixels(curve, m->box, 0.5);
    curve = curve_of(m, k, HET_FSC_FITTED);
    HET_TRY(het_place_refine(&fitted, predicted, truth));
    HET_TRY(placed_fsc(curve, predicted, &fitted, truth));
    c->res_fitted = in_pixels(curve, m->box, 0.5);
done:
    return status;
}

het_status het_measures_draw_images(het_measures *m, const het_truth *t, int64_t each)
{
    int64_t total = 0, *list = het_alloc((size_t)m->images * sizeof *list);
    for (int64_t k = 0; k < m->classes; k++) total += m->klass[k].images < each ? m->klass[k].images : each;
    m->sample = het_alloc((size_t)total * sizeof *m->sample);
    if (list == NULL || m->sample == NULL) {
        het_release(list);
        return het_fail(HET_E_MEMORY, "no memory to draw %lld images", (long long)total);
    }
    for (int64_t k = 0; k < m->classes; k++) {
        const int64_t n = m->klass[k].images, take = n < each ? n : each;
        het_rng rng = het_rng_at(SEED, HET_STREAM_SEARCH, 1, (uint64_t)k);
        int64_t at = 0;
        for (int64_t i = 0; i < m->images; i++)
            if (t->klass[i] == k) list[at++] = i;
        het_rng_choose(&rng, list, n, take);
        for (int64_t i = 0; i < take; i++)
            m->sample[m->sampled++] = (het_image_fsc){.image = list[i], .klass = k};
    }
    het_release(list);
    return HET_OK;
}

het_status het_measures_of_image_map(het_measures *m, int64_t i, const het_volume *predicted,
                                     const het_volume *truth)
{
    het_status status = HET_OK;
    het_image_fsc *sample = &m->sample[i];
    const het_pose3 common = common_frame(m);
    double *sum = curve_of(m, sample->klass, HET_FSC_IMAGES);
    double *curve = het_alloc((size_t)(m->box / 2) * sizeof *curve);
    if (curve == NULL) return het_fail(HET_E_MEMORY, "no memory for an FSC curve");
    HET_TRY(placed_fsc(curve, predicted, &common, truth));
    sample->area = area_under(curve, m->box);
    sample->res = in_pixels(curve, m->box, 0.5);
    for (int64_t s = 0; s < m->box / 2; s++) sum[s] = (isnan(sum[s]) ? 0.0 : sum[s]) + curve[s];
done:
    het_release(curve);
    return status;
}

/* Numbers of class k, or of all (k = -1), from the samples; scratch (2 sampled). */
static void sum_up(het_measures *m, int64_t k, double *scratch)
{
    double *area = scratch, *res = scratch + m->sampled;
    int64_t n = 0;
    for (int64_t i = 0; i < m->sampled; i++) {
        if (k >= 0 && m->sample[i].klass != k) continue;
        area[n] = m->sample[i].area;
        res[n++] = m->sample[i].res;
    }
    if (n == 0) return;
    if (k < 0) {
        m->area_mean = het_mean_std(area, n, NULL);
        m->area_median = het_median(area, n);
        m->image_res_mean = het_mean_std(res, n, NULL);
        m->image_res_median = het_median(res, n);
    } else {
        m->klass[k].area = het_mean_std(area, n, NULL);
        m->klass[k].image_res = het_median(res, n);
        for (int64_t s = 0; s < m->box / 2; s++) curve_of(m, k, HET_FSC_IMAGES)[s] /= (double)n;
    }
}

het_status het_measures_sum_up_images(het_measures *m)
{
    double *scratch = het_alloc((size_t)(2 * m->sampled) * sizeof *scratch);
    if (scratch == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)m->sampled);
    for (int64_t k = -1; k < m->classes; k++) sum_up(m, k, scratch);
    het_release(scratch);
    return HET_OK;
}
