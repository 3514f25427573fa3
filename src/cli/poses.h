#pragma once
#include "../data/predictions.h"

/** Write poses and z as a STAR file for other programs. Angles: rlnAngleRot/Tilt/Psi in degrees; origins: -t
 *  in A (rlnOriginXAngst/YAngst: RELION's origin brings the particle to the centre), t in the source's image,
 *  also of a recentred stack; hetZ1 .. hetZn; hetConfirmed where that is known. When every image of the stack came from one STAR file that can
 *  still be read, its rows and other tables are kept and these columns replaced or added; otherwise each image
 *  is named by its source, or as number@stack_path, carries its CTF, and a table data_optics is written.
 *  image (count): the images to write, in that order; NULL: all. Rank 0 only. Errors: HET_E_INPUT when the stack has another
 *  number of images; HET_E_IO, HET_E_MEMORY.
 *  Test: tests/test_predictions.c */
het_status het_poses_write_star(const het_predictions *predictions, const int64_t *image, int64_t count, const het_stack *stack,
                                const char *stack_path, const char *path);
