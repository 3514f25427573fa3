#pragma once
#include "observe.h"
#include "physics/components.h"
#include "start.h"
#include "start_volume.h"

/** A linear model (physics/components.h) of a stack's images, fitted by expectation-maximisation: some thousands of images, chosen at random, make
 *  the maps, others tell their noise and which axes are real; all ranks hold them all and share the work, so that the numbers do not depend on
 *  how many there are. Functions are collective unless they say otherwise. Errors: HET_E_MEMORY, HET_E_STOPPED on a signal (not for the time: every start
 *  of the program gets on), those of reading. Test: tests/cli_start.sh */
typedef struct het_finder {
    het_start *start;
    het_comm *comm;
    het_device *dev;
    const het_stack *stack;
    double radius;
    het_points points;
    het_observer observer;
    float *pixels, *transform, *ctf; /* of a block */
    het_components model;
    int64_t others;               /* of the images below: the later ones, which the maps are not made from */
    het_components_images images; /* count: of those that they are made from */
    int64_t *index;               /* (images) which they are */
    het_components_answer *answer;
    double *left; /* of the others */
    double lost;  /* share of the images whose poses were found in another view */
} het_finder;

/** Of so many images of a stack, how many are only asked, and how many make maps. */
int64_t het_finder_others(int64_t images);
int64_t het_finder_makers(int64_t images);
/** finder: start, comm, dev, stack and radius (Fourier pixels) set, everything else 0. For `count` components and images whose pixels have this noise;
 *  poses are the start's. Nothing is read yet. Free with het_finder_free, also after an error. Not collective. */
het_status het_finder_new(het_finder *finder, int count, double noise, uint64_t seed);
void het_finder_free(het_finder *finder);
/** How many images there are. */
int64_t het_finder_asked(const het_finder *finder);
/** Read the images, moved back by their shifts. */
het_status het_finder_read(het_finder *finder);
/** a, b of n images of the stack, moved back by shift (n,2) px; their transforms and CTFs stay in finder->transform, ctf. n <= HET_OBSERVED. Not
 *  collective. */
het_status het_finder_observe(het_finder *finder, float *a, float *b, const float *shift, const int64_t *index, int64_t n);
/** How many of [at, end) are a block. */
int64_t het_finder_block(int64_t at, int64_t end);
/** Nothing is known of n images. */
void het_finder_forget(het_components_answer *answer, int64_t n);
/** The answers of n of the images from `from` on, and what these have left (or NULL). */
het_status het_finder_ask(het_finder *finder, double *left, int64_t from, int64_t n);
/** Maps from the answers, the answers of all, poses that follow, and the noise by those that the maps are not made from: maps fit that of their own. */
het_status het_finder_round(het_finder *finder);
