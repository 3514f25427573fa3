#pragma once
#include "../physics/volume.h"

enum { HET_CONFORMATIONS_MAX = 1000 }; /* of a morph or a range of angles: as many classes as `evaluate` takes */

/** The conformations that `simulate` makes images of: maps of one box and pixel size, and where each one stands. */
typedef struct het_conformations {
    het_volume *map; /* (count) owned */
    double *z;       /* (count) angle in rad where a part was turned, 0 .. 1 along a morph, else the number of the
                        conformation; owned */
    int64_t count;
} het_conformations;

typedef struct het_motion {
    const char *selection; /* atoms to turn (data/atoms.h); NULL: none */
    const char *about;     /* "com": axis from the rest's centre of mass to the selection's; or two atoms "SEL,SEL": axis
                              from the first to the second; right-handed */
    const char *angles;    /* degrees, separated by commas, or FIRST:LAST:COUNT */
    const char *models;    /* "A" or "A-B", counted from 1; NULL: all (the first where a part is turned) */
    int64_t morph;         /* so many conformations on the way from the first of the models to the last; 0: the models */
    int hydrogens;
} het_motion;

/** Maps from a list of MRC files separated by commas, brought to box and apix; what lies outside the new box's sphere is
 *  masked. Errors: HET_E_IO, HET_E_INPUT, HET_E_MEMORY. */
het_status het_conformations_from_maps(het_conformations *made, const char *paths, int64_t box, double apix);
/** Density maps of the models of a PDB or mmCIF file, of a linear morph between two of them, or of its first model with a
 *  part turned by each angle. All are centred by the centre of mass of the first conformation. Errors: as het_atoms_load;
 *  HET_E_USAGE for the motion; HET_E_INPUT for a morph between models of other atoms. */
het_status het_conformations_from_atoms(het_conformations *made, const char *path, const het_motion *motion, int64_t box,
                                        double apix);
void het_conformations_free(het_conformations *made);
