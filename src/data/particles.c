#include "particles.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "image_files.h"
#include "index.h"
#include "mrc.h"
#include "particles_new.h"
#include "star.h"

static const double degree = 3.14159265358979323846 / 180.0;

/* A column of the particles' own table, or of the optics table row of their optics group. */
typedef struct field {
    const het_star_table *table;
    int64_t column; /* -1: in neither */
    int by_group;
} field;

typedef struct source {
    const het_star_table *particles, *optics; /* optics NULL: RELION 3.0 */
    int64_t group_column, optics_group_column;
    int64_t last_group, last_row; /* the group looked up last: neighbours mostly share one */
} source;

static field find(const source *s, const char *label)
{
    field f = {s->particles, het_star_column(s->particles, label), 0};
    if (f.column < 0 && s->optics != NULL) f = (field){s->optics, het_star_column(s->optics, label), 1};
    return f;
}

static het_status need(const source *s, const char *label, const char *advice, field *f)
{
    *f = find(s, label);
    if (f->column >= 0) return HET_OK;
    return het_fail(HET_E_INPUT, "%s: no column _%s in data_%s%s: %s", s->particles->path, label,
                    s->particles->name,
                    s->optics == NULL ? " (and there is no data_optics)" : " or data_optics", advice);
}

static het_status group_row(source *s, int64_t row, int64_t *optics_row)
{
    int64_t group, other;
    het_status status = het_star_integer(s->particles, row, s->group_column, &group);
    if (status != HET_OK) return status;
    if (s->last_row < 0 || group != s->last_group) {
        s->last_row = -1;
        for (int64_t r = 0; r < s->optics->rows && s->last_row < 0; r++) {
            status = het_star_integer(s->optics, r, s->optics_group_column, &other);
            if (status != HET_OK) return status;
            if (other == group) s->last_row = r;
        }
        s->last_group = group;
    }
    if (s->last_row < 0)
        return het_fail(HET_E_INPUT, "%s: line %lld: optics group %lld is not in data_optics",
                        s->particles->path, (long long)s->particles->line[row], (long long)group);
    *optics_row = s->last_row;
    return HET_OK;
}

static het_status number(source *s, const field *f, int64_t row, double *value)
{
    if (f->by_group) {
        const het_status status = group_row(s, row, &row);
        if (status != HET_OK) return status;
    }
    return het_star_number(f->table, row, f->column, value);
}

const het_star_table *het_particles_star_table(const het_star *star)
{
    const het_star_table *table = het_star_find(star, "particles");
    return table != NULL && het_star_column(table, "rlnImageName") >= 0 ? table : het_star_find_with(star, "rlnImageName");
}

static het_status find_tables(const het_star *star, source *s)
{
    *s = (source){.particles = het_particles_star_table(star), .optics = het_star_find(star, "optics"), .last_row = -1};
    if (s->particles == NULL)
        return het_fail(HET_E_INPUT,
                        "%s: no table with a column _rlnImageName (its first one is data_%s): this STAR file "
                        "lists no particle images",
                        star->path, star->count > 0 ? star->table[0].name : "");
    if (s->particles->rows == 0) return het_fail(HET_E_INPUT, "%s: its particle table is empty", star->path);
    if (s->optics == NULL) return HET_OK;
    s->group_column = het_star_column(s->particles, "rlnOpticsGroup");
    s->optics_group_column = het_star_column(s->optics, "rlnOpticsGroup");
    if (s->group_column < 0 || s->optics_group_column < 0)
        return het_fail(HET_E_INPUT,
                        "%s: no column _rlnOpticsGroup in data_%s, though there is a data_optics", star->path,
                        s->group_column < 0 ? s->particles->name : "optics");
    return HET_OK;
}

void het_particles_place(const het_particles *p, int64_t i, char *text, size_t size)
{
    if (p->line != NULL) snprintf(text, size, "line %lld (particle %lld)", (long long)p->line[i], (long long)p->row[i]);
    else snprintf(text, size, "particle %lld", (long long)p->row[i]);
}

