/* Wrong poses bend conformations until they fit, and where many images of one conformation are wrong alike, its map fits them: no
 * loss tells. But the maps of other conformations do, as a particle's conformations have most in common: what they find for images of
 * right pose is that pose again. */
#include <math.h>

#include "arena.h"
#include "log.h"
#include "physics/symmetry.h"
#include "refine_conformations.h"

enum { SAMPLE = 40 }; /* images of each conformation */
static const double SURE = 0.98;    /* share of the poses: more are not lost */
static const double NONE = 0.005;   /* share of the images that is not worth a warning */
static const double AGREE = 0.5359; /* |R-R'|^2 of 30 degrees */

typedef struct confirmer {
    het_conformations all;
    int64_t *label;        /* (images): whose cluster */
    int64_t *wanted, *row; /* (images): 1 for those of the sample; their rows */
    int64_t images;        /* of the sample */
    het_search_pose *pose; /* (sample, conformations) */
    int asked[HET_CONFORMATIONS];     /* whether the conformation counts */
    double share[HET_CONFORMATIONS];  /* of its images' poses, confirmed by the others that count */
    int64_t size[HET_CONFORMATIONS];
    het_symmetry symmetry;
} confirmer;

/* Evenly spread over each cluster; images that are no particles have no pose to confirm. */
static void choose(confirmer *c, int64_t count)
{
    int64_t seen[HET_CONFORMATIONS] = {0};
    const float *particle = c->all.poses->all.particle;
    for (int64_t i = 0; i < count; i++) c->size[c->label[i]] += particle[i] != 0.0F;
    for (int64_t i = 0; i < count; i++) {
        if (particle[i] == 0.0F) continue;
        const int64_t k = c->label[i], n = c->size[k] > SAMPLE ? c->size[k] : SAMPLE, j = seen[k]++;
        c->wanted[i] = (j + 1) * SAMPLE / n > j * SAMPLE / n;
        c->row[i] = c->images;
        c->images += c->wanted[i];
    }
}

static void take(void *context, int64_t at, int64_t k, const het_search_pose *pose)
{
    const confirmer *c = context;
    c->pose[c->row[at] * c->all.count + k] = *pose;
}

static het_status ask_others(confirmer *c, int *stopped)
{
    const het_status searched = het_conformations_search(&c->all, c->wanted, take, c, stopped);
    const het_status status = het_poses_agree(c->all.poses, searched, stopped);
    if (status != HET_OK || *stopped) return status;
    return het_comm_unite(c->all.poses->comm, c->pose, (size_t)(c->images * c->all.count) * sizeof *c->pose / sizeof(float));
}

/* The likeliest pose in the other conformations that count; NULL: none. */
static const float *found_by_others(const confirmer *c, int64_t image)
{
    const het_search_pose *pose = c->pose + c->row[image] * c->all.count, *best = NULL;
    for (int64_t k = 0; k < c->all.count; k++)
        if (c->asked[k] && k != c->label[image] && isfinite(pose[k].loglik) && (best == NULL || pose[k].loglik > best->loglik))
            best = &pose[k];
    return best != NULL ? best->rotation : NULL;
}

/* Whether it is the present one, or the same view of a particle with a symmetry. */
static int is_confirmed(const confirmer *c, int64_t image)
{
    const float *found = found_by_others(c, image), *present = c->all.poses->all.rotation + 9 * image;
    if (found == NULL) return 0;
    return (c->symmetry.order > 1 ? het_symmetry_distance2(&c->symmetry, present, found) : het_poses_distance2(present, found)) < AGREE;
}

static int is_asked(const confirmer *c, int64_t image)
{
    return c->wanted[image] && c->asked[c->label[image]];
}

