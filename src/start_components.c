#include "start_components.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "observe.h"
#include "physics/components.h"
#include "rng.h"
#include "stop.h"

enum { ROUNDS = 15, IMAGES = 16000, NOISE_IMAGES = 2000, WORDS = sizeof(het_components_answer) / sizeof(float) };
static const double GROWTH = 1.5; /* times the start's radius */
static const double MOVED = 0.3;       /* px: poses that were found are right to this, or better, */
static const double TURNED = 1.0;      /* and to this many pixels at the rim of a disc as wide as the box */
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
    het_components_images images; /* of those that the model is made from */
    float *rotation;              /* theirs */
    int64_t *index;               /* (images) which they are; the later half is asked alone */
    int64_t asked;                /* images in all */
    het_components_answer *answer;
    double *left; /* of the first images of that half, as many as the noise is told by */
} finder;

static double radius_for(const het_config_init *init, int64_t box)
{
    return fmin(GROWTH * init->radius, (double)(box / 2 - 1));
}

static int64_t asked_of(int64_t images)
{
    return images < IMAGES ? images : IMAGES;
}

size_t het_start_components_bytes(const het_config_init *init, int64_t images, int64_t box)
{
    const double radius = radius_for(init, box), points = 0.5 * M_PI * radius * radius;
    const size_t n = (size_t)asked_of(images), k = (size_t)init->components,
                 each = (size_t)(3.0 * points) * sizeof(float) + 9 * sizeof(float) + sizeof(het_components_answer);
    return k == 0 ? 0 : n * each + (k + 1) * (k + 2) / 2 * (size_t)het_backproject_bytes(het_backproject_box(radius));
}

static int64_t noise_images(int64_t asked)
{
    const int64_t others = asked - asked / 2;
    return others < NOISE_IMAGES ? others : NOISE_IMAGES;
}

static het_status prepare(finder *f, int count, double noise, uint64_t seed)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(f->stack);
    const size_t pixels = (size_t)(info->box * info->box);
    const int64_t box = het_backproject_box(f->radius), n = asked_of(f->start->count), half = n / 2;
    HET_TRY(het_points_new(&f->points, info->box));
    const int64_t p = het_points_within(&f->points, f->radius);
    HET_TRY(het_observer_new(&f->observer, f->dev, &f->points, info->apix, f->radius));
    HET_TRY(het_components_new(&f->model, count, box, info->box, noise, TURNED / (0.5 * (double)info->box), MOVED));
    f->pixels = het_alloc(HET_OBSERVED * pixels * sizeof *f->pixels);
    f->transform = het_alloc((size_t)(HET_OBSERVED * 2 * p) * sizeof *f->transform);
    f->ctf = het_alloc((size_t)(HET_OBSERVED * p) * sizeof *f->ctf);
    f->images = (het_components_images){.points = &f->points, .count = half, .p = p,
                                        .a = het_alloc((size_t)(n * 2 * p) * sizeof(float)), .b = het_alloc((size_t)(n * p) * sizeof(float))};
    f->rotation = het_alloc((size_t)(9 * n) * sizeof *f->rotation);
    f->index = het_alloc((size_t)n * sizeof *f->index);
    f->answer = het_alloc((size_t)n * sizeof *f->answer);
    f->left = het_alloc((size_t)(noise_images(n) * het_components_lefts(&f->model)) * sizeof *f->left);
    if (f->pixels == NULL || f->transform == NULL || f->ctf == NULL || f->images.a == NULL || f->images.b == NULL || f->rotation == NULL ||
        f->index == NULL || f->answer == NULL || f->left == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the conformations of %lld images", (long long)n);
    f->images.rotation = f->rotation;
    f->asked = n;
    for (int64_t i = 0; i < n; i++) f->index[i] = i * f->start->count / n;
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 3, 0); /* not by turns: stacks may hold conformations by turns */
    het_rng_shuffle(&rng, f->index, n);
    for (int64_t i = 0; i < n; i++) memcpy(f->rotation + 9 * i, f->start->rotation + 9 * f->index[i], 9 * sizeof *f->rotation);
done:
    return status;
}

static void finder_free(finder *f)
{
    het_observer_free(&f->observer);
    het_components_free(&f->model);
    het_points_free(&f->points);
    void *const mine[] = {f->pixels, f->transform, f->ctf, f->images.a, f->images.b, f->rotation, f->index, f->answer, f->left};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

/* n images of the stack: a, b. */
static het_status observe(finder *f, float *a, float *b, const int64_t *index, int64_t n)
{
    het_status status = HET_OK;
    const int64_t p = f->images.p;
    HET_TRY(het_observe_stack(&f->observer, f->transform, f->ctf, f->pixels, f->stack, index, n));
#pragma omp parallel for num_threads(f->dev->threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        het_components_observe(a + i * 2 * p, b + i * p, f->transform + i * 2 * p, f->ctf + i * p, f->start->shift + 2 * index[i], &f->points, p);
    if (het_stop_signal() != 0) status = het_stop_status(); /* not for its time: every start of the program gets on */
done:
    return status;
}

/* The images that the model is made from, to all ranks. */
static het_status read_images(finder *f)
{
    het_status status = HET_OK;
    const int64_t count = f->asked, p = f->images.p;
    int64_t first, own;
    het_comm_share(f->comm, count, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = observe(f, f->images.a + at * 2 * p, f->images.b + at * p, f->index + at, first + own - at < HET_OBSERVED ? first + own - at : HET_OBSERVED);
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, f->images.a, count, 2 * p, first, own));
    status = het_comm_unite_rows(f->comm, f->images.b, count, p, first, own);
done:
    return status;
}

