#include "poses.h"

#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/mrc.h"
#include "../data/star.h"
#include "../physics/rotation.h"
#include "options.h"

static const double DEGREES = 57.29577951308232;

/* The columns: angles, origins in A, origins in px for tables that have them, optics group and CTF for those
 * without a table, which poses are confirmed, z; then the image names. */
enum {
    ROT, TILT, PSI, X_ANGST, Y_ANGST, X_PIXEL, Y_PIXEL,
    GROUP, DEFOCUS_U, DEFOCUS_V, DEFOCUS_ANGLE, PHASE, CONFIRMED, FIRST_Z,
    MOST_Z = 64, MOST_COLUMNS = FIRST_Z + MOST_Z + 1, LABEL = 32
};

typedef struct table {
    int64_t rows, z_dim;
    const int64_t *image;      /* (rows) of the stack; NULL: all of them */
    double *numbers;           /* (FIRST_Z + z_dim, rows) */
    char label[MOST_Z][LABEL]; /* hetZ1 .. */
    const char **names;        /* (rows) image names into `text`; NULL when the base table has them */
    char *text;
    het_star_column_data column[MOST_COLUMNS];
    int64_t columns;
    het_ctf_row *ctf; /* (rows), where it is written */
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
    het_release(t->ctf);
}

static het_status load_ctf(table *t, const het_stack *stack)
{
    int64_t *index = het_alloc((size_t)t->rows * sizeof *index);
    t->ctf = het_alloc((size_t)t->rows * sizeof *t->ctf);
    het_status status = index != NULL && t->ctf != NULL
                            ? HET_OK
                            : het_fail(HET_E_MEMORY, "no memory for the CTF of %lld images", (long long)t->rows);
    for (int64_t i = 0; status == HET_OK && i < t->rows; i++) index[i] = image_of(t, i);
    if (status == HET_OK) status = het_stack_read_ctf(stack, t->ctf, index, t->rows);
    het_release(index);
    return status;
}

static void add(table *t, const char *label, int64_t which)
{
    t->column[t->columns++] = (het_star_column_data){label, t->numbers + which * t->rows, NULL};
}

/* Poses and z as columns. Origins are those of the source's images: what recentring took out is added. */
static het_status fill(table *t, const het_predictions *p, const het_stack *stack)
{
    const double apix = het_stack_get_info(stack)->apix;
    t->z_dim = p->z_dim;
    t->numbers = het_alloc((size_t)((FIRST_Z + p->z_dim) * t->rows) * sizeof *t->numbers);
    if (t->numbers == NULL)
        return het_fail(HET_E_MEMORY, "no memory for the STAR columns of %lld images", (long long)t->rows);
    for (int64_t i = 0; i < t->rows; i++) {
        const int64_t image = image_of(t, i);
        double r[9], angle[3], moved[2];
        const het_status status = het_stack_moved(stack, image, moved);
        if (status != HET_OK) return status;
        for (int k = 0; k < 9; k++) r[k] = p->rotation[9 * image + k];
        het_rotation_to_euler(r, &angle[0], &angle[1], &angle[2]);
        for (int k = 0; k < 3; k++) t->numbers[(ROT + k) * t->rows + i] = DEGREES * angle[k];
        for (int k = 0; k < 2; k++)
            t->numbers[(X_ANGST + k) * t->rows + i] = -((double)p->shift[2 * image + k] + moved[k]) * apix;
        t->numbers[CONFIRMED * t->rows + i] = p->confirmed[image];
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
    return HET_OK;
}

/* Names NUMBER@FILE, from the stack's source where it is known. */
static het_status fill_names(table *t, const het_stack *stack, const char *stack_path)
{
    het_status status = HET_OK;
    const int known = het_stack_get_info(stack)->has_source;
    size_t bytes = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t used = 0;
        for (int64_t i = 0; i < t->rows; i++) {
            const char *file = stack_path;
            int64_t row = image_of(t, i);
            if (known) HET_TRY(het_stack_source(stack, row, &file, &row));
            char *to = pass == 0 ? NULL : t->text + used;
            if (pass == 1) t->names[i] = to;
            used +=
                (size_t)snprintf(to, pass == 0 ? 0 : bytes - used, "%06lld@%s", (long long)row + 1, file) + 1;
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
        const het_ctf_row *c = &t->ctf[i];
        const double value[] = {c->defocus_u, c->defocus_v, DEGREES * c->angle, DEGREES * c->phase};
        for (int k = 0; k < 4; k++) t->numbers[(DEFOCUS_U + k) * t->rows + i] = value[k];
    }
    for (int k = 0; k < 4; k++) add(t, label[k], DEFOCUS_U + k);
}

/* Side in px of the images that the table names: of the source where it is an MRC stack, else of the stack. */
static int64_t named_box(const het_stack *stack)
{
    const het_stack_info *info = het_stack_get_info(stack);
    const char *file;
    int64_t row, box = info->box;
    het_mrc *mrc = NULL;
    if (!info->has_source || het_stack_source(stack, 0, &file, &row) != HET_OK || het_options_is_star(file)) return box;
    if (het_mrc_open(&mrc, file) == HET_OK) box = het_mrc_get_info(mrc)->nx;
    het_mrc_close(mrc);
    return box;
}

/* The number of each image's optics group, from 1: images of one voltage, Cs and amplitude contrast.
 * first (rows): the first image of each group. Returns the number of groups. */
static int64_t fill_groups(table *t, int64_t *first)
{
    int64_t groups = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        const het_ctf_row *c = &t->ctf[i];
        int64_t g = 0;
        for (; g < groups; g++) {
            const het_ctf_row *other = &t->ctf[first[g]];
            if (c->voltage == other->voltage && c->cs == other->cs && c->amplitude == other->amplitude) break;
        }
        if (g == groups) first[groups++] = i;
        t->numbers[GROUP * t->rows + i] = (double)(g + 1);
    }
    add(t, "rlnOpticsGroup", GROUP);
    return groups;
}

