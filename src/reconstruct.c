#include "reconstruct.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "host_memory.h"
#include "mpi/fold.h"
#include "observe.h"
#include "physics/backproject.h"
#include "physics/fsc.h"
#include "progress.h"
#include "rng.h"

static const double LEAST = 1e-3;    /* of a shell's mean weight, in the halves: what hardly any image has seen stays small */
static const double NOTHING = 1e-30; /* no prior, and no division by zero where no image has been */
static const double FSC_LEAST = 1e-3, FSC_MOST = 0.9999;

struct het_reconstructor {
    het_comm *comm;
    const het_stack *stack;
    const float *rotation, *shift;
    het_device *dev;
    double radius;
    int64_t p;                       /* points within it */
    het_points points;
    het_observer observer;
    float *images, *transform, *ctf; /* of a block */
    het_backproject back, *part;     /* a part for each thread */
    het_fold fold;
    double *first;                   /* the sums of the first half */
    double *prior;                   /* (box/2 + 1) */
    int64_t *chosen;                 /* (N) images of a half */
};

/* At most the images' own. */
static int64_t box_for(int64_t d, double radius)
{
    const int64_t least = het_backproject_box(radius);
    return least < d ? least : d;
}

static het_status allocate(het_reconstructor *r)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(r->stack);
    const int64_t d = info->box, box = box_for(d, r->radius);
    HET_TRY(het_points_new(&r->points, d));
    r->p = het_points_within(&r->points, r->radius);
    HET_TRY(het_observer_new(&r->observer, r->dev, &r->points, info->apix, &info->whitening, r->radius));
    HET_TRY(het_backproject_new(&r->back, box, d));
    HET_TRY(het_fold_open(&r->fold, r->comm, (size_t)het_backproject_numbers(box, 1), sizeof(double)));
    const size_t p = (size_t)r->p;
    r->images = het_alloc((size_t)(HET_OBSERVED * d * d) * sizeof *r->images);
    r->transform = het_alloc(HET_OBSERVED * 2 * p * sizeof *r->transform);
    r->ctf = het_alloc(HET_OBSERVED * p * sizeof *r->ctf);
    r->part = het_alloc((size_t)r->dev->threads * sizeof *r->part);
    r->first = het_alloc((size_t)het_backproject_numbers(r->back.box, 1) * sizeof *r->first);
    r->prior = het_alloc((size_t)(box / 2 + 1) * sizeof *r->prior);
    r->chosen = het_alloc((size_t)info->count * sizeof *r->chosen);
    if (r->images == NULL || r->transform == NULL || r->ctf == NULL || r->part == NULL || r->first == NULL || r->prior == NULL ||
        r->chosen == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory to reconstruct maps of box %lld", (long long)box));
    status = het_backproject_parts(r->part, r->dev->threads, &r->back);
done:
    return status;
}

/* The grid, the sums of one half, and the three maps. */
size_t het_reconstructor_bytes(int64_t box, double radius, int64_t parts)
{
    const int64_t d = box_for(box, radius);
    int64_t sums = 1; /* of the first half; and of parts */
    for (; parts > 1; parts /= 2) sums++;
    return (size_t)(het_backproject_bytes(d, 1) + sums * het_backproject_numbers(d, 1) * (int64_t)sizeof(double) + 3 * d * d * d * (int64_t)sizeof(float));
}

static het_status check_memory(const het_comm *comm, int64_t box, double radius)
{
    const double gib = 1073741824.0, need = (double)het_reconstructor_bytes(box, radius, het_comm_parts(comm));
    const double have = (double)het_host_memory("") / het_comm_local_size(comm);
    if (need <= have) return HET_OK;
    return het_fail(HET_E_MEMORY, "maps of box %lld take %.1f GiB on each rank, and there are %.1f: use fewer ranks on this node, or import the "
                    "stack with a smaller -D", (long long)box_for(box, radius), need / gib, have / gib);
}

het_status het_reconstructor_new(het_reconstructor **made, het_comm *comm, het_device *dev, const het_stack *stack, const float *rotation,
                                 const float *shift, double radius)
{
    het_status status = HET_OK;
    het_reconstructor *r = NULL;
    *made = NULL;
    HET_TRY(het_comm_agree(comm, check_memory(comm, het_stack_get_info(stack)->box, radius)));
    r = het_alloc(sizeof *r);
    if (r != NULL) *r = (het_reconstructor){.comm = comm, .stack = stack, .rotation = rotation, .shift = shift, .dev = dev, .radius = radius};
    HET_TRY(het_comm_agree(comm, r != NULL ? allocate(r) : het_fail(HET_E_MEMORY, "no memory to reconstruct maps")));
    *made = r;
done:
    if (status != HET_OK) het_reconstructor_free(r);
    return status;
}

void het_reconstructor_free(het_reconstructor *r)
{
    if (r == NULL) return;
    het_observer_free(&r->observer);
    het_points_free(&r->points);
    if (r->part != NULL) het_backproject_parts_free(r->part, r->dev->threads);
    het_fold_close(&r->fold);
    het_backproject_free(&r->back);
    void *const pieces[] = {r->images, r->transform, r->ctf, r->part, r->first, r->prior, r->chosen};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) het_release(pieces[i]);
    het_release(r);
}

