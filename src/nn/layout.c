#include "layout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../rng.h"

int64_t het_layout_add(het_layout *layout, const char *name, const int64_t shape[4], het_init init, int64_t fan,
                       float gain)
{
    HET_ASSERT(layout->count < HET_PARAMETERS_MAX);
    het_parameter *p = &layout->list[layout->count++];
    *p = (het_parameter){.offset = layout->total, .count = 1, .init = init, .fan = fan, .gain = gain};
    snprintf(p->name, sizeof p->name, "%s", name);
    for (int i = 0; i < 4; i++) {
        p->shape[i] = shape[i];
        if (shape[i] > 0) p->count *= shape[i];
    }
    layout->total += (p->count + 15) / 16 * 16;
    return p->offset;
}

static float initial(const het_parameter *p, het_rng *rng)
{
    switch (p->init) {
    case HET_INIT_ZERO: return 0.0f;
    case HET_INIT_ONE: return 1.0f;
    case HET_INIT_CONV: return sqrtf(2.0f / (float)p->fan) * het_rng_normal(rng);
    case HET_INIT_LINEAR: return p->gain * (2.0f * het_rng_uniform(rng) - 1.0f) / sqrtf((float)p->fan);
    }
    return 0.0f;
}

void het_layout_initialise(const het_layout *layout, float *block, uint64_t seed)
{
    memset(block, 0, (size_t)layout->total * sizeof *block);
    for (int i = 0; i < layout->count; i++) {
        const het_parameter *p = &layout->list[i];
        het_rng rng = het_rng_at(seed, HET_STREAM_INIT, 0, (uint64_t)i);
        for (int64_t j = 0; j < p->count; j++) block[p->offset + j] = initial(p, &rng);
    }
}

const het_parameter *het_layout_find(const het_layout *layout, const char *name)
{
    for (int i = 0; i < layout->count; i++)
        if (strcmp(layout->list[i].name, name) == 0) return &layout->list[i];
    return NULL;
}

void *het_workspace_take(het_workspace *workspace, size_t bytes)
{
    char *piece = workspace->base == NULL ? NULL : workspace->base + workspace->used;
    workspace->used += het_arena_round(bytes);
    return piece;
}
