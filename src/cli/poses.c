#include "poses.h"

#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/mrc.h"
#include "../data/open_files.h"
#include "../data/particles.h"
#include "../physics/rotation.h"
#include "options.h"
#include "star_rows.h"

static const double DEGREES = 57.29577951308232;

/* The columns: angles, origins in A, origins in px for tables that have them, optics group and CTF for those
 * without a table, which poses are confirmed, which images particles, z; then the image names, and an earlier run's z to leave out. */
enum {
    ROT, TILT, PSI, X_ANGST, Y_ANGST, X_PIXEL, Y_PIXEL,
    GROUP, DEFOCUS_U, DEFOCUS_V, DEFOCUS_ANGLE, PHASE, CONFIRMED, PARTICLE, FIRST_Z,
    MOST_Z = 64, MOST_COLUMNS = FIRST_Z + 2 * MOST_Z + 2, LABEL = 32
};

typedef struct table {
    int64_t rows, z_dim;
    const int64_t *image;      /* (rows) of the stack; NULL: all of them */
    het_star_rows from;        /* the STAR files that they came from */
    const het_star_table *base;/* whose rows are kept; NULL: none */
    double *numbers;           /* (FIRST_Z + z_dim, rows) */
    char label[MOST_Z][LABEL]; /* hetZ1 .. */
    const char **names;        /* (rows) image names into `text`; NULL when the base table has them */
    char *text;
    het_star_column_data column[MOST_COLUMNS];
    int64_t columns;
} table;

static int64_t image_of(const table *t, int64_t row)
{
    return t->image != NULL ? t->image[row] : row;
}

static void free_table(table *t)
{
    het_release(t->numbers);
    het_release(t->names);
    het_release(t->text);
    het_star_rows_free(&t->from);
}

static void add(table *t, const char *label, int64_t which)
{
    t->column[t->columns++] = (het_star_column_data){label, t->numbers + which * t->rows, NULL};
}

/* Side in px of the images that the table names; where a stack of an earlier version does not say it that of its MRC file, or its own. */
static int64_t named_box(const het_stack *stack, int64_t image)
{
    const het_stack_info *info = het_stack_get_info(stack);
    const char *file;
    int64_t row, box = het_stack_source_box(stack, image);
    het_mrc *mrc = NULL;
    if (box > 0) return box;
    box = info->box;
    if (!info->has_source || het_stack_source(stack, image, &file, &row) != HET_OK || het_options_is_star(file)) return box;
    if (het_mrc_open(&mrc, file) == HET_OK) box = het_mrc_get_info(mrc)->nx;
    het_mrc_close(mrc);
    return box;
}

/* What one pixel of the stack is in the source's images: px, and A as the base table counts them, by which its origins are read; else as
 * they were imported. */
static het_status source_scales(const table *t, const het_stack *stack, double *pixels, double *angst)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    double *own = angst; /* A per pixel of the source, as it says itself */
    if (t->base != NULL) HET_TRY(het_particles_star_apix(own, &t->from.star[0], t->from.row, t->rows));
    for (int64_t i = 0; i < t->rows; i++) {
        const int64_t box = het_stack_source_box(stack, image_of(t, i));
        const double known = t->base != NULL && own[i] > 0.0 ? own[i] : 0.0;
        pixels[i] = box > 0 ? (double)box / (double)info->box : known > 0.0 ? info->apix / known : 1.0;
        angst[i] = box > 0 && known > 0.0 ? pixels[i] * known : info->apix;
    }
done:
    return status;
}

