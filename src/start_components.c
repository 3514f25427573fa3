#include "start_components.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "observe.h"
#include "physics/components.h"
#include "rng.h"
#include "start_frames.h"
#include "stop.h"

enum { FIRST_ROUNDS = 15, LAST_ROUNDS = 10, WIDE_ROUNDS = 4, STEPS = 3, IMAGES = 8000, OTHERS = 1000, WORDS = sizeof(het_components_answer) / sizeof(float) };
static const double GROWTH = 1.5; /* times the start's radius, at first */
static const double SUMS_BYTES = 2147483648.0; /* at most, of the sums to the radius that poses were found with */
static const double MOVED = 0.3;  /* px: poses that were found are right to this, or better, */
static const double TURNED = 1.0; /* and to this many pixels at the rim of a disc as wide as the box */
static const double TOLD = 0.25;  /* of an axis's variance: those of which images tell less are left */

typedef struct finder {
    het_start *start;
    het_comm *comm;
    het_device *dev;
    const het_stack *stack;
    double radius;
    het_points points;
    het_observer observer;
    float *pixels, *transform, *ctf; /* of a block */
    het_components model;
    int64_t others;               /* of the images below: the later ones, which the maps are not made from */
    het_components_images images; /* count: of those that they are made from */
    int64_t *index;               /* (images) which they are */
    het_components_answer *answer;
    double *left; /* of the others */
} finder;

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

static int64_t others_of(int64_t images)
{
    return images / 2 < OTHERS ? images / 2 : OTHERS;
}

static int64_t makers_of(int64_t images)
{
    return images - others_of(images) < IMAGES ? images - others_of(images) : IMAGES;
}

static size_t bytes_of(int components, int64_t images, double radius)
{
    const double points = 0.5 * M_PI * radius * radius, n = (double)(makers_of(images) + others_of(images));
    return (size_t)(n * ((3.0 * points + 11.0) * sizeof(float) + sizeof(het_components_answer)) + sums_bytes(components, radius) + sums_bytes(0, radius));
}

size_t het_start_components_bytes(const het_config_init *init, int64_t images, int64_t box, int wide)
{
    const double first = first_radius(init, box);
    size_t most = 0;
    if (!wide) return init->components > 0 ? bytes_of((int)init->components, images, first) : 0;
    for (int k = 1; k <= init->components && init->fine_rounds > 0; k++) {
        const double last = last_radius(k, first, (double)(box / 2 - 1));
        const size_t bytes = last > first ? bytes_of(k, images, first) + bytes_of(k, images, last) : 0;
        if (bytes > most) most = bytes;
    }
    return most;
}

static int64_t asked(const finder *f)
{
    return f->images.count + f->others;
}

/* Which images are asked: not by turns, as stacks may hold conformations by turns. */
static void choose_images(finder *f, uint64_t seed)
{
    const int64_t n = asked(f);
    for (int64_t i = 0; i < n; i++) f->index[i] = i * f->start->count / n;
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 3, 0);
    het_rng_shuffle(&rng, f->index, n);
    for (int64_t i = 0; i < n; i++) {
        memcpy(f->images.rotation + 9 * i, f->start->rotation + 9 * f->index[i], 9 * sizeof(float));
        memcpy(f->images.shift + 2 * i, f->start->shift + 2 * f->index[i], 2 * sizeof(float));
    }
}

static het_status prepare(finder *f, int count, double noise, uint64_t seed)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(f->stack);
    const size_t pixels = (size_t)(info->box * info->box);
    const int64_t box = het_backproject_box(f->radius);
    HET_TRY(het_points_new(&f->points, info->box));
    const int64_t p = het_points_within(&f->points, f->radius);
    HET_TRY(het_observer_new(&f->observer, f->dev, &f->points, info->apix, f->radius));
    HET_TRY(het_components_new(&f->model, count, box, info->box, noise, TURNED / (0.5 * (double)info->box), MOVED));
    het_backproject_share(&f->model.sum, het_comm_rank(f->comm), het_comm_size(f->comm));
    f->pixels = het_alloc(HET_OBSERVED * pixels * sizeof *f->pixels);
    f->transform = het_alloc((size_t)(HET_OBSERVED * 2 * p) * sizeof *f->transform);
    f->ctf = het_alloc((size_t)(HET_OBSERVED * p) * sizeof *f->ctf);
    f->others = others_of(f->start->count);
    f->images = (het_components_images){.points = &f->points, .count = makers_of(f->start->count), .p = p};
    const int64_t n = asked(f);
    f->images.a = het_alloc((size_t)(n * 2 * p) * sizeof(float));
    f->images.b = het_alloc((size_t)(n * p) * sizeof(float));
    f->images.rotation = het_alloc((size_t)(9 * n) * sizeof(float));
    f->images.shift = het_alloc((size_t)(2 * n) * sizeof(float));
    f->index = het_alloc((size_t)n * sizeof *f->index);
    f->answer = het_alloc((size_t)n * sizeof *f->answer);
    f->left = het_alloc((size_t)(f->others * het_components_lefts(&f->model)) * sizeof *f->left);
    const void *const mine[] = {f->pixels, f->transform, f->ctf, f->images.a, f->images.b, f->images.rotation, f->images.shift, f->index, f->answer, f->left};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        if (mine[i] == NULL) return het_fail(HET_E_MEMORY, "no memory for the conformations of %lld images", (long long)n);
    choose_images(f, seed);
