#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../src/status.h"
#include "../src/tensor.h"

/** A device: where memory lives and where operations (ops.h) run, in order, on one stream.
 *
 *  Operations are asynchronous: on the CPU they are done when they return, on a GPU when het_device_sync() returns.
 *  Nothing is allocated while training: plans and buffers are made at `new` time. */

typedef struct het_ops het_ops;

typedef struct het_device {
    const het_ops *ops;
    het_dtype precision; /* of activations and matrix products: HET_F32 or HET_BF16; parameters stay fp32 */
    int threads;         /* CPU: OpenMP threads of this rank */
    void *context;       /* the backend's own */
} het_device;

typedef enum het_precision { HET_PRECISION_AUTO, HET_PRECISION_F32, HET_PRECISION_BF16 } het_precision;

/** Open the CPU backend.
 *  threads    [in] OpenMP threads; 0: OMP_NUM_THREADS or all cores of this process's affinity mask
 *  precision  [in] HET_PRECISION_BF16 is refused (HET_E_USAGE) on a chip without avx512_bf16; AUTO takes it where
 *                  it is the faster one: with AMX, or on AMD's chips
 *  Errors: HET_E_MEMORY, HET_E_USAGE. Not collective. */
het_status het_device_open_cpu(het_device *device, int threads, het_precision precision);
void het_device_close(het_device *device);

/** Names and versions of the libraries that the CPU backend uses. */
void het_device_cpu_libraries(char *text, size_t size);

/** One line that names the chip, the instruction set in use and the precision. Borrowed until close. */
const char *het_device_name(const het_device *device);
