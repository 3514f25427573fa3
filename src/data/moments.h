#pragma once
#include <stdint.h>

/** Mean and sum of squared deviations of pixels, added up image by image (Chan, Golub and LeVeque 1983, eq. 2.1). In the
 *  order of the images the result is the same bits wherever the images lie: on other ranks, or in several files. */

typedef struct het_image_moments { /* a row of a stack's /moments */
    double mean, deviation;
} het_image_moments;

typedef struct het_moments { /* start with zeros */
    double mean, deviation;
    int64_t images;
} het_moments;

/** Add an image of `pixels` pixels. */
void het_moments_add(het_moments *all, const het_image_moments *image, int64_t pixels);
/** Add images of which no more is known than their mean and standard deviation: right to rounding only. */
void het_moments_join(het_moments *all, double mean, double std, int64_t images, int64_t pixels);
double het_moments_std(const het_moments *all, int64_t pixels);
