#pragma once
#include "particles.h"

/** For the readers of tables alone. */

/** Room for `rows` particles of the file `path`, or for those of them that the file `index` lists (NULL: all); `row` is filled in.
 *  Errors: HET_E_MEMORY; those of het_index_load(). */
het_status het_particles_new(het_particles *particles, const char *path, int64_t rows, const char *index);
/** Errors: HET_E_INPUT: a voltage or amplitude contrast of particle i that cannot be. */
het_status het_particles_check_ctf(const het_particles *particles, int64_t i);
/** The particle in words: "line 22 (particle 1)" or "particle 1". */
void het_particles_place(const het_particles *particles, int64_t i, char *text, size_t size);