/* Poses and z as columns. Origins are those of the source's images: what recentring took out is added. */
static het_status fill(table *t, const het_predictions *p, const het_stack *stack)
{
    het_status status = HET_OK;
    t->z_dim = p->z_dim;
    t->numbers = het_alloc((size_t)((FIRST_Z + p->z_dim) * t->rows) * sizeof *t->numbers);
    double *pixels = het_alloc((size_t)t->rows * sizeof *pixels), *angst = het_alloc((size_t)t->rows * sizeof *angst);
    if (t->numbers == NULL || pixels == NULL || angst == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the STAR columns of %lld images", (long long)t->rows));
    HET_TRY(source_scales(t, stack, pixels, angst));
    for (int64_t i = 0; i < t->rows; i++) {
        const int64_t image = image_of(t, i);
        double r[9], angle[3], moved[2];
        HET_TRY(het_stack_moved(stack, image, moved));
        for (int k = 0; k < 9; k++) r[k] = p->rotation[9 * image + k];
        het_rotation_to_euler(r, &angle[0], &angle[1], &angle[2]);
        for (int k = 0; k < 3; k++) t->numbers[(ROT + k) * t->rows + i] = DEGREES * angle[k];
        for (int k = 0; k < 2; k++) {
            const double origin = -((double)p->shift[2 * image + k] + moved[k]);
            t->numbers[(X_PIXEL + k) * t->rows + i] = pixels[i] * origin;
            t->numbers[(X_ANGST + k) * t->rows + i] = angst[i] * origin;
        }
        t->numbers[CONFIRMED * t->rows + i] = p->confirmed[image];
        t->numbers[PARTICLE * t->rows + i] = p->particle[image];
        for (int64_t k = 0; k < p->z_dim; k++)
            t->numbers[(FIRST_Z + k) * t->rows + i] = p->z[image * p->z_dim + k];
    }
    static const char *const pose[] = {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst",
                                       "rlnOriginYAngst"};
    for (int k = 0; k < 5; k++) add(t, pose[k], ROT + k);
    for (int64_t k = 0; k < p->z_dim; k++) {
        snprintf(t->label[k], LABEL, "hetZ%d", (int)k + 1);
        add(t, t->label[k], FIRST_Z + k);
    }
    if (t->rows > 0 && p->confirmed[0] >= 0.0F) add(t, "hetConfirmed", CONFIRMED);
    if (t->rows > 0 && p->particle[0] >= 0.0F) add(t, "hetParticle", PARTICLE);
    if (t->base != NULL && het_star_column(t->base, "rlnOriginX") >= 0) { /* RELION 3.0 counts in pixels */
        add(t, "rlnOriginX", X_PIXEL);
        add(t, "rlnOriginY", Y_PIXEL);
    }
done:
    het_release(pixels);
    het_release(angst);
    return status;
}

/* The conformations of an earlier run that the base table still has and these poses have no column for. */
static void leave_out(table *t)
{
    for (int64_t c = 0; c < t->base->columns && t->columns < MOST_COLUMNS; c++) {
        const char *label = t->base->label[c];
        int written = 0;
        for (int64_t i = 0; i < t->columns; i++) written |= strcmp(t->column[i].label, label) == 0;
        if (!written && (strncmp(label, "hetZ", 4) == 0 || strcmp(label, "hetConfirmed") == 0 || strcmp(label, "hetParticle") == 0))
            t->column[t->columns++] = (het_star_column_data){label, NULL, NULL};
    }
}

/* Names NUMBER@FILE: as a STAR file had them, or from the stack's source where it is known. */
static het_status fill_names(table *t, const het_stack *stack, const char *stack_path)
{
    het_status status = HET_OK;
    const int known = het_stack_get_info(stack)->has_source;
    size_t bytes = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        for (int64_t i = 0; i < t->rows; i++) {
            const char *file = stack_path, *name = het_star_rows_name(&t->from, i);
            int64_t row = image_of(t, i);
            if (known) HET_TRY(het_stack_source(stack, row, &file, &row));
            char *to = pass == 0 ? NULL : t->text + used;
            const size_t room = pass == 0 ? 0 : bytes - used;
            if (pass == 1) t->names[i] = to;
            used += 1 + (size_t)(name != NULL ? snprintf(to, room, "%s", name) : snprintf(to, room, "%06lld@%s", (long long)row + 1, file));
        }
        if (pass == 1) break;
        bytes = used;
        t->text = het_alloc(bytes);
        t->names = het_alloc((size_t)t->rows * sizeof *t->names);
        if (t->text == NULL || t->names == NULL)
            HET_TRY(het_fail(HET_E_MEMORY, "no memory for the names of %lld images", (long long)t->rows));
    }
    t->column[t->columns++] = (het_star_column_data){"rlnImageName", NULL, t->names};
done:
    return status;
}

/* CTF columns in RELION's units (A, degrees). */
static void fill_ctf(table *t)
{
    static const char *const label[] = {"rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift"};
    for (int64_t i = 0; i < t->rows; i++) {
        const het_ctf_row *c = &t->from.ctf[i];
        const double value[] = {c->defocus_u, c->defocus_v, DEGREES * c->angle, DEGREES * c->phase};
        for (int k = 0; k < 4; k++) t->numbers[(DEFOCUS_U + k) * t->rows + i] = value[k];
    }
    for (int k = 0; k < 4; k++) add(t, label[k], DEFOCUS_U + k);
}

/* The number of each image's optics group, from 1: images of one voltage, Cs, amplitude contrast and size.
 * first (rows): the first image of each group. Returns the number of groups. */
static int64_t fill_groups(table *t, int64_t *first, const het_stack *stack)
{
    int64_t groups = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        const het_ctf_row *c = &t->from.ctf[i];
        int64_t g = 0;
        for (; g < groups; g++) {
            const het_ctf_row *other = &t->from.ctf[first[g]];
            if (c->voltage == other->voltage && c->cs == other->cs && c->amplitude == other->amplitude &&
                het_stack_source_box(stack, image_of(t, i)) == het_stack_source_box(stack, image_of(t, first[g])))
                break;
        }
        if (g == groups) first[groups++] = i;
        t->numbers[GROUP * t->rows + i] = (double)(g + 1);
    }
    add(t, "rlnOpticsGroup", GROUP);
    return groups;
}

