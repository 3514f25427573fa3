#pragma once
#include "ops.h"

/** What a backend in a module of its own (hetacumn_cuda.so) shares with the program that loads it.
 *
 *  The module exports the two symbols below, and calls the program by this table alone, so it needs none of the
 *  program's. It stays loaded until the process ends. */

#define HET_PLUGIN_ENTRY "het_plugin_open"     /* a het_plugin_open_function */
#define HET_PLUGIN_LAYOUT "het_plugin_layout"  /* uint64_t: HET_PLUGIN_LAYOUT_HERE, by which both know one another */
#define HET_PLUGIN_LAYOUT_HERE \
    ((uint64_t)2 << 48 | (uint64_t)sizeof(het_device) << 32 | (uint64_t)sizeof(het_sum_ops) << 16 | (uint64_t)sizeof(het_ops))

typedef struct het_plugin_host {
    het_status (*fail)(het_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
    void (*warn)(const char *format, ...) __attribute__((format(printf, 1, 2)));
} het_plugin_host;

typedef struct het_plugin_wish {
    int index; /* of the GPU; -1: `place` modulo their number */
    int place; /* of this rank on its node */
    het_precision precision;
} het_plugin_wish;

/** Open a device; `host` must live as long as the process. Errors: HET_E_DEVICE in words, HET_E_USAGE, HET_E_MEMORY. */
typedef het_status het_plugin_open_function(const het_plugin_host *host, const het_plugin_wish *wish,
                                            het_device *device);
