#pragma once
/** What sm_90a has for a group of four warps, one function for an instruction or two (PTX ISA 8.0, chapters mbarrier, cp.async.bulk and
 *  wgmma): clusters of blocks that reach each other's shared memory, barriers there that threads and copies arrive at, copies to
 *  shared memory in the background, and products of 64 x 16 by 16 x 256. All addresses are of the block's own shared memory unless said
 *  otherwise. The test double has its own (tests/cuda_host/warpgroup_host.h). */
#include <stdint.h>

/** 0 where the compiler makes code for another chip, which has none of this. */
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HET_WARPGROUPS 0
#define HET_CLUSTERS
#else
#define HET_WARPGROUPS 1
#define HET_CLUSTERS __cluster_dims__(HET_CLUSTER, 1, 1) /* of a kernel; its grid is a multiple */
#endif

enum { HET_CLUSTER = 2 }; /* blocks */

/** All threads of a cluster. */
__device__ static inline void het_cluster_meet(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/** Which one the block is. */
__device__ static inline uint32_t het_cluster_rank(void)
{
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ static inline uint32_t het_shared_at(const void *memory)
{
    return (uint32_t)__cvta_generic_to_shared(memory);
}

/** Of 8 bytes; a phase is over when so many have arrived, and all bytes that were told of. By one thread, and before the others come
 *  to know it (het_cluster_meet) het_mbarriers_made. */
__device__ static inline void het_mbarrier_make(uint32_t barrier, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ static inline void het_mbarriers_made(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/** A warp: its first lane arrives, for what all have done. */
__device__ static inline void het_mbarrier_arrive(uint32_t barrier)
{
    asm volatile("{ .reg .pred %%first; setp.eq.u32 %%first, %1, 0; @%%first mbarrier.arrive.shared::cta.b64 _, [%0]; }" ::"r"(barrier),
                 "r"(threadIdx.x % 32)
                 : "memory");
}

/** The same, at this place in each block of the cluster. */
__device__ static inline void het_mbarrier_arrive_everywhere(uint32_t barrier)
{
    asm volatile("{ .reg .pred %%one; .reg .b32 %%its; setp.lt.u32 %%one, %1, %2; @%%one mapa.shared::cluster.u32 %%its, %0, %1; "
                 "@%%one mbarrier.arrive.shared::cluster.b64 _, [%%its]; }" ::"r"(barrier),
                 "r"(threadIdx.x % 32), "n"((int)HET_CLUSTER)
                 : "memory");
}

__device__ static inline bool het_mbarrier_is_over(uint32_t barrier, uint32_t parity)
{
    uint32_t over;
    asm volatile("{ .reg .pred %%over; mbarrier.try_wait.parity.shared::cta.b64 %%over, [%1], %2; selp.u32 %0, 1, 0, %%over; }"
                 : "=r"(over)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return over != 0;
}

__device__ static inline uint64_t het_nanoseconds(void)
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/** Until the phase of that parity is over; the one before the first counts as over, with parity 1. Should a fault keep it from ending, an
 *  error is better than a job that hangs. */
__device__ static inline void het_mbarrier_wait(uint32_t barrier, uint32_t parity)
{
    const uint64_t most = 60000000000;
    if (het_mbarrier_is_over(barrier, parity)) return;
    for (const uint64_t begun = het_nanoseconds(); !het_mbarrier_is_over(barrier, parity);)
        if (het_nanoseconds() - begun > most) __trap();
}

/** A warp: its first lane arrives and tells of bytes to come. */
__device__ static inline void het_mbarrier_expect(uint32_t barrier, uint32_t bytes)
{
    asm volatile("{ .reg .pred %%first; setp.eq.u32 %%first, %2, 0; @%%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1; }" ::"r"(
                     barrier),
                 "r"(bytes), "r"(threadIdx.x % 32)
                 : "memory");
}

/** A warp: its first lane begins a copy from global memory to this place in each block of the cluster, where bytes arrive at that block's
 *  barrier. All multiples of 16. */
__device__ static inline void het_copy_everywhere(uint32_t to, const void *global, uint32_t bytes, uint32_t barrier)
{
    asm volatile("{ .reg .pred %%first; setp.eq.u32 %%first, %4, 0; "
                 "@%%first cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %5; }" ::"r"(
                     to),
                 "l"(global), "r"(bytes), "r"(barrier), "r"(threadIdx.x % 32), "h"((uint16_t)((1 << HET_CLUSTER) - 1))
                 : "memory");
}

/** Registers of a thread from here on, of all threads of four warps. */
template <int COUNT> __device__ static inline void het_fewer_registers(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> __device__ static inline void het_more_registers(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#define HET_EIGHT(of, i) of((i)), of((i) + 1), of((i) + 2), of((i) + 3), of((i) + 4), of((i) + 5), of((i) + 6), of((i) + 7)
#define HET_SIXTY_FOUR(of, i)                                                                                                          \
    HET_EIGHT(of, i), HET_EIGHT(of, (i) + 8), HET_EIGHT(of, (i) + 16), HET_EIGHT(of, (i) + 24), HET_EIGHT(of, (i) + 32),              \
        HET_EIGHT(of, (i) + 40), HET_EIGHT(of, (i) + 48), HET_EIGHT(of, (i) + 56)
#define HET_SUM(i) "+f"(sums[i])
#define HET_SUMS HET_SIXTY_FOUR(HET_SUM, 0), HET_SIXTY_FOUR(HET_SUM, 64)

/** Before the first product of a group, and whenever its registers were written since. */
__device__ static inline void het_warpgroup_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/** sums (64,256) = [sums +] a (64,16) b (16,256), begun. Of warp w of the group a lane has rows r = 16 w + lane/4 and r + 8: of a, bf16 in
 *  pairs, columns c = 2 (lane mod 4) and c + 1 of r, of r + 8, and the same of columns c + 8; of sums likewise, four numbers for each 8
 *  columns. b lies in memory as squares of 8 columns by 8 k (k side by side), 128 bytes from one to the next 8 k and 256 to the next 8 columns.
 *  Neither a nor sums nor b may be touched until the product is known to be over. */
__device__ static inline void het_warpgroup_multiply(float sums[128], const uint32_t a[4], uint32_t b, int add)
{
    const uint64_t descriptor = (uint64_t)(256 >> 4) << 32 | (uint64_t)(128 >> 4) << 16 | b >> 4;
    asm volatile("{ .reg .pred %%add; setp.ne.s32 %%add, %133, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
                 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
                 "}, {%128, %129, %130, %131}, %132, %%add, 1, 1, 0; }"
                 : HET_SUMS
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor), "r"(add)
                 : "memory");
}

/** Products begun so far make a set, apart from those that follow. */
__device__ static inline void het_warpgroup_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/** All sets but the last one are over; all are. */
__device__ static inline void het_warpgroup_wait_former(void)
{
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

__device__ static inline void het_warpgroup_wait(float sums[128])
{
    asm volatile("wgmma.wait_group.sync.aligned 0;" : HET_SUMS : : "memory");
}

/** What the lane whose number differs in these bits has. */
__device__ static inline uint32_t het_exchange(uint32_t x, int apart)
{
    return __shfl_xor_sync(0xFFFFFFFFu, x, apart);
}

__device__ static inline float het_exchange(float x, int apart)
{
    return __shfl_xor_sync(0xFFFFFFFFu, x, apart);
}
