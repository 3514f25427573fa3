#include "start_components.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "rng.h"
#include "start_mend.h"

enum { FIRST_ROUNDS = 15, LAST_ROUNDS = 8, WIDE_ROUNDS = 4 };
static const double GROWTH = 1.5; /* times the start's radius, at first */
static const double SUMS_BYTES = 2147483648.0; /* at most, of the sums to the radius that poses were found with */
static const double TOLD = 0.25;  /* of an axis's variance: those of which images tell less are left */

static double first_radius(const het_config_init *init, int64_t box)
{
    return fmin(GROWTH * init->radius, (double)(box / 2 - 1));
}

static double sums_bytes(int components, double radius)
{
    return (double)het_backproject_bytes(het_backproject_box(radius), components + 1);
}

/* Up to `reach`, as far as memory allows. */
static double last_radius(int components, double first, double reach)
{
    while (reach > first && sums_bytes(components, reach) > SUMS_BYTES) reach -= 1.0;
    return fmax(first, reach);
}

static size_t bytes_of(int components, int64_t images, double radius)
{
    const double points = 0.5 * M_PI * radius * radius, n = (double)(het_finder_makers(images) + het_finder_others(images));
    return (size_t)(n * ((3.0 * points + 11.0) * sizeof(float) + sizeof(het_components_answer)) + sums_bytes(components, radius) + sums_bytes(0, radius) +
                    (double)het_slicer_bytes(het_backproject_box(radius), components + 1));
}

size_t het_start_components_bytes(const het_config_init *init, int64_t images, int64_t box, int wide)
{
    const double first = first_radius(init, box);
    size_t most = 0;
    if (!wide) return init->components > 0 ? bytes_of((int)init->components, images, first) + het_candidates_bytes(init->radius, first) : 0;
    for (int k = 1; k <= init->components && init->fine_rounds > 0; k++) {
        const double last = last_radius(k, first, (double)(box / 2 - 1));
        const size_t bytes = last > first ? bytes_of(k, images, first) + bytes_of(k, images, last) : 0;
        if (bytes > most) most = bytes;
    }
    return most;
}

static void first_answers(het_finder *f, uint64_t seed)
{
    het_finder_forget(f->answer, het_finder_asked(f));
    for (int64_t i = 0; i < f->images.count; i++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 2, (uint64_t)f->index[i]);
        for (int k = 1; k <= f->model.count; k++) f->answer[i].mean[k] = (double)het_rng_normal(&rng);
    }
}

/* Only those axes stay that images tell of. last: and say so. */
static het_status choose(het_finder *f, het_components_axes *axes, int last)
{
    het_status status = HET_OK;
    char list[16 * HET_COMPONENTS_MOST] = "";
    int count = 0;
    het_components_find_axes(axes, &f->model, f->answer + f->images.count, f->others);
    for (int k = 0; k < f->model.count; k++) {
        count += axes->told[k] >= TOLD;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.2f", k > 0 ? ", " : "", axes->told[k]);
    }
    het_info("start: %sconformations along %d of %d axes: of their variance images tell %s", last ? "first " : "", count, f->model.count, list);
    HET_TRY(het_comm_agree(f->comm, het_components_keep(&f->model, axes, count)));
    het_finder_forget(f->answer, het_finder_asked(f));
done:
    return status;
}

/* Along the first axis z has variance 1, along the others as much less as they change the images less: told = A/(1 + A) of axes that A noises
 * of an image tell apart. */
static double scale_of(const het_components_axes *axes, int j)
{
    return sqrt(axes->told[j] / (1.0 - axes->told[j]) * (1.0 - axes->told[0]) / axes->told[0]);
}

