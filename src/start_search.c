/* Rough poses from random starts that have to agree. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "physics/align.h"
#include "physics/symmetry.h"
#include "run_stage.h"
#include "start_search.h"
#include "stop.h"

enum { ANCHORS = 100, EFFORT_MOST = 4, AT_A_TIME = 2 };
static const double RADIUS = 8.0; /* of the random starts: more does not help them, and takes longer */
static const double AGREE = 0.5;  /* |R-R'|^2: 29 degrees */

/* What a start has found: float, as ranks unite it. */
typedef struct trial {
    float *rotation, *shift; /* (images,9), (images,2) px */
    float likely[2];         /* log-likelihood of an image, share of the signal that is explained */
} trial;

/* Starts of one effort: as many times the images and the rounds that the first ones have. Noisy images need both. */
typedef struct trials {
    int64_t effort, images, rounds; /* of each start */
    int64_t first, done, most;      /* the first one's number, how many there are, how many there may be */
    trial *of;                      /* (most) */
} trials;

static void trials_free(trials *t)
{
    for (int64_t s = 0; t->of != NULL && s < t->most; s++) {
        het_release(t->of[s].rotation);
        het_release(t->of[s].shift);
    }
    het_release(t->of);
}

/* The starts after `before`, of twice their effort: two, or all that are left, where that is the most effort or one would be alone. */
static het_status trials_new(trials *t, const trials *before, int64_t images, const het_config_init *init)
{
    const int64_t first = before == NULL ? 0 : before->first + before->done;
    const int64_t effort = before == NULL ? 1 : 2 * before->effort, left = init->starts - first;
    *t = (trials){.effort = effort, .first = first, .rounds = effort * init->search_rounds};
    t->images = effort * init->search_images < images ? effort * init->search_images : images;
    t->most = effort < EFFORT_MOST && left > AT_A_TIME + 1 ? AT_A_TIME : left;
    t->of = het_alloc((size_t)t->most * sizeof *t->of);
    return t->of != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start");
}

/* Room for the next n starts. */
static het_status trials_extend(trials *t, int64_t n)
{
    for (int64_t s = t->done; s < t->done + n; s++) {
        t->of[s].rotation = het_alloc((size_t)(9 * t->images) * sizeof(float));
        t->of[s].shift = het_alloc((size_t)(2 * t->images) * sizeof(float));
        if (t->of[s].rotation == NULL || t->of[s].shift == NULL)
            return het_fail(HET_E_MEMORY, "no memory for start %lld: choose fewer by init.starts", (long long)(t->first + s) + 1);
    }
    return HET_OK;
}

static het_status try_once(trials *t, int64_t start, het_comm *team, het_device *dev, const het_stack *stack, const het_chosen *c,
                           const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    het_first_volume volume = {0};
    const het_stack_info *info = het_stack_get_info(stack);
    trial *found = &t->of[start];
    char name[40];
    snprintf(name, sizeof name, "random-%lld-rounds", (long long)(t->first + start) + 1);
    HET_TRY(het_start_maximise(&volume, team, dev, stack, c->index, spec, name,
                 (het_first_volume_spec){.count = t->images,
                                         .radius = fmin(RADIUS, (double)(info->box / 2 - 1)),
                                         .coarse_rounds = (int)t->rounds,
                                         .seed = (spec->seed << 16) + (uint64_t)(t->first + start)}));
    if (het_comm_rank(team) != 0) goto done; /* one rank tells all others */
    for (int64_t i = 0; i < t->images; i++) {
        memcpy(found->rotation + 9 * i, volume.pose[i].rotation, sizeof volume.pose[i].rotation);
        memcpy(found->shift + 2 * i, volume.pose[i].shift, sizeof volume.pose[i].shift);
    }
    found->likely[0] = (float)volume.loglik;
    found->likely[1] = (float)volume.explained;
done:
    het_first_volume_free(&volume);
    return status;
}

