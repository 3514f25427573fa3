#include "measures.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../log.h"
#include "../physics/fsc.h"
#include "../physics/latent.h"
#include "../physics/place.h"
#include "../physics/stats.h"

enum { MOST_CLASSES = 1000, NEIGHBOURS = 10, SEED = 1 };

void het_truth_free(het_truth *truth)
{
    het_release(truth->rotation);
    het_release(truth->shift);
    het_release(truth->klass);
    *truth = (het_truth){0};
}

static int has_unit_rows(const float *r)
{
    for (int i = 0; i < 3; i++) {
        double sum = 0.0;
        for (int k = 0; k < 3; k++) sum += (double)r[3 * i + k] * (double)r[3 * i + k];
        if (!(fabs(sum - 1.0) < 1e-3)) return 0;
    }
    return 1;
}

het_status het_truth_load(het_truth *truth, const het_stack *stack, const char *path)
{
    het_status status = HET_OK;
    const int64_t n = het_stack_get_info(stack)->count;
    *truth = (het_truth){.classes = 1};
    if (!het_stack_get_info(stack)->has_truth)
        return het_fail(HET_E_INPUT,
                        "%s holds no truth: only stacks of `hetacumn simulate` and of `hetacumn import "
                        "--poses` do",
                        path);
    truth->rotation = het_alloc((size_t)(9 * n) * sizeof(float));
    truth->shift = het_alloc((size_t)(2 * n) * sizeof(float));
    truth->klass = het_alloc((size_t)n * sizeof(int64_t));
    if (truth->rotation == NULL || truth->shift == NULL || truth->klass == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the truth of %lld images", (long long)n));
    HET_TRY(het_stack_read_truth(stack, 0, n,
                                 &(het_stack_truth){truth->rotation, truth->shift, truth->klass, NULL}));
    int64_t known = 0; /* poses from a STAR file come without classes: one for all */
    for (int64_t i = 0; i < n; i++) known += truth->klass[i] != -1;
    for (int64_t i = 0; i < n && known == 0; i++) truth->klass[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!has_unit_rows(truth->rotation + 9 * i))
            HET_TRY(het_fail(HET_E_INPUT, "%s: the true rotation of image %lld is none", path, (long long)i));
        if (!isfinite(truth->shift[2 * i]) || !isfinite(truth->shift[2 * i + 1]))
            HET_TRY(
                het_fail(HET_E_INPUT, "%s: the true shift of image %lld is not finite", path, (long long)i));
        if (truth->klass[i] < 0 || truth->klass[i] >= MOST_CLASSES)
            HET_TRY(het_fail(HET_E_INPUT, "%s: the true class of image %lld is %lld: 0..%d are possible",
                             path, (long long)i, (long long)truth->klass[i], MOST_CLASSES - 1));
        if (truth->klass[i] >= truth->classes) truth->classes = truth->klass[i] + 1;
    }
done:
    if (status != HET_OK) het_truth_free(truth);
    return status;
}

void het_measures_free(het_measures *m)
{
    het_release(m->klass);
    het_release(m->z_star);
    *m = (het_measures){0};
}

/* Rows of the images of one class, packed; returns their number. */
static int64_t pack(float *to, const float *from, const int64_t *klass, int64_t k, int64_t count,
                    int64_t columns)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (klass[i] == k) memcpy(to + columns * n++, from + columns * i, (size_t)columns * sizeof *to);
    return n;
}

/* Poses of one class; scratch (18 count). d (count): distances with the global A. */
static het_status class_poses(het_class_measures *c, int64_t k, const het_predictions *p, const het_truth *t,
                              const double *d, float *scratch, double *values)
{
    het_status status = HET_OK;
    het_align own;
    het_origin origin;
    float *predicted = scratch, *truth = scratch + 9 * p->count;
    int64_t n = 0;
    for (int64_t i = 0; i < p->count; i++)
        if (t->klass[i] == k) values[n++] = d[i];
    c->images = n;
    if (n == 0) goto done;
    c->rot = het_median(values, n);
    pack(predicted, p->rotation, t->klass, k, p->count, 9);
    pack(truth, t->rotation, t->klass, k, p->count, 9);
    HET_TRY(het_align_rotations(&own, NULL, predicted, truth, n, HET_ALIGN_ANCHORS, SEED));
    c->rot_aligned = own.median;
    /* the raw shifts need no rotation: P R u of the unused correction may come from any */
    float *shift = predicted, *true_shift = predicted + 2 * n;
    pack(shift, p->shift, t->klass, k, p->count, 2);
    pack(true_shift, t->shift, t->klass, k, p->count, 2);
    HET_TRY(het_align_shifts(&origin, shift, true_shift, truth, n));
    c->trans_raw = origin.raw;
done:
    return status;
}

