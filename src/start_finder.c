#include "start_finder.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "rng.h"
#include "stop.h"

enum { IMAGES = 8000, OTHERS = 1000, WORDS = sizeof(het_components_answer) / sizeof(float) };
static const double MOVED = 0.3;  /* px: poses that were found are right to this, or better, */
static const double TURNED = 1.0; /* and to this many pixels at the rim of a disc as wide as the box */

int64_t het_finder_others(int64_t images)
{
    return images / 2 < OTHERS ? images / 2 : OTHERS;
}

int64_t het_finder_makers(int64_t images)
{
    return images - het_finder_others(images) < IMAGES ? images - het_finder_others(images) : IMAGES;
}

int64_t het_finder_asked(const het_finder *f)
{
    return f->images.count + f->others;
}

/* Which images are asked: particles, not by turns, as stacks may hold conformations by turns. */
static void choose_images(het_finder *f, uint64_t seed)
{
    const int64_t n = het_finder_asked(f), particles = het_start_particles(f->start);
    for (int64_t image = 0, seen = 0, i = 0; i < n; image++) {
        if (!(f->start->particle[image] > 0.0F)) continue;
        if (i * particles / n == seen) f->index[i++] = image;
        seen++;
    }
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 3, 0);
    het_rng_shuffle(&rng, f->index, n);
    for (int64_t i = 0; i < n; i++) {
        memcpy(f->images.rotation + 9 * i, f->start->rotation + 9 * f->index[i], 9 * sizeof(float));
        memcpy(f->images.shift + 2 * i, f->start->shift + 2 * f->index[i], 2 * sizeof(float));
    }
}

het_status het_finder_new(het_finder *f, int count, double noise, uint64_t seed)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(f->stack);
    const size_t pixels = (size_t)(info->box * info->box);
    const int64_t box = het_backproject_box(f->radius);
    HET_TRY(het_points_new(&f->points, info->box));
    const int64_t p = het_points_within(&f->points, f->radius);
    HET_TRY(het_observer_new(&f->observer, f->dev, &f->points, info->apix, &info->whitening, f->radius));
    HET_TRY(het_components_new(&f->model, count, box, info->box, noise, TURNED / (0.5 * (double)info->box), MOVED));
    het_backproject_share(&f->model.sum, het_comm_rank(f->comm), het_comm_size(f->comm));
    f->pixels = het_alloc(HET_OBSERVED * pixels * sizeof *f->pixels);
    f->transform = het_alloc((size_t)(HET_OBSERVED * 2 * p) * sizeof *f->transform);
    f->ctf = het_alloc((size_t)(HET_OBSERVED * p) * sizeof *f->ctf);
    const int64_t particles = het_start_particles(f->start);
    f->others = het_finder_others(particles);
    f->images = (het_components_images){.points = &f->points, .count = het_finder_makers(particles), .p = p};
    const int64_t n = het_finder_asked(f);
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

void het_finder_free(het_finder *f)
{
    het_observer_free(&f->observer);
    het_components_free(&f->model);
    het_points_free(&f->points);
    void *const mine[] = {f->pixels, f->transform, f->ctf, f->images.a, f->images.b, f->images.rotation, f->images.shift, f->index, f->answer, f->left};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) het_release(mine[i]);
}

het_status het_finder_observe(het_finder *f, float *a, float *b, const float *shift, const int64_t *index, int64_t n)
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

int64_t het_finder_block(int64_t at, int64_t end)
{
    return end - at < HET_OBSERVED ? end - at : HET_OBSERVED;
}

het_status het_finder_read(het_finder *f)
{
    het_status status = HET_OK;
    const int64_t count = het_finder_asked(f), p = f->images.p;
    int64_t first, own;
    het_comm_share(f->comm, count, &first, &own);
    for (int64_t at = first; at < first + own && status == HET_OK; at += HET_OBSERVED)
        status = het_finder_observe(f, f->images.a + at * 2 * p, f->images.b + at * p, f->images.shift + 2 * at, f->index + at,
                                    het_finder_block(at, first + own));
    HET_TRY(het_comm_agree(f->comm, status));
    HET_TRY(het_comm_unite_rows(f->comm, f->images.a, count, 2 * p, first, own));
    status = het_comm_unite_rows(f->comm, f->images.b, count, p, first, own);
done:
    return status;
}

void het_finder_forget(het_components_answer *answer, int64_t n)
{
    for (int64_t i = 0; i < n; i++) answer[i] = (het_components_answer){.mean = {1.0}};
}

/* Maps from the answers: each rank and each thread of it adds to a part of the sums. */
static het_status make_maps(het_finder *f)
{
    het_status status = HET_OK;
    HET_TRY(het_comm_agree(f->comm, het_components_add(&f->model, f->answer, &f->images, f->dev->threads)));
    HET_TRY(het_comm_unite(f->comm, f->model.sum.sum, 2 * (size_t)het_backproject_numbers(f->model.sum.box, f->model.sum.maps)));
    status = het_comm_agree(f->comm, het_components_solve(&f->model, f->dev->threads));
done:
    return status;
}

het_status het_finder_ask(het_finder *f, double *left, int64_t from, int64_t n)
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

het_status het_finder_round(het_finder *f)
{
    het_status status = HET_OK;
    het_components_whiten(&f->model, f->answer, f->images.count, het_finder_asked(f));
    HET_TRY(make_maps(f));
    HET_TRY(het_finder_ask(f, NULL, 0, f->images.count));
    HET_TRY(het_finder_ask(f, f->left, f->images.count, f->others));
    het_components_move(&f->images, f->answer, 0, het_finder_asked(f), f->dev->threads);
    het_components_set_noise(&f->model, f->left, f->others);
done:
    return status;
}