/* A start as it is kept in the run's folder. */
typedef struct kept_start {
    het_field field[3];
    char name[40];
    het_stage stage;
} kept_start;

static void keep_as(kept_start *k, const trials *t, int64_t start, het_comm *comm, const het_start_volume_spec *spec)
{
    trial *found = &t->of[start];
    snprintf(k->name, sizeof k->name, "random-%lld", (long long)(t->first + start) + 1);
    k->field[0] = (het_field){"rotation", {found->rotation, HET_F32, 3, {t->images, 3, 3}}};
    k->field[1] = (het_field){"shift", {found->shift, HET_F32, 2, {t->images, 2}}};
    k->field[2] = (het_field){"likely", {found->likely, HET_F32, 1, {2}}};
    k->stage = (het_stage){.comm = comm, .folder = spec->folder, .name = k->name, .about = spec->about, .field = k->field, .count = 3};
}

/* The next starts, but for those that were found before a stop, at a time: each by a group of ranks, or by all where there is one only;
 * then every rank knows them. */
static het_status try_some(trials *t, het_comm *comm, het_comm *group, het_device *dev, const het_stack *stack, const het_chosen *c,
                           const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const int64_t from = t->done, left = t->most - from, n = left < AT_A_TIME ? left : AT_A_TIME;
    const int groups = het_comm_size(comm) < AT_A_TIME ? het_comm_size(comm) : AT_A_TIME;
    kept_start kept[AT_A_TIME];
    int there[AT_A_TIME];
    int64_t missing = 0;
    float found[AT_A_TIME] = {0};
    HET_TRY(het_comm_agree(comm, trials_extend(t, n)));
    for (int64_t i = 0; i < n; i++) {
        keep_as(&kept[i], t, from + i, comm, spec);
        HET_TRY(het_stage_recall(&kept[i].stage, &there[i]));
        missing += !there[i];
    }
    for (int64_t i = 0; i < n && status == HET_OK; i++) {
        het_comm *team = missing == 1 ? comm : group;
        if (there[i] || (team == group && i % groups != het_comm_rank(comm) % groups)) continue;
        status = try_once(t, from + i, team, dev, stack, c, spec);
        found[i] = status == HET_OK && het_comm_rank(team) == 0;
        if (status == HET_OK) status = het_comm_agree(team, het_stop_check());
    }
    status = het_comm_agree(comm, status);
    if (status != HET_OK && status != HET_E_STOPPED) goto done;
    const int stopped = status == HET_E_STOPPED;
    HET_TRY(het_comm_unite(comm, found, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        if (found[i] == 0.0F) continue;
        for (int j = 0; j < 3; j++)
            HET_TRY(het_comm_unite(comm, kept[i].field[j].tensor.data, (size_t)het_tensor_count(&kept[i].field[j].tensor)));
        het_stage_keep(&kept[i].stage);
    }
    if (stopped) HET_TRY(het_stop_status());
    for (int64_t s = from; s < from + n; s++)
        het_info("start: random start %lld: log-likelihood %.1f an image, explains %.0f %% of the signal",
                 (long long)(t->first + s) + 1, (double)t->of[s].likely[0], 100.0 * (double)t->of[s].likely[1]);
    t->done += n;
done:
    return status;
}

/* How near another start is to the likeliest one. */
typedef struct nearness {
    het_align align;
    het_symmetry symmetry; /* and but for the particle's own */
    int agrees;
} nearness;

static het_status near_to(nearness *n, const trials *t, int64_t start, int64_t best)
{
    het_status status = HET_OK;
    *n = (nearness){0};
    HET_TRY(het_align_rotations(&n->align, NULL, t->of[start].rotation, t->of[best].rotation, t->images, ANCHORS, 1));
    n->agrees = n->align.median <= AGREE;
    if (n->agrees) goto done;
    HET_TRY(het_symmetry_between(&n->symmetry, t->of[start].rotation, t->of[best].rotation, t->images));
    n->agrees = n->symmetry.order > 1 && n->symmetry.share >= 0.5;
done:
    return status;
}

/* The likeliest start, and how near to it the nearest other one is; -1: there is no other. */
static het_status compare(const trials *t, int64_t *best, int64_t *nearest, nearness *between)
{
    het_status status = HET_OK;
    *best = 0;
    *nearest = -1;
    for (int64_t s = 1; s < t->done; s++)
        if (t->of[s].likely[0] > t->of[*best].likely[0]) *best = s;
    for (int64_t s = 0; s < t->done; s++) {
        nearness n;
        if (s == *best) continue;
        HET_TRY(near_to(&n, t, s, *best));
        if (*nearest >= 0 && (between->agrees > n.agrees || (between->agrees == n.agrees && n.align.median >= between->align.median))) continue;
        *nearest = s;
        *between = n;
    }
done:
    return status;
}

static void say_agreed(int64_t one, int64_t other, const nearness *n)
{
    if (n->symmetry.order > 1)
        het_info("start: random starts %lld and %lld agree, %.0f degrees apart but for the particle's own symmetry: %d turns", (long long)one,
                 (long long)other, n->symmetry.apart, n->symmetry.order);
    else
        het_info("start: random starts %lld and %lld agree, %.0f degrees apart", (long long)one, (long long)other, n->align.median_degrees);
}

/* Starts until two of one effort agree; all ranks decide alike, from the same numbers. */
static het_status try_all(trials *t, int64_t *best, het_comm *comm, het_comm *group, het_device *dev, const het_stack *stack,
                          const het_chosen *c, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const int64_t starts = spec->init->starts;
    int64_t nearest = -1;
    nearness between = {0};
    HET_TRY(het_comm_agree(comm, trials_new(t, NULL, c->count, spec->init)));
    for (;;) {
        HET_TRY(try_some(t, comm, group, dev, stack, c, spec));
        HET_TRY(compare(t, best, &nearest, &between));
        if (nearest >= 0 && between.agrees) {
            say_agreed(t->first + *best + 1, t->first + nearest + 1, &between);
            goto done;
        }
        if (t->first + t->done == starts) break;
        if (t->done < t->most) continue;
        trials before = *t;
        status = het_comm_agree(comm, trials_new(t, &before, c->count, spec->init));
        trials_free(&before);
        HET_TRY(status);
        het_info("start: no two agree yet: further ones take %lld images and %lld rounds", (long long)t->images, (long long)t->rounds);
    }
    if (nearest < 0)
        het_info("start: a single random start cannot be compared with another: init.starts >= 2 can");
    else
        het_warn("no two of %lld random starts agree (the likeliest and the nearest to it are %.0f degrees apart): the volume "
                 "is probably wrong; try --starts %lld, more init.images and init.search_rounds, or cleaner images",
                 (long long)starts, between.align.median_degrees, 4 * (long long)starts);
done:
    return status;
}

int64_t het_start_search_images(int64_t images, const het_config_init *init)
{
    return images < EFFORT_MOST * init->search_images ? images : EFFORT_MOST * init->search_images;
}

het_status het_start_from_search(het_chosen *c, het_comm *comm, het_device *dev, const het_stack *stack,
                                 const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    het_comm *group = NULL;
    trials t = {0};
    int64_t best = 0;
    HET_TRY(het_comm_group(&group, comm, het_comm_rank(comm) % AT_A_TIME));
    HET_TRY(try_all(&t, &best, comm, group, dev, stack, c, spec));
    memcpy(c->rotation, t.of[best].rotation, (size_t)t.images * 9 * sizeof *c->rotation);
    memcpy(c->shift, t.of[best].shift, (size_t)t.images * 2 * sizeof *c->shift);
    memset(c->valid, 0, (size_t)c->count);
    memset(c->valid, 1, (size_t)t.images);
done:
    trials_free(&t);
    het_comm_group_free(group);
    return status;
}
