#pragma once
#include "../data/predictions.h"

/** Write poses and z as a STAR file for other programs. Angles: rlnAngleRot/Tilt/Psi in degrees; origins: -t
 *  in A (rlnOriginXAngst/YAngst: RELION's origin brings the particle to the centre), t in the source's image,
 *  also of a recentred stack and in the pixel size that the source states; hetZ1 .. hetZn; hetConfirmed and hetParticle where they are known. When
 *  every image came from one STAR file, its rows and other tables are kept, these columns replaced or added and an earlier run's hetZ
 *  left out; otherwise each image is named as the STAR file that it came from named it, by its source, or as number@stack_path,
 *  carries its CTF, and a table data_optics is written.
 *  image (count): the images to write, in that order; NULL: all. Rank 0 only. Errors: HET_E_INPUT when the stack has another
 *  number of images, or a STAR file that they came from is gone or has changed (star_rows.h); HET_E_USAGE where `path` is one of the
 *  stack's own files or those; HET_E_IO, HET_E_MEMORY.
 *  Test: tests/test_predictions.c */
het_status het_poses_write_star(const het_predictions *predictions, const int64_t *image, int64_t count, const het_stack *stack,
                                const char *stack_path, const char *path);
/** What of the above can be known before there are predictions of all images: the STAR files and `path`. Rank 0 only. */
het_status het_poses_check_star(const het_stack *stack, const char *path);
