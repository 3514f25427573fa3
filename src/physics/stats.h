#pragma once
#include <stdint.h>

#include "../status.h"

/** Small statistics of long lists, in double. NaN in the input is the caller's error. Test:
 *  tests/test_latent.c */

/** Median; the mean of the two middle values for an even count; 0 for an empty list. Reorders `values`. */
double het_median(double *values, int64_t count);
/** The q-quantile (0..1) of an ascending list, linear between neighbours; 0 for an empty list. */
double het_quantile_sorted(const double *sorted, double q, int64_t count);
/** Mean and (if not NULL) population standard deviation, two passes; 0 for an empty list. */
double het_mean_std(const double *values, int64_t count, double *std);
/** Sort ascending. */
void het_sort(double *values, int64_t count);
/** Ranks 1..count of the values, ties share the mean of their ranks. Errors: HET_E_MEMORY. */
het_status het_ranks(double *ranks, const double *values, int64_t count);
/** Spearman's correlation: Pearson's of the (tie-averaged) ranks; 0 when a side is constant. Errors:
 *  HET_E_MEMORY. */
het_status het_spearman(double *correlation, const double *a, const double *b, int64_t count);
/** Mode of a Gaussian kernel density estimate with Silverman's width 0.9 min(std, IQR/1.34) count^(-1/5)
 *  (Silverman 1986, eq. 3.31), on 512 linear bins, parabola through the highest three. A constant list is its
 *  own mode. count > 0. Errors: HET_E_MEMORY. */
het_status het_density_mode(double *mode, const double *values, int64_t count);
