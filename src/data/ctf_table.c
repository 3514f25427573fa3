#include "ctf_table.h"

#include <string.h>

#include "../arena.h"
#include "star.h"

static const double radian = 3.14159265358979323846 / 180.0;

/* The row of the optics table that belongs to a particle's group, or -1. */
static int64_t optics_row(const het_star_table *optics, const het_star_table *particles, int64_t row)
{
    const int64_t mine = het_star_column(particles, "rlnOpticsGroup");
    const int64_t theirs = optics != NULL ? het_star_column(optics, "rlnOpticsGroup") : -1;
    if (mine < 0 || theirs < 0) return -1;
    for (int64_t i = 0; i < optics->rows; i++)
        if (strcmp(het_star_text(particles, row, mine), het_star_text(optics, i, theirs)) == 0) return i;
    return -1;
}

/* A value from the particles, else from their optics group, else `otherwise` (NULL: it must be there). */
static het_status value_of(double *value, const het_star_table *particles, const het_star_table *optics, int64_t row,
                           const char *label, const double *otherwise)
{
    const int64_t column = het_star_column(particles, label);
    if (column >= 0) return het_star_number(particles, row, column, value);
    const int64_t group = optics_row(optics, particles, row);
    const int64_t shared = group >= 0 ? het_star_column(optics, label) : -1;
    if (shared >= 0) return het_star_number(optics, group, shared, value);
    if (otherwise == NULL)
        return het_fail(HET_E_INPUT, "%s line %lld: no %s for this row: needed for the CTF", particles->path,
                        (long long)particles->line[row], label);
    *value = *otherwise;
    return HET_OK;
}

static het_status read_row(het_ctf_table *table, const het_star_table *particles, const het_star_table *optics,
                           int64_t row)
{
    het_status status = HET_OK;
    const double zero = 0.0, one = 1.0;
    double u, v, angle, voltage, cs, amplitude, phase;
    HET_TRY(value_of(&u, particles, optics, row, "rlnDefocusU", NULL));
    HET_TRY(value_of(&v, particles, optics, row, "rlnDefocusV", &u));
    HET_TRY(value_of(&angle, particles, optics, row, "rlnDefocusAngle", &zero));
    HET_TRY(value_of(&voltage, particles, optics, row, "rlnVoltage", NULL));
    HET_TRY(value_of(&cs, particles, optics, row, "rlnSphericalAberration", NULL));
    HET_TRY(value_of(&amplitude, particles, optics, row, "rlnAmplitudeContrast", NULL));
    HET_TRY(value_of(&phase, particles, optics, row, "rlnPhaseShift", &zero));
    HET_TRY(value_of(&table->weight[row], particles, optics, row, "rlnParticleCount", &one));
    if (!(voltage > 0.0) || !(amplitude >= 0.0 && amplitude <= 1.0) || !(table->weight[row] >= 0.0)) {
        status = het_fail(HET_E_INPUT,
                          "%s line %lld: voltage %g kV, amplitude contrast %g, particle count %g: out of range",
                          particles->path, (long long)particles->line[row], voltage, amplitude, table->weight[row]);
        goto done;
    }
    table->row[row] = (het_ctf_row){.defocus_u = (float)u, .defocus_v = (float)v, .angle = (float)(angle * radian),
                                    .voltage = (float)(1e3 * voltage), .cs = (float)(1e7 * cs),
                                    .amplitude = (float)amplitude, .phase = (float)(phase * radian)};
done:
    return status;
}

het_status het_ctf_table_load(het_ctf_table *table, const char *path)
{
    het_status status = HET_OK;
    het_star star = {0};
    *table = (het_ctf_table){0};
    HET_TRY(het_star_load(&star, path));
    const het_star_table *particles = het_star_find_with(&star, "rlnDefocusU");
    if (particles == NULL || particles->rows == 0) {
        status = het_fail(HET_E_INPUT, "%s: no table with rlnDefocusU and at least one row", path);
        goto done;
    }
    table->count = particles->rows;
    table->row = het_alloc((size_t)table->count * sizeof *table->row);
    table->weight = het_alloc((size_t)table->count * sizeof *table->weight);
    if (table->row == NULL || table->weight == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for %lld CTF rows", (long long)table->count);
        goto done;
    }
    for (int64_t row = 0; row < table->count; row++)
        HET_TRY(read_row(table, particles, het_star_find(&star, "optics"), row));
done:
    het_star_free(&star);
    if (status != HET_OK) het_ctf_table_free(table);
    return status;
}

void het_ctf_table_free(het_ctf_table *table)
{
    het_release(table->row);
    het_release(table->weight);
    *table = (het_ctf_table){0};
}