het_status het_particles_check_ctf(const het_particles *p, int64_t i)
{
    char place[80];
    const het_ctf_row *c = &p->ctf[i];
    het_particles_place(p, i, place, sizeof place);
    if (!(c->voltage >= 1.0e3F && c->voltage <= 1.0e7F))
        return het_fail(HET_E_INPUT, "%s: %s: a voltage of %g kV cannot be", p->source, place, c->voltage / 1.0e3);
    if (!(c->amplitude >= 0.0F && c->amplitude <= 1.0F))
        return het_fail(HET_E_INPUT, "%s: %s: amplitude contrast %g is outside 0 .. 1", p->source, place, c->amplitude);
    if (!isfinite(c->defocus_u) || !isfinite(c->defocus_v) || !isfinite(c->angle) || !isfinite(c->cs) || !isfinite(c->phase))
        return het_fail(HET_E_INPUT, "%s: %s: its CTF is not finite", p->source, place);
    return HET_OK;
}

/* Images that are not what the microscope's CTF makes of a projection: C^2 or |C| in its place. */
static het_status refuse_processed(const het_particles *p, source *s)
{
    static const char *const label[2] = {"rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"};
    static const char *const what[2] = {"multiplied by their CTF", "phase-flipped"};
    for (int k = 0; k < 2; k++) {
        const field f = find(s, label[k]);
        for (int64_t i = 0; i < p->count && f.column >= 0; i++) {
            double value;
            const het_status status = number(s, &f, p->row[i], &value);
            if (status != HET_OK) return status;
            if (value != 0.0)
                return het_fail(HET_E_INPUT, "%s: line %lld: the images are %s (_%s): training applies the CTF itself, so extract them "
                                "again without that", p->source, (long long)p->line[i], what[k], label[k]);
        }
    }
    return HET_OK;
}

static het_status read_ctf(het_particles *p, source *s)
{
    static const struct {
        const char *label;
        double factor;
        int optional;
    } term[7] = {{"rlnDefocusU", 1.0, 0},
                 {"rlnDefocusV", 1.0, 0},
                 {"rlnDefocusAngle", degree, 0},
                 {"rlnVoltage", 1.0e3, 0},
                 {"rlnSphericalAberration", 1.0e7, 0},
                 {"rlnAmplitudeContrast", 1.0, 0},
                 {"rlnPhaseShift", degree, 1}};
    het_status status = HET_OK;
    field f[7];
    HET_TRY(refuse_processed(p, s));
    for (int k = 0; k < 7; k++) {
        if (term[k].optional) f[k] = find(s, term[k].label);
        else HET_TRY(need(s, term[k].label, "add it, or give --no-ctf for images without a CTF", &f[k]));
    }
    for (int64_t i = 0; i < p->count; i++) {
        double value[7] = {0};
        for (int k = 0; k < 7; k++) {
            if (f[k].column < 0) continue;
            HET_TRY(number(s, &f[k], p->row[i], &value[k]));
            value[k] *= term[k].factor;
        }
        p->ctf[i] = (het_ctf_row){(float)value[0], (float)value[1], (float)value[2], (float)value[3],
                                  (float)value[4], (float)value[5], (float)value[6]};
        HET_TRY(het_particles_check_ctf(p, i));
    }
done:
    return status;
}

static het_status apix_differs(const het_particles *p, source *s, const field *f, int64_t i, double apix)
{
    int64_t first = 0, other = 0;
    if (f->by_group && het_star_integer(s->particles, p->row[0], s->group_column, &first) == HET_OK &&
        het_star_integer(s->particles, p->row[i], s->group_column, &other) == HET_OK)
        return het_fail(HET_E_INPUT,
                        "%s: optics groups %lld (%g A per pixel) and %lld (%g) differ in pixel size: import "
                        "each alone with --index, bring them to one pixel size first, or give --apix to "
                        "take them as equal",
                        p->source, (long long)first, p->apix, (long long)other, apix);
    return het_fail(HET_E_INPUT,
                    "%s: line %lld has %g A per pixel, line %lld has %g: bring them to one pixel size first, "
                    "or give --apix",
                    p->source, (long long)p->line[0], p->apix, (long long)p->line[i], apix);
}

/* Where a table's pixel sizes stand: rlnImagePixelSize, rlnPixelSize, or those of the detector with the magnification. */
typedef struct pixel_fields {
    field size, magnification; /* the second: column -1 where the first is in A */
} pixel_fields;

static int find_pixels(const source *s, pixel_fields *f)
{
    f->magnification.column = -1;
    f->size = find(s, "rlnImagePixelSize");
    if (f->size.column < 0) f->size = find(s, "rlnPixelSize");
    if (f->size.column >= 0) return 1;
    f->size = find(s, "rlnDetectorPixelSize");
    f->magnification = find(s, "rlnMagnification");
    return f->size.column >= 0 && f->magnification.column >= 0;
}

