#include "train_memory.h"

#include <stdio.h>
#include <unistd.h>

#include "arena.h"
#include "host_memory.h"
#include "log.h"
#include "physics/search.h"
#include "start_components.h"
#include "start_fine.h"
#include "start_search.h"

static const double MIB = 1048576.0;

/* While a volume is found from `images` images: each with its transform, CTF and candidates, this rank's own pixels, and the search
 * (first_volume.c); then, piece by piece, the wider search for images that have little to tell a pose by (start.c). */
static size_t start_bytes(const het_model *m, int64_t images)
{
    enum { CANDIDATES = 32, KEEP = 16, WIDE_KEEP = 64, PIECE = 512 };
    const int64_t p = het_points_within(&m->points, m->config.init.radius), pixels = m->spec.box * m->spec.box;
    const int64_t ranks = m->spec.global_batch / het_model_images(&m->spec), few = het_start_search_images(images, &m->config.init);
    const int64_t last = images / ranks, random = few / (ranks > 1 ? ranks / 2 : 1); /* two starts at a time */
    const size_t each = sizeof(float) * (size_t)(3 * p + 11) + sizeof(double) * (size_t)(2.0 * m->config.init.radius + 5.0) + (CANDIDATES + 1) * sizeof(het_search_pose),
                 own = sizeof(float) * (size_t)pixels + sizeof(het_ctf_row);
    const size_t volume = (size_t)images * each + (size_t)(last > random ? last : random) * own + het_search_bytes(KEEP, p),
                 poses = PIECE * (sizeof(float) * (size_t)(3 * p) + 2 * sizeof(het_search_pose) + own) + het_search_bytes(WIDE_KEEP, p);
    return volume > poses ? volume : poses;
}

het_train_memory het_train_memory_of(const het_model *m, int64_t count, int root, int copy, int stores)
{
    const het_config *c = &m->config;
    const size_t f = sizeof(float), n = (size_t)count, z = (size_t)c->z_dim, d = (size_t)m->spec.box;
    const int searching = c->train.method == HET_METHOD_CRYODRGN2, started = c->init.method != HET_START_NONE && !searching;
    size_t bytes[4];
    het_model_memory(m, bytes);
    het_train_memory memory = {bytes[0], bytes[1], bytes[2], bytes[3], .plans = m->plan_bytes};
    if (stores) memory.stored = n * d * d * (size_t)het_dtype_size(het_model_image_type(m->dev));
    if (copy) memory.plans += bytes[1]; /* gradients on their way between ranks */
    for (int64_t parts = m->spec.parts; parts > 1; parts /= 2) memory.plans += f * (size_t)m->layout.total; /* mpi/fold.h */
    memory.batches = het_loader_bytes(het_model_images(&m->spec), m->spec.box, stores);
    memory.images = n * sizeof(int64_t);
    const size_t kept = searching ? 11 * n * f : started ? (12 + 3 * z + 2) * n * f : 0;
    memory.images += kept;
    const int64_t few = count < c->init.images ? count : c->init.images;
    if (started) {
        const size_t poses = start_bytes(m, few), linear = het_start_components_bytes(&c->init, count, m->spec.box, 0),
                     fine = het_start_fine_bytes(&c->init, count, m->spec.box, m->spec.parts),
                     wide = het_start_components_bytes(&c->init, count, m->spec.box, 1);
        memory.start = poses > linear ? poses : linear;
        memory.fine = fine > wide ? fine : wide;
    }
    const size_t map = f * d * d * d + f * 2 * d * d * (d / 2 + 1) + 2 * f * 2 * (size_t)(m->spec.batch * m->points.count);
    memory.checkpoint = root ? bytes[0] + bytes[2] + kept + map : map;
    return memory;
}

static size_t start_of(const het_train_memory *m)
{
    return m->start > m->fine ? m->start : m->fine;
}

size_t het_train_memory_device(const het_train_memory *m)
{
    return m->parameters + m->gradients + m->optimiser + m->workspace + m->stored;
}

size_t het_train_memory_host(const het_train_memory *m, int device_is_host)
{
    const size_t start = start_of(m), last = start > m->checkpoint ? start : m->checkpoint;
    return m->plans + m->batches + m->images + last + (device_is_host ? het_train_memory_device(m) : 0);
}

static void report(const het_train_memory *m, const het_model *model)
{
    const int own = !model->dev->on_host;
    char device[64] = "", stored[64] = "";
    if (own) snprintf(device, sizeof device, "%.1f MiB on the device, ", (double)het_train_memory_device(m) / MIB);
    if (m->stored > 0) snprintf(stored, sizeof stored, "images on the device %.1f, ", (double)m->stored / MIB);
    het_info("memory: parameters %.1f, gradients %.1f, optimiser %.1f, workspace %.1f, %splans %.1f, batches %.1f, data set %.1f, "
             "start %.1f, checkpoint %.1f MiB (%.2f million parameters)",
             (double)m->parameters / MIB, (double)m->gradients / MIB, (double)m->optimiser / MIB, (double)m->workspace / MIB,
             stored, (double)m->plans / MIB, (double)m->batches / MIB, (double)m->images / MIB, (double)start_of(m) / MIB,
             (double)m->checkpoint / MIB, (double)model->layout.total / 1e6);
    het_info("memory: in all %s%.1f MiB per rank", device, (double)het_train_memory_host(m, !own) / MIB);
}

