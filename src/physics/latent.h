#pragma once
#include <stdint.h>

#include "../status.h"

/** What the conformations z (count, dim) say about classes: the measures Err, E_z and z* (Corr is het_spearman).
 *  Labels are 0..classes-1; z must be finite; dim 1..64. Test: tests/test_latent.c */

enum { HET_LATENT_DIM = 64 };

typedef struct het_pca {
    int64_t dim;
    double mean[HET_LATENT_DIM];
    double variance[HET_LATENT_DIM];              /* descending, of the population */
    double axis[HET_LATENT_DIM * HET_LATENT_DIM]; /* (dim,dim): row k is the unit axis of component k */
} het_pca;

/** Principal components of z. Errors: HET_E_SHAPE for count < 1 or dim outside 1..64. */
het_status het_latent_pca(het_pca *pca, const float *z, int64_t count, int64_t dim);
/** out (count) = (z - mean) . axis[component]. */
void het_latent_project(double *out, const het_pca *pca, int component, const float *z, int64_t count);

/** The threshold between two groups without labels: midpoint between the two means of the best split into two
 *  groups (exact one-dimensional k-means, least sum of squares over all splits). Errors: HET_E_MEMORY. */
het_status het_latent_threshold(double *threshold, const double *value, int64_t count);

typedef struct het_split {
    double threshold;
    double err; /* misclassified share, the better of the two ways to name the sides: 0..0.5 */
    int above;  /* class that lies above the threshold */
} het_split;

/** Err of two classes for a given threshold on PC1 (value > threshold is above). */
het_split het_latent_split(const double *value, const int64_t *label, int64_t count, double threshold);
/** The threshold with the least Err, found with the labels: a bound, not a result. Errors: HET_E_MEMORY. */
het_status het_latent_best_split(het_split *split, const double *value, const int64_t *label, int64_t count);

/** E_z of the entanglement E = E_pose + E_z for more than two classes (for two it is Err). Eq. 11 builds it
 *  from the mean m_k and standard deviation s_k of each class on PC1; here
 *      E_z = 1/(K-1) sum_{k=0}^{K-2} Phi( -sign (m_{k+1} - m_k) / (s_k + s_{k+1}) ),
 *  K the number of classes that have images, in the order of their numbers; Phi the normal distribution
 *  function; s_k of the population; sign = -1 where m_{K-1} < m_0, else 1 (PC1 has no sign of its own). A term
 *  is the share of either of two normal classes that lies beyond the threshold at equal standardised distance
 *  from both: what Err would be for these two. 0: all neighbours apart; 0.5: no order; 0 for K = 1.
 *  This is the project's own reading of eq. 11, comparable between its runs and not with the paper: its table
 *  implies E_z = 2.2e-3 at Corr 0.976 for ten classes, where ten equal normal steps have 0.22 here.
 *  mean, std (classes) receive m_k, s_k (NULL: not wanted). Errors: HET_E_MEMORY. */
het_status het_latent_overlap(double *e_z, double *mean, double *std, const double *value,
                              const int64_t *label, int64_t count, int64_t classes);

/** z* of a class (appendix D): PC1 of its images, mode of their density (het_density_mode), and the mean z of
 *  the images of the class nearest to the mode: one in twenty, at least 1, at most 200.
 *  z_star [out] (dim); mode [out] on PC1 (NULL: not wanted). Errors: HET_E_INPUT for a class without images,
 *  HET_E_MEMORY. */
het_status het_latent_class_mode(float *z_star, double *mode, const float *z, const double *pc1,
                                 const int64_t *label, int64_t klass, int64_t count, int64_t dim);

/** Neighbourhood similarity of z (after CryoBench): mean share, over up to 2000 drawn images, of the `k`
 *  nearest of up to 20000 drawn others that have the same class. chance [out]: what mixed classes give, sum
 *  of squared class shares.
 *  Errors: HET_E_SHAPE for count < 2, HET_E_MEMORY. */
het_status het_latent_neighbours(double *similarity, double *chance, const float *z, const int64_t *label,
                                 int64_t count, int64_t dim, int64_t classes, int k, uint64_t seed);
