#pragma once
#include "physics/search.h"
#include "physics/slicer.h"
#include "refine_poses.h"

/** Images searched in the maps of conformations. Shared by refine_relocate.c and refine_confirm.c only. */

enum { HET_CONFORMATIONS = 12 }; /* at most */

typedef struct het_conformations {
    het_poses *poses;
    het_search *search;
    het_volume map; /* of one conformation: its slices cost less than the decoder's */
    het_slicer slicer;
    float *envelope;        /* (points of the disc) */
    int64_t count, k;       /* how many there are; the number of the one that is searched */
    double *centre;         /* (count,Z) */
    het_search_pose *found; /* (batch) */
} het_conformations;

/** The likeliest pose of image `at` of the stack in conformation k; loglik may be -INFINITY. */
typedef void (*het_conformations_take)(void *context, int64_t at, int64_t k, const het_search_pose *pose);

/** The conformations are the centres of clusters of known (n,Z); label [out] (n): whose cluster. Free with
 *  het_conformations_close, also after an error. Errors: HET_E_MEMORY. Not collective. */
het_status het_conformations_open(het_conformations *c, het_poses *poses, const float *known, int64_t n, int64_t *label);
void het_conformations_close(het_conformations *c);
/** Search this rank's images of the window (het_poses_window) for which wanted (all) is 1 (NULL: all) in each conformation in turn,
 *  within 12 Fourier pixels. Stops early with *stopped. Not collective. Errors: HET_E_MEMORY, those of reading. */
het_status het_conformations_search(het_conformations *c, const int64_t *wanted, het_conformations_take take, void *context,
                                    int *stopped);
