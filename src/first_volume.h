#pragma once
#include "physics/points.h"
#include "physics/search.h"
#include "physics/slicer.h"
#include "physics/volume.h"
#include "run_stage.h"
#include "whitening.h"

/** A first volume and a pose for every image, from random poses or from rough ones of some: projection matching,
 *  softly assigned.
 *
 *  The images with a pose give the first map (physics/backproject.h). Each round then searches all images (physics/search.h) on
 *  a grid turned anew, weighs every candidate by the softmax of its log-likelihood, and reconstructs from all,
 *      V = sum_i sum_c W_ic C_i conj(T_c) X_i / (sum W_ic C_i^2 + noise/signal)
 *  (Scheres 2012, J. Struct. Biol. 180:519). The likelihood's noise is what the last round left unexplained in
 *  each shell, at least the noise given: a bad map assigns softly by itself.
 *
 *  From random poses the first rounds are coarse: the likelihood ends at 5 Fourier pixels, candidates are those
 *  of the grid of 15 degrees itself, many of them count, and the noise is raised 30-fold at first, falling to
 *  its own level (annealing). Finer or harder assignments from the beginning end in maps that mix both hands
 *  (docs/poses.md). A last, finer search gives the poses.
 *
 *  Images may hold no particle: each counts by the probability 1/(1 + exp(-L)) that it does, L the log-likelihood of its likeliest pose less that
 *  of no particle. One that holds nothing fits best where the map has least, and would take what is left from there.
 *
 *  Ranks share the images in searches and the grid of the map in sums over images, which all take in one order: the numbers do not
 *  depend on how many ranks there are. Tests: tests/test_first_volume.c, tests/cli_deterministic.sh */

typedef struct het_first_volume_spec {
    int64_t box, count;
    double apix;
    het_whitening whitening;            /* of the images */
    const float *images;                /* [host] (this rank's,D,D), standardised: het_first_volume_share() */
    const het_ctf_row *ctf;             /* [host] (this rank's) */
    const float *rotation, *shift;      /* (count,9), (count,2) px: starting poses; NULL: drawn at random */
    const uint8_t *valid;               /* (count) which of them to trust; NULL: all */
    double radius;                      /* Fourier pixels; 6 to 12 */
    int coarse_rounds, rounds;          /* coarse ones first: 0 with starting poses, some 30 without */
    double shift_range;                 /* px */
    const float *noise;                 /* (points within radius) variance per Fourier point */
    uint64_t seed;                      /* of the turns of the grid and of random poses */
} het_first_volume_spec;

typedef struct het_first_volume {
    het_volume map;       /* low-resolution density, as long as the box; het_volume_resize() takes it to D */
    het_slicer slicer;    /* of map */
    double slice_scale;   /* times the slicer's numbers: those of the images */
    int threads;
    het_points points;    /* of the images' box */
    float *noise;         /* (points within radius) of the last likelihood: given, or left unexplained */
    het_search_pose *pose; /* (count); owned */
    double loglik;        /* mean over the images of the log-likelihood of map and pose, less that of no
                             particle (0 where none is likelier), with the noise given: comparable between starts on the same data */
    double explained;     /* share of the particles' power beyond noise, within radius, that map and poses explain:
                             about 1 at best, less where particles differ; 0 where there is no such power */
} het_first_volume;

/** A volume for images of a box whose map and noise the caller fills in, and then its slicer. Free with het_first_volume_free,
 *  also after an error. Errors: HET_E_MEMORY. Not collective. */
het_status het_first_volume_blank(het_first_volume *volume, het_device *dev, int64_t box, double apix, double radius);
/** Which of `count` images this rank searches: whole chunks of a search, as its sums may depend on who else is in a chunk. */
void het_first_volume_share(const het_comm *comm, int64_t count, int64_t *first, int64_t *own);
/** Collective over comm. After each round the ranks ask whether to stop (stop.h); then what the next round needs is kept as `kept`,
 *  of which folder (NULL: nothing is kept), name and about count, and the same call goes on with it. Errors: HET_E_STOPPED, HET_E_SHAPE, HET_E_MEMORY;
 *  HET_E_INPUT when no pose is valid. */
het_status het_first_volume_find(het_first_volume *volume, het_comm *comm, het_device *dev, const het_first_volume_spec *spec,
                                 const het_stage *kept);
/** Poses of other images of the same stack by the last search, those that have little to tell a pose by (a log-likelihood below 100) with more candidates, compared at
 *  more points: spec as before but for images and ctf, which are of all its count;
 *  what it says of starting poses and rounds is not used. pose [out] (count). Not collective. Errors: HET_E_MEMORY. */
het_status het_first_volume_search(const het_first_volume *volume, het_search_pose *pose, het_device *dev,
                                   const het_first_volume_spec *spec);
void het_first_volume_free(het_first_volume *volume);
/** A het_search_slices: context is a const het_first_volume. */
void het_first_volume_slices(void *context, float *slices, const float *rot, int64_t n, int64_t p);
