#pragma once
#include <stdint.h>

#include "../status.h"

/** Atoms of PDB and mmCIF files, plain or gzip'ed. Test: tests/test_atoms.c */

enum { HET_ATOM_NAME = 8 };

typedef struct het_atom {
    double xyz[3];             /* A, as in the file */
    double weight;             /* atomic number x occupancy: how strongly it scatters */
    int64_t residue;           /* number given by the authors */
    char chain[HET_ATOM_NAME]; /* chain given by the authors (auth_asym_id) */
    char name[HET_ATOM_NAME];  /* atom name: CA, P, O5' .. */
} het_atom;

typedef struct het_atoms {
    het_atom *atom; /* (count), model after model; owned */
    int64_t count;
    int64_t models;
    int64_t *first; /* (models + 1): atoms of model m are first[m] .. first[m+1]-1; owned */
} het_atoms;

/** Read ATOM and HETATM records (PDB) or the _atom_site loop (mmCIF; one row per line); which of the two is told from the
 *  content. Hydrogens are left out unless asked for; water (HOH, WAT, DOD) always. Models: MODEL records or
 *  pdbx_PDB_model_num.
 *  Errors: HET_E_IO; HET_E_INPUT naming file and line for a coordinate or occupancy that is no number, an unknown element,
 *  a row of the wrong length; HET_E_INPUT for a file without atoms; HET_E_MEMORY. */
het_status het_atoms_load(het_atoms *atoms, const char *path, int hydrogens);
void het_atoms_free(het_atoms *atoms);

/** Mark the atoms of one model that a selection names: selected (first[model+1] - first[model]) = 0 or 1.
 *  A selection is a list of terms separated by commas; an atom is selected when any term holds:
 *      [!]chain:PATTERN[/RESIDUE[-RESIDUE]][@NAME]
 *  PATTERN and NAME may hold the wildcards * and ?; ! turns a term round. Example: chain:A/177-330, !chain:L*
 *  Errors: HET_E_USAGE for a malformed selection or one that names no atom. */
het_status het_atoms_select(const het_atoms *atoms, int64_t model, const char *selection, uint8_t *selected);

/** Atomic number of an element symbol in any case ("D" is 1); 0 when there is none of that name. */
int het_element_number(const char *symbol);
