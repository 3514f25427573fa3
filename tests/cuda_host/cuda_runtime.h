#pragma once
/** A test double of the CUDA runtime: kernels/cuda compiled as C++ for the host, so that every kernel runs against the op
 *  tests where there is no GPU. Only what those sources use is here.
 *
 *  Blocks run one after the other. A kernel launched with HET_KERNEL_RUN has its threads run one after the other too, and
 *  stops the test at a barrier; one launched with HET_KERNEL_RUN_MEET has a fiber for each thread, and at a barrier all
 *  must arrive (a thread that left before counts as a fault, as it would hang some GPUs), at one of a warp its 32. Threads
 *  go from last to first in every other block, so that code that needs an order is found out. Dynamic shared memory
 *  begins as NaN, and what lies beyond its end is watched. "Device memory" is guarded (tests/guard.h): the
 *  host may touch it only inside kernels and copies. A stream that captures records kernels, copies, fills and calls of
 *  libraries, and what waits or allocates meanwhile fails and spoils the capture. It shows wrong sums, indices, barriers and host accesses
 *  and, built with the thread sanitizer, races between lanes, warps and blocks (races.h); it shows nothing about those between
 *  streams, memory spaces, or speed. */
#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
void __syncthreads(void);
void __syncwarp(void);
/* Barriers of 8 bytes in shared memory (warpgroup_host.h): with so many arrivals a phase; arrivals, and bytes to come or (negative) that
   have; until the phase of that parity is over, meanwhile other warps go on. Bytes are multiples of 16. */
void het_host_barrier_make(void *barrier, unsigned arrivals);
void het_host_barrier_arrive(void *barrier, unsigned arrivals, int64_t bytes);
void het_host_barrier_wait(void *barrier, unsigned parity);

static inline float __uint_as_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline uint32_t __float_as_uint(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline void sincospif(float x, float *sine, float *cosine)
{
    *sine = (float)sin(3.14159265358979323846 * (double)x);
    *cosine = (float)cos(3.14159265358979323846 * (double)x);
}
#define __sincosf het_host_sincosf /* the C library has one of that name */
static inline void het_host_sincosf(float x, float *sine, float *cosine)
{
    *sine = sinf(x);
    *cosine = cosf(x);
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline float sinpif(float x)
{
    return (float)sin(3.14159265358979323846 * (double)x);
}

/* ---- launches ---- */
typedef void het_host_body(const void *call);
typedef struct het_host_stream *cudaStream_t;
void het_host_run(dim3 grid, dim3 block, int meet, cudaStream_t stream, het_host_body *body, const void *call);
/* Whether the stream captures the launch. */
int het_host_captures(cudaStream_t stream, const std::function<void()> &launch);

template <class Call> static void het_host_call(const void *call)
{
    (*(const Call *)call)();
}
template <class Call> static void het_host_launch(dim3 grid, dim3 block, int meet, cudaStream_t stream, const Call &call)
{
    const auto launch = [=] { het_host_run(grid, block, meet, stream, het_host_call<Call>, &call); };
    if (!het_host_captures(stream, launch)) launch();
}
/* The next launch's dynamic shared memory; more than 48 KiB must have been asked for by cudaFuncSetAttribute. */
void het_host_share(const void *kernel, int bytes);
extern char het_host_shared[];
#define HET_SHARED(name) char *const name = het_host_shared
#define HET_UNROLL
#define HET_KERNEL_RUN_SHARED(kernel, grid, block, bytes, stream, ...) \
    (het_host_share((const void *)(kernel), bytes), HET_KERNEL_RUN_MEET(kernel, grid, block, stream, __VA_ARGS__))
/* Arguments are worked out at the launch, also of one that is captured. */
#define HET_HOST_CALL(kernel, ...)                                                                                       \
    [arguments = std::make_tuple(__VA_ARGS__)] { std::apply([](const auto &...each) { kernel(each...); }, arguments); }
#define HET_KERNEL_RUN(kernel, grid, block, stream, ...) \
    het_host_launch(grid, block, 0, stream, HET_HOST_CALL(kernel, __VA_ARGS__))
#define HET_KERNEL_RUN_MEET(kernel, grid, block, stream, ...) \
    het_host_launch(grid, block, 1, stream, HET_HOST_CALL(kernel, __VA_ARGS__))

/* ---- the runtime ---- */
typedef int cudaError_t;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorInsufficientDriver = 35,
       cudaErrorNoDevice = 100, cudaErrorNotReady = 600, cudaErrorHostMemoryNotRegistered = 713, cudaErrorLaunchFailure = 719,
       cudaErrorStreamCaptureUnsupported = 900, cudaErrorStreamCaptureInvalidated = 901 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostRegisterDefault = 0 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97, cudaDevAttrPageableMemoryAccess = 88 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
typedef struct het_host_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    struct {
        char bytes[16];
    } uuid;
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
};
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
typedef struct het_host_graph *cudaGraph_t, *cudaGraphExec_t;
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *memory);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *chip, int index);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaGetDevice(int *index);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int index);
cudaError_t het_host_set_attribute(const void *kernel, cudaFuncAttribute attribute, int value);
template <class Kernel> static cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute attribute, int value)
{
    return het_host_set_attribute((const void *)kernel, attribute, value);
}