done:
    return status;
}

static void finder_free(finder *f)
{
    het_observer_free(&f->observer);
    het_components_free(&f->model);
    het_points_free(&f->points);
    void *const mine[] = {f->pixels, f->transform, f->ctf, f->images.a, f->images.b, f->images.rotation, f->images.shift, f->index, f->answer, f->left};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* n images of the stack, moved back by their shifts: a, b. */
static het_status observe(finder *f, float *a, float *b, const float *shift, const int64_t *index, int64_t n)
{
    het_status status = HET_OK;
    const int64_t p = f->images.p;
    HET_TRY(het_observe_stack(&f->observer, f->transform, f->ctf, f->pixels, f->stack, index, n));
#pragma omp parallel for num_threads(f->dev->threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        het_components_observe(a + i * 2 * p, b + i * p, f->transform + i * 2 * p, f->ctf + i * p, shift + 2 * i, &f->points, p);
    if (het_stop_signal() != 0) status = het_stop_status(); /* not for its time: every start of the program gets on */
done:
    return status;
}

/* The images that are asked, to all ranks. */
static het_status read_images(finder *f)
{
    het_status status = HET_OK;
    const int64_t count = asked(f), p = f->images.p;
    int64_t first, own;
    het_comm_share(f->comm, count, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = observe(f, f->images.a + at * 2 * p, f->images.b + at * p, f->images.shift + 2 * at, f->index + at, first + own - at < HET_OBSERVED ? first + own - at : HET_OBSERVED);
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, f->images.a, count, 2 * p, first, own));
    status = het_comm_unite_rows(f->comm, f->images.b, count, p, first, own);
done:
    return status;
}

/* Nothing is known of images [first, first + n). */
static void forget(finder *f, int64_t first, int64_t n)
{
    for (int64_t i = first; i < first + n; i++) f->answer[i] = (het_components_answer){.mean = {1.0}};
}

static void first_answers(finder *f, uint64_t seed)
{
    forget(f, 0, asked(f));
    for (int64_t i = 0; i < f->images.count; i++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 2, (uint64_t)f->index[i]);
        for (int k = 1; k <= f->model.count; k++) f->answer[i].mean[k] = (double)het_rng_normal(&rng);
    }
}

/* Maps from the answers: each rank and each thread of it adds to a part of the sums. */
static het_status make_maps(finder *f)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, het_components_add(&f->model, f->answer, &f->images, f->dev->threads)));
    HET_TRY(het_comm_unite(f->comm, f->model.sum.sum, 2 * (size_t)het_backproject_numbers(f->model.sum.box, f->model.sum.maps)));
    status = het_comm_agree(f->comm, het_components_solve(&f->model, f->dev->threads));
done:
    return status;
}

/* Those of n of the images from `from` on, and what these have left (or NULL). */
static het_status find_answers(finder *f, double *left, int64_t from, int64_t n)
{
    het_status status = HET_OK;
    int64_t first, own;
    const int64_t lefts = het_components_lefts(&f->model), words = lefts * (int64_t)(sizeof *left / sizeof(float));
    het_comm_share(f->comm, n, &first, &own);
    HET_TRY(het_comm_agree(f->comm, het_components_expect(&f->model, f->answer, left != NULL ? left + first * lefts : NULL, &f->images, from + first,
                                                          own, f->dev->threads)));
    HET_TRY(het_comm_unite_rows(f->comm, f->answer + from, n, WORDS, first, own));
    if (left != NULL) HET_TRY(het_comm_unite_rows(f->comm, left, n, words, first, own));
    if (het_stop_signal() != 0) status = het_stop_status();
    status = het_comm_agree(f->comm, status);
done:
    return status;
}

/* Maps, the answers of all, and the noise by those that the maps are not made from: maps fit that of their own. */
static het_status one_round(finder *f)
{
    het_status status = HET_OK;
    het_components_whiten(&f->model, f->answer, f->images.count, asked(f));
    HET_TRY(make_maps(f));
    HET_TRY(find_answers(f, NULL, 0, f->images.count));
    HET_TRY(find_answers(f, f->left, f->images.count, f->others));
    het_components_move(&f->images, f->answer, 0, asked(f), f->dev->threads);
    het_components_set_noise(&f->model, f->left, f->others);
done:
    return status;
}

/* Only those axes stay that images tell of. last: and say so. */
static het_status choose(finder *f, het_components_axes *axes, int last)
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
    forget(f, 0, asked(f));
done:
    return status;
}

/* Along the first axis z has variance 1, along the others as much less as they change the images less: told = A/(1 + A) of axes that A noises
 * of an image tell apart. */
