#include "conformations.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../data/atoms.h"
#include "../physics/density.h"
#include "../physics/rotation.h"
#include "map_file.h"

static const double degree = 3.14159265358979323846 / 180.0;

static het_status conformations_new(het_conformations *made, int64_t count)
{
    *made = (het_conformations){.count = count};
    made->map = het_alloc((size_t)count * sizeof *made->map);
    made->z = het_alloc((size_t)count * sizeof *made->z);
    if (made->map == NULL || made->z == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %lld conformations", (long long)count);
    for (int64_t k = 0; k < count; k++) made->z[k] = (double)k;
    return HET_OK;
}

void het_conformations_free(het_conformations *made)
{
    for (int64_t k = 0; made->map != NULL && k < made->count; k++) het_volume_free(&made->map[k]);
    het_release(made->map);
    het_release(made->z);
    *made = (het_conformations){0};
}

static int64_t count_items(const char *list)
{
    int64_t count = 1;
    for (const char *c = list; *c != '\0'; c++) count += *c == ',';
    return count;
}

/* One file's map on the wanted grid. */
static het_status load_on_grid(het_volume *map, const char *path, int64_t box, double apix)
{
    het_status status = HET_OK;
    het_volume file = {0};
    HET_TRY(het_map_load(&file, path, apix));
    if (file.box == box && fabs(file.apix - apix) < 1e-3 * apix) {
        *map = file;
        map->apix = apix;
        return HET_OK;
    }
    const double kept = 0.5 * (double)box * apix / file.apix;
    if (kept < 0.5 * (double)file.box) het_volume_mask_sphere(&file, 0.94 * kept, 0.06 * kept);
    HET_TRY(het_volume_new(map, box, apix));
    HET_TRY(het_volume_resample(map, &file, NULL));
done:
    het_volume_free(&file);
    return status;
}

het_status het_conformations_from_maps(het_conformations *made, const char *paths, int64_t box, double apix)
{
    het_status status = HET_OK;
    char *copy = strdup(paths), *rest = copy;
    if (copy == NULL) return het_fail(HET_E_MEMORY, "no memory for a list of maps");
    HET_TRY(conformations_new(made, count_items(paths)));
    for (int64_t k = 0; k < made->count; k++) HET_TRY(load_on_grid(&made->map[k], strsep(&rest, ","), box, apix));
done:
    free(copy);
    if (status != HET_OK) het_conformations_free(made);
    return status;
}

/* Centre of mass of atoms of one model, weighted as they scatter: those with selected[i] == wanted (NULL: all). */
static int centre_of_mass(double centre[3], const het_atom *atom, int64_t n, const uint8_t *selected, int wanted)
{
    double sum = 0.0;
    centre[0] = centre[1] = centre[2] = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (selected != NULL && selected[i] != wanted) continue;
        for (int a = 0; a < 3; a++) centre[a] += atom[i].weight * atom[i].xyz[a];
        sum += atom[i].weight;
    }
    for (int a = 0; a < 3 && sum > 0.0; a++) centre[a] /= sum;
    return sum > 0.0;
}

static het_status find_centre(double centre[3], const het_atom *atom, int64_t n)
{
    if (centre_of_mass(centre, atom, n, NULL, 0)) return HET_OK;
    return het_fail(HET_E_INPUT, "the atoms have no weight (occupancy 0 everywhere?)");
}

/* The place of the one atom that a selection names. */
static het_status find_atom(double place[3], const het_atoms *atoms, const char *selection, uint8_t *scratch)
{
    const het_status status = het_atoms_select(atoms, 0, selection, scratch);
    if (status != HET_OK) return status;
    int64_t found = 0;
    for (int64_t i = 0; i < atoms->first[1]; i++) {
        if (!scratch[i]) continue;
        if (found++ == 0) memcpy(place, atoms->atom[i].xyz, 3 * sizeof *place);
    }
    if (found == 1) return HET_OK;
    return het_fail(HET_E_USAGE, "--about: \"%s\" names %lld atoms: each end of the axis must be one", selection,
                    (long long)found);
}

typedef struct axis {
    double point[3], direction[3];
} axis;

