#define _GNU_SOURCE
#include "guard.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Pieces come one after the other from one reserved range, whose used part is opened and closed by one call; nothing is
 * used twice. 64 bytes after each piece must stay as they are. Under the address sanitizer pieces come from malloc, and the
 * sanitizer watches their bounds instead. */

#ifdef __SANITIZE_ADDRESS__
void *het_guard_alloc(size_t bytes)
{
    return calloc(1, bytes + 1);
}

void het_guard_release(void *memory)
{
    free(memory);
}

void het_guard_open(void) {}
void het_guard_close(void) {}
#else

enum { PIECES_MAX = 1 << 16, PAGE = 4096, MARGIN = 64 };
static const size_t RANGE = (size_t)64 << 30, HUGE = (size_t)2 << 20;

typedef struct piece {
    char *memory;
    size_t bytes;
} piece;

static char *range;
static size_t used; /* whole pages */
static piece pieces[PIECES_MAX];
static int count, depth;
static int key = -1; /* of memory protection: switches without a system call, where the chip has them */

static void stop(const char *why)
{
    fprintf(stderr, "guard: %s\n", why);
    abort();
}

static void protect(int how)
{
    if (key >= 0) pkey_set(key, how == PROT_NONE ? PKEY_DISABLE_ACCESS : 0);
    else if (used > 0 && mprotect(range, (used + HUGE - 1) / HUGE * HUGE, how) != 0) stop("mprotect fails");
}

static void check(const piece *p)
{
    for (int i = 0; i < MARGIN; i++)
        if (p->memory[p->bytes + (size_t)i] != 0x5a) stop("device memory was written beyond its end");
}

static void reserve(void)
{
    range = mmap(NULL, RANGE + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) stop("no address space");
    range += HUGE - (uintptr_t)range % HUGE;
    (void)madvise(range, RANGE, MADV_HUGEPAGE); /* a kernel without them takes ten times as long to open and close */
    key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (key >= 0 && pkey_mprotect(range, RANGE, PROT_READ | PROT_WRITE, key) != 0) stop("pkey_mprotect fails");
}

void *het_guard_alloc(size_t bytes)
{
    const size_t size = (bytes + MARGIN + PAGE - 1) / PAGE * PAGE;
    if (range == NULL) reserve();
    if (size > RANGE - used || count == PIECES_MAX) return NULL;
    piece *p = &pieces[count++];
    *p = (piece){range + used, bytes};
    used += size;
    het_guard_open();
    protect(PROT_READ | PROT_WRITE);
    memset(p->memory + bytes, 0x5a, MARGIN);
    het_guard_close();
    return p->memory;
}

void het_guard_release(void *memory)
{
    if (memory == NULL) return;
    for (int i = 0; i < count; i++) {
        if (pieces[i].memory != memory) continue;
        het_guard_open();
        check(&pieces[i]);
        het_guard_close();
        if (madvise(memory, (pieces[i].bytes + MARGIN + PAGE - 1) / PAGE * PAGE, MADV_DONTNEED) != 0) stop("madvise fails");
        pieces[i] = pieces[--count];
        return;
    }
    stop("memory is released that was never given");
}

void het_guard_open(void)
{
    if (depth++ == 0) protect(PROT_READ | PROT_WRITE);
}

void het_guard_close(void)
{
    for (int i = 0; i < count && depth == 1; i++) check(&pieces[i]);
    if (--depth == 0) protect(PROT_NONE);
}
#endif
