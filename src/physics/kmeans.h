#pragma once
#include <stdint.h>

#include "../status.h"

/** Seed of the clusters that a user asks for by number: the same in every command. */
enum { HET_CLUSTERS_SEED = 1 };

/** k-means: k-means++ seeds (Arthur & Vassilvitskii 2007), Lloyd's rounds until no label changes (at most
 *  100), the best of 4 starts by the sum of squares. Clusters are numbered by their centres' first
 *  coordinate, ascending.
 *  centre [out] (clusters,dim), label [out] (count), z [in] (count,dim) finite; inertia [out] sum of squares,
 *  NULL allowed. Random numbers: (seed, HET_STREAM_SEARCH); the result does not depend on threads.
 *  Errors: HET_E_SHAPE unless 1 <= clusters <= count; HET_E_MEMORY. Test: tests/test_latent.c */
het_status het_kmeans(double *centre, int64_t *label, double *inertia, const float *z, int64_t count,
                      int64_t dim, int64_t clusters, uint64_t seed);
/** The image nearest to each centre: nearest [out] (clusters). */
void het_kmeans_nearest(int64_t *nearest, const double *centre, int64_t clusters, const float *z,
                        int64_t count, int64_t dim);
