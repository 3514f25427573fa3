#include "arena.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_long live;
static atomic_size_t bytes_live, bytes_peak;

size_t het_arena_round(size_t bytes)
{
    return (bytes + HET_ALIGN - 1) / HET_ALIGN * HET_ALIGN;
}

void *het_alloc(size_t bytes)
{
    if (bytes > SIZE_MAX - HET_ALIGN) return NULL;
    const size_t size = het_arena_round(bytes ? bytes : 1);
    void *memory = aligned_alloc(HET_ALIGN, size);
    if (memory == NULL) return NULL;
    memset(memory, 0, size);
    atomic_fetch_add(&live, 1);
    const size_t taken = malloc_usable_size(memory), now = atomic_fetch_add(&bytes_live, taken) + taken;
    size_t peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now)) {}
    return memory;
}

void het_release(void *memory)
{
    if (memory == NULL) return;
    atomic_fetch_sub(&live, 1);
    atomic_fetch_sub(&bytes_live, malloc_usable_size(memory));
    free(memory);
}

het_status het_arena_new(het_arena *arena, size_t bytes)
{
    *arena = (het_arena){.base = het_alloc(bytes), .size = het_arena_round(bytes)};
    if (arena->base == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %.1f MiB: use a smaller batch or a smaller box", bytes / 1048576.0);
    return HET_OK;
}

void *het_arena_take(het_arena *arena, size_t bytes)
{
    const size_t piece = het_arena_round(bytes);
    HET_ASSERT(bytes <= arena->size && piece <= arena->size - arena->used);
    void *memory = arena->base + arena->used;
    arena->used += piece;
    return memory;
}

void het_arena_free(het_arena *arena)
{
    het_release(arena->base);
    *arena = (het_arena){0};
}

long het_arena_live(void)
{
    return atomic_load(&live);
}

size_t het_arena_bytes(void)
{
    return atomic_load(&bytes_live);
}

size_t het_arena_peak(void)
{
    return atomic_load(&bytes_peak);
}
