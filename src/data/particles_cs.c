/* Particles of cryoSPARC datasets. Columns that the first file lacks are looked for in the others, whose rows are found by uid:
 * a job leaves them in J1_particles.cs and J1_passthrough_particles.cs. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "cs.h"
#include "image_files.h"
#include "particles.h"
#include "particles_new.h"

enum { FILES_MOST = 8 };

typedef struct source {
    het_cs cs[FILES_MOST];
    int64_t *row[FILES_MOST]; /* (rows of the first) the same particle's in this one; NULL: its own */
    int files;
} source;

typedef struct column {
    const het_cs *cs;
    const int64_t *row;
    const het_cs_field *field; /* NULL: in none */
} column;

static column find(const source *s, const char *name, int text, int64_t items)
{
    for (int f = 0; f < s->files; f++) {
        const het_cs_field *field = het_cs_find(&s->cs[f], name, text, items);
        if (field != NULL) return (column){&s->cs[f], s->row[f], field};
    }
    return (column){0};
}

static het_status need(const source *s, const char *name, int text, const char *advice, column *c)
{
    *c = find(s, name, text, 1);
    if (c->field != NULL) return HET_OK;
    return het_fail(HET_E_INPUT, "%s: no column %s: give the job's other file too (J1_passthrough_particles.cs)%s", s->cs[0].path, name, advice);
}

static int64_t row_in(const column *c, int64_t row)
{
    return c->row != NULL ? c->row[row] : row;
}

static double number(const column *c, int64_t row, int64_t item)
{
    return het_cs_number(c->cs, c->field, row_in(c, row), item);
}

typedef struct identity {
    uint64_t uid;
    int64_t row;
} identity;

static int by_uid(const void *a, const void *b)
{
    const uint64_t x = ((const identity *)a)->uid, y = ((const identity *)b)->uid;
    return (x > y) - (x < y);
}

