#include "loader.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"
#include "../thread.h"
#include "half.h"

/* The reading thread owns a slot while `wanted` >= 0 names the step it reads into slot `target`; otherwise
 * both slots belong to the caller. */
typedef struct slot {
    int64_t step; /* -1: holds nothing */
    het_status status;
    char message[1024]; /* of a failed read */
    void *images; /* NULL where they are stored */
    het_ctf_row *ctf;
    int64_t *index;
} slot;

struct het_loader {
    const het_stack *stack; /* borrowed */
    uint64_t seed;
    int64_t batch, first, count; /* global size; this rank's part */
    int64_t steps;               /* per epoch */
    het_images from;
    int64_t *order;              /* (images of the stack) permutation of `epoch`; the thread's own */
    int64_t epoch;
    het_arena memory;
    int pinned;
    slot slots[2];
    int current; /* slot the caller holds */
    pthread_t thread;
    int has_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t wanted; /* step to read; -1: the thread is idle */
    int target;
    int stop;
};

enum { BLOCK = 1024 };

/* n numbers as fp16, to where they lie or before. */
static void narrow(char *to, const float *numbers, int64_t n)
{
    float bounded[BLOCK];
    uint16_t half[BLOCK];
    for (int64_t i = 0; i < n; i += BLOCK) {
        const int64_t m = n - i < BLOCK ? n - i : BLOCK;
        for (int64_t j = 0; j < m; j++) bounded[j] = fminf(fmaxf(numbers[i + j], -65504.0F), 65504.0F);
        het_half_from_float(half, bounded, (size_t)m);
        memcpy(to + i * (int64_t)sizeof *half, half, (size_t)m * sizeof *half);
    }
}

het_status het_images_read(const het_stack *stack, void *images, het_dtype type, const int64_t *index, int64_t n)
{
    const het_stack_info *info = het_stack_get_info(stack);
    const int64_t pixels = n * info->box * info->box;
    const float shift = (float)info->mean, scale = (float)(1.0 / info->std);
    float *wide = images;
    const het_status status = het_stack_read(stack, wide, index, n);
    if (status != HET_OK) return status;
    for (int64_t i = 0; i < pixels; i++) wide[i] = (wide[i] - shift) * scale;
    if (type == HET_F16) narrow(images, wide, pixels);
    return HET_OK;
}

/* Keyed by the epoch alone: a resumed run finds the same order without any stored state. */
static void shuffle(het_loader *loader, int64_t epoch)
{
    const int64_t n = het_stack_get_info(loader->stack)->count;
    het_rng rng = het_rng_at(loader->seed, HET_STREAM_SHUFFLE, (uint64_t)epoch, 0);
    for (int64_t i = 0; i < n; i++) loader->order[i] = i;
    het_rng_shuffle(&rng, loader->order, n);
    loader->epoch = epoch;
}

static void read_step(het_loader *loader, slot *s, int64_t step)
{
    const int64_t epoch = step / loader->steps;
    if (epoch != loader->epoch) shuffle(loader, epoch);
    const int64_t at = (step % loader->steps) * loader->batch + loader->first;
    memcpy(s->index, loader->order + at, (size_t)loader->count * sizeof *s->index);
    s->status = s->images == NULL ? HET_OK : het_images_read(loader->stack, s->images, loader->from.type, s->index, loader->count);
    if (s->status == HET_OK) s->status = het_stack_read_ctf(loader->stack, s->ctf, s->index, loader->count);
    if (s->status != HET_OK) snprintf(s->message, sizeof s->message, "%s", het_status_message());
    s->step = step;
}