/* The table data_optics that RELION 3.1 and later want, `groups` rows; first [in] an image of each group. */
static het_status write_optics(het_star_writer *writer, const het_stack *stack, const het_ctf_row *ctf,
                               const int64_t *first, int64_t groups)
{
    enum { NUMBER, BOX, DIMENSIONS, PIXEL, VOLTAGE, CS, AMPLITUDE, COLUMNS, NAME_SIZE = 32 };
    static const char *const label[COLUMNS] = {"rlnOpticsGroup", "rlnImageSize", "rlnImageDimensionality",
                                               "rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration",
                                               "rlnAmplitudeContrast"};
    const het_stack_info *info = het_stack_get_info(stack);
    const double box = (double)named_box(stack), apix = info->apix * (double)info->box / box;
    het_status status = HET_OK;
    double *numbers = het_alloc((size_t)(COLUMNS * groups) * sizeof *numbers);
    char *text = het_alloc((size_t)groups * NAME_SIZE);
    const char **name = het_alloc((size_t)groups * sizeof *name);
    if (numbers == NULL || text == NULL || name == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld optics groups", (long long)groups));
    for (int64_t g = 0; g < groups; g++) {
        const het_ctf_row *c = &ctf[first[g]];
        const double row[COLUMNS] = {(double)(g + 1),  box,         2.0,         apix,
                                     c->voltage / 1e3, c->cs / 1e7, c->amplitude};
        for (int k = 0; k < COLUMNS; k++) numbers[k * groups + g] = row[k];
        name[g] = text + g * NAME_SIZE;
        snprintf(text + g * NAME_SIZE, NAME_SIZE, "opticsGroup%lld", (long long)g + 1);
    }
    het_star_column_data column[COLUMNS + 1] = {{"rlnOpticsGroupName", NULL, name}};
    const int columns = ctf[0].voltage > 0.0f ? COLUMNS : VOLTAGE; /* all images have a CTF or none has */
    for (int k = 0; k < columns; k++)
        column[k + 1] = (het_star_column_data){label[k], numbers + k * groups, NULL};
    het_star_write_table(writer, "optics", NULL, NULL, groups, column, columns + 1);
done:
    het_release(numbers);
    het_release(text);
    het_release(name);
    return status;
}

/* The STAR file that all images came from, with their rows; *base NULL when there is none that fits. */
static het_status find_base(const table *t, het_star *star, const het_star_table **base, int64_t *rows, const het_stack *stack)
{
    const char *first = NULL, *file;
    int64_t most = 0;
    *base = NULL;
    for (int64_t i = 0; i < t->rows; i++) {
        const het_status status = het_stack_source(stack, image_of(t, i), &file, &rows[i]);
        if (status != HET_OK) return status;
        if (i == 0) first = file;
        if (!het_options_is_star(file) || strcmp(file, first) != 0) return HET_OK;
        most = rows[i] > most ? rows[i] : most;
    }
    if (first == NULL || het_star_load(star, first) != HET_OK)
        return HET_OK; /* moved away: names still say the rows */
    *base = het_star_find_with(star, "rlnImageName");
    if (*base != NULL && most >= (*base)->rows) *base = NULL;
    return HET_OK;
}

/* RELION 3.0 counts origins in pixels of its own images: rlnDetectorPixelSize (um) / rlnMagnification. */
static het_status fill_pixels(table *t, const het_star_table *base, const int64_t *rows, double apix)
{
    het_status status = HET_OK;
    const int64_t detector = het_star_column(base, "rlnDetectorPixelSize");
    const int64_t magnification = het_star_column(base, "rlnMagnification");
    for (int64_t i = 0; i < t->rows; i++) {
        double um, times, pixel = apix;
        if (detector >= 0 && magnification >= 0) {
            HET_TRY(het_star_number(base, rows[i], detector, &um));
            HET_TRY(het_star_number(base, rows[i], magnification, &times));
            if (um > 0.0 && times > 0.0) pixel = 1e4 * um / times;
        }
        for (int k = 0; k < 2; k++)
            t->numbers[(X_PIXEL + k) * t->rows + i] = t->numbers[(X_ANGST + k) * t->rows + i] / pixel;
    }
    add(t, "rlnOriginX", X_PIXEL);
    add(t, "rlnOriginY", Y_PIXEL);
done:
    return status;
}

het_status het_poses_write_star(const het_predictions *p, const int64_t *image, int64_t count, const het_stack *stack,
                                const char *stack_path, const char *path)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(stack);
    het_star star = {0};
    const het_star_table *base = NULL;
    het_star_writer *writer = NULL;
    int64_t *rows, groups = 0;
    table t = {.rows = image != NULL ? count : p->count, .image = image};
    if (p->count != info->count)
        return het_fail(HET_E_INPUT, "%s: predictions of %lld images for a stack of %lld", stack_path,
                        (long long)p->count, (long long)info->count);
    rows = het_alloc((size_t)t.rows * sizeof *rows); /* of the base table; without one: see fill_groups */
    if (rows == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the rows of %lld images", (long long)t.rows));
    HET_TRY(fill(&t, p, stack));
    if (info->has_source) HET_TRY(find_base(&t, &star, &base, rows, stack));
    if (base == NULL) {
        HET_TRY(fill_names(&t, stack, stack_path));
        HET_TRY(load_ctf(&t, stack));
        groups = fill_groups(&t, rows);
        if (t.ctf[0].voltage > 0.0f) fill_ctf(&t);
    } else if (het_star_column(base, "rlnOriginX") >= 0) {
        HET_TRY(fill_pixels(&t, base, rows, info->apix));
    }
    HET_TRY(het_star_create(&writer, path));
    for (int64_t i = 0; base != NULL && i < star.count; i++)
        if (&star.table[i] != base) het_star_write_copy(writer, &star.table[i]);
    if (base == NULL) status = write_optics(writer, stack, t.ctf, rows, groups);
    het_star_write_table(writer, base != NULL ? base->name : "particles", base, base != NULL ? rows : NULL,
                         t.rows, t.column, t.columns);
    status = het_star_finish(writer, status);
done:
    free_table(&t);
    het_release(rows);
    het_star_free(&star);
    return status;
}
