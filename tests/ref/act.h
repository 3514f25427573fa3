#pragma once
#include "../../kernels/ops.h"

/** Test arrays that live twice: on a device (activations of its precision, or fp32) and in double, the same
 * numbers. */

typedef struct ref_array {
    het_device *dev;
    int64_t n;
    int is_act;
    void *device;
    double *host;
} ref_array;

/** Normal numbers times `scale` plus `offset`, rounded to the precision they have on the device. */
ref_array ref_array_random(het_device *dev, int64_t n, int is_act, double scale, double offset,
                           uint64_t sample);
void ref_array_free(ref_array *array);
/** Put array->host on the device, rounding the host's numbers alike. */
void ref_array_upload(ref_array *array);
/** Largest difference between the device's numbers and `expected`, over the largest expected. */
double ref_array_error(const ref_array *array, const double *expected);
/** The device's numbers; free with free(). */
double *ref_array_download(const ref_array *array);
