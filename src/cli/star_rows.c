#include "star_rows.h"

#include <math.h>
#include <string.h>

#include "../arena.h"
#include "../data/particles.h"
#include "options.h"

static const double SAME_DEFOCUS = 1.0; /* A; what float32 takes from a defocus is less */

/* Which of the files it is, opened at its first image. */
static het_status file_of(het_star_rows *f, const char *path, int64_t *file)
{
    for (int64_t k = f->files - 1; k >= 0; k--) /* neighbours mostly are of one */
        if (strcmp(f->star[k].path, path) == 0) {
            *file = k;
            return HET_OK;
        }
    het_star *star = het_alloc((size_t)(f->files + 1) * sizeof *star);
    if (star == NULL) return het_fail(HET_E_MEMORY, "no memory for %s", path);
    if (f->files > 0) memcpy(star, f->star, (size_t)f->files * sizeof *star);
    het_release(f->star);
    f->star = star;
    const het_status status = het_star_load(&star[f->files], path);
    if (status != HET_OK) return status;
    *file = f->files++;
    if (het_particles_star_table(&star[*file]) != NULL) return HET_OK;
    return het_fail(HET_E_INPUT, "%s: no column _rlnImageName any more", path);
}

/* The row is still the image's, as far as its defocus tells. */
static het_status check_row(const het_star_rows *f, int64_t i, int64_t image)
{
    het_status status = HET_OK;
    const het_ctf_row *ctf = &f->ctf[i];
    const het_star_table *table = het_particles_star_table(&f->star[f->file[i]]);
    const char *path = f->star[f->file[i]].path;
    static const char *const label[2] = {"rlnDefocusU", "rlnDefocusV"};
    const double known[2] = {ctf->defocus_u, ctf->defocus_v};
    if (f->row[i] >= table->rows)
        return het_fail(HET_E_INPUT, "%s has %lld particles, fewer than when image %lld (from 0) was imported from it: import it again",
                        path, (long long)table->rows, (long long)image);
    for (int k = 0; k < 2 && ctf->voltage > 0.0F; k++) {
        const int64_t column = het_star_column(table, label[k]);
        double now = known[k];
        if (column >= 0) HET_TRY(het_star_number(table, f->row[i], column, &now));
        if (!(fabs(now - known[k]) <= SAME_DEFOCUS))
            HET_TRY(het_fail(HET_E_INPUT, "%s: line %lld: _%s is %.1f, that of image %lld (from 0), imported from there, %.1f: the file has "
                             "changed since; import it again", path, (long long)table->line[f->row[i]], label[k], now, (long long)image,
                             known[k]));
    }
done:
    return status;
}

static het_status read_ctf(het_star_rows *f, const het_stack *stack, const int64_t *image)
{
    int64_t *index = het_alloc((size_t)f->images * sizeof *index);
    if (index == NULL) return het_fail(HET_E_MEMORY, "no memory for the CTF of %lld images", (long long)f->images);
    for (int64_t i = 0; i < f->images; i++) index[i] = image != NULL ? image[i] : i;
    const het_status status = het_stack_read_ctf(stack, f->ctf, index, f->images);
    het_release(index);
    return status;
}

het_status het_star_rows_find(het_star_rows *f, const het_stack *stack, const int64_t *image, int64_t images)
{
    het_status status = HET_OK;
    *f = (het_star_rows){.images = images};
    f->file = het_alloc((size_t)images * sizeof *f->file);
    f->row = het_alloc((size_t)images * sizeof *f->row);
    f->ctf = het_alloc((size_t)images * sizeof *f->ctf);
    if (f->file == NULL || f->row == NULL || f->ctf == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for the rows of %lld images", (long long)images));
    HET_TRY(read_ctf(f, stack, image));
    for (int64_t i = 0; i < images; i++) {
        const int64_t at = image != NULL ? image[i] : i;
        const char *path;
        f->file[i] = -1;
        if (!het_stack_get_info(stack)->has_source) continue;
        HET_TRY(het_stack_source(stack, at, &path, &f->row[i]));
        if (!het_options_is_star(path)) continue;
        HET_TRY(file_of(f, path, &f->file[i]));
        HET_TRY(check_row(f, i, at));
    }
done:
    return status;
}

void het_star_rows_free(het_star_rows *f)
{
    for (int64_t k = 0; k < f->files; k++) het_star_free(&f->star[k]);
    het_release(f->star);
    het_release(f->file);
    het_release(f->row);
    het_release(f->ctf);
    *f = (het_star_rows){0};
}

const het_star_table *het_star_rows_base(const het_star_rows *f)
{
    for (int64_t i = 0; i < f->images; i++)
        if (f->file[i] != 0 || f->files != 1) return NULL;
    return f->images > 0 ? het_particles_star_table(&f->star[0]) : NULL;
}

const char *het_star_rows_name(const het_star_rows *f, int64_t i)
{
    if (f->file[i] < 0) return NULL;
    const het_star_table *table = het_particles_star_table(&f->star[f->file[i]]);
    return het_star_text(table, f->row[i], het_star_column(table, "rlnImageName"));
}