static het_status pixel_of(source *s, const pixel_fields *f, int64_t row, double *apix)
{
    double times;
    het_status status = number(s, &f->size, row, apix);
    if (status != HET_OK || f->magnification.column < 0) return status;
    status = number(s, &f->magnification, row, &times);
    *apix *= 1.0e4 / times; /* micrometre on the detector to A in the specimen */
    return status;
}

static int is_pixel(double apix)
{
    return apix > 0.01 && apix < 1000.0;
}

static het_status read_apix(het_particles *p, source *s, double given)
{
    pixel_fields f;
    p->apix = given;
    if (given > 0.0) return HET_OK;
    if (!find_pixels(s, &f))
        return het_fail(HET_E_INPUT,
                        "%s: no pixel size: neither _rlnImagePixelSize nor _rlnPixelSize nor "
                        "_rlnDetectorPixelSize with _rlnMagnification; give --apix",
                        p->source);
    for (int64_t i = 0; i < p->count; i++) {
        double apix;
        const het_status status = pixel_of(s, &f, p->row[i], &apix);
        if (status != HET_OK) return status;
        if (!is_pixel(apix))
            return het_fail(HET_E_INPUT, "%s: line %lld: a pixel size of %g A cannot be; give --apix",
                            p->source, (long long)p->line[i], apix);
        if (i == 0) p->apix = apix;
        if (fabs(apix - p->apix) > 1.0e-4 * p->apix) return apix_differs(p, s, &f.size, i, apix);
    }
    return HET_OK;
}

/* What RELION wrote origins with: the pixel sizes of the file, also where others were given. */
static het_status own_pixels(source *s, double *apix, const int64_t *row, int64_t n)
{
    pixel_fields f;
    const int found = find_pixels(s, &f);
    for (int64_t i = 0; i < n; i++) {
        apix[i] = 0.0;
        const het_status status = found ? pixel_of(s, &f, row[i], &apix[i]) : HET_OK;
        if (status != HET_OK) return status;
        if (!is_pixel(apix[i])) apix[i] = 0.0;
    }
    return HET_OK;
}

het_status het_particles_star_apix(double *apix, const het_star *star, const int64_t *row, int64_t n)
{
    source s;
    const het_status status = find_tables(star, &s);
    return status == HET_OK ? own_pixels(&s, apix, row, n) : status;
}

static het_status read_numbers(const het_particles *p, source *s, double *to, int width, const field *f, double factor)
{
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; k < width; k++) {
            const het_status status = number(s, &f[k], p->row[i], &to[i * width + k]);
            if (status != HET_OK) return status;
            to[i * width + k] *= factor;
        }
    return HET_OK;
}

