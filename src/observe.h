#pragma once
#include "../kernels/device.h"
#include "data/stack.h"
#include "physics/points.h"
#include "whitening.h"

/** Images as Fourier points with their CTFs, block by block. Test: tests/test_first_volume.c, tests/test_reconstruct.c */
enum { HET_OBSERVED = 64 }; /* images at a time */

typedef struct het_observer {
    het_device *dev;          /* borrowed */
    const het_points *points; /* borrowed */
    int64_t p;                /* those within the radius */
    double apix;
    het_fourier *plan;
    float *image, *transform, *ctf; /* device */
    float *whitening;               /* (P) of the images; device; NULL: none */
    het_ctf_row *rows;              /* device */
} het_observer;

/** For images of points->box pixels of apix A that were whitened so: their points with |k| <= radius. Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_observer_new(het_observer *observer, het_device *dev, const het_points *points, double apix, const het_whitening *whitening,
                            double radius);
void het_observer_free(het_observer *observer);
/** transform (n,P,2), ctf (n,P) [out, host]: image_to_points and ctf of kernels/ops.h, C' = W C where images are whitened, of n images (n,D,D).
 *  n <= HET_OBSERVED. Errors: those of the device. */
het_status het_observe(het_observer *observer, float *transform, float *ctf, const float *images, const het_ctf_row *rows, int64_t n);
/** The same of n images of a stack, standardised: images (n,D,D) [out]. Errors: those of reading, too. */
het_status het_observe_stack(het_observer *observer, float *transform, float *ctf, float *images, const het_stack *stack,
                             const int64_t *index, int64_t n);
