#pragma once
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include "../ops.h"

/* What the CPU backend keeps in het_device.context. */
typedef struct het_cpu_context {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    char name[256];
} het_cpu_context;

static inline het_cpu_context *het_cpu_context_of(const het_device *dev)
{
    return dev->context;
}

/* oneDNN has no thread argument: it follows OpenMP's setting, which belongs to the calling thread, and sizes
   its scratch memory by it. So every call that makes or runs a primitive sets it first. */
static inline void het_cpu_set_threads(const het_device *dev)
{
    omp_set_num_threads(dev->threads);
}
