#pragma once
#include "../../kernels/ops.h"
#include "../status.h"

/** The CTF rows of a STAR file, without its images: what `simulate` draws from.
 *
 *  Wanted: rlnDefocusU; where absent rlnDefocusV is U, rlnDefocusAngle and rlnPhaseShift are 0. rlnVoltage (kV),
 *  rlnSphericalAberration (mm) and rlnAmplitudeContrast may stand in the optics table instead, found by rlnOpticsGroup.
 *  rlnParticleCount gives the weight of a row (1 where absent). Test: tests/test_ctf_table.c */
typedef struct het_ctf_table {
    het_ctf_row *row; /* (count) owned */
    double *weight;   /* (count) owned */
    int64_t count;
} het_ctf_table;

/** Errors: HET_E_IO; HET_E_INPUT naming file, line and the missing or malformed column. */
het_status het_ctf_table_load(het_ctf_table *table, const char *path);
void het_ctf_table_free(het_ctf_table *table);
