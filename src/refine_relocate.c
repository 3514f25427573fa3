/* Pose and conformation of an image found together: a wrong pose bends z until it fits, and a search at that z finds the
 * wrong pose again. Such images lie far out in z: of AdK and IgG-1D (docs/poses.md) nearly all that are wrong are among
 * the outer 40 %. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "physics/stats.h"
#include "refine_conformations.h"

enum { PLACE_ROUNDS = 2, PIECE = 512 };
static const double SHARE = 0.4;       /* of the images: those that are farthest out in z */
static const double FAR = 0.1363;      /* |R-R'|^2 of 15 degrees */

typedef struct relocator {
    het_poses *poses;
    het_conformations in;     /* those that are searched */
    int in_part;              /* conformations that are not confirmed are left out */
    int64_t *label;           /* (images): which of the conformations is theirs; -1: none */
    int64_t *doubtful;        /* (images): whether to search; NULL: all */
    het_predictions before;   /* of a piece, where there are doubtful ones: what a new pose has to be better than */
    int64_t *best;            /* (images): the likeliest conformation so far */
    het_search_pose *pose;    /* (images): and its pose */
} relocator;

static void take_likeliest(void *context, int64_t at, int64_t k, const het_search_pose *pose)
{
    relocator *r = context;
    if (!isfinite(pose->loglik) || (r->best[at] >= 0 && r->pose[at].loglik >= pose->loglik)) return;
    r->best[at] = k;
    r->pose[at] = *pose;
}

/* Whether an image's conformation is to be searched: unless others do not confirm it; all are where that would leave less than half. */
static int counts(const relocator *r, const het_predictions *p, int64_t image)
{
    return !r->in_part || !het_poses_is_doubted(p, image);
}