static void *read_ahead(void *context)
{
    het_loader *loader = context;
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (loader->wanted < 0 && !loader->stop) pthread_cond_wait(&loader->changed, &loader->lock);
        if (loader->stop) break;
        const int64_t step = loader->wanted;
        slot *s = &loader->slots[loader->target];
        pthread_mutex_unlock(&loader->lock);
        read_step(loader, s, step);
        pthread_mutex_lock(&loader->lock);
        loader->wanted = -1;
        pthread_cond_signal(&loader->changed);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static size_t image_bytes(int64_t count, int64_t box, int stored)
{
    return stored ? 0 : (size_t)(count * box * box) * sizeof(float);
}

size_t het_loader_bytes(int64_t count, int64_t box, int stored)
{
    return 2 * (image_bytes(count, box, stored) + (size_t)count * (sizeof(het_ctf_row) + sizeof(int64_t)));
}

static het_status allocate(het_loader *loader)
{
    const het_stack_info *info = het_stack_get_info(loader->stack);
    const size_t images = image_bytes(loader->count, info->box, loader->from.stored != NULL);
    const size_t ctf = (size_t)loader->count * sizeof(het_ctf_row),
                 index = (size_t)loader->count * sizeof(int64_t);
    const size_t order = (size_t)info->count * sizeof(int64_t);
    const size_t one = het_arena_round(images) + het_arena_round(ctf) + het_arena_round(index);
    const het_status status = het_arena_new(&loader->memory, 2 * one + het_arena_round(order));
    if (status != HET_OK) return status;
    for (int i = 0; i < 2; i++) {
        slot *s = &loader->slots[i];
        s->step = -1;
        s->images = images == 0 ? NULL : het_arena_take(&loader->memory, images);
        s->ctf = het_arena_take(&loader->memory, ctf);
        s->index = het_arena_take(&loader->memory, index);
    }
    loader->order = het_arena_take(&loader->memory, order);
    const het_device *device = loader->from.device;
    if (images > 0 && device != NULL && device->ops->pin != NULL)
        loader->pinned = device->ops->pin(loader->from.device, loader->memory.base, 2 * one);
    return HET_OK;
}

het_status het_loader_new(het_loader **out, const het_stack *stack, const het_comm *comm, uint64_t seed,
                          int64_t batch, het_images images)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    *out = NULL;
    if (batch < het_comm_size(comm) || batch > info->count)
        return het_fail(
            HET_E_USAGE,
            "train.batch = %lld: it must be from %d (the ranks) to %lld (the images of the stack)",
            (long long)batch, het_comm_size(comm), (long long)info->count);
    if (!(info->std > 0))
        return het_fail(HET_E_INPUT, "all pixels of the stack are equal: check what was imported");
    het_loader *loader = het_alloc(sizeof *loader);
    if (loader == NULL) return het_fail(HET_E_MEMORY, "no memory for the loader");
    loader->stack = stack;
    loader->seed = seed;
    loader->batch = batch;
    loader->steps = info->count / batch;
    loader->from = images;
    loader->epoch = -1;
    loader->wanted = -1;
    het_comm_share(comm, batch, &loader->first, &loader->count);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    HET_TRY(allocate(loader));
    HET_TRY(het_thread_start(&loader->thread, read_ahead, loader));
    loader->has_thread = 1;
    *out = loader;
    return HET_OK;
done:
    het_loader_free(loader);
    return status;
}

void het_loader_free(het_loader *loader)
{
    if (loader == NULL) return;
    if (loader->has_thread) {
        pthread_mutex_lock(&loader->lock);
        loader->stop = 1;
        pthread_cond_signal(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
        pthread_join(loader->thread, NULL);
    }
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    if (loader->pinned) loader->from.device->ops->unpin(loader->from.device, loader->memory.base);
    het_arena_free(&loader->memory);
    het_release(loader);
}

int64_t het_loader_steps_per_epoch(const het_loader *loader)
{
    return loader->steps;
}

static void wait_until_idle(het_loader *loader)
{
    while (loader->wanted >= 0) pthread_cond_wait(&loader->changed, &loader->lock);
}

/* Called with the lock held and the thread idle. */
static void request(het_loader *loader, int target, int64_t step)
{
    loader->slots[target].step = -1;
    loader->target = target;
    loader->wanted = step;
    pthread_cond_signal(&loader->changed);
}

het_status het_loader_next(het_loader *loader, int64_t step, het_batch *batch)
{
    HET_ASSERT(step >= 0);
    const int other = !loader->current;
    slot *s = &loader->slots[other];
    pthread_mutex_lock(&loader->lock);
    wait_until_idle(loader);
    if (s->step != step) { /* the first call, or a jump */
        request(loader, other, step);
        wait_until_idle(loader);
    }
    if (s->status == HET_OK) {
        request(loader, loader->current, step + 1);
        loader->current = other;
    } else {
        s->step = -1; /* asked again, it is read again */
    }
    pthread_mutex_unlock(&loader->lock);
    if (s->status != HET_OK) return het_fail(s->status, "%s", s->message);
    *batch = (het_batch){.count = loader->count,
                         .first = loader->first,
                         .images = s->images,
                         .stored = loader->from.stored,
                         .type = loader->from.type,
                         .ctf = s->ctf,
                         .index = s->index};
    return HET_OK;
}