static het_status find_axis(axis *line, const het_atoms *atoms, const char *about, const uint8_t *selected)
{
    het_status status = HET_OK;
    const int64_t n = atoms->first[1];
    double end[3];
    char *ends = strdup(about);
    uint8_t *scratch = het_alloc((size_t)n);
    if (ends == NULL || scratch == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for a selection");
    } else if (strcmp(about, "com") == 0) {
        if (!centre_of_mass(line->point, atoms->atom, n, selected, 0) ||
            !centre_of_mass(end, atoms->atom, n, selected, 1))
            status = het_fail(HET_E_USAGE, "--about com: the selection and the rest must both hold atoms");
    } else {
        char *comma = strchr(ends, ',');
        if (comma == NULL || strchr(comma + 1, ',') != NULL) {
            status = het_fail(HET_E_USAGE, "--about \"%s\": it must be com or two atoms, chain:A/249@C,chain:A/249@CA",
                              about);
            goto done;
        }
        *comma = '\0';
        HET_TRY(find_atom(line->point, atoms, ends, scratch));
        HET_TRY(find_atom(end, atoms, comma + 1, scratch));
    }
    double length2 = 0.0;
    for (int a = 0; status == HET_OK && a < 3; a++) {
        line->direction[a] = end[a] - line->point[a];
        length2 += line->direction[a] * line->direction[a];
    }
    if (status == HET_OK && length2 < 1e-12)
        status = het_fail(HET_E_USAGE, "--about \"%s\": both ends of the axis are the same point", about);
done:
    free(ends);
    het_release(scratch);
    return status;
}

/* Angles of "A,B,.." or "FIRST:LAST:COUNT" (evenly spaced, both ends included): how many, and each in rad. angle NULL: only
 * how many. */
static het_status parse_angles(int64_t *count, double *angle, const char *list)
{
    double first, last;
    long long steps;
    int length = 0;
    if (sscanf(list, "%lf:%lf:%lld%n", &first, &last, &steps, &length) == 3 && list[length] == '\0') {
        if (!isfinite(first) || !isfinite(last) || steps < 2 || steps > HET_CONFORMATIONS_MAX)
            return het_fail(HET_E_USAGE, "--angles \"%s\": FIRST:LAST:COUNT needs a count from 2 to %d", list,
                            HET_CONFORMATIONS_MAX);
        *count = steps;
        for (int64_t k = 0; angle != NULL && k < steps; k++)
            angle[k] = (first + (last - first) * (double)k / (double)(steps - 1)) * degree;
        return HET_OK;
    }
    *count = count_items(list);
    const char *c = list;
    for (int64_t k = 0; k < *count; k++) {
        char *end = NULL;
        const double value = strtod(c, &end);
        if (end == c || (*end != ',' && *end != '\0') || !isfinite(value))
            return het_fail(HET_E_USAGE, "--angles \"%s\": they must be degrees separated by commas, or FIRST:LAST:COUNT",
                            list);
        if (angle != NULL) angle[k] = value * degree;
        c = end + 1;
    }
    return HET_OK;
}

/* Models first .. last (from 0) of "A" or "A-B". */
static het_status parse_models(int64_t *first, int64_t *last, const char *text, int64_t models)
{
    *first = 0;
    *last = models - 1;
    if (text == NULL) return HET_OK;
    char *end = NULL;
    *first = *last = strtoll(text, &end, 10) - 1;
    if (end != text && *end == '-') *last = strtoll(end + 1, &end, 10) - 1;
    if (end == text || *end != '\0' || *first < 0 || *last < *first || *last >= models)
        return het_fail(HET_E_USAGE, "--models \"%s\": it must be A or A-B between 1 and %lld", text, (long long)models);
    return HET_OK;
}

/* moved = the atoms with the selected ones turned about the line:  x -> point + R (x - point). */
static void turn_atoms(het_atom *moved, const het_atom *atom, int64_t n, const uint8_t *selected, const axis *line,
                       double angle)
{
    double r[9];
    het_rotation_about(r, line->direction, angle);
    memcpy(moved, atom, (size_t)n * sizeof *moved);
    for (int64_t i = 0; i < n; i++) {
        if (!selected[i]) continue;
        for (int a = 0; a < 3; a++) {
            moved[i].xyz[a] = line->point[a];
            for (int b = 0; b < 3; b++) moved[i].xyz[a] += r[3 * a + b] * (atom[i].xyz[b] - line->point[b]);
        }
    }
}

/* The map of n atoms about a centre. */
static het_status make_map(het_volume *map, const het_atom *atom, int64_t n, const double centre[3], int64_t box,
                           double apix)
{
    het_status status = HET_OK;
    double *xyz = het_alloc((size_t)n * 3 * sizeof *xyz), *weight = het_alloc((size_t)n * sizeof *weight);
    if (xyz == NULL || weight == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for %lld atoms", (long long)n);
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        for (int a = 0; a < 3; a++) xyz[3 * i + a] = atom[i].xyz[a] - centre[a];
        weight[i] = atom[i].weight;
    }
    HET_TRY(het_volume_new(map, box, apix));
    HET_TRY(het_density_from_atoms(map, xyz, weight, n, 0.0));
done:
    het_release(xyz);
    het_release(weight);
    return status;
}

