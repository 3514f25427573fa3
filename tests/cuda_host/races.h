#pragma once
/** Races, in a build with GCC's thread sanitizer (the preset tsan); in any other all of this is nothing.
 *
 *  The double runs every thread of a kernel in the one thread that launches it, in which the sanitizer sees no race. Here each is
 *  given a thread of the sanitizer's own ("fiber"), and the sanitizer told what a GPU promises, and no more: a barrier comes after
 *  what its threads did before it, a launch after the host, the host after the launch. Two threads that touch the same number,
 *  at least one of them to write it, with nothing of that between them, are reported, in whichever order the double ran them.
 *
 *  Blocks have no order either. They take sets of such threads by turns, as the sanitizer knows 8,000 at a time and each costs
 *  memory: two blocks of one set, which are a multiple of three apart, can pass for ordered, any others cannot. Shared memory is
 *  one and the same piece for all blocks on the double, and so is forgotten from one to the next.
 *
 *  What does not show: what the sanitizer no longer knows, as it keeps four accesses of each 8 bytes and reports a race with one of
 *  those; launches on two streams, which the double has done one after the other; places of numbers in a square of wmma
 *  other than the double's (mma.h). */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#include <stddef.h>

enum { HET_RACES = 1, HET_RACES_SETS = 3 };

/* A function that is left in another thread than it was entered in, or that writes what all threads of a block read. */
#define HET_UNWATCHED __attribute__((no_sanitize("thread")))

extern "C" {
void __tsan_java_alloc(void *memory, size_t bytes);
void __tsan_java_free(void *memory, size_t bytes);
extern char __bss_start[] __attribute__((visibility("hidden"))), _end[] __attribute__((visibility("hidden")));
}

HET_UNWATCHED static inline void *het_races_new(void)
{
    return __tsan_create_fiber(0);
}

HET_UNWATCHED static inline void *het_races_current(void)
{
    return __tsan_get_current_fiber();
}

/* With no order of what was before and after. */
HET_UNWATCHED static inline void het_races_switch(void *thread)
{
    __tsan_switch_to_fiber(thread, __tsan_switch_to_fiber_no_sync);
}

/* What comes after het_races_after comes after all that was before het_races_before, at the same gate. */
HET_UNWATCHED static inline void het_races_before(void *gate)
{
    __tsan_release(gate);
}

HET_UNWATCHED static inline void het_races_after(void *gate)
{
    __tsan_acquire(gate);
}

/* A block's own memory: all variables that begin as 0, as __shared__ ones are among them, and nothing else that kernels write.
   The sanitizer forgets accesses when memory is taken, which the interface for Java's heap says without touching it. */
HET_UNWATCHED static inline void het_races_forget(void)
{
    char *const begin = __bss_start + (8 - (size_t)__bss_start % 8) % 8;
    const size_t bytes = (size_t)(_end - begin) / 8 * 8;
    __tsan_java_alloc(begin, bytes);
    __tsan_java_free(begin, bytes);
}
#else
enum { HET_RACES = 0, HET_RACES_SETS = 1 };
#define HET_UNWATCHED
static inline void *het_races_new(void)
{
    return NULL;
}
static inline void *het_races_current(void)
{
    return NULL;
}
static inline void het_races_switch(void *) {}
static inline void het_races_before(void *) {}
static inline void het_races_after(void *) {}
static inline void het_races_forget(void) {}
#endif