static void first_answers(finder *f, uint64_t seed)
{
    for (int64_t i = 0; i < f->images.count; i++) {
        het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 2, (uint64_t)f->index[i]);
        f->answer[i] = (het_components_answer){.mean = {1.0}};
        for (int k = 1; k <= f->model.count; k++) f->answer[i].mean[k] = (double)het_rng_normal(&rng);
    }
}

/* Maps from the answers: each sum is one rank's, by a thread of it. */
static het_status make_maps(finder *f)
{
    het_status status = HET_OK;
    const int sums = het_components_sums(&f->model), ranks = het_comm_size(f->comm), rank = het_comm_rank(f->comm);
    int failed = 0;
#pragma omp parallel for num_threads(f->dev->threads) schedule(dynamic, 1) reduction(+ : failed)
    for (int i = 0; i < sums; i++) {
        if (i % ranks == rank) failed += het_components_add(&f->model, i, f->answer, &f->images) != HET_OK;
        else het_backproject_clear(&f->model.sum[i]);
    }
    HET_TRY(het_comm_agree(f->comm, failed == 0 ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start's conformations")));
    for (int i = 0; i < sums && ranks > 1; i++)
        HET_TRY(het_comm_unite(f->comm, f->model.sum[i].sum, 2 * (size_t)het_backproject_numbers(f->model.sum[i].box)));
    status = het_comm_agree(f->comm, het_components_solve(&f->model));
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

/* Of images that the maps are not made from: these fit the noise of their own. */
static het_status find_noise(finder *f)
{
    het_status status = HET_OK;
    const int64_t n = noise_images(f->asked);
    HET_TRY(find_answers(f, f->left, f->images.count, n));
    het_components_set_noise(&f->model, f->left, n);
    status = het_comm_agree(f->comm, het_components_measure(&f->model, &f->images));
done:
    return status;
}

/* Along the first axis z has variance 1, along the others as much less as they change the images less: told = A/(1 + A) of axes that A noises
 * of an image tell apart. */
static double scale_of(const het_components_axis *axis, int j)
{
    return sqrt(axis[j].told / (1.0 - axis[j].told) * (1.0 - axis[0].told) / axis[0].told);
}

/* z of n images of the stack from `first` on. */
static het_status answer_block(finder *f, float *z, const het_components_axis *axis, int axes, int64_t first, int64_t n)
{
    het_status status = HET_OK;
    int64_t index[HET_OBSERVED];
    het_components_images some = f->images;
    some.rotation = f->start->rotation + 9 * first;
    for (int64_t i = 0; i < n; i++) index[i] = first + i;
    HET_TRY(observe(f, some.a, some.b, index, n));
    HET_TRY(het_components_expect(&f->model, f->answer, NULL, &some, 0, n, f->dev->threads));
    for (int64_t i = 0; i < n; i++) {
        float *to = z + (first + i) * f->start->latents.z_dim;
        for (int j = 0; j < axes; j++) to[j] = (float)(scale_of(axis, j) * het_components_along(axis + j, &f->model, f->answer + i));
    }
done:
    return status;
}

/* Those of all images, to all ranks. */
static het_status answer_all(finder *f, const het_components_axis *axis, int axes)
{
    het_status status = HET_OK;
    const int64_t count = f->start->count, dim = f->start->latents.z_dim;
    int64_t first, own;
    float *z = het_alloc((size_t)(count * dim) * sizeof *z);
    HET_TRY(het_comm_agree(f->comm, z != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start's conformations")));
    memcpy(z, f->start->latents.z, (size_t)(count * dim) * sizeof *z);
    het_comm_share(f->comm, count, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = answer_block(f, z, axis, axes, at, first + own - at < HET_OBSERVED ? first + own - at : HET_OBSERVED);
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, z, count, dim, first, own));
    het_latents_put(&f->start->latents, z);
done:
    het_release(z);
    return status;
}

/* How many of the axes count, and say so. */
static int choose(const het_components_axis *axis, int count)
{
    char list[16 * HET_COMPONENTS_MOST] = "";
    int axes = 0;
    for (int k = 0; k < count; k++) {
        axes += axis[k].told >= TOLD;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.2f", k > 0 ? ", " : "", axis[k].told);
    }
    het_info("start: first conformations along %d of %d axes: of their variance images tell %s", axes, count, list);
    return axes;
}

het_status het_start_components(het_start *start, het_comm *comm, het_device *dev, const het_stack *stack, const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const int64_t most = spec->init->components < start->latents.z_dim ? spec->init->components : start->latents.z_dim;
    finder f = {.start = start, .comm = comm, .dev = dev, .stack = stack, .radius = radius_for(spec->init, het_stack_get_info(stack)->box)};
    het_components_axis axis[HET_COMPONENTS_MOST];
    if (most == 0) return HET_OK;
    HET_TRY(het_comm_agree(comm, prepare(&f, (int)most, spec->noise_variance, spec->seed)));
    HET_TRY(read_images(&f));
    HET_TRY(het_comm_agree(comm, het_components_measure(&f.model, &f.images)));
    first_answers(&f, spec->seed);
    for (int round = 0; round < ROUNDS; round++) {
        HET_TRY(make_maps(&f));
        HET_TRY(find_answers(&f, NULL, 0, f.images.count));
        HET_TRY(find_noise(&f));
        het_components_whiten(&f.model, f.answer, f.images.count);
    }
    HET_TRY(find_answers(&f, NULL, f.images.count, f.asked - f.images.count));
    het_components_axes(axis, &f.model, f.answer + f.images.count, f.asked - f.images.count);
    const int axes = choose(axis, f.model.count);
    if (axes > 0) status = answer_all(&f, axis, axes);
done:
    finder_free(&f);
    return status;
}
