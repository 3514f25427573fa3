#include "start_volume.h"

#include <string.h>

#include "arena.h"
#include "log.h"
#include "rng.h"
#include "run_stage.h"
#include "start_search.h"
#include "stop.h"

enum { IMAGES_LEAST = 200 };

static void chosen_free(het_chosen *c)
{
    het_release(c->index);
    het_release(c->rotation);
    het_release(c->shift);
    het_release(c->valid);
}

/* `count` images spread over the stack. */
static het_status choose(het_chosen *c, int64_t count, int64_t images, uint64_t seed)
{
    *c = (het_chosen){.count = count};
    c->index = het_alloc((size_t)count * sizeof *c->index);
    c->rotation = het_alloc((size_t)count * 9 * sizeof *c->rotation);
    c->shift = het_alloc((size_t)count * 2 * sizeof *c->shift);
    c->valid = het_alloc((size_t)count);
    if (c->index == NULL || c->rotation == NULL || c->shift == NULL || c->valid == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the %lld images of the start: choose fewer by init.images", (long long)count);
    for (int64_t i = 0; i < count; i++) c->index[i] = i * images / count;
    het_rng rng = het_rng_at(seed, HET_STREAM_SEARCH, 0, 0);
    het_rng_shuffle(&rng, c->index, count);
    return HET_OK;
}

/* This rank's images. */
static het_status read_own(float **images, het_ctf_row **ctf, const het_comm *comm, const het_stack *stack, const int64_t *index,
                           int64_t count)
{
    het_status status = HET_OK;
    const int64_t box = het_stack_get_info(stack)->box;
    int64_t first, own;
    het_first_volume_share(comm, count, &first, &own);
    *images = het_alloc((size_t)(own * box * box) * sizeof **images);
    *ctf = het_alloc((size_t)own * sizeof **ctf);
    if (*images == NULL || *ctf == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %lld images of the start: choose fewer by init.images", (long long)own);
    HET_TRY(het_stack_read_standardised(stack, *images, index + first, own));
    HET_TRY(het_stack_read_ctf(stack, *ctf, index + first, own));
done:
    return status;
}

het_status het_start_maximise(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack, const int64_t *index,
                              const het_start_volume_spec *spec, const char *name, het_first_volume_spec more)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const het_stage kept = {.folder = spec->folder, .name = name, .about = spec->about};
    het_points points = {0};
    float *noise = NULL, *images = NULL;
    het_ctf_row *ctf = NULL;
    HET_TRY(het_comm_agree(comm, read_own(&images, &ctf, comm, stack, index, more.count)));
    HET_TRY(het_comm_agree(comm, het_points_new(&points, info->box)));
    const int64_t p = het_points_within(&points, more.radius);
    noise = het_alloc((size_t)p * sizeof *noise);
    HET_TRY(het_comm_agree(comm, noise != NULL ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the start")));
    for (int64_t i = 0; i < p; i++) noise[i] = (float)spec->noise_variance;
    more.box = info->box;
    more.apix = info->apix;
    more.whitening = info->whitening;
    more.images = images;
    more.ctf = ctf;
    more.noise = noise;
    more.shift_range = spec->shift_range;
    HET_TRY(het_first_volume_find(volume, comm, dev, &more, &kept));
done:
    het_points_free(&points);
    het_release(noise);
    het_release(images);
    het_release(ctf);
    return status;
}

het_status het_start_volume_check(const het_config_init *init, int64_t images)
{
    const int64_t all = images < init->images ? images : init->images;
    if (all >= IMAGES_LEAST) return HET_OK;
    return het_fail(HET_E_USAGE, "a start without a model needs at least %d images, there are %lld: use init.method=none",
                    IMAGES_LEAST, (long long)all);
}

/* The map and the noise of its likelihood: all chosen images, at the radius asked for, from the poses that random starts found. */
static het_status find_volume(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack,
                              const het_start_volume_spec *spec)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    const het_config_init *init = spec->init;
    const int64_t count = info->count < init->images ? info->count : init->images;
    const size_t voxels = (size_t)(volume->map.box * volume->map.box * volume->map.box),
                 p = (size_t)het_points_within(&volume->points, spec->radius);
    het_chosen c = {0};
    het_first_volume found = {0};
    HET_TRY(het_comm_agree(comm, choose(&c, count, info->count, spec->seed)));
    HET_TRY(het_start_from_search(&c, comm, dev, stack, spec));
    HET_TRY(het_start_maximise(&found, comm, dev, stack, c.index, spec, "volume-rounds",
                               (het_first_volume_spec){.count = count, .rotation = c.rotation, .shift = c.shift, .valid = c.valid,
                                                       .radius = spec->radius, .rounds = (int)init->rounds, .seed = 1}));
    het_info("start: volume to %.1f A explains %.0f %% of the signal of %lld images",
             (double)info->box * info->apix / spec->radius, 100.0 * found.explained, (long long)count);
    memcpy(volume->map.data, found.map.data, voxels * sizeof *found.map.data);
    memcpy(volume->noise, found.noise, p * sizeof *found.noise);
    HET_TRY(het_comm_broadcast(comm, volume->map.data, voxels * sizeof *volume->map.data, 0)); /* chips differ in last bits */
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
