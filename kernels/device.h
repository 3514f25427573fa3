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
    int threads;         /* OpenMP threads of this rank: of the CPU's operations, and of what the host does for any device */
    int on_host;         /* device memory is host memory: both may read it at any time */
    void *context;       /* the backend's own */
    const char *name;    /* owned by the context */
    void (*close)(struct het_device *device);
} het_device;

typedef enum het_precision { HET_PRECISION_AUTO, HET_PRECISION_F32, HET_PRECISION_BF16 } het_precision;

/** Open the CPU backend.
 *  threads    [in] OpenMP threads; 0: het_device_default_threads()
 *  precision  [in] HET_PRECISION_BF16 is refused (HET_E_USAGE) on a chip without avx512_bf16; AUTO takes it where
 *                  it is the faster one: with AMX, or on AMD's chips
 *  Errors: HET_E_MEMORY, HET_E_USAGE. Not collective. */
het_status het_device_open_cpu(het_device *device, int threads, het_precision precision);

/** The threads that 0 stands for: OMP_NUM_THREADS, or all cores of this process's affinity mask. */
int het_device_default_threads(void);

/** HET_OK where `name` is one that het_device_open knows: "cpu", "auto", "cuda" or "cuda:N". Otherwise HET_E_USAGE. */
het_status het_device_check(const char *name);

/** Open a device by its name.
 *  "cuda" is the GPU number `place` (this rank's place on its node) modulo the GPUs there are, "cuda:N" the GPU N, and
 *  "auto" the same as "cuda" where that works, the CPU otherwise: with a line that says why where the machine has
 *  a GPU at all.
 *  GPUs are served by a plugin (kernels/plugin.h), hetacumn_cuda.so, looked for in $HET_PLUGIN_PATH, beside the program
 *  and in ../lib/hetacumn of its folder; neither the toolkit nor a driver is needed to run without one.
 *  Errors: those of het_device_open_cpu; HET_E_DEVICE: no plugin, driver, device, or library, in words.
 *  Test: tests/cli_device.sh */
het_status het_device_open(het_device *device, const char *name, int place, int threads, het_precision precision);

/** Accepts a device that is all zeros. */
void het_device_close(het_device *device);

/** Names and versions of the libraries that the CPU backend uses. */
void het_device_cpu_libraries(char *text, size_t size);

/** One line that names the chip, the instruction set in use and the precision. Borrowed until close. */
const char *het_device_name(const het_device *device);