/* The selected atoms of the first model turned by every angle. */
static het_status make_turned(het_conformations *made, const het_atoms *atoms, const het_motion *motion, int64_t box,
                              double apix)
{
    het_status status = HET_OK;
    const int64_t n = atoms->first[1];
    int64_t count;
    double centre[3] = {0};
    axis line;
    uint8_t *selected = het_alloc((size_t)n);
    het_atom *moved = het_alloc((size_t)n * sizeof *moved);
    if (selected == NULL || moved == NULL) {
        status = het_fail(HET_E_MEMORY, "no memory for %lld atoms", (long long)n);
        goto done;
    }
    HET_TRY(het_atoms_select(atoms, 0, motion->selection, selected));
    HET_TRY(find_axis(&line, atoms, motion->about, selected));
    HET_TRY(parse_angles(&count, NULL, motion->angles));
    HET_TRY(conformations_new(made, count));
    HET_TRY(parse_angles(&count, made->z, motion->angles));
    for (int64_t k = 0; k < made->count; k++) {
        turn_atoms(moved, atoms->atom, n, selected, &line, made->z[k]);
        if (k == 0) HET_TRY(find_centre(centre, moved, n));
        HET_TRY(make_map(&made->map[k], moved, n, centre, box, apix));
    }
done:
    het_release(selected);
    het_release(moved);
    return status;
}

static het_status make_models(het_conformations *made, const het_atoms *atoms, const het_motion *motion, int64_t box,
                              double apix)
{
    het_status status = HET_OK;
    int64_t first, last;
    double centre[3];
    HET_TRY(parse_models(&first, &last, motion->models, atoms->models));
    HET_TRY(conformations_new(made, last - first + 1));
    for (int64_t k = 0; k < made->count; k++) {
        const het_atom *atom = atoms->atom + atoms->first[first + k];
        const int64_t n = atoms->first[first + k + 1] - atoms->first[first + k];
        if (k == 0) HET_TRY(find_centre(centre, atom, n));
        HET_TRY(make_map(&made->map[k], atom, n, centre, box, apix));
    }
done:
    return status;
}

/* Both models hold the same n atoms in the same order. */
static het_status check_same_atoms(const het_atom *a, const het_atom *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (a[i].residue == b[i].residue && strcmp(a[i].chain, b[i].chain) == 0 && strcmp(a[i].name, b[i].name) == 0)
            continue;
        return het_fail(HET_E_INPUT, "--morph: atom %lld is %s/%lld@%s in the first model and %s/%lld@%s in the last: both need "
                        "the same atoms in the same order", (long long)(i + 1), a[i].chain, (long long)a[i].residue, a[i].name,
                        b[i].chain, (long long)b[i].residue, b[i].name);
    }
    return HET_OK;
}

/* Maps on the straight way of every atom from the first model to the last:  x = (1 - s) x_first + s x_last, s = 0 .. 1. */
static het_status make_morph(het_conformations *made, const het_atoms *atoms, const het_motion *motion, int64_t box,
                             double apix)
{
    het_status status = HET_OK;
    int64_t first, last;
    double centre[3];
    het_atom *moved = NULL;
    HET_TRY(parse_models(&first, &last, motion->models, atoms->models));
    if (last == first) HET_TRY(het_fail(HET_E_USAGE, "--morph needs two models in the file, closed and open for example"));
    const het_atom *from = atoms->atom + atoms->first[first], *to = atoms->atom + atoms->first[last];
    const int64_t n = atoms->first[first + 1] - atoms->first[first];
    if (atoms->first[last + 1] - atoms->first[last] != n)
        HET_TRY(het_fail(HET_E_INPUT, "--morph: the first model has %lld atoms, the last %lld", (long long)n,
                         (long long)(atoms->first[last + 1] - atoms->first[last])));
    HET_TRY(check_same_atoms(from, to, n));
    HET_TRY(find_centre(centre, from, n));
    HET_TRY(conformations_new(made, motion->morph));
    moved = het_alloc((size_t)n * sizeof *moved);
    if (moved == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld atoms", (long long)n));
    memcpy(moved, from, (size_t)n * sizeof *moved);
    for (int64_t k = 0; k < made->count; k++) {
        const double s = made->z[k] = (double)k / (double)(made->count - 1);
        for (int64_t i = 0; i < n; i++)
            for (int a = 0; a < 3; a++) moved[i].xyz[a] = (1.0 - s) * from[i].xyz[a] + s * to[i].xyz[a];
        HET_TRY(make_map(&made->map[k], moved, n, centre, box, apix));
    }
done:
    het_release(moved);
    return status;
}

het_status het_conformations_from_atoms(het_conformations *made, const char *path, const het_motion *motion, int64_t box,
                                        double apix)
{
    het_status status = HET_OK;
    het_atoms atoms = {0};
    *made = (het_conformations){0};
    HET_TRY(het_atoms_load(&atoms, path, motion->hydrogens));
    if (motion->selection != NULL) HET_TRY(make_turned(made, &atoms, motion, box, apix));
    else if (motion->morph > 0) HET_TRY(make_morph(made, &atoms, motion, box, apix));
    else HET_TRY(make_models(made, &atoms, motion, box, apix));
done:
    het_atoms_free(&atoms);
    if (status != HET_OK) het_conformations_free(made);
    return status;
}