static het_status poses(het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    double *d = het_alloc((size_t)(2 * p->count) * sizeof *d);
    float *scratch = het_alloc((size_t)(18 * p->count) * sizeof *scratch);
    if (d == NULL || scratch == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to compare %lld poses", (long long)p->count));
    HET_TRY(het_align_rotations(&m->align, d, p->rotation, t->rotation, p->count, HET_ALIGN_ANCHORS, SEED));
    HET_TRY(het_align_shifts(&m->origin, p->shift, t->shift, t->rotation, p->count));
    m->e_pose = m->align.median + m->origin.raw / ((double)m->box * (double)m->box);
    for (int64_t k = 0; k < m->classes; k++)
        HET_TRY(class_poses(&m->klass[k], k, p, t, d, scratch, d + p->count));
done:
    het_release(d);
    het_release(scratch);
    return status;
}

/* Err of two classes, in all and of each. */
static het_status two_classes(het_measures *m, const double *pc1, const het_truth *t)
{
    het_status status = HET_OK;
    double threshold;
    het_split best;
    HET_TRY(het_latent_threshold(&threshold, pc1, m->images));
    HET_TRY(het_latent_best_split(&best, pc1, t->klass, m->images));
    const het_split split = het_latent_split(pc1, t->klass, m->images, threshold);
    int64_t wrong[2] = {0};
    for (int64_t i = 0; i < m->images; i++) {
        const int64_t found = pc1[i] > threshold ? split.above : 1 - split.above;
        wrong[t->klass[i]] += found != t->klass[i];
    }
    for (int k = 0; k < 2; k++)
        if (m->klass[k].images > 0) m->klass[k].err = (double)wrong[k] / (double)m->klass[k].images;
    m->err = split.err;
    m->err_best = best.err;
    m->e_z = split.err;
done:
    return status;
}

static het_status conformations(het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    het_pca pca;
    double *pc1 = het_alloc((size_t)(m->images + 2 * m->classes) * sizeof *pc1);
    if (pc1 == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the conformations of %lld images", (long long)m->images);
    double *mean = pc1 + m->images, *std = mean + m->classes;
    HET_TRY(het_latent_pca(&pca, p->z, m->images, m->z_dim));
    het_latent_project(pc1, &pca, 0, p->z, m->images);
    HET_TRY(het_latent_overlap(&m->e_z, mean, std, pc1, t->klass, m->images, m->classes));
    for (int64_t k = 0; k < m->classes; k++) {
        het_class_measures *c = &m->klass[k];
        if (c->images == 0) continue;
        c->pc1_mean = mean[k];
        c->pc1_std = std[k];
        HET_TRY(het_latent_class_mode(m->z_star + k * m->z_dim, &c->pc1_mode, p->z, pc1, t->klass, k,
                                      m->images, m->z_dim));
    }
    if (m->classes == 2) HET_TRY(two_classes(m, pc1, t));
    if (m->classes > 2) HET_TRY(het_latent_corr(&m->corr, pc1, t->klass, m->images));
    if (m->classes > 1 && m->images > 1)
        HET_TRY(het_latent_neighbours(&m->similarity, &m->chance, p->z, t->klass, m->images, m->z_dim,
                                      m->classes, NEIGHBOURS, SEED));
done:
    het_release(pc1);
    return status;
}

het_status het_measures_of_images(het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    *m = (het_measures){
        .images = p->count, .box = p->box, .classes = t->classes, .z_dim = p->z_dim, .apix = p->apix};
    m->err = m->err_best = m->corr = m->similarity = m->chance = NAN;
    m->klass = het_alloc((size_t)m->classes * sizeof *m->klass);
    m->z_star = het_alloc((size_t)(m->classes * m->z_dim) * sizeof *m->z_star);
    if (m->klass == NULL || m->z_star == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld classes", (long long)m->classes));
    for (int64_t k = 0; k < m->classes; k++)
        m->klass[k] = (het_class_measures){0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    HET_TRY(poses(m, p, t));
    HET_TRY(conformations(m, p, t));
    m->entanglement = m->e_pose + m->e_z;
done:
    if (status != HET_OK) het_measures_free(m);
    return status;
}

static double in_pixels(const double *curve, int64_t box, double threshold)
{
    return (double)box / het_fsc_shell(curve, box, threshold, NULL);
}

het_status het_measures_of_map(het_measures *m, int64_t k, const het_volume *predicted,
                               const het_volume *truth)
{
    het_status status = HET_OK;
    het_class_measures *c = &m->klass[k];
    het_volume placed = {0};
    het_pose3 pose = {.hand = m->align.hand};
    double *curve = het_alloc((size_t)(truth->box / 2) * sizeof *curve), low = 0.0;
    if (curve == NULL) return het_fail(HET_E_MEMORY, "no memory for an FSC curve");
    memcpy(pose.a, m->align.refined, sizeof pose.a);
    memcpy(pose.u, m->origin.u, sizeof pose.u);
    HET_TRY(het_volume_new(&placed, predicted->box, predicted->apix));
    HET_TRY(het_place_volume(&placed, predicted, &pose));
    HET_TRY(het_fsc(curve, &placed, truth, NULL));
    c->res = in_pixels(curve, truth->box, 0.5);
    c->res143 = in_pixels(curve, truth->box, 0.143);
    for (int64_t s = 1; s <= 4 && s < truth->box / 2; s++) low += curve[s];
    if (low < -1.0)
        het_warn("the map of class %lld agrees with the true one only when negated: the run's contrast is "
                 "inverted",
                 (long long)k);
    HET_TRY(het_place_refine(&pose, predicted, truth));
    HET_TRY(het_place_volume(&placed, predicted, &pose));
    HET_TRY(het_fsc(curve, &placed, truth, NULL));
    c->res_aligned = in_pixels(curve, truth->box, 0.5);
done:
    het_volume_free(&placed);
    het_release(curve);
    return status;
}
