/* Rough poses from random starts that have to agree. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "physics/align.h"
#include "run_stage.h"
#include "stop.h"
#include "start_search.h"

enum { ANCHORS = 100, EFFORT_MOST = 4 };
static const double RADIUS = 8.0; /* of the random starts: more does not help them, and takes longer */
static const double AGREE = 0.5;  /* |R-R'|^2: 29 degrees */

/* Starts of one effort: as many times the images and the rounds that the first ones have. Noisy images need both. Rows of all
   ranks are added up, so all is float. */
typedef struct trials {
    int64_t effort, images, rounds; /* of each start */
    int64_t first, done, room;      /* the first one's number, how many there are, how many there may be */
    float *rotation, *shift;        /* (room,images,9), (room,images,2) px */
    float *loglik, *explained;      /* (room) */
} trials;

static void trials_free(trials *t)
{
    het_release(t->rotation);
    het_release(t->shift);
    het_release(t->loglik);
    het_release(t->explained);
}

/* The starts after `before`, of twice their effort: two, or all that are left, where that is the most effort or one would be alone. */
static het_status trials_new(trials *t, const trials *before, int64_t images, const het_config_init *init)
{
    const int64_t first = before == NULL ? 0 : before->first + before->done;
    const int64_t effort = before == NULL ? 1 : 2 * before->effort, left = init->starts - first;
    *t = (trials){.effort = effort, .first = first, .rounds = effort * init->search_rounds};
    t->images = effort * init->search_images < images ? effort * init->search_images : images;
    t->room = effort < EFFORT_MOST && left > HET_START_AT_A_TIME + 1 ? HET_START_AT_A_TIME : left;
    t->rotation = het_alloc((size_t)(t->room * t->images * 9) * sizeof *t->rotation);
    t->shift = het_alloc((size_t)(t->room * t->images * 2) * sizeof *t->shift);
    t->loglik = het_alloc((size_t)t->room * sizeof *t->loglik);
    t->explained = het_alloc((size_t)t->room * sizeof *t->explained);
    if (t->rotation == NULL || t->shift == NULL || t->loglik == NULL || t->explained == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %lld starts: choose fewer by init.starts", (long long)t->room);
    return HET_OK;
}

static het_status try_once(trials *t, int64_t start, het_device *dev, const het_stack *stack, const het_chosen *c,
                           const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    het_first_volume volume = {0};
    const het_stack_info *info = het_stack_get_info(stack);
    het_chosen few = *c;
    few.count = t->images;
    HET_TRY(het_start_maximise(&volume, dev, stack, &few, spec,
                 (het_first_volume_spec){.radius = fmin(RADIUS, (double)(info->box / 2 - 1)),
                                         .coarse_rounds = (int)t->rounds,
                                         .seed = (spec->seed << 16) + (uint64_t)(t->first + start)}));
    for (int64_t i = 0; i < t->images; i++) {
        const int64_t row = start * t->images + i;
        memcpy(t->rotation + 9 * row, volume.pose[i].rotation, sizeof volume.pose[i].rotation);
        memcpy(t->shift + 2 * row, volume.pose[i].shift, sizeof volume.pose[i].shift);
    }
    t->loglik[start] = (float)volume.loglik;
    t->explained[start] = (float)volume.explained;
done:
    het_first_volume_free(&volume);
    return status;
}

/* A start as it is kept in the run's folder: rows of the trials. */
typedef struct kept_start {
    het_field field[4];
    char name[40];
    het_stage stage;
} kept_start;

static void keep_as(kept_start *k, const trials *t, int64_t start, het_comm *comm, const het_start_volume_spec *spec)
{
    const int64_t m = t->images;
    snprintf(k->name, sizeof k->name, "random-%lld", (long long)(t->first + start) + 1);
    k->field[0] = (het_field){"rotation", {t->rotation + start * m * 9, HET_F32, 3, {m, 3, 3}}};
    k->field[1] = (het_field){"shift", {t->shift + start * m * 2, HET_F32, 2, {m, 2}}};
    k->field[2] = (het_field){"loglik", {t->loglik + start, HET_F32, 1, {1}}};
    k->field[3] = (het_field){"explained", {t->explained + start, HET_F32, 1, {1}}};
    k->stage = (het_stage){.comm = comm, .folder = spec->folder, .name = k->name, .about = spec->about, .field = k->field, .count = 4};
}

/* The next starts, one rank each, but for those that were found before a stop; then every rank knows them. */
static het_status try_some(trials *t, het_comm *comm, het_device *dev, const het_stack *stack, const het_chosen *c,
                           const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const int64_t from = t->done, left = t->room - from, n = left < HET_START_AT_A_TIME ? left : HET_START_AT_A_TIME;
    kept_start kept[HET_START_AT_A_TIME];
    int there[HET_START_AT_A_TIME];
    float found[HET_START_AT_A_TIME] = {0};
    for (int64_t i = 0; i < n; i++) {
        keep_as(&kept[i], t, from + i, comm, spec);
        HET_TRY(het_stage_recall(&kept[i].stage, &there[i]));
    }
    for (int64_t i = 0; i < n && status == HET_OK; i++) {
        if (there[i] || i % het_comm_size(comm) != het_comm_rank(comm)) continue;
        status = try_once(t, from + i, dev, stack, c, spec);
        found[i] = status == HET_OK;
        if (status == HET_OK) status = het_stop_check();
    }
    status = het_comm_agree(comm, status);
    if (status != HET_OK && status != HET_E_STOPPED) goto done;
    const int stopped = status == HET_E_STOPPED;
    HET_TRY(het_comm_unite(comm, found, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        if (found[i] == 0.0F) continue;
        for (int j = 0; j < 4; j++)
            HET_TRY(het_comm_unite(comm, kept[i].field[j].tensor.data, (size_t)het_tensor_count(&kept[i].field[j].tensor)));
        het_stage_keep(&kept[i].stage);
    }
    if (stopped) HET_TRY(het_stop_status());
    for (int64_t s = from; s < from + n; s++)
        het_info("start: random start %lld: log-likelihood %.1f an image, explains %.0f %% of the signal",
                 (long long)(t->first + s) + 1, (double)t->loglik[s], 100.0 * (double)t->explained[s]);
    t->done += n;
done:
    return status;
}

/* The likeliest start, and how near to it the nearest other one is; -1: there is no other. */
static het_status compare(const trials *t, int64_t *best, int64_t *nearest, het_align *between)
{
    het_status status = HET_OK;
    const int64_t m = t->images;
    *best = 0;
    *nearest = -1;
    for (int64_t s = 1; s < t->done; s++)
        if (t->loglik[s] > t->loglik[*best]) *best = s;
    for (int64_t s = 0; s < t->done; s++) {
        het_align align;
        if (s == *best) continue;
        HET_TRY(het_align_rotations(&align, NULL, t->rotation + s * m * 9, t->rotation + *best * m * 9, m, ANCHORS, 1));
        if (*nearest >= 0 && align.median >= between->median) continue;
        *nearest = s;
        *between = align;
    }
done:
    return status;
}

/* Starts until two of one effort agree; all ranks decide alike, from the same numbers. */
static het_status try_all(trials *t, int64_t *best, het_comm *comm, het_device *dev, const het_stack *stack,
                          const het_chosen *c, int64_t images, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const int64_t starts = spec->init->starts;
    int64_t nearest = -1;
    het_align between = {0};
    HET_TRY(het_comm_agree(comm, trials_new(t, NULL, images, spec->init)));
    for (;;) {
        HET_TRY(try_some(t, comm, dev, stack, c, spec));
        HET_TRY(compare(t, best, &nearest, &between));
        if (nearest >= 0 && between.median <= AGREE) {
            het_info("start: random starts %lld and %lld agree, %.0f degrees apart", (long long)(t->first + *best) + 1,
                     (long long)(t->first + nearest) + 1, between.median_degrees);
            goto done;
        }
        if (t->first + t->done == starts) break;
        if (t->done < t->room) continue;
        trials before = *t;
        status = het_comm_agree(comm, trials_new(t, &before, images, spec->init));
        trials_free(&before);
        HET_TRY(status);
        het_info("start: no two agree yet: further ones take %lld images and %lld rounds", (long long)t->images, (long long)t->rounds);
    }
    if (nearest < 0)
        het_info("start: a single random start cannot be compared with another: init.starts >= 2 can");
    else
        het_warn("no two of %lld random starts agree (the likeliest and the nearest to it are %.0f degrees apart): the volume "
                 "is probably wrong; try --starts %lld, more init.images and init.search_rounds, or cleaner images",
                 (long long)starts, between.median_degrees, 4 * (long long)starts);
done:
    return status;
}

int64_t het_start_search_images(int64_t images, const het_config_init *init)
{
    return images < EFFORT_MOST * init->search_images ? images : EFFORT_MOST * init->search_images;
}

het_status het_start_from_search(het_chosen *c, int64_t images, het_comm *comm, het_device *dev, const het_stack *stack,
                                 const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    trials t = {0};
    int64_t best = 0;
    HET_TRY(try_all(&t, &best, comm, dev, stack, c, images, spec));
    if (het_comm_rank(comm) != 0) goto done;
    memcpy(c->rotation, t.rotation + best * t.images * 9, (size_t)t.images * 9 * sizeof *c->rotation);
    memcpy(c->shift, t.shift + best * t.images * 2, (size_t)t.images * 2 * sizeof *c->shift);
    memset(c->valid, 0, (size_t)c->count);
    memset(c->valid, 1, (size_t)t.images);
done:
    trials_free(&t);
    return status;
}
