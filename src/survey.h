#pragma once
#include "../kernels/ops.h"
#include "config.h"
#include "data/stack.h"

/** What is learned of the data before training: noise and SNR (METHOD 5, eq. 9) and the radial spectrum. */
typedef struct het_survey {
    double snr;            /* linear */
    double noise_variance; /* per pixel of the standardised images (unit variance) */
    int64_t shells;        /* box/2 */
    double *power;         /* (shells) variance per pixel that Fourier shell r carries, signal and noise */
    float *envelope;       /* (shells) amplitude of the signal per Fourier point, before the CTF */
    int floored;           /* the estimated SNR was at or below the floor */
} het_survey;

/** Empty survey for a box. Free with het_survey_free. */
het_status het_survey_new(het_survey *survey, int64_t box);
void het_survey_free(het_survey *survey);
/** Fill it from up to 2,048 images spread evenly over the stack, shared among the ranks. Collective.
 *  config->train.snr > 0 replaces the estimate. */
het_status het_survey_take(het_survey *survey, het_comm *comm, het_device *dev, const het_stack *stack,
                           const het_config *config);
