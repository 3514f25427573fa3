#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

extern "C" {
#include "../ops.h"
#include "../plugin.h"
}

/** What the CUDA backend keeps in het_device.context: one GPU, one stream, one first fault.
 *
 *  Faults are sticky: the first one is noted with operation, file and line, every later operation does nothing, and
 *  het_ops.sync returns it. A fault inside a kernel shows at a later call, which is then the one named. */

typedef struct het_products het_products; /* product.h */
typedef struct het_cudnn het_cudnn;       /* cudnn.h */
typedef struct het_cufft het_cufft;       /* cufft.h */

enum { HET_PINNED = 8 };

/** Memory that het_cuda_reserve makes large enough. */
typedef struct het_cuda_room {
    void *memory;
    size_t bytes;
} het_cuda_room;

typedef struct het_cuda {
    const het_plugin_host *host;
    cudaStream_t stream;
    int narrow;             /* activations are bf16 */
    het_status status;
    char fault[400];
    het_products *products;
    het_cudnn *cudnn;       /* NULL: none */
    het_cufft *cufft;       /* NULL: none */
    het_cuda_room scratch;  /* of the operation that runs */
    het_cuda_room partial;  /* of long products (long_product.cu), whose operands may lie in scratch */
    int64_t moved;          /* how often these have moved: recorded work does not survive that */
    int no_graphs;
    int coherent;           /* the GPU reads the host's plain memory itself, so a copy from it may be under way when the call returns */
    struct {
        const char *memory;
        size_t bytes;
    } pinned[HET_PINNED];   /* by the host, which keeps it as it is until something has synchronised */
    het_graph *recording;   /* what the stream captures for, or NULL */
    int64_t rows_most, columns_most; /* of the decoder's chunks; bytes of columns of convolutions */
    int processors;         /* multiprocessors of the GPU */
    int capability, shared_most; /* 10 major + minor; bytes of shared memory that a block may ask for */
    char name[320];
    uint8_t uuid[16]; /* of the GPU */
} het_cuda;

static inline het_cuda *het_cuda_of(const het_device *dev)
{
    return (het_cuda *)dev->context;
}

/** Note the first fault: "OPERATION (FILE line N): WHY". */
void het_cuda_fault(het_cuda *c, const char *operation, const char *why, const char *file, int line);
/** A plan's own memory, zeroed; NULL where there is none. */
void *het_cuda_alloc(het_cuda *c, size_t bytes);
void het_cuda_free(het_cuda *c, void *memory);
/** HET_CUDA_GRAPH. Errors: HET_E_USAGE. */
het_status het_cuda_graphs_open(het_cuda *c);
/** At plan time: have at least so much of it. Errors: HET_E_MEMORY with need and have. */
het_status het_cuda_reserve(het_cuda *c, het_cuda_room *room, size_t bytes);
/** From and to the host, in order on the stream; the second waits. */
void het_cuda_upload(het_cuda *c, void *to, const void *from, size_t bytes);
void het_cuda_download(het_cuda *c, void *to, const void *from, size_t bytes);

/* Evaluate a CUDA call unless there was a fault before; note its failure. */
#define HET_CUDA(c, call)                                                                                  \
    do {                                                                                                   \
        if ((c)->status != HET_OK) break;                                                                  \
        const cudaError_t error_ = (call);                                                                 \
        if (error_ != cudaSuccess) het_cuda_fault(c, #call, cudaGetErrorString(error_), __FILE__, __LINE__); \
    } while (0)

/* Run a kernel on the stream. MEET: one whose threads meet at barriers (on a GPU both are the same; the test double of
   the runtime, tests/cuda_host, runs the others without switching between threads). */
#ifdef __CUDACC__
#define HET_KERNEL_RUN(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define HET_KERNEL_RUN_MEET HET_KERNEL_RUN
#define HET_KERNEL_RUN_SHARED(kernel, grid, block, bytes, stream, ...) kernel<<<grid, block, bytes, stream>>>(__VA_ARGS__)
#define HET_SHARED(name) extern __shared__ __align__(128) char name[] /* the bytes of HET_LAUNCH_SHARED */
#define HET_UNROLL _Pragma("unroll")
#endif
#define HET_LAUNCH_(run, c, kernel, grid, block, ...)                                                      \
    do {                                                                                                   \
        if ((c)->status != HET_OK) break;                                                                  \
        run(kernel, grid, block, (c)->stream, __VA_ARGS__);                                                \
        const cudaError_t error_ = cudaGetLastError();                                                     \
        if (error_ != cudaSuccess) het_cuda_fault(c, #kernel, cudaGetErrorString(error_), __FILE__, __LINE__); \
    } while (0)
#define HET_LAUNCH_SHARED(c, kernel, grid, block, bytes, ...)                                              \
    do {                                                                                                   \
        if ((c)->status != HET_OK) break;                                                                  \
        HET_KERNEL_RUN_SHARED(kernel, grid, block, bytes, (c)->stream, __VA_ARGS__);                       \
        const cudaError_t error_ = cudaGetLastError();                                                     \
        if (error_ != cudaSuccess) het_cuda_fault(c, #kernel, cudaGetErrorString(error_), __FILE__, __LINE__); \
    } while (0)
#define HET_LAUNCH(c, kernel, grid, block, ...) HET_LAUNCH_(HET_KERNEL_RUN, c, kernel, grid, block, __VA_ARGS__)
#define HET_LAUNCH_MEET(c, kernel, grid, block, ...) HET_LAUNCH_(HET_KERNEL_RUN_MEET, c, kernel, grid, block, __VA_ARGS__)

/* One thread for each of n elements; beyond BLOCKS_MAX blocks a thread takes several. */
enum { HET_BLOCK = 256, HET_BLOCKS_MAX = 1 << 16 };
static inline int64_t het_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline unsigned het_blocks(int64_t n)
{
    return n < 1 ? 1 : (unsigned)het_least((n + HET_BLOCK - 1) / HET_BLOCK, HET_BLOCKS_MAX);
}
#define HET_FOR(i, n)                                                                               \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

static inline unsigned het_tiles(int64_t n, int64_t size)
{
    return (unsigned)((n + size - 1) / size);
}
