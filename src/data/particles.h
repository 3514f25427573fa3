#pragma once
#include <stdint.h>

#include "../../kernels/ops.h"
#include "../mpi/comm.h"
#include "../status.h"
#include "star.h"

/** Particles as a STAR table, a cryoSPARC dataset or an MRC stack describes them, before their images are read.
 *
 *  Poses. RELION's Euler angles (rot, tilt, psi) go to R by het_rotation_from_euler() as they are: x_image =
 *  R x_volume. RELION's origin is the shift that brings the particle to the centre; our t (METHOD 2) moves
 *  the centred particle to where it is seen: t = -origin, in pixels of the image: -rlnOriginXAngst over the file's own
 *  pixel size, whatever `apix` says (3.1 and later), or -rlnOriginX (3.0). Units: rlnVoltage kV -> V, rlnSphericalAberration mm -> A, angles
 *  degree -> rad. Tests: tests/test_particles.c
 *
 *  cryoSPARC's alignments3D/pose is a rotation vector v, R = exp([v]x)^T; its shift is RELION's origin in pixels of
 *  alignments3D/psize_A; defocus in A, angles in rad. Tests: tests/test_cs.c */

typedef struct het_particles {
    int64_t count;
    int64_t file_count;
    char **file;      /* (file_count) paths as found on this machine */
    int32_t *file_of; /* (count) */
    int64_t *image;   /* (count) 0-based, within the file */
    int64_t *row;     /* (count) 0-based row of the table (of a stack: the image) */
    int64_t *line;    /* (count) line in the STAR file; NULL without one */
    het_ctf_row *ctf; /* (count); voltage 0: no CTF */
    double *euler;    /* (count, 3) rot, tilt, psi in rad; NULL where the table has none */
    double *turn;     /* (count, 3) in place of them cryoSPARC's rotation vector in rad; NULL */
    double *shift;    /* (count, 2) t in px of the images; NULL where the table has none */
    double apix;      /* A per pixel, the same for all; 0: unknown */
    int64_t box;      /* side of the square images; set by het_particles_check() */
    char *source;     /* the STAR, .cs or MRC file */
} het_particles;

typedef struct het_particles_options {
    const char *datadir; /* where image paths are looked up first; NULL: none */
    double apix;         /* > 0: overrides what the files say */
    int no_ctf;          /* take the CTF as 1, whatever the columns say */
    const char *index;   /* file with the 0-based rows to take (index.h); NULL: all */
} het_particles_options;

/** Read a STAR file. An image path is looked up under datadir (whole, then its file name alone), as it is
 *  where absolute, under the STAR's folder and each of its parents (RELION's paths start at the project), in
 *  the STAR's folder by its file name alone, and in the working folder. Rows are kept in the order of the
 *  file. Errors: HET_E_IO; HET_E_INPUT naming the missing column, the line, the optics groups that differ in
 *  pixel size, images that are multiplied by their CTF or phase-flipped, or the image file that is not there. */
het_status het_particles_load_star(het_particles *particles, const char *path,
                                   const het_particles_options *options);
/** The table of a STAR file that lists its particles: data_particles, or else the first with rlnImageName. NULL: there is none. */
const het_star_table *het_particles_star_table(const het_star *star);
/** The pixel sizes in A that a STAR file gives for rows `row` (n) of its particle table; 0 where it gives none that can be. Errors:
 *  HET_E_INPUT for a file without particles, or a cell that is no number. */
het_status het_particles_star_apix(double *apix, const het_star *star, const int64_t *row, int64_t n);
/** The rows of a cryoSPARC dataset; columns that it lacks are taken from the others of `paths` (count, 8 at most), by uid. Image
 *  files are looked up as those of a STAR file. Errors: as above, and those of het_cs_load(). */
het_status het_particles_load_cs(het_particles *particles, const char *const *paths, int count,
                                 const het_particles_options *options);
/** All images of one MRC stack, without CTF and poses. */
het_status het_particles_load_mrc(het_particles *particles, const char *path,
                                  const het_particles_options *options);
void het_particles_free(het_particles *particles);

/** Open every image file (shared out over the ranks) and check that all images are square, of one size, and
 *  that every image number exists; sets box. Collective. Errors (on every rank): HET_E_IO, HET_E_INPUT naming
 *  file or line. */
het_status het_particles_check(het_particles *particles, het_comm *comm);

/** Reads the images of particles; keeps the file in use open. Not thread-safe: one per thread. */
typedef struct het_particle_reader het_particle_reader;
het_status het_particle_reader_new(het_particle_reader **reader, const het_particles *particles);
void het_particle_reader_free(het_particle_reader *reader);
/** images (count, box, box) of particles first .. first+count-1; runs that are consecutive in a file are read
 *  at once. Errors: HET_E_IO; HET_E_INPUT naming the first image with a NaN or infinite pixel. */
het_status het_particle_reader_read(het_particle_reader *reader, float *images, int64_t first, int64_t count);
