#pragma once
#include <stdint.h>

#include "../mpi/comm.h"

/** Are particles bright or dark? Mean of the disc r < 0.5 D/2 minus mean of the rim r > 0.9 D/2, image by
 *  image, so that backgrounds that differ between images do not count. Test: tests/test_particles.c */
typedef struct het_contrast {
    int64_t box, disc_count, rim_count;
    double images, sum, sum2; /* of the differences */
    double pixel_sum2;        /* of the images' pixel variances */
} het_contrast;

void het_contrast_init(het_contrast *contrast, int64_t box);
/** Add one image (box, box). */
void het_contrast_add(het_contrast *contrast, const float *image);
/** Sum over all ranks. Collective. */
het_status het_contrast_reduce(het_contrast *contrast, het_comm *comm);
/** The mean difference in units of the pixels' standard deviation (positive: bright), and its standard
 *  error. */
void het_contrast_result(const het_contrast *contrast, double *mean, double *error);