/* What a rank may take: of the host, and of a device of its own. */
typedef struct room {
    size_t host, device;
} room;

static room room_of(const het_comm *comm, het_device *dev, int64_t limit)
{
    const int64_t ranks = het_comm_local_size(comm), here = het_host_memory("");
    room r = {SIZE_MAX, SIZE_MAX};
    if (limit < 0) return r;
    const int64_t host = limit > 0 && limit < here ? limit : here;
    if (host < INT64_MAX) r.host = (size_t)(host / ranks);
    if (dev->ops->available != NULL) r.device = dev->ops->available(dev);
    return r;
}

static int fits(const het_train_memory *m, const room *r, int device_is_host)
{
    return het_train_memory_host(m, device_is_host) <= r->host && (device_is_host || het_train_memory_device(m) <= r->device);
}

/* The largest batch of all ranks that fits, a multiple of all shards; 0: none. Every trial plans the networks anew. */
static int64_t largest_batch(const het_trainer *t, const het_model_spec *spec, const room *r, int copy)
{
    const het_model *m = t->model;
    const int host = m->dev->on_host;
    int64_t low = 0, high = spec->batch / spec->groups; /* images of a group: fits, does not fit */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        het_model_spec less = *spec;
        het_model *trial = NULL;
        less.batch = middle * spec->groups;
        less.global_batch = middle * spec->global_groups;
        const int good = het_model_plan(&trial, m->dev, t->config, &less) == HET_OK;
        const het_train_memory memory = good ? het_train_memory_of(trial, het_stack_get_info(t->stack)->count,
                                                                   het_comm_rank(t->comm) == 0, copy, t->stores)
                                             : (het_train_memory){0};
        het_model_free(trial);
        if (good && fits(&memory, r, host)) low = middle;
        else high = middle;
    }
    return low * spec->global_groups;
}

static het_status refuse(const het_trainer *t, const het_model_spec *spec, const het_train_memory *m, const room *r, int copy)
{
    const int host = t->model->dev->on_host, on_device = !host && het_train_memory_device(m) > r->device;
    const int64_t batch = largest_batch(t, spec, r, copy);
    char advice[120] = "no batch is small enough: take a smaller network or box, or more memory";
    het_train_memory without = *m;
    without.fine = 0;
    if (fits(&without, r, host)) snprintf(advice, sizeof advice, "init.fine_rounds=0, which leaves poses of the start as they are, would fit");
    else if (batch > 0) snprintf(advice, sizeof advice, "train.batch=%lld would fit", (long long)batch);
    else if (m->stored > 0)
        snprintf(advice, sizeof advice, "the images are %.1f of them, which run.device_data=no leaves in their file", (double)m->stored / MIB);
    return het_fail(HET_E_MEMORY, "training needs %.1f MiB %s and there are %.1f for each of %d rank(s): %s",
                    (double)(on_device ? het_train_memory_device(m) : het_train_memory_host(m, host)) / MIB,
                    on_device ? "of the device" : "of memory", (double)(on_device ? r->device : r->host) / MIB,
                    on_device ? 1 : het_comm_local_size(t->comm), advice);
}

/* Sets t->stores. */
static het_status choose_place(het_trainer *t)
{
    het_status status = HET_OK;
    het_device *dev = t->model->dev;
    const het_device_data wish = t->config->run.device_data;
    int64_t ranks = 0;
    if (wish == HET_DEVICE_DATA_AUTO && dev->ops->available != NULL) {
        const het_train_memory with = het_train_memory_of(t->model, het_stack_get_info(t->stack)->count, 0, 0, 1);
        ranks = het_train_memory_device(&with) <= dev->ops->available(dev) / 10 * 9; /* libraries take some */
    }
    HET_TRY(het_comm_sum_i64(t->comm, &ranks, 1));
    t->stores = wish == HET_DEVICE_DATA_YES || ranks == het_comm_size(t->comm);
done:
    return status;
}

het_status het_train_model(het_trainer *t, het_device *dev, const het_model_spec *spec, int64_t limit, int dry_run)
{
    het_status status = HET_OK;
    int copy;
    HET_TRY(het_sums_foresee(t->comm, dev, &copy));
    HET_TRY(het_comm_agree(t->comm, het_model_plan(&t->model, dev, t->config, spec)));
    HET_TRY(choose_place(t));
    const het_train_memory memory = het_train_memory_of(t->model, het_stack_get_info(t->stack)->count,
                                                        het_comm_rank(t->comm) == 0, copy, t->stores);
    const room r = room_of(t->comm, dev, limit);
    report(&memory, t->model);
    if (!fits(&memory, &r, dev->on_host)) status = refuse(t, spec, &memory, &r, copy);
    status = het_comm_agree(t->comm, status);
    if (dry_run && status != HET_OK) het_warn("%s", het_status_message());
    if (dry_run) return HET_OK;
    HET_TRY(status);
    HET_TRY(het_comm_agree(t->comm, het_model_allocate(t->model)));
done:
    return status;
}
