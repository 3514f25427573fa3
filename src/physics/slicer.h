#pragma once
#include "volume.h"

/** Samples of a map's Fourier transform between grid points, and with them its projections.
 *
 *      S(q) = 1/D sum_x V(x) exp(-2 pi i q.(x - D/2)/D),   q in cycles per box, |q| <= D/2
 *  so that S(R^T (kx,ky,0)) is the orthonormal transform (kernels/ops.h) of the projection of V along R (METHOD 2):
 *  I[y][x] = sum over the line of V. Method: the map is zero-padded to 2D, divided by the transform of a Kaiser-Bessel
 *  kernel 4 samples wide, transformed once, and convolved with the kernel at q (Jackson et al., IEEE TMI 10:473, 1991;
 *  beta from Beatty et al., IEEE TMI 24:799, 2005). Error: 2e-3 of a sample's usual size.
 *  Several maps, where they are sampled together, lie beside each other.
 *  Test: tests/test_volume.c */

enum { HET_SLICER_TABLE = 1024, HET_SLICER_MAPS = 9 };

typedef struct het_slicer {
    int64_t box;
    int maps;              /* n; 1 */
    int64_t columns, rows; /* of the stored block: kx = -1 .. D+2, ky and kz = -D-1 .. D+2, padded Fourier pixels */
    float *block;          /* (rows, rows, n, columns, 2); owned */
    float *table;          /* (HET_SLICER_TABLE + 1, 4) kernel weights by the fractional part; owned */
} het_slicer;

/** Transform a map. Memory kept: about 16 D^3 floats x 2; three times that while it is made. Errors: HET_E_MEMORY. */
het_status het_slicer_new(het_slicer *slicer, const het_volume *volume);
/** n maps of one size. */
het_status het_slicer_new_joint(het_slicer *slicer, const het_volume *volumes, int n);
/** What n maps of `box` voxels take, while the slicer is made. */
int64_t het_slicer_bytes(int64_t box, int n);
void het_slicer_free(het_slicer *slicer);
/** out = S(q); 0 beyond |q| = D/2. Thread-safe. */
void het_slicer_at(const het_slicer *slicer, float out[2], double qx, double qy, double qz);
/** out (n,2) = S(A k) for the n points k (n,3). Thread-safe. */
void het_slicer_turned(const het_slicer *slicer, float *out, const double a[9], const int16_t *k, int64_t n);
/** points (P,2) = S(R^T (kx,ky,0)) for the P points kxy (P,2). Thread-safe. */
void het_slicer_slice(const het_slicer *slicer, float *points, const double r[9], const int32_t *kxy, int64_t p);
/** Those of all n maps, slices (n,P,2), and how their sum with weights e (n) changes along the axes of the image:
 *  gradient (3,P,2) = d/dk sum_m e_m S_m(R^T k). Thread-safe. */
void het_slicer_slice_joint(const het_slicer *slicer, float *slices, float *gradient, const double r[9], const double *e, const int32_t *kxy,
                            int64_t p);
/** Those of n rotations (n,9): slices (n,P,2), on so many threads. */
void het_slicer_slices(const het_slicer *slicer, float *slices, const float *rot, int64_t n, const int32_t *kxy, int64_t p,
                       int threads);
