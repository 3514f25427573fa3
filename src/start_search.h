#pragma once
#include "start_volume.h"

/** Random starts of the start's images: shared by start_volume.c and start_search.c only. */

/** Images of a stack in random order: any first part of them stands for all of it. */
typedef struct het_chosen {
    int64_t count;
    int64_t *index;          /* (count) in the stack */
    float *rotation, *shift; /* (count,9), (count,2) px: rough poses */
    uint8_t *valid;          /* (count) which images have one */
} het_chosen;

/** Expectation-maximisation on the first `count` chosen images at the data's noise: rounds, radius, seed and poses are those of
 *  `more`. Rounds that are done are kept as `name` where spec has a folder. Errors: those of het_first_volume_find, of reading.
 *  Collective over comm. */
het_status het_start_maximise(het_first_volume *volume, het_comm *comm, het_device *dev, const het_stack *stack, const int64_t *index,
                              const het_start_volume_spec *spec, const char *name, het_first_volume_spec more);

/** How many of the chosen images random starts may need, of `images` there are. */
int64_t het_start_search_images(int64_t images, const het_config_init *init);
/** Poses of the first of the chosen images from random ones: expectation-maximisation as often as it takes until the
 *  likeliest so far and another one agree - the median of |R - R'|_F^2 after the best rotation and hand is at most 0.5 -
 *  and at most init.starts times. The first two take init.search_images images and init.search_rounds rounds, the next two
 *  twice as many of both, all others four times; only starts of one effort are compared. Where none agrees, a warning says
 *  so: a wrong volume is found a second time by chance only. Two starts are made at a time, each by half of the ranks.
 *  Collective. Errors: HET_E_MEMORY. */
het_status het_start_from_search(het_chosen *chosen, het_comm *comm, het_device *dev, const het_stack *stack,
                                 const het_start_volume_spec *spec);