/* The table data_optics that RELION 3.1 and later want, `groups` rows; first [in] an image of each group. */
static het_status write_optics(het_star_writer *writer, const het_stack *stack, const table *t, const int64_t *first, int64_t groups)
{
    enum { NUMBER, BOX, DIMENSIONS, PIXEL, VOLTAGE, CS, AMPLITUDE, COLUMNS, NAME_SIZE = 32 };
    static const char *const label[COLUMNS] = {"rlnOpticsGroup", "rlnImageSize", "rlnImageDimensionality",
                                               "rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration",
                                               "rlnAmplitudeContrast"};
    const het_stack_info *info = het_stack_get_info(stack);
    het_status status = HET_OK;
    double *numbers = het_alloc((size_t)(COLUMNS * groups) * sizeof *numbers);
    char *text = het_alloc((size_t)groups * NAME_SIZE);
    const char **name = het_alloc((size_t)groups * sizeof *name);
    if (numbers == NULL || text == NULL || name == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld optics groups", (long long)groups));
    for (int64_t g = 0; g < groups; g++) {
        const het_ctf_row *c = &t->from.ctf[first[g]];
        const double box = (double)named_box(stack, image_of(t, first[g])), apix = info->apix * (double)info->box / box;
        const double row[COLUMNS] = {(double)(g + 1),  box,         2.0,         apix,
                                     c->voltage / 1e3, c->cs / 1e7, c->amplitude};
        for (int k = 0; k < COLUMNS; k++) numbers[k * groups + g] = row[k];
        name[g] = text + g * NAME_SIZE;
        snprintf(text + g * NAME_SIZE, NAME_SIZE, "opticsGroup%lld", (long long)g + 1);
    }
    het_star_column_data column[COLUMNS + 1] = {{"rlnOpticsGroupName", NULL, name}};
    const int columns = t->from.ctf[0].voltage > 0.0f ? COLUMNS : VOLTAGE; /* all images have a CTF or none has */
    for (int k = 0; k < columns; k++)
        column[k + 1] = (het_star_column_data){label[k], numbers + k * groups, NULL};
    het_star_write_table(writer, "optics", NULL, NULL, groups, column, columns + 1);
done:
    het_release(numbers);
    het_release(text);
    het_release(name);
    return status;
}

/* The file to write must not be one that images are read from. */
static het_status refuse_source(const table *t, const het_stack *stack, const char *path)
{
    int is_source = het_stack_is_in(stack, path);
    for (int64_t k = 0; k < t->from.files; k++) is_source |= het_file_is_same(t->from.star[k].path, path);
    if (!is_source) return HET_OK;
    return het_fail(HET_E_USAGE, "-o %s: the images came from that file; give another name", path);
}

het_status het_poses_check_star(const het_stack *stack, const char *path)
{
    table t = {.rows = het_stack_get_info(stack)->count};
    het_status status = het_star_rows_find(&t.from, stack, NULL, t.rows);
    if (status == HET_OK) status = refuse_source(&t, stack, path);
    free_table(&t);
    return status;
}

static het_status write_all(const table *t, const het_stack *stack, const int64_t *first, int64_t groups, const char *path)
{
    het_star_writer *writer = NULL;
    het_status status = het_star_create(&writer, path);
    if (status != HET_OK) return status;
    if (t->base == NULL) {
        status = write_optics(writer, stack, t, first, groups);
    } else {
        for (int64_t i = 0; i < t->from.star[0].count; i++)
            if (&t->from.star[0].table[i] != t->base) het_star_write_copy(writer, &t->from.star[0].table[i]);
    }
    het_star_write_table(writer, t->base != NULL ? t->base->name : "particles", t->base, t->base != NULL ? t->from.row : NULL, t->rows,
                         t->column, t->columns);
    return het_star_finish(writer, status);
}

het_status het_poses_write_star(const het_predictions *p, const int64_t *image, int64_t count, const het_stack *stack,
                                const char *stack_path, const char *path)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    int64_t *first = NULL, groups = 0;
    table t = {.rows = image != NULL ? count : p->count, .image = image};
    if (p->count != info->count)
        return het_fail(HET_E_INPUT, "%s: predictions of %lld images for a stack of %lld", stack_path,
                        (long long)p->count, (long long)info->count);
    HET_TRY(het_star_rows_find(&t.from, stack, image, t.rows));
    HET_TRY(refuse_source(&t, stack, path));
    t.base = het_star_rows_base(&t.from);
    HET_TRY(fill(&t, p, stack));
    if (t.base != NULL) {
        leave_out(&t);
    } else {
        first = het_alloc((size_t)t.rows * sizeof *first);
        if (first == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the groups of %lld images", (long long)t.rows));
        HET_TRY(fill_names(&t, stack, stack_path));
        groups = fill_groups(&t, first, stack);
        if (t.from.ctf[0].voltage > 0.0f) fill_ctf(&t);
    }
    status = write_all(&t, stack, first, groups, path);
done:
    free_table(&t);
    het_release(first);
    return status;
}
