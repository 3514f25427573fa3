#pragma once
#include <stddef.h>

#include "status.h"

/** One block of memory, handed out in aligned pieces and given back as a whole.
 *
 *  Sized first (het_arena_new with the sum of het_arena_round of every piece), then filled: nothing is allocated while
 *  training runs. Live blocks are counted: het_arena_live() is 0 at exit. */
typedef struct het_arena {
    char *base;
    size_t size, used;
} het_arena;

enum { HET_ALIGN = 64 };

/** Size of a piece with its padding. */
size_t het_arena_round(size_t bytes);
/** Allocate `bytes` of zeroed, 64-byte aligned memory. Errors: HET_E_MEMORY naming the need. */
het_status het_arena_new(het_arena *arena, size_t bytes);
/** The next `bytes`, 64-byte aligned; asserts that they fit (sizes are the program's own). Borrowed from the arena. */
void *het_arena_take(het_arena *arena, size_t bytes);
/** Free the block; accepts an empty arena. */
void het_arena_free(het_arena *arena);
/** Arenas and het_alloc pieces not yet freed in this process. */
long het_arena_live(void);
/** Their bytes, and the most that there ever were at a time. */
size_t het_arena_bytes(void);
size_t het_arena_peak(void);
/** Zeroed, 64-byte aligned memory outside any arena; NULL where there is none. Free with het_release. */
void *het_alloc(size_t bytes);
void het_release(void *memory);
