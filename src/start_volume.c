#include "start_volume.h"

#include <string.h>

#include "arena.h"
#include "log.h"
#include "rng.h"
#include "run_stage.h"
#include "stop.h"
#include "start_search.h"

enum { IMAGES_LEAST = 200 };

static void chosen_free(het_chosen *c)
{
    het_release(c->images);
    het_release(c->ctf);
    het_release(c->rotation);
    het_release(c->shift);
    het_release(c->valid);
}

/* The first `count` of `all` images spread over the stack. */
static het_status read_chosen(het_chosen *c, const het_stack *stack, int64_t count, int64_t all, uint64_t seed)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t *index = het_alloc((size_t)all * sizeof *index);
    *c = (het_chosen){.count = count};
    c->images = het_alloc((size_t)(count * info->box * info->box) * sizeof *c->images);
    c->ctf = het_alloc((size_t)count * sizeof *c->ctf);
    c->rotation = het_alloc((size_t)count * 9 * sizeof *c->rotation);
    c->shift = het_alloc((size_t)count * 2 * sizeof *c->shift);
    c->valid = het_alloc((size_t)count);
    if (index == NULL || c->images == NULL || c->ctf == NULL || c->rotation == NULL || c->shift == NULL ||
        c->valid == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the %lld images of the start: choose fewer by init.images",
                         (long long)count));
    for (int64_t i = 0; i < all; i++) index[i] = i * info->count / all;
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 0, 0);
    het_rng_shuffle(&rng, index, all);
    HET_TRY(het_stack_read_standardised(stack, c->images, index, count));
    HET_TRY(het_stack_read_ctf(stack, c->ctf, index, count));
done:
    het_release(index);
    return status;
}

het_status het_start_maximise(het_first_volume *volume, het_device *dev, const het_stack *stack, const het_chosen *c,
                              const het_start_volume_spec *spec, het_first_volume_spec more)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    het_points points = {0};
    float *noise = NULL;
    HET_TRY(het_points_new(&points, info->box));
    const int64_t p = het_points_within(&points, more.radius);
    noise = het_alloc((size_t)p * sizeof *noise);
    if (noise == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the start"));
    for (int64_t i = 0; i < p; i++) noise[i] = (float)spec->noise_variance;
    more.box = info->box;
    more.apix = info->apix;
    more.count = c->count;
    more.images = c->images;
    more.ctf = c->ctf;
    more.noise = noise;
    more.shift_range = spec->shift_range;
    HET_TRY(het_first_volume_find(volume, dev, &more));
done:
    het_points_free(&points);
    het_release(noise);
    return status;
}

/* All chosen images, at the radius asked for. Rank 0. */
static het_status go_on(het_first_volume *volume, het_device *dev, const het_stack *stack, const het_chosen *c,
                        const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    HET_TRY(het_start_maximise(volume, dev, stack, c, spec,
                               (het_first_volume_spec){.rotation = c->rotation, .shift = c->shift, .valid = c->valid,
                                                       .radius = spec->radius, .rounds = (int)spec->init->rounds,
                                                       .seed = 1}));
    het_info("start: volume to %.1f A explains %.0f %% of the signal of %lld images",
             (double)info->box * info->apix / spec->radius, 100.0 * volume->explained, (long long)c->count);
done:
    return status;
}

het_status het_start_volume_check(const het_config_init *init, int64_t images)
{
    const int64_t all = images < init->images ? images : init->images;
    if (all >= IMAGES_LEAST) return HET_OK;
    return het_fail(HET_E_USAGE, "a start without a model needs at least %d images, there are %lld: use init.method=none",
                    IMAGES_LEAST, (long long)all);
}

/* The map and the noise of its likelihood: found by rank 0, for all. */
static het_status find_volume(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack,
                              const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const het_config_init *init = spec->init;
    const int64_t all = info->count < init->images ? info->count : init->images;
    const int rank = het_comm_rank(comm);
    const size_t voxels = (size_t)(volume->map.box * volume->map.box * volume->map.box),
                 p = (size_t)het_points_within(&volume->points, spec->radius);
    het_chosen c = {0};
    het_first_volume found = {0};
    if (rank < HET_START_AT_A_TIME) status = read_chosen(&c, stack, rank == 0 ? all : het_start_search_images(all, init), all, spec->seed);
    HET_TRY(het_comm_agree(comm, status));
    HET_TRY(het_start_from_search(&c, all, comm, dev, stack, spec));
    if (rank == 0) status = go_on(&found, dev, stack, &c, spec);
    HET_TRY(het_comm_agree(comm, status));
    if (rank == 0) {
        memcpy(volume->map.data, found.map.data, voxels * sizeof *found.map.data);
        memcpy(volume->noise, found.noise, p * sizeof *found.noise);
    }
    HET_TRY(het_comm_broadcast(comm, volume->map.data, voxels * sizeof *volume->map.data, 0));
    HET_TRY(het_comm_broadcast(comm, volume->noise, p * sizeof *volume->noise, 0));
done:
    het_first_volume_free(&found);
    chosen_free(&c);
    return status;
}

het_status het_start_volume(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack,
                            const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    int there;
    const het_stack_info *info = het_stack_get_info(stack);
    HET_TRY(het_comm_agree(comm, het_first_volume_blank(volume, dev, info->box, info->apix, spec->radius)));
    const int64_t small = volume->map.box, p = het_points_within(&volume->points, spec->radius);
    const het_field field[] = {{"map", {volume->map.data, HET_F32, 3, {small, small, small}}},
                               {"noise", {volume->noise, HET_F32, 1, {p}}}};
    const het_stage stage = {.comm = comm, .folder = spec->folder, .name = "volume", .about = spec->about, .field = field, .count = 2};
    HET_TRY(het_stage_recall(&stage, &there));
    if (!there) {
        HET_TRY(find_volume(volume, comm, dev, stack, spec));
        het_stage_keep(&stage);
        HET_TRY(het_comm_agree(comm, het_stop_check()));
    }
    status = het_comm_agree(comm, het_slicer_new(&volume->slicer, &volume->map));
done:
    return status;
}