static double scale_of(const het_components_axes *axes, int j)
{
    return sqrt(axes->told[j] / (1.0 - axes->told[j]) * (1.0 - axes->told[0]) / axes->told[0]);
}

/* z and poses of n images of the stack from `first` on. */
static het_status answer_block(finder *f, float *z, const het_components_axes *axes, int64_t first, int64_t n)
{
    het_status status = HET_OK;
    int64_t index[HET_OBSERVED];
    const het_components_images some = {.points = &f->points, .count = n, .p = f->images.p, .a = f->images.a, .b = f->images.b,
                                        .rotation = f->start->rotation + 9 * first, .shift = f->start->shift + 2 * first};
    for (int64_t i = 0; i < n; i++) index[i] = first + i;
    HET_TRY(observe(f, some.a, some.b, some.shift, index, n));
    forget(f, 0, n);
    HET_TRY(het_components_expect(&f->model, f->answer, NULL, &some, 0, n, f->dev->threads));
    for (int step = 0; step < STEPS; step++) {
        het_components_move(&some, f->answer, 0, n, f->dev->threads);
        HET_TRY(het_components_expect(&f->model, f->answer, NULL, &some, 0, n, f->dev->threads));
    }
    for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < f->model.count; j++)
            z[(first + i) * f->start->latents.z_dim + j] = (float)(scale_of(axes, j) * f->answer[i].mean[1 + j]);
done:
    return status;
}

/* Those of all images, to all ranks. */
static het_status answer_all(finder *f, const het_components_axes *axes)
{
    het_status status = HET_OK;
    het_start *start = f->start;
    const int64_t count = start->count, dim = start->latents.z_dim;
    int64_t first, own;
    float *z = het_alloc((size_t)(count * dim) * sizeof *z);
    HET_TRY(het_comm_agree(f->comm, z != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start's conformations")));
    memcpy(z, start->latents.z, (size_t)(count * dim) * sizeof *z);
    for (int64_t i = 0; i < asked(f); i++) {
        memcpy(start->rotation + 9 * f->index[i], f->images.rotation + 9 * i, 9 * sizeof(float));
        memcpy(start->shift + 2 * f->index[i], f->images.shift + 2 * i, 2 * sizeof(float));
    }
    het_comm_share(f->comm, count, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = answer_block(f, z, axes, at, first + own - at < HET_OBSERVED ? first + own - at : HET_OBSERVED);
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, z, count, dim, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, start->rotation, count, 9, first, own));
    HET_TRY(het_comm_unite_rows(f->comm, start->shift, count, 2, first, own));
    het_latents_put(&start->latents, z);
done:
    het_release(z);
    return status;
}

/* The first axes, from random conformations. */
static het_status find_first(finder *f, het_components_axes *axes, int count, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, prepare(f, count, spec->noise_variance, spec->seed)));
    HET_TRY(read_images(f));
    het_components_measure(&f->model, &f->images);
    first_answers(f, spec->seed);
    for (int round = 0; round < FIRST_ROUNDS; round++) HET_TRY(one_round(f));
    HET_TRY(choose(f, axes, 0));
    HET_TRY(find_answers(f, NULL, 0, asked(f)));
    if (f->model.count > 0) status = het_start_frames(f->comm, f->dev, &f->model, &f->images, asked(f), f->answer, spec->seed);
done:
    return status;
}

/* The same images, poses and conformations to a larger radius. */
static het_status widen(finder *wide, const finder *f, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, prepare(wide, f->model.count, spec->noise_variance, spec->seed)));
    memcpy(wide->images.rotation, f->images.rotation, (size_t)(9 * asked(f)) * sizeof(float));
    memcpy(wide->images.shift, f->images.shift, (size_t)(2 * asked(f)) * sizeof(float));
    memcpy(wide->answer, f->answer, (size_t)asked(f) * sizeof *f->answer);
    HET_TRY(read_images(wide));
    het_components_measure(&wide->model, &wide->images);
done:
    return status;
}

het_status het_start_components(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec, double reach)
{
    het_status status = HET_OK;
    const int64_t most = spec->init->components < start->latents.z_dim ? spec->init->components : start->latents.z_dim;
    const double first = first_radius(spec->init, het_stack_get_info(stack)->box);
    finder f = {.start = start, .comm = comm, .dev = dev, .stack = stack, .radius = first}, wide = f, *last = &f;
    het_components_axes axes;
    if (most == 0) return HET_OK;
    HET_TRY(find_first(&f, &axes, (int)most, spec));
    wide.radius = last_radius(f.model.count, first, reach);
    if (wide.radius > first && f.model.count == 0) goto done; /* poses are finer than to the first radius already */
    if (wide.radius > first) {
        HET_TRY(widen(&wide, &f, spec));
        last = &wide;
    }
    for (int round = 0; round < (last == &f ? LAST_ROUNDS : WIDE_ROUNDS); round++) HET_TRY(one_round(last));
    HET_TRY(choose(last, &axes, 1));
    status = answer_all(last, &axes);
done:
    finder_free(&f);
    finder_free(&wide);
    return status;
}
