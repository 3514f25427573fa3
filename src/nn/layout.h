#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../status.h"

/** The one table of parameters: name, place in the contiguous block, shape and initial values. Parameters, gradients and
 *  Adam's moments use the same offsets, so the optimiser, the all-reduce and the checkpoint are one call each. */

typedef enum het_init {
    HET_INIT_ZERO,
    HET_INIT_ONE,
    HET_INIT_CONV,   /* N(0, 2/fan_out), fan_out = out_c kernel^2 (He et al. 2015, as ResNet is usually started) */
    HET_INIT_LINEAR  /* U(-1,1)/sqrt(fan_in) x gain */
} het_init;

typedef struct het_parameter {
    char name[48];
    int64_t offset, count;
    int64_t shape[4]; /* 0 beyond the rank */
    het_init init;
    int64_t fan;      /* fan_out of CONV, fan_in of LINEAR */
    float gain;
} het_parameter;

enum { HET_PARAMETERS_MAX = 160 };

typedef struct het_layout {
    het_parameter list[HET_PARAMETERS_MAX];
    int count;
    int64_t total; /* floats */
} het_layout;

/** Append a parameter; returns its offset. Offsets are multiples of 16 floats, the gaps stay zero. */
int64_t het_layout_add(het_layout *layout, const char *name, const int64_t shape[4], het_init init, int64_t fan,
                       float gain);
/** Fill a block (host memory, `total` floats) with initial values keyed by (seed, HET_STREAM_INIT, 0, parameter). */
void het_layout_initialise(const het_layout *layout, float *block, uint64_t seed);
/** The parameter of that name, NULL when there is none. */
const het_parameter *het_layout_find(const het_layout *layout, const char *name);

/** Two-pass workspace: first with base NULL to count the need, then with the block to hand out the same pieces. */
typedef struct het_workspace {
    char *base;
    size_t used;
} het_workspace;
void *het_workspace_take(het_workspace *workspace, size_t bytes);
