#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../status.h"

/** The health of a run: the known ways in which ab-initio training fails (METHOD 6), as numbers and words.
 *  Pure functions; the trainer keeps the state and says the words. Test: tests/test_collapse.c */

/** Spread of independent uniform rotations: d = |R_i - R_j|_F^2 = 4 - 4 cos theta, theta with density
 *  (1 - cos theta)/pi on [0, pi]. Mean 6; the median theta solves theta - sin theta = pi/2:
 *  132.35 degrees. */
#define HET_SPREAD_MEAN 6.0
#define HET_SPREAD_MEDIAN 6.694448

/** Median of d over `pairs` drawn pairs (i, j), i != j, of a batch's rotations (count,9). Errors: HET_E_SHAPE
 *  for count < 2 or pairs < 1; HET_E_MEMORY. */
het_status het_health_spread(double *spread, const float *rotation, int64_t count, int64_t pairs,
                             uint64_t seed);

/** Skewness <(v - m)^3> / <(v - m)^2>^(3/2) of the voxels in the inscribed sphere of a map (D,D,D): clearly
 *  positive where few voxels hold dense matter in an even background, negative for the same map inverted.
 *  Free of the map's mean, which the CTF hides. 0 for a constant map. */
double het_health_skewness(const float *volume, int64_t box);

/** What the trainer knows at a report. NAN where a number is not known (yet): then it is not judged. */
typedef struct het_health_numbers {
    double images_seen;    /* since the start */
    double spread;         /* mean or median of d over pairs of predicted rotations */
    double image_loss;     /* eq. 4, mean over recent steps ... */
    double zero_loss;      /* ... and of predicting nothing for the same images */
    double snr, snr_floor; /* of the data (eq. 9), and the least value that the estimate can tell from 0 */
    double skewness;       /* of the decoded map at z = 0 */
    double z_rms;          /* of the conformations; NAN while they are frozen */
    double noise_loss;     /* eq. 4 of the noise alone, were it white */
    double progress;       /* of the training, 0 .. 1 */
    double non_finite;     /* losses or gradients that were NaN or infinite since the last report */
} het_health_numbers;

/** The trainer's memory between reports; start with zeros. */
typedef struct het_health {
    int collapsed, unfit, inverted, unused; /* reports in a row with the finding */
    double released;                        /* images seen when conformations were; 0: not yet */
} het_health;

typedef enum het_health_finding {
    HET_HEALTH_GOOD = 0,
    HET_HEALTH_NAN = 1,      /* numbers that are not finite */
    HET_HEALTH_NO_SNR = 2,   /* estimated SNR at or below the floor */
    HET_HEALTH_COLLAPSE = 4, /* spread < 2 in 3 reports in a row, after 20000 images */
    HET_HEALTH_UNFIT = 8,    /* image_loss >= zero_loss in 3 reports in a row, after 20000 images */
    HET_HEALTH_INVERTED = 16,/* skewness < -0.3 in 3 reports in a row, with a fit better than nothing */
    HET_HEALTH_UNUSED = 32,  /* z_rms < 0.1 in 3 reports in a row, 20000 images after z was released */
    HET_HEALTH_WEAK = 64     /* het_health_explained < 0.8 in the last tenth of the training */
} het_health_finding;

/** The share of the images' signal that the model explains, (zero_loss - image_loss) / (zero_loss - noise_loss); NAN
 *  where it is not known. */
double het_health_explained(const het_health_numbers *now);

/** Judge one report: update `health`, return the findings or'ed together. */
int het_health_judge(het_health *health, const het_health_numbers *now);

/** A word or two for each finding, with commas; "ok" for none. */
void het_health_names(char *text, size_t size, int findings);
/** One line for the most serious finding - what, the number, what to try - into `text`; "" for
 *  HET_HEALTH_GOOD. Returns that finding. */
het_health_finding het_health_words(char *text, size_t size, int findings, const het_health_numbers *now);
