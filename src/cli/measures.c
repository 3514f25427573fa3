#include "measures.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../log.h"
#include "../physics/latent.h"
#include "../physics/rotation.h"
#include "../physics/stats.h"
#include "../physics/symmetry.h"

enum { MOST_CLASSES = 1000, NEIGHBOURS = 10, SEED = 1 };
static const double KNOWN = 0.1; /* Rot of a class whose poses are right, in its own frame */

static const double DEGREES = 57.29577951308232;

void het_truth_free(het_truth *truth)
{
    het_release(truth->rotation);
    het_release(truth->shift);
    het_release(truth->klass);
    het_release(truth->coordinate);
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

/* truth->coordinate from the stack's z, or from the classes where an image has none. */
static het_status find_coordinate(het_truth *truth, const float *z, int64_t n)
{
    double *at = het_alloc((size_t)n * sizeof *at);
    if (at == NULL) return het_fail(HET_E_MEMORY, "no memory for the truth of %lld images", (long long)n);
    int64_t unknown = 0, values = 0; /* different ones */
    double one = NAN, other = NAN;
    for (int64_t i = 0; i < n; i++) unknown += truth->klass[i] >= 0 && !isfinite(z[i]);
    for (int64_t i = 0; i < n; i++) {
        if (truth->klass[i] < 0) continue;
        at[i] = unknown == 0 ? (double)z[i] : (double)truth->klass[i];
        if (values == 0) one = at[i];
        else if (values == 1 && at[i] != one) other = at[i];
        values += values == 0 || (values == 1 && at[i] != one) || (values == 2 && at[i] != one && at[i] != other);
    }
    truth->coordinate = values == 3 ? at : NULL;
    if (values < 3) het_release(at);
    return HET_OK;
}

het_status het_truth_load(het_truth *truth, const het_stack *stack, const char *path)
{
    het_status status = HET_OK;
    const int64_t n = het_stack_get_info(stack)->count;
    float *z = NULL;
    *truth = (het_truth){.classes = 1};
    if (!het_stack_get_info(stack)->has_truth)
        return het_fail(HET_E_INPUT,
                        "%s holds no truth: only stacks of `hetacumn simulate` and of `hetacumn import "
                        "--poses` do",
                        path);
    truth->rotation = het_alloc((size_t)(9 * n) * sizeof(float));
    truth->shift = het_alloc((size_t)(2 * n) * sizeof(float));
    truth->klass = het_alloc((size_t)n * sizeof(int64_t));
    z = het_alloc((size_t)n * sizeof *z);
    if (truth->rotation == NULL || truth->shift == NULL || truth->klass == NULL || z == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the truth of %lld images", (long long)n));
    HET_TRY(het_stack_read_truth(stack, 0, n,
                                 &(het_stack_truth){truth->rotation, truth->shift, truth->klass, z}));
    int64_t known = 0; /* poses from a STAR file come without classes: one for all */
    for (int64_t i = 0; i < n; i++) known += truth->klass[i] != -1;
    for (int64_t i = 0; i < n && known == 0; i++) truth->klass[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!has_unit_rows(truth->rotation + 9 * i))
            HET_TRY(het_fail(HET_E_INPUT, "%s: the true rotation of image %lld is none", path, (long long)i));
        if (!isfinite(truth->shift[2 * i]) || !isfinite(truth->shift[2 * i + 1]))
            HET_TRY(
                het_fail(HET_E_INPUT, "%s: the true shift of image %lld is not finite", path, (long long)i));
        if (truth->klass[i] < -1 || truth->klass[i] >= MOST_CLASSES)
            HET_TRY(het_fail(HET_E_INPUT, "%s: the true class of image %lld is %lld: 0..%d are possible, and -1 for none",
                             path, (long long)i, (long long)truth->klass[i], MOST_CLASSES - 1));
        if (truth->klass[i] >= truth->classes) truth->classes = truth->klass[i] + 1;
    }
    HET_TRY(find_coordinate(truth, z, n));
done:
    het_release(z);
    if (status != HET_OK) het_truth_free(truth);
    return status;
}

void het_truth_leave_out_junk(het_truth *t, het_predictions *p, het_junk *junk)
{
    int64_t n = 0;
    *junk = (het_junk){0};
    for (int64_t i = 0; i < p->count; i++) {
        const int found = p->particle[i] == 0.0F;
        if (t->klass[i] < 0) {
            junk->images++;
            junk->found += found;
            continue;
        }
        junk->particles += found;
        memmove(t->rotation + 9 * n, t->rotation + 9 * i, 9 * sizeof *t->rotation);
        memmove(t->shift + 2 * n, t->shift + 2 * i, 2 * sizeof *t->shift);
        if (t->coordinate != NULL) t->coordinate[n] = t->coordinate[i];
        het_predictions_move(p, n, i);
        t->klass[n++] = t->klass[i];
    }
    p->count = n;
}

void het_measures_free(het_measures *m)
{
    het_release(m->distance2);
    het_release(m->klass);
    het_release(m->z_star);
    het_release(m->fsc);
    het_release(m->sample);
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

/* Angle in degrees between two rotations. */
static double angle_between(const double a[9], const double b[9])
{
    double d = 0.0;
    for (int k = 0; k < 9; k++) d += (a[k] - b[k]) * (a[k] - b[k]);
    return DEGREES * het_rotation_angle(d);
}

/* Poses of class k in the common frame and in its own; scratch (18 count), values (count). */
static het_status class_poses(het_measures *m, int64_t k, const het_predictions *p, const het_truth *t,
                              float *scratch, double *values)
{
    het_status status = HET_OK;
    het_class_measures *c = &m->klass[k];
    het_align own;
    het_origin origin;
    float *predicted = scratch, *truth = scratch + 9 * p->count;
    for (int64_t i = 0; i < p->count; i++)
        if (t->klass[i] == k) values[c->images++] = m->distance2[i];
    if (c->images == 0) goto done;
    c->rot = het_median(values, c->images);
    pack(predicted, p->rotation, t->klass, k, p->count, 9);
    pack(truth, t->rotation, t->klass, k, p->count, 9);
    HET_TRY(het_align_rotations(&own, NULL, predicted, truth, c->images, HET_ALIGN_ANCHORS, SEED));
    c->rot_own = own.median;
    c->hand_own = own.hand;
    if (own.hand == m->align.hand) c->frame_degrees = angle_between(own.refined, m->align.refined);
    float *shift = predicted, *true_shift = predicted + 2 * p->count; /* in place of the rotations */
    pack(shift, p->shift, t->klass, k, p->count, 2);
    pack(true_shift, t->shift, t->klass, k, p->count, 2);
    HET_TRY(het_align_shifts(&origin, shift, true_shift, truth, c->images));
    c->trans_raw = origin.raw;
    c->trans_own = origin.corrected;
    c->own.hand = own.hand;
    memcpy(c->own.a, own.refined, sizeof c->own.a);
    memcpy(c->own.u, origin.u, sizeof c->own.u);
done:
    return status;
}

/* Of classes that have poses at all, do the frames and hands agree? */
static void compare_frames(het_measures *m)
{
    int told = 0;
    for (int64_t k = 0; k < m->classes; k++) {
        for (int64_t l = 0; l < k; l++) {
            const het_class_measures *a = &m->klass[k], *b = &m->klass[l];
            if (a->hand_own == b->hand_own)
                m->frames_degrees = fmax(m->frames_degrees, angle_between(a->own.a, b->own.a));
            else if (fmax(a->rot_own, b->rot_own) < KNOWN && !told++)
                het_warn("classes %lld and %lld have opposite hands: Rot, Trans and maps of one hand do not hold for both",
                         (long long)l, (long long)k);
        }
    }
}

/* Poses that are the true ones but for turns of a symmetric particle: measures do not count that. */
static het_status look_for_symmetry(const het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_symmetry s;
    if (m->align.median < 0.5) return HET_OK;
    const het_status status = het_symmetry_between(&s, p->rotation, t->rotation, p->count);
    if (status == HET_OK && s.order > 1 && s.share >= 0.5)
        het_warn("poses are within %.1f degrees of the true ones but for the particle's own symmetry, %d turns, for %.0f %% of the images: Rot, Trans, "
                 "Res and what follows from them do not count that", s.apart, s.order, 100.0 * s.share);
    return status;
}

static het_status poses(het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    double *values = het_alloc((size_t)p->count * sizeof *values);
    float *scratch = het_alloc((size_t)(18 * p->count) * sizeof *scratch);
    if (values == NULL || scratch == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to compare %lld poses", (long long)p->count));
    HET_TRY(het_align_rotations(&m->align, m->distance2, p->rotation, t->rotation, p->count,
                                HET_ALIGN_ANCHORS, SEED));
    HET_TRY(look_for_symmetry(m, p, t));
    HET_TRY(het_align_shifts(&m->origin, p->shift, t->shift, t->rotation, p->count));
    m->e_pose = m->align.median + m->origin.raw / ((double)m->box * (double)m->box);
    for (int64_t k = 0; k < m->classes; k++) HET_TRY(class_poses(m, k, p, t, scratch, values));
    compare_frames(m);
done:
    het_release(values);
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
    if (m->classes == 1) m->e_z = NAN; /* nothing to tell apart */
    if (m->classes == 2) HET_TRY(two_classes(m, pc1, t));
    if (t->coordinate != NULL) HET_TRY(het_spearman(&m->corr, pc1, t->coordinate, m->images));
    m->corr = fabs(m->corr);
    if (m->classes > 1 && m->images > 1)
        HET_TRY(het_latent_neighbours(&m->similarity, &m->chance, p->z, t->klass, m->images, m->z_dim,
                                      m->classes, NEIGHBOURS, SEED));
done:
    het_release(pc1);
    return status;
}

static const het_class_measures UNKNOWN = {
    .rot = NAN, .rot_own = NAN, .hand_own = NAN, .frame_degrees = NAN, .trans_raw = NAN, .trans_own = NAN,
    .err = NAN, .pc1_mean = NAN, .pc1_std = NAN, .pc1_mode = NAN, .res = NAN, .res143 = NAN, .res_own = NAN,
    .res_fitted = NAN, .area = NAN, .image_res = NAN, .own.hand = 1};

/* Room for the numbers of every class and image; none is known yet. */
static het_status measures_new(het_measures *m, const het_predictions *p, int64_t classes)
{
    const int64_t curves = classes * HET_FSC_KINDS * (p->box / 2);
    *m = (het_measures){
        .images = p->count, .box = p->box, .classes = classes, .z_dim = p->z_dim, .apix = p->apix};
    m->frames_degrees = m->err = m->err_best = m->corr = m->similarity = m->chance = NAN;
    m->area_mean = m->area_median = m->image_res_mean = m->image_res_median = NAN;
    m->distance2 = het_alloc((size_t)p->count * sizeof *m->distance2);
    m->klass = het_alloc((size_t)classes * sizeof *m->klass);
    m->z_star = het_alloc((size_t)(classes * m->z_dim) * sizeof *m->z_star);
    m->fsc = het_alloc((size_t)curves * sizeof *m->fsc);
    if (m->distance2 == NULL || m->klass == NULL || m->z_star == NULL || m->fsc == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the measures of %lld images, %lld classes",
                        (long long)p->count, (long long)classes);
    for (int64_t k = 0; k < classes; k++) m->klass[k] = UNKNOWN;
    for (int64_t i = 0; i < curves; i++) m->fsc[i] = NAN;
    return HET_OK;
}

het_status het_measures_of_images(het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    HET_TRY(measures_new(m, p, t->classes));
    HET_TRY(poses(m, p, t));
    HET_TRY(conformations(m, p, t));
    m->entanglement = m->e_pose + m->e_z;
done:
    if (status != HET_OK) het_measures_free(m);
    return status;
}