/* By chance, not by turns: stacks may hold conformations or micrographs by turns. */
static int half_of(int64_t image)
{
    het_rng rng = het_rng_at(0, HET_STREAM_SEARCH, 0, (uint64_t)image);
    return (int)(het_rng_u32(&rng) & 1);
}

void het_reconstruct_count(int64_t images[2], const het_reconstructor *r, const int64_t *group, int64_t number)
{
    images[0] = images[1] = 0;
    for (int64_t i = 0; i < het_stack_get_info(r->stack)->count; i++)
        if (group == NULL || group[i] == number) images[half_of(i)]++;
}

static het_status add_block(het_reconstructor *r, const int64_t *image, int64_t n)
{
    het_status status = HET_OK;
    const int64_t p = r->p;
    HET_TRY(het_observe_stack(&r->observer, r->transform, r->ctf, r->images, r->stack, image, n));
#pragma omp parallel for num_threads(r->dev->threads) schedule(static, 1)
    for (int t = 0; t < r->dev->threads; t++)
        for (int64_t i = 0; i < n; i++)
            het_backproject_image(&r->part[t], r->transform + i * 2 * p, r->ctf + i * p, r->rotation + 9 * image[i], r->shift + 2 * image[i],
                                  1.0, r->points.kxy, p);
done:
    return status;
}

/* The sums of one half of a group over all ranks. */
static het_status add_half(het_reconstructor *r, const int64_t *group, int64_t number, int half, int64_t before, het_progress *progress)
{
    het_status status = HET_OK;
    int64_t n = 0, done = 0;
    for (int64_t i = 0; i < het_stack_get_info(r->stack)->count; i++)
        if ((group == NULL || group[i] == number) && half_of(i) == half) r->chosen[n++] = i;
    if (n == 0) return het_fail(HET_E_INPUT, "reconstruct: group %lld has too few images for two half maps", (long long)number);
    for (int64_t part = 0; part < het_comm_parts(r->comm); part++) {
        int64_t first, own;
        het_comm_part(r->comm, part, n, &first, &own);
        het_backproject_clear(&r->back);
        for (int64_t i = first; status == HET_OK && i < first + own; i += HET_OBSERVED, done += HET_OBSERVED) {
            status = add_block(r, r->chosen + i, first + own - i < HET_OBSERVED ? first + own - i : HET_OBSERVED);
            het_progress_step(progress, before + done * het_comm_size(r->comm));
        }
        het_fold_add(&r->fold, r->back.sum);
    }
    HET_TRY(het_comm_agree(r->comm, status));
    HET_TRY(het_comm_sum_f64(r->comm, r->back.sum, (size_t)het_backproject_numbers(r->back.box, 1)));
done:
    return status;
}

/* prior = noise/signal, in the shells of both halves together as they agree, or next to none. */
static void set_prior(het_reconstructor *r, const double *fsc)
{
    const int64_t last = r->back.box / 2;
    het_backproject_weights(&r->back, r->prior);
    for (int64_t s = 0; s <= last; s++) {
        double ratio = LEAST;
        if (fsc != NULL) {
            const double f = fmax(fsc[s < last ? s : last - 1], FSC_LEAST), both = fmin(2.0 * f / (1.0 + f), FSC_MOST);
            ratio = (1.0 - both) / both;
        }
        r->prior[s] = fmax(ratio * r->prior[s], NOTHING);
    }
}

static het_status solve(het_reconstructor *r, het_volume *map, const double *fsc)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(r->stack);
    HET_TRY(het_comm_agree(r->comm, het_volume_new(map, r->back.box, info->apix * (double)info->box / (double)r->back.box)));
    set_prior(r, fsc);
    het_backproject_solve(&r->back, map, r->prior);
done:
    return status;
}

het_status het_reconstruct(het_reconstruction *made, het_reconstructor *r, const int64_t *group, int64_t number, const char *what)
{
    het_status status = HET_OK;
    const size_t numbers = (size_t)het_backproject_numbers(r->back.box, 1);
    const double finer = (double)het_stack_get_info(r->stack)->box / (double)r->back.box;
    het_progress progress;
    *made = (het_reconstruction){.slice_scale = finer * finer};
    het_reconstruct_count(made->images, r, group, number);
    made->fsc = het_alloc((size_t)(r->back.box / 2) * sizeof *made->fsc);
    HET_TRY(het_comm_agree(r->comm, made->fsc != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for a curve")));
    het_progress_start(&progress, r->comm, what, made->images[0] + made->images[1]);
    for (int half = 0; half < 2; half++) {
        HET_TRY(add_half(r, group, number, half, half == 0 ? 0 : made->images[0], &progress));
        HET_TRY(solve(r, &made->half[half], NULL));
        if (half == 0) memcpy(r->first, r->back.sum, numbers * sizeof *r->first);
    }
    het_progress_end(&progress);
    for (size_t i = 0; i < numbers; i++) r->back.sum[i] += r->first[i];
    HET_TRY(het_comm_agree(r->comm, het_fsc(made->fsc, &made->half[0], &made->half[1], NULL)));
    status = solve(r, &made->map, made->fsc);
done:
    return status;
}

void het_reconstruction_free(het_reconstruction *made)
{
    for (int i = 0; i < 2; i++) het_volume_free(&made->half[i]);
    het_volume_free(&made->map);
    het_release(made->fsc);
    *made = (het_reconstruction){0};
}
