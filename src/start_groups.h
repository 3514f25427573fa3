#pragma once
#include "frames.h"
#include "physics/components.h"

/** Clusters of the conformations that a linear model has told of images. */
typedef struct het_groups {
    int n;
    int64_t *label, size[HET_FRAMES];                /* (images); of each */
    double centre[HET_FRAMES * HET_COMPONENTS_MOST]; /* (n,K) */
} het_groups;

/** `most` clusters of the z of `count` answers, fewer of fewer images. Free with het_groups_free, also after an error. Errors: HET_E_MEMORY. */
het_status het_groups_new(het_groups *groups, int most, const het_components_answer *answer, int64_t count, int components, uint64_t seed);
void het_groups_free(het_groups *groups);