/* The rows of file f for those of the first. */
static het_status join(source *s, int f)
{
    het_status status = HET_OK;
    const het_cs *first = &s->cs[0], *cs = &s->cs[f];
    const het_cs_field *uid = het_cs_find(first, "uid", 0, 1), *other = het_cs_find(cs, "uid", 0, 1);
    identity *list = het_alloc((size_t)cs->rows * sizeof *list);
    s->row[f] = het_alloc((size_t)first->rows * sizeof *s->row[f]);
    if (uid == NULL || other == NULL)
        HET_TRY(het_fail(HET_E_INPUT, "%s: no column uid: it cannot be joined with another file", uid == NULL ? first->path : cs->path));
    if (list == NULL || s->row[f] == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", cs->path));
    for (int64_t i = 0; i < cs->rows; i++) list[i] = (identity){het_cs_uid(cs, other, i), i};
    qsort(list, (size_t)cs->rows, sizeof *list, by_uid);
    for (int64_t i = 0; i < first->rows; i++) {
        const identity wanted = {het_cs_uid(first, uid, i), i};
        const identity *found = bsearch(&wanted, list, (size_t)cs->rows, sizeof *list, by_uid);
        if (found == NULL)
            HET_TRY(het_fail(HET_E_INPUT, "%s: row %lld of %s (uid %llu) is not in it: give two files of one job", cs->path, (long long)i,
                             first->path, (unsigned long long)wanted.uid));
        s->row[f][i] = found->row;
    }
done:
    het_release(list);
    return status;
}

static het_status open_all(source *s, const char *const *paths, int count)
{
    het_status status = HET_OK;
    if (count > FILES_MOST) HET_TRY(het_fail(HET_E_USAGE, "%d .cs files: at most %d at a time", count, FILES_MOST));
    for (int f = 0; f < count; f++) {
        HET_TRY(het_cs_load(&s->cs[f], paths[f]));
        s->files = f + 1;
        if (f > 0) HET_TRY(join(s, f));
    }
done:
    return status;
}

static void close_all(source *s)
{
    for (int f = 0; f < s->files; f++) {
        het_cs_free(&s->cs[f]);
        het_release(s->row[f]);
    }
}

static het_status read_ctf(het_particles *p, const source *s)
{
    static const struct {
        const char *name;
        double factor;
    } term[7] = {{"ctf/df1_A", 1.0},       {"ctf/df2_A", 1.0}, {"ctf/df_angle_rad", 1.0},   {"ctf/accel_kv", 1.0e3},
                 {"ctf/cs_mm", 1.0e7}, {"ctf/amp_contrast", 1.0}, {"ctf/phase_shift_rad", 1.0}};
    column c[7];
    for (int k = 0; k < 7; k++) {
        const het_status status = need(s, term[k].name, 0, ", or --no-ctf for images without a CTF", &c[k]);
        if (status != HET_OK) return status;
    }
    for (int64_t i = 0; i < p->count; i++) {
        double value[7];
        for (int k = 0; k < 7; k++) value[k] = term[k].factor * number(&c[k], p->row[i], 0);
        p->ctf[i] = (het_ctf_row){(float)value[0], (float)value[1], (float)value[2], (float)value[3],
                                  (float)value[4], (float)value[5], (float)value[6]};
        const het_status status = het_particles_check_ctf(p, i);
        if (status != HET_OK) return status;
    }
    return HET_OK;
}

static het_status read_apix(het_particles *p, const source *s, double given)
{
    column c;
    p->apix = given;
    if (given > 0.0) return HET_OK;
    const het_status status = need(s, "blob/psize_A", 0, ", or --apix", &c);
    if (status != HET_OK) return status;
    for (int64_t i = 0; i < p->count; i++) {
        const double apix = number(&c, p->row[i], 0);
        if (!(apix > 0.01 && apix < 1000.0))
            return het_fail(HET_E_INPUT, "%s: row %lld: a pixel size of %g A cannot be; give --apix", p->source, (long long)p->row[i], apix);
        if (i == 0) p->apix = apix;
        if (fabs(apix - p->apix) > 1.0e-4 * p->apix)
            return het_fail(HET_E_INPUT, "%s: row %lld has %g A per pixel, row %lld has %g: import each size alone with --index, or give --apix",
                            p->source, (long long)p->row[0], p->apix, (long long)p->row[i], apix);
    }
    return HET_OK;
}

/* Angles of refinements; shifts, in pixels of another size perhaps, of these or of 2D classes. */
static het_status read_poses(het_particles *p, const source *s)
{
    const column pose = find(s, "alignments3D/pose", 0, 3), own = find(s, "blob/psize_A", 0, 1);
    column shift = find(s, "alignments3D/shift", 0, 2), pixel = find(s, "alignments3D/psize_A", 0, 1);
    if (shift.field == NULL) {
        shift = find(s, "alignments2D/shift", 0, 2);
        pixel = find(s, "alignments2D/psize_A", 0, 1);
    }
    if (pose.field != NULL) p->turn = het_alloc((size_t)p->count * 3 * sizeof *p->turn);
    if (shift.field != NULL) p->shift = het_alloc((size_t)p->count * 2 * sizeof *p->shift);
    if ((pose.field != NULL && p->turn == NULL) || (shift.field != NULL && p->shift == NULL))
        return het_fail(HET_E_MEMORY, "%s: no memory for the poses", p->source);
    for (int64_t i = 0; pose.field != NULL && i < 3 * p->count; i++) p->turn[i] = number(&pose, p->row[i / 3], i % 3);
    for (int64_t i = 0; shift.field != NULL && i < p->count; i++) {
        const int known = pixel.field != NULL && own.field != NULL;
        const double scale = known ? number(&pixel, p->row[i], 0) / number(&own, p->row[i], 0) : 1.0;
        for (int k = 0; k < 2; k++) p->shift[2 * i + k] = -scale * number(&shift, p->row[i], k);
    }
    for (int64_t i = 0; i < p->count; i++) {
        double sum = 0.0; /* not finite where a number is not */
        for (int k = 0; p->turn != NULL && k < 3; k++) sum += p->turn[3 * i + k];
        for (int k = 0; p->shift != NULL && k < 2; k++) sum += p->shift[2 * i + k];
        if (!isfinite(sum))
            return het_fail(HET_E_INPUT, "%s: row %lld: its pose or shift is not finite", p->source, (long long)p->row[i]);
    }
    return HET_OK;
}

static het_status read_names(het_particles *p, const source *s, const char *datadir)
{
    het_status status = HET_OK;
    het_image_files *files = NULL;
    column path, image;
    char text[PATH_MAX];
    HET_TRY(need(s, "blob/path", 1, "", &path));
    HET_TRY(need(s, "blob/idx", 0, "", &image));
    HET_TRY(het_image_files_new(&files, p->source, datadir));
    for (int64_t i = 0; i < p->count; i++) {
        const double number_in = number(&image, p->row[i], 0);
        het_cs_text(path.cs, path.field, row_in(&path, p->row[i]), text, sizeof text);
        const char *name = text + (text[0] == '>'); /* marks what was imported by a link */
        if (*name == '\0' || !(number_in >= 0.0 && number_in < 9e15))
            HET_TRY(het_fail(HET_E_INPUT, "%s: row %lld: names no image", p->source, (long long)p->row[i]));
        p->image[i] = (int64_t)number_in;
        HET_TRY(het_image_files_find(files, name, 0, &p->file_of[i]));
    }
    p->file = het_image_files_take(files, &p->file_count);
done:
    het_image_files_free(files);
    return status;
}

het_status het_particles_load_cs(het_particles *p, const char *const *paths, int count, const het_particles_options *options)
{
    het_status status = HET_OK;
    source *s = het_alloc(sizeof *s);
    *p = (het_particles){0};
    if (s == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", paths[0]));
    HET_TRY(open_all(s, paths, count));
    HET_TRY(het_particles_new(p, paths[0], s->cs[0].rows, options->index));
    if (!options->no_ctf) HET_TRY(read_ctf(p, s));
    HET_TRY(read_apix(p, s, options->apix));
    HET_TRY(read_poses(p, s));
    HET_TRY(read_names(p, s, options->datadir));
done:
    if (s != NULL) close_all(s);
    het_release(s);
    if (status != HET_OK) het_particles_free(p);
    return status;
}
