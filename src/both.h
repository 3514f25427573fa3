#pragma once

/** Before a small function in a header that the CPU and kernels on a GPU both call, so that a formula stands once. It is
 *  inlined into whatever calls it, and so takes that function's target (kernels/cpu/clones.h). C and C++. */
#ifdef __CUDACC__
#define HET_BOTH static __host__ __device__ __forceinline__
#else
#define HET_BOTH static inline __attribute__((always_inline))
#endif
