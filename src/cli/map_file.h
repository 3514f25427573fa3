#pragma once
#include "../physics/volume.h"

/** Read an MRC map as a cubic volume of even box: an odd one gets a plane of zeros before its first along each axis, which
 *  keeps its centre voxel (D-1)/2 at the centre of the even box. A header without a pixel size gives `apix` (0: 1 A, with a
 *  warning). Errors: HET_E_IO, HET_E_INPUT (not cubic, unequal pixel sizes, not finite), HET_E_MEMORY. */
het_status het_map_load(het_volume *volume, const char *path, double apix);
het_status het_map_save(const char *path, const het_volume *volume);