/* doubtful (images): 1 for those that are farthest from the mean z or not confirmed, 0 for the others. */
static het_status find_doubtful(relocator *r)
{
    het_status status = HET_OK;
    const het_predictions *all = &r->poses->all;
    const int64_t n = all->count, dim = all->z_dim;
    double mean[64] = {0}, *far = het_alloc((size_t)(2 * n) * sizeof *far);
    r->doubtful = het_alloc((size_t)n * sizeof *r->doubtful);
    if (far == NULL || r->doubtful == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations"));
    HET_TRY(het_predictions_new(&r->before, n, dim));
    for (int64_t i = 0; i < n * dim; i++) mean[i % dim] += (double)all->z[i] / (double)n;
    for (int64_t i = 0; i < n * dim; i++) far[i / dim] += pow((double)all->z[i] - mean[i % dim], 2);
    memcpy(far + n, far, (size_t)n * sizeof *far);
    het_sort(far + n, n);
    const double limit = far[n + (int64_t)((1.0 - SHARE) * (double)n)];
    for (int64_t i = 0; i < n; i++) r->doubtful[i] = far[i] >= limit || !counts(r, all, i);
done:
    het_release(far);
    return status;
}

static void relocator_free(relocator *r)
{
    het_conformations_close(&r->in);
    het_predictions_free(&r->before);
    void *const mine[] = {r->best, r->pose, r->label, r->doubtful};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* The conformations: of known images. */
static het_status find_conformations(relocator *r, const het_predictions *known)
{
    het_status status = HET_OK;
    const int64_t n = known->count, dim = known->z_dim;
    int64_t count = 0, doubted = 0;
    float *z = het_alloc((size_t)(n * dim) * sizeof *z);
    r->label = het_alloc((size_t)n * sizeof *r->label);
    if (z == NULL || r->label == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations"));
    for (int64_t i = 0; i < n; i++) doubted += het_poses_is_doubted(known, i);
    r->in_part = 2 * doubted <= n;
    for (int64_t i = 0; i < n; i++)
        if (counts(r, known, i)) memcpy(z + dim * count++, known->z + dim * i, (size_t)dim * sizeof *z);
    HET_TRY(het_conformations_open(&r->in, r->poses, z, count, r->label));
    for (int64_t i = n - 1; i >= 0; i--) r->label[i] = counts(r, known, i) ? r->label[--count] : -1; /* from the rows of z to all */
done:
    het_release(z);
    return status;
}

static het_status relocator_new(relocator *r, het_poses *s, const het_predictions *known)
{
    const size_t n = (size_t)s->all.count;
    *r = (relocator){.poses = s, .best = het_alloc(n * sizeof *r->best), .pose = het_alloc(n * sizeof *r->pose)};
    if (r->best == NULL || r->pose == NULL) return het_fail(HET_E_MEMORY, "no memory for the search of poses and conformations");
    for (size_t i = 0; i < n; i++) r->best[i] = -1;
    return find_conformations(r, known);
}

/* This rank's images of the piece at the likeliest of all poses and conformations. A doubtful one keeps its own z where the likeliest
   conformation is its own cluster's. */
static het_status search_piece(relocator *r, int *stopped)
{
    het_status status = HET_OK;
    het_poses *s = r->poses;
    const int64_t z = s->all.z_dim;
    HET_TRY(het_conformations_search(&r->in, r->doubtful, take_likeliest, r, stopped));
    for (int64_t at = s->first; at < s->first + s->count; at++) {
        const int64_t best = r->best[at];
        if (best < 0) continue; /* not searched, or the image holds NaN */
        r->best[at] = -1;
        memcpy(s->all.rotation + 9 * at, r->pose[at].rotation, sizeof r->pose[at].rotation);
        memcpy(s->all.shift + 2 * at, r->pose[at].shift, sizeof r->pose[at].shift);
        if (r->doubtful != NULL && best == r->label[at]) continue;
        for (int64_t j = 0; j < z; j++) s->all.z[at * z + j] = (float)r->in.centre[best * z + j];
    }
done:
    return status;
}

static void copy_all(het_predictions *to, const het_predictions *from)
{
    const size_t n = (size_t)from->count;
    memcpy(to->rotation, from->rotation, 9 * n * sizeof *to->rotation);
    memcpy(to->shift, from->shift, 2 * n * sizeof *to->shift);
    memcpy(to->z, from->z, n * (size_t)from->z_dim * sizeof *to->z);
    memcpy(to->loss, from->loss, n * sizeof *to->loss);
}

/* What is no better than it was goes back. */
static void take_better(het_predictions *all, const het_predictions *before)
{
    const int64_t z = all->z_dim;
    for (int64_t i = 0; i < all->count; i++) {
        if (all->loss[i] < before->loss[i]) continue;
        all->loss[i] = before->loss[i];
        memcpy(all->rotation + 9 * i, before->rotation + 9 * i, 9 * sizeof *all->rotation);
        memcpy(all->shift + 2 * i, before->shift + 2 * i, 2 * sizeof *all->shift);
        memcpy(all->z + z * i, before->z + z * i, (size_t)z * sizeof *all->z);
    }
}

static het_status relocate_piece(het_poses *s, void *context, int *stopped)
{
    het_status status = HET_OK;
    relocator *r = context;
    HET_TRY(het_poses_improve_piece(s, 0, stopped));
    if (*stopped) goto done;
    copy_all(&r->before, &s->all);
    for (int64_t i = 0; i < s->all.count; i++)
        if (!counts(r, &s->all, i)) r->before.loss[i] = INFINITY; /* what bent to fit an image is not kept for fitting it */
    HET_TRY(het_poses_share(s, search_piece(r, stopped), stopped));
    if (!*stopped) HET_TRY(het_poses_improve_piece(s, 0, stopped));
    if (!*stopped) take_better(&s->all, &r->before);
done:
    return status;
}

static void tell_moved(const het_predictions *all, const het_predictions *before)
{
    const int64_t z = all->z_dim;
    int64_t moved = 0, changed = 0;
    for (int64_t i = 0; i < all->count; i++) {
        moved += het_poses_distance2(all->rotation + 9 * i, before->rotation + 9 * i) > FAR;
        changed += memcmp(all->z + z * i, before->z + z * i, (size_t)z * sizeof *all->z) != 0;
    }
    het_info("poses searched anew: %.1f %% moved by more than 15 degrees, %.1f %% to another conformation",
             100.0 * (double)moved / (double)all->count, 100.0 * (double)changed / (double)all->count);
}

het_status het_poses_relocate(het_poses *s, int *stopped)
{
    het_status status = HET_OK;
    het_predictions start = {0};
    relocator r = {0};
    het_status made = relocator_new(&r, s, &s->all);
    if (made == HET_OK) made = find_doubtful(&r);
    if (made == HET_OK) made = het_predictions_new(&start, s->all.count, s->all.z_dim);
    HET_TRY(het_comm_agree(s->comm, made));
    copy_all(&start, &s->all);
    const het_poses_work work = {.name = "lost poses", .size = PIECE, .run = relocate_piece, .context = &r};
    HET_TRY(het_poses_pieces(s, &work, stopped));
    if (!*stopped) tell_moved(&s->all, &start);
done:
    relocator_free(&r);
    het_predictions_free(&start);
    return status;
}

static het_status place_piece(het_poses *s, void *context, int *stopped)
{
    het_status status = HET_OK;
    HET_TRY(het_poses_share(s, search_piece(context, stopped), stopped));
    for (int round = 0; round < PLACE_ROUNDS && !*stopped; round++) {
        HET_TRY(het_poses_improve_piece(s, 0, stopped));
        if (!*stopped) HET_TRY(het_poses_conform(s, stopped));
    }
done:
    return status;
}

het_status het_poses_place(het_poses *s, const het_predictions *known, int *stopped)
{
    relocator r;
    const het_poses_work work = {.name = "poses and conformations", .size = PIECE, .run = place_piece, .context = &r};
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(s->comm, relocator_new(&r, s, known)));
    het_info("searching the poses of %lld images in %lld conformations", (long long)s->all.count, (long long)r.in.count);
    status = het_poses_pieces(s, &work, stopped);
done:
    relocator_free(&r);
    return status;
}