/* Those of all images, to all ranks. */
static het_status answer_all(het_finder *f, het_candidates *candidates, const het_components_axes *axes)
{
    het_status status = HET_OK;
    het_start *start = f->start;
    het_components_answer answer[HET_OBSERVED];
    int64_t index[HET_OBSERVED];
    const int64_t count = start->count, dim = start->latents.z_dim;
    int64_t first, own;
    float *z = het_alloc((size_t)(count * dim) * sizeof *z);
    HET_TRY(het_comm_agree(f->comm, z != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start's conformations")));
    memcpy(z, start->latents.z, (size_t)(count * dim) * sizeof *z);
    for (int64_t i = 0; i < het_finder_asked(f); i++) {
        memcpy(start->rotation + 9 * f->index[i], f->images.rotation + 9 * i, 9 * sizeof(float));
        memcpy(start->shift + 2 * f->index[i], f->images.shift + 2 * i, 2 * sizeof(float));
    }
    het_first_volume_share(f->comm, count, &first, &own); /* for the search */
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED) {
        const int64_t n = het_finder_block(at, first + own);
        for (int64_t i = 0; i < n; i++) index[i] = at + i;
        status = het_finder_answer(f, candidates, answer, start->rotation + 9 * at, start->shift + 2 * at, index, n);
        for (int64_t i = 0; i < n && status == HET_OK; i++) {
            start->particle[at + i] = answer[i].loglik > HET_PARTICLE;
            for (int j = 0; j < f->model.count; j++) z[(at + i) * dim + j] = (float)(scale_of(axes, j) * answer[i].mean[1 + j]);
        }
    }
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, z, count, dim, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, start->rotation, count, 9, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, start->shift, count, 2, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, start->particle, count, 1, first, own));
    het_latents_put(&start->latents, z);
done:
    het_release(z);
    return status;
}

/* The first axes, from random conformations. */
static het_status find_first(het_finder *f, het_components_axes *axes, int count, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, het_finder_new(f, count, spec->noise_variance, spec->seed)));
    HET_TRY(het_finder_read(f));
    het_components_measure(&f->model, &f->images);
    first_answers(f, spec->seed);
    for (int round = 0; round < FIRST_ROUNDS; round++) HET_TRY(het_finder_round(f));
    HET_TRY(choose(f, axes, 0));
    HET_TRY(het_start_mend(f, spec));
    for (int round = 0; round < LAST_ROUNDS; round++) HET_TRY(het_finder_round(f));
done:
    return status;
}

/* The same images, poses and conformations to a larger radius. */
static het_status widen(het_finder *wide, const het_finder *f, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, het_finder_new(wide, f->model.count, spec->noise_variance, spec->seed)));
    memcpy(wide->images.rotation, f->images.rotation, (size_t)(9 * het_finder_asked(f)) * sizeof(float));
    memcpy(wide->images.shift, f->images.shift, (size_t)(2 * het_finder_asked(f)) * sizeof(float));
    memcpy(wide->answer, f->answer, (size_t)het_finder_asked(f) * sizeof *f->answer);
    HET_TRY(het_finder_read(wide));
    het_components_measure(&wide->model, &wide->images);
done:
    return status;
}

het_status het_start_components(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec, double reach)
{
    het_status status = HET_OK;
    const int64_t most = spec->init->components < start->latents.z_dim ? spec->init->components : start->latents.z_dim;
    const double first = first_radius(spec->init, het_stack_get_info(stack)->box);
    het_finder f = {.start = start, .comm = comm, .dev = dev, .stack = stack, .radius = first}, wide = f, *last = &f;
    het_components_axes axes;
    het_candidates candidates = {0};
    if (most == 0) return HET_OK;
    HET_TRY(find_first(&f, &axes, (int)most, spec));
    if (f.lost >= HET_START_LOST && het_finder_asked(&f) < start->count) /* for the others, which no search has seen */
        HET_TRY(het_comm_agree(comm, het_candidates_new(&candidates, &f, spec)));
    wide.radius = last_radius(f.model.count, first, reach);
    if (wide.radius > first && f.model.count == 0) goto done; /* poses are finer than to the first radius already */
    if (wide.radius > first) {
        HET_TRY(widen(&wide, &f, spec));
        last = &wide;
        for (int round = 0; round < WIDE_ROUNDS; round++) HET_TRY(het_finder_round(last));
    }
    HET_TRY(choose(last, &axes, 1));
    status = answer_all(last, candidates.n > 0 ? &candidates : NULL, &axes);
done:
    het_candidates_free(&candidates);
    het_finder_free(&f);
    het_finder_free(&wide);
    return status;
}