/* t = -origin in px. */
static het_status read_origins(het_particles *p, source *s)
{
    het_status status = HET_OK;
    field origin[2] = {find(s, "rlnOriginXAngst"), find(s, "rlnOriginYAngst")};
    const int in_a = origin[0].column >= 0 && origin[1].column >= 0;
    double *apix = NULL;
    for (int k = 0; k < 2 && !in_a; k++) origin[k] = find(s, k == 0 ? "rlnOriginX" : "rlnOriginY");
    if (origin[0].column < 0 || origin[1].column < 0) return HET_OK;
    p->shift = het_alloc((size_t)p->count * 2 * sizeof *p->shift);
    apix = het_alloc((size_t)p->count * sizeof *apix);
    if (p->shift == NULL || apix == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for the shifts", p->source));
    HET_TRY(read_numbers(p, s, p->shift, 2, origin, -1.0));
    if (!in_a) goto done;
    HET_TRY(own_pixels(s, apix, p->row, p->count));
    for (int64_t i = 0; i < 2 * p->count; i++) p->shift[i] /= apix[i / 2] > 0.0 ? apix[i / 2] : p->apix;
done:
    het_release(apix);
    return status;
}

static het_status read_angles(het_particles *p, source *s)
{
    const field angle[3] = {find(s, "rlnAngleRot"), find(s, "rlnAngleTilt"), find(s, "rlnAnglePsi")};
    if (angle[0].column < 0 || angle[1].column < 0 || angle[2].column < 0) return HET_OK;
    p->euler = het_alloc((size_t)p->count * 3 * sizeof *p->euler);
    if (p->euler == NULL) return het_fail(HET_E_MEMORY, "%s: no memory for the poses", p->source);
    return read_numbers(p, s, p->euler, 3, angle, degree);
}

static het_status read_names(het_particles *p, const source *s, const char *datadir)
{
    het_status status = HET_OK;
    het_image_files *files = NULL;
    const int64_t column = het_star_column(s->particles, "rlnImageName");
    HET_TRY(het_image_files_new(&files, p->source, datadir));
    for (int64_t i = 0; i < p->count; i++) {
        const char *name = het_star_text(s->particles, p->row[i], column);
        char *end;
        const long long image = *name >= '0' && *name <= '9' ? strtoll(name, &end, 10) : 0;
        if (image < 1 || *end != '@' || end[1] == '\0')
            HET_TRY(het_fail(HET_E_INPUT,
                             "%s: line %lld: image name '%.200s' is not of the form 000001@file.mrcs",
                             p->source, (long long)p->line[i], name));
        p->image[i] = image - 1;
        HET_TRY(het_image_files_find(files, end + 1, p->line[i], &p->file_of[i]));
    }
    p->file = het_image_files_take(files, &p->file_count);
done:
    het_image_files_free(files);
    return status;
}

het_status het_particles_new(het_particles *p, const char *path, int64_t rows, const char *index)
{
    het_status status = HET_OK;
    p->source = het_alloc(strlen(path) + 1);
    if (p->source == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(p->source, path, strlen(path) + 1);
    p->count = rows;
    if (index != NULL) HET_TRY(het_index_load(&p->row, &p->count, index, rows));
    else p->row = het_alloc((size_t)rows * sizeof *p->row);
    p->file_of = het_alloc((size_t)p->count * sizeof *p->file_of);
    p->image = het_alloc((size_t)p->count * sizeof *p->image);
    p->ctf = het_alloc((size_t)p->count * sizeof *p->ctf);
    if (p->row == NULL || p->file_of == NULL || p->image == NULL || p->ctf == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory for %lld particles", path, (long long)p->count));
    for (int64_t i = 0; index == NULL && i < rows; i++) p->row[i] = i;
done:
    return status;
}

het_status het_particles_load_star(het_particles *p, const char *path, const het_particles_options *options)
{
    het_status status = HET_OK;
    het_star star = {0};
    source s;
    *p = (het_particles){0};
    HET_TRY(het_star_load(&star, path));
    HET_TRY(find_tables(&star, &s));
    HET_TRY(het_particles_new(p, path, s.particles->rows, options->index));
    p->line = het_alloc((size_t)p->count * sizeof *p->line);
    if (p->line == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    for (int64_t i = 0; i < p->count; i++) p->line[i] = s.particles->line[p->row[i]];
    if (!options->no_ctf) HET_TRY(read_ctf(p, &s));
    HET_TRY(read_apix(p, &s, options->apix));
    HET_TRY(read_angles(p, &s));
    HET_TRY(read_origins(p, &s));
    HET_TRY(read_names(p, &s, options->datadir));
done:
    het_star_free(&star);
    if (status != HET_OK) het_particles_free(p);
    return status;
}

het_status het_particles_load_mrc(het_particles *p, const char *path, const het_particles_options *options)
{
    het_status status = HET_OK;
    het_mrc *mrc = NULL;
    *p = (het_particles){0};
    HET_TRY(het_mrc_open(&mrc, path));
    const het_mrc_info *info = het_mrc_get_info(mrc);
    HET_TRY(het_particles_new(p, path, info->nz, options->index));
    memcpy(p->image, p->row, (size_t)p->count * sizeof *p->image);
    p->apix = options->apix > 0.0 ? options->apix : info->apix[0];
    p->file = het_alloc(sizeof *p->file);
    if (p->file != NULL) p->file[0] = het_alloc(strlen(path) + 1);
    if (p->file == NULL || p->file[0] == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(p->file[0], path, strlen(path) + 1);
    p->file_count = 1;
done:
    het_mrc_close(mrc);
    if (status != HET_OK) het_particles_free(p);
    return status;
}

void het_particles_free(het_particles *p)
{
    for (int64_t f = 0; p->file != NULL && f < p->file_count; f++) het_release(p->file[f]);
    het_release(p->file);
    het_release(p->file_of);
    het_release(p->image);
    het_release(p->row);
    het_release(p->line);
    het_release(p->ctf);
    het_release(p->euler);
    het_release(p->turn);
    het_release(p->shift);
    het_release(p->source);
    *p = (het_particles){0};
}