/* The particle's symmetry: turns from the present poses to those that others find, were they all for one. */
static het_status find_symmetry(confirmer *c)
{
    het_status status = HET_OK;
    const het_predictions *all = &c->all.poses->all;
    int64_t n = 0;
    float *turn = het_alloc((size_t)(9 * (c->images > 0 ? c->images : 1)) * sizeof *turn);
    if (turn == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory to confirm the poses"));
    for (int64_t i = 0; i < all->count; i++) {
        const float *found = is_asked(c, i) ? found_by_others(c, i) : NULL;
        if (found != NULL) het_symmetry_turn(turn + 9 * n++, all->rotation + 9 * i, found, 1);
    }
    HET_TRY(het_symmetry_find(&c->symmetry, turn, n));
done:
    het_release(turn);
    return status;
}

static void measure(confirmer *c)
{
    double confirmed[HET_CONFORMATIONS] = {0}, sample[HET_CONFORMATIONS] = {0};
    for (int64_t i = 0; i < c->all.poses->all.count; i++) {
        if (!is_asked(c, i)) continue;
        confirmed[c->label[i]] += is_confirmed(c, i);
        sample[c->label[i]] += 1.0;
    }
    for (int64_t k = 0; k < c->all.count; k++)
        if (c->asked[k] && sample[k] > 0.0) c->share[k] = confirmed[k] / sample[k];
}

/* The least confirmed conformation no longer counts, and the others are measured without it, until all that are left are confirmed. */
static void leave_out(confirmer *c)
{
    int64_t left = 0, all;
    for (int64_t k = 0; k < c->all.count; k++) left += c->size[k];
    all = left;
    for (;;) {
        int64_t least = -1;
        measure(c);
        for (int64_t k = 0; k < c->all.count; k++)
            if (c->asked[k] && (least < 0 || c->share[k] < c->share[least])) least = k;
        if (least < 0 || c->share[least] >= HET_CONFIRMED || 2 * (left - c->size[least]) < all) return;
        c->asked[least] = 0;
        left -= c->size[least];
    }
}

int het_poses_is_doubted(const het_predictions *p, int64_t image)
{
    return p->confirmed[image] >= 0.0F && p->confirmed[image] < HET_CONFIRMED;
}

double het_poses_doubted(const het_poses *s)
{
    int64_t doubted = 0, particles = 0;
    for (int64_t i = 0; i < s->all.count; i++) {
        if (s->all.particle[i] == 0.0F) continue;
        particles++;
        doubted += het_poses_is_doubted(&s->all, i);
    }
    return particles > 0 ? (double)doubted / (double)particles : 0.0;
}

int het_poses_are_sure(const het_poses *s)
{
    const het_config_init *init = &s->model->config.init;
    double sum = 0.0, particles = 0.0;
    for (int64_t i = 0; i < s->all.count; i++) {
        if (s->all.particle[i] == 0.0F) continue;
        sum += (double)s->all.confirmed[i];
        particles += 1.0;
    }
    const double share = particles > 0.0 ? sum / particles : 0.0;
    if (init->method == HET_START_NONE || init->components == 0 || share < SURE) return 0;
    het_info("no pose is searched anew: other conformations confirm %.1f %% of a sample", 100.0 * share);
    return 1;
}

het_status het_poses_confirm(het_poses *s, int *stopped)
{
    const int64_t n = s->all.count;
    confirmer c = {.label = het_alloc((size_t)n * sizeof *c.label), .wanted = het_alloc((size_t)n * sizeof *c.wanted),
                   .row = het_alloc((size_t)n * sizeof *c.row),
                   .pose = het_alloc(HET_CONFORMATIONS * SAMPLE * HET_CONFORMATIONS * sizeof *c.pose)};
    het_status status = c.label != NULL && c.wanted != NULL && c.row != NULL && c.pose != NULL
                            ? het_conformations_open(&c.all, s, s->all.z, n, c.label)
                            : het_fail(HET_E_MEMORY, "no memory for a sample of poses");
    HET_TRY(het_comm_agree(s->comm, status));
    choose(&c, n);
    for (int64_t k = 0; k < c.all.count; k++) c.asked[k] = 1;
    HET_TRY(ask_others(&c, stopped));
    if (*stopped) goto done;
    HET_TRY(het_comm_agree(s->comm, find_symmetry(&c)));
    leave_out(&c);
    for (int64_t i = 0; i < n; i++) s->all.confirmed[i] = (float)c.share[c.label[i]];
    het_info("poses of %.1f %% of the images are not confirmed by other conformations", 100.0 * het_poses_doubted(s));
done:
    het_conformations_close(&c.all);
    void *const mine[] = {c.label, c.wanted, c.row, c.pose};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
    return status;
}

void het_poses_warn(const het_poses *s)
{
    const double share = het_poses_doubted(s);
    if (share > 0.5)
        het_warn("poses of %.0f %% of the images are not confirmed by other conformations: the volume is probably wrong", 100.0 * share);
    else if (share > NONE)
        het_warn("poses of %.0f %% of the images are not confirmed by other conformations and may be wrong: /confirmed of the predictions "
                 "says which", 100.0 * share);
}
