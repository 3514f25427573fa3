#pragma once
/** HET_CLONES before a function compiles it three times - AVX-512, AVX2 with FMA, plain x86-64 - and picks at
 *  load time: for hot loops that the compiler vectorises.
 *
 *  The clone must contain the loop itself: the body of an OpenMP region is a function of its own and is not
 *  cloned, so write a HET_CLONES function over a range and call it from the region. Helpers called inside
 *  must be `static HET_INLINE`, so that they take the target. Sanitizers instrument the resolvers, which run
 *  before the sanitizer does: there the attribute is empty. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define HET_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HET_CLONES
#endif

#define HET_INLINE __attribute__((always_inline)) inline
