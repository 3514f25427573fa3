#pragma once
#include "physics/search.h"
#include "start_finder.h"
#include "start_groups.h"

/** Other poses for images of several conformations: those that a search finds in the maps of groups of conformations, V_0 + sum_k z_k V_k of a
 *  linear model at their centres, two groups for each of its axes. A pose found with one map for all may be that of another view in another conformation. */
typedef struct het_candidates {
    const het_points *points; /* borrowed */
    int n;                    /* groups */
    het_slicer slicer[HET_FRAMES];
    double slice_scale;
    int64_t p;                /* points of a search */
    float *noise;             /* (p) */
    float *transform, *ctf;   /* of a block of images, to these points */
    het_search_pose *pose;    /* of a block */
    het_search *search;
    int threads;
} het_candidates;

/** Of what is known of finder's images now, for a search to the start's radius. Free with het_candidates_free, also after an error. Not collective.
 *  Errors: HET_E_MEMORY. */
het_status het_candidates_new(het_candidates *candidates, const het_finder *finder, const het_start_volume_spec *spec);
/** What it takes, about, for a search to `radius` in maps to model_radius. */
size_t het_candidates_bytes(double radius, double model_radius);
void het_candidates_free(het_candidates *candidates);
/** rotation (n,9), shift (n,2) px [out]: poses of n images in the map of `group`, n <= HET_OBSERVED; transform (n,row,2), ctf (n,row), row >= p. */
void het_candidates_find(het_candidates *candidates, int group, float *rotation, float *shift, const float *transform, const float *ctf, int64_t row,
                         int64_t n);
