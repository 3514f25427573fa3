#pragma once
/** A test double of kernels/cuda/warpgroup.h. Products and copies are over as soon as they begin; barriers count, and who waits at
 *  one lets other warps go on. What a GPU does in the background is tests/ptx's to check. HET_HOST_WGMMA=wrong: products are wrong. */
#include <stdio.h>
#include <stdlib.h>

#include "cuda_bf16.h"
#include "cuda_runtime.h"

#define HET_WARPGROUPS 1
#define HET_CLUSTERS

enum { HET_CLUSTER = 1 };

static inline void het_cluster_meet(void)
{
    __syncthreads();
}

static inline uint32_t het_cluster_rank(void)
{
    return 0;
}

static inline uint32_t het_shared_at(const void *memory)
{
    return (uint32_t)((const char *)memory - het_host_shared);
}

static inline unsigned het_host_lane(void)
{
    return threadIdx.x % 32;
}

static inline void het_mbarrier_make(uint32_t at, uint32_t arrivals)
{
    het_host_barrier_make(het_host_shared + at, arrivals);
}

static inline void het_mbarriers_made(void) {}

static inline void het_mbarrier_arrive(uint32_t at)
{
    if (het_host_lane() == 0) het_host_barrier_arrive(het_host_shared + at, 1, 0);
}

static inline void het_mbarrier_wait(uint32_t at, uint32_t parity)
{
    het_host_barrier_wait(het_host_shared + at, parity);
}

static inline void het_mbarrier_arrive_everywhere(uint32_t at)
{
    het_mbarrier_arrive(at);
}

static inline void het_mbarrier_expect(uint32_t at, uint32_t bytes)
{
    if (het_host_lane() == 0) het_host_barrier_arrive(het_host_shared + at, 1, bytes);
}

static inline void het_copy_everywhere(uint32_t to, const void *global, uint32_t bytes, uint32_t at)
{
    if (het_host_lane() != 0) return;
    memcpy(het_host_shared + to, global, bytes);
    het_host_barrier_arrive(het_host_shared + at, 0, -(int64_t)bytes);
}

template <int COUNT> static inline void het_fewer_registers(void) {}
template <int COUNT> static inline void het_more_registers(void) {}
static inline void het_warpgroup_fence(void) {}
static inline void het_warpgroup_commit(void) {}

static inline void het_warpgroup_wait_former(void)
{
    __syncwarp();
}

static inline void het_warpgroup_wait(float *)
{
    __syncwarp();
}

/* What each lane of each warp has for the others of its four. */
static uint32_t het_host_lanes[1024][4];

static inline void het_warpgroup_multiply(float sums[128], const uint32_t a[4], uint32_t b, int add)
{
    const unsigned first = threadIdx.x / 4 * 4;
    for (int i = 0; i < 4; i++) het_host_lanes[threadIdx.x][i] = a[i];
    __syncwarp();
    float rows[2][16];
    for (unsigned of = 0; of < 4; of++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 2; j++)
                rows[i % 2][2 * of + (unsigned)(i / 2 * 8 + j)] = __uint_as_float(het_host_lanes[first + of][i] >> 16 * j << 16);
    static const bool wrong = getenv("HET_HOST_WGMMA") != NULL;
    const char *weights = het_host_shared + b;
    for (int i = 0; i < 128; i++) {
        const unsigned column = (unsigned)(i / 4 * 8 + i % 2) + het_host_lane() % 4 * 2;
        float total = 0.0f;
        for (unsigned k = 0; k < 16; k++) {
            uint16_t bits;
            memcpy(&bits, weights + column / 8 * 256 + k / 8 * 128 + column % 8 * 16 + k % 8 * 2, sizeof bits);
            total += rows[i / 2 % 2][k] * __uint_as_float((uint32_t)bits << 16);
        }
        sums[i] = add ? sums[i] + total : wrong ? -total : total;
    }
    __syncwarp();
}

static inline uint32_t het_exchange(uint32_t x, int apart)
{
    het_host_lanes[threadIdx.x][0] = x;
    __syncwarp();
    x = het_host_lanes[threadIdx.x ^ (unsigned)apart][0];
    __syncwarp();
    return x;
}

static inline float het_exchange(float x, int apart)
{
    return __uint_as_float(het_exchange(__float_as_uint(x), apart));
}
