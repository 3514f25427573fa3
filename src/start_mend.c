#include "start_mend.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "refine_poses.h"
#include "start_frames.h"

enum { SEARCHES = 4, ROUNDS = 4, STEPS = 3, WORDS = sizeof(het_components_answer) / sizeof(float) };
static const double NEAR = 0.0608; /* |R-R'|^2 of 10 degrees: the same view, */
static const double FAR = 0.1363;  /* of 15: another one, */
static const double GAIN = 3.0;    /* where its log-likelihood is so much more */

/* What the model says of some images, nothing being known of them, and the poses that go with it. */
static het_status settle(const het_finder *f, const het_components_images *images, het_components_answer *answer)
{
    het_status status = HET_OK;
    het_finder_forget(answer, images->count);
    HET_TRY(het_components_expect(&f->model, answer, NULL, images, 0, images->count, f->dev->threads));
    for (int step = 0; step < STEPS; step++) {
        het_components_move(images, answer, 0, images->count, f->dev->threads);
        HET_TRY(het_components_expect(&f->model, answer, NULL, images, 0, images->count, f->dev->threads));
    }
done:
    return status;
}

/* Images that a block's answers come from: those of the model are read anew afterwards. */
static het_components_images place_for(const het_finder *f, int which, float *rotation, float *shift, int64_t n)
{
    const int64_t at = which * HET_OBSERVED, p = f->images.p;
    return (het_components_images){.points = &f->points, .count = n, .p = p, .a = f->images.a + at * 2 * p, .b = f->images.b + at * p,
                                   .rotation = rotation, .shift = shift};
}

/* Those of n images, observed, which a group's map has in another view: the likelier pose stays. */
static het_status try_group(het_finder *f, het_candidates *candidates, int group, het_components_answer *answer, float *rotation, float *shift, int64_t n)
{
    het_status status = HET_OK;
    float found[9 * HET_OBSERVED], moved[2 * HET_OBSERVED];
    het_components_answer other[HET_OBSERVED];
    int64_t of[HET_OBSERVED], far = 0;
    const int64_t p = f->images.p;
    het_candidates_find(candidates, group, found, moved, f->transform, f->ctf, p, n);
    het_components_images some = place_for(f, 1, found, moved, 0);
    for (int64_t i = 0; i < n; i++) {
        if (het_poses_distance2(found + 9 * i, rotation + 9 * i) < NEAR) continue;
        memmove(found + 9 * far, found + 9 * i, 9 * sizeof *found);
        memmove(moved + 2 * far, moved + 2 * i, 2 * sizeof *moved);
        het_components_observe(some.a + far * 2 * p, some.b + far * p, f->transform + i * 2 * p, f->ctf + i * p, moved + 2 * far, &f->points, p);
        of[far++] = i;
    }
    some.count = far;
    HET_TRY(settle(f, &some, other));
    for (int64_t j = 0; j < far; j++) {
        const int64_t i = of[j];
        if (!(other[j].loglik > answer[i].loglik + GAIN)) continue;
        answer[i] = other[j];
        memcpy(rotation + 9 * i, found + 9 * j, 9 * sizeof *found);
        memcpy(shift + 2 * i, moved + 2 * j, 2 * sizeof *moved);
    }
done:
    return status;
}

het_status het_finder_answer(het_finder *f, het_candidates *candidates, het_components_answer *answer, float *rotation, float *shift,
                             const int64_t *index, int64_t n)
{
    het_status status = HET_OK;
    const het_components_images some = place_for(f, 0, rotation, shift, n);
    HET_TRY(het_finder_observe(f, some.a, some.b, shift, index, n));
    HET_TRY(settle(f, &some, answer));
    for (int group = 0; candidates != NULL && group < candidates->n; group++)
        HET_TRY(try_group(f, candidates, group, answer, rotation, shift, n));
done:
    return status;
}

/* The images that are asked at the likeliest of all poses that groups of conformations tell; share [out] of them is in another view now. */
static het_status relocate(het_finder *f, const het_start_volume_spec *spec, double *share)
{
    het_status status = HET_OK;
    const int64_t n = het_finder_asked(f);
    int64_t first, own, moved = 0;
    het_candidates candidates = {0};
    float *before = het_alloc((size_t)(9 * n) * sizeof *before);
    HET_TRY(het_comm_agree(f->comm, before != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for poses")));
    memcpy(before, f->images.rotation, (size_t)(9 * n) * sizeof *before);
    HET_TRY(het_comm_agree(f->comm, het_candidates_new(&candidates, f, spec)));
    het_first_volume_share(f->comm, n, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = het_finder_answer(f, &candidates, f->answer + at, f->images.rotation + 9 * at, f->images.shift + 2 * at, f->index + at,
                                   het_finder_block(at, first + own));
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, f->answer, n, WORDS, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, f->images.rotation, n, 9, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, f->images.shift, n, 2, first, own));
    HET_TRY(het_finder_read(f));
    for (int64_t i = 0; i < n; i++) moved += het_poses_distance2(before + 9 * i, f->images.rotation + 9 * i) > FAR;
    *share = (double)moved / (double)n;
    het_info("start: poses searched anew in %d groups of conformations: %.1f %% moved by more than 15 degrees", candidates.n, 100.0 * *share);
done:
    het_candidates_free(&candidates);
    het_release(before);
    return status;
}

het_status het_start_mend(het_finder *f, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    het_groups groups = {0};
    double moved;
    if (f->model.count == 0) goto done;
    HET_TRY(het_finder_ask(f, NULL, 0, het_finder_asked(f)));
    HET_TRY(het_comm_agree(f->comm, het_groups_new(&groups, HET_FRAMES, f->answer, het_finder_asked(f), f->model.count, spec->seed)));
    HET_TRY(het_start_frames(f->comm, f->dev, &f->model, &f->images, het_finder_asked(f), f->answer, &groups));
    for (int search = 0; search < SEARCHES; search++) {
        for (int round = 0; round < ROUNDS; round++) HET_TRY(het_finder_round(f));
        HET_TRY(relocate(f, spec, &moved));
        if (search == 0) f->lost = moved;
        if (moved < HET_START_LOST) break;
    }
done:
    het_groups_free(&groups);
    return status;
}
