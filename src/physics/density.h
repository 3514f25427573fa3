#pragma once
#include "volume.h"

/** The density map of atoms as Gaussians, band-limited to the map's grid:
 *      V(x) = sum_a w_a g(|x - x_a|),  g a normalised Gaussian of width sigma A (in units of weight per voxel),
 *  made on a grid of half the voxel size and cropped in Fourier space to |k_i| < D/2.
 *  volume [in,out]  box and apix are given (allocated); data are overwritten
 *  xyz    (n,3) A from the map's centre; weight (n), NULL: 1
 *  sigma  A; 0 means het_density_sigma(apix). Too narrow a Gaussian for the fine grid (< 0.35 apix) is HET_E_SHAPE.
 *  Errors: HET_E_INPUT when an atom with weight lies outside the box (says what box would hold it); HET_E_MEMORY.
 *  Test: tests/test_volume.c */
het_status het_density_from_atoms(het_volume *volume, const double *xyz, const double *weight, int64_t n, double sigma);

/** The usual width for a pixel size: max(1 A, 0.4 apix). */
double het_density_sigma(double apix);
