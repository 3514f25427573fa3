#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../arena.h"
#include "star.h"

struct het_star_writer {
    FILE *file;
    char *path, *temporary;
};

het_status het_star_create(het_star_writer **writer, const char *path)
{
    het_status status = HET_OK;
    const size_t length = strlen(path);
    *writer = NULL;
    het_star_writer *w = het_alloc(sizeof *w);
    if (w == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    w->path = het_alloc(length + 1);
    w->temporary = het_alloc(length + 5);
    if (w->path == NULL || w->temporary == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(w->path, path, length);
    memcpy(w->temporary, path, length);
    memcpy(w->temporary + length, ".tmp", 4);
    w->file = fopen(w->temporary, "w");
    if (w->file == NULL) HET_TRY(het_fail(HET_E_IO, "%s: cannot create: %s", w->temporary, strerror(errno)));
    *writer = w;
    return HET_OK;
done:
    het_release(w->path);
    het_release(w->temporary);
    het_release(w);
    return status;
}

static void put_text(FILE *file, const char *text)
{
    const int plain = *text != '\0' && strpbrk(text, " \t#") == NULL && strchr("'\"_;", *text) == NULL &&
                      strcasecmp(text, "loop_") != 0 && strncasecmp(text, "data_", 5) != 0;
    if (plain) fputs(text, file);
    else fprintf(file, strchr(text, '"') == NULL ? "\"%s\"" : "'%s'", text);
}

static void put_data(FILE *file, const het_star_column_data *data, int64_t row)
{
    if (data->numbers != NULL) fprintf(file, "%.9g", data->numbers[row]); /* float32 comes back whole */
    else put_text(file, data->texts[row]);
}

static int is_left_out(const het_star_column_data *data)
{
    return data != NULL && data->numbers == NULL && data->texts == NULL;
}

static const het_star_column_data *replacement(const het_star_column_data *data, int64_t count,
                                               const char *label)
{
    for (int64_t i = 0; i < count; i++)
        if (strcmp(data[i].label, label) == 0) return &data[i];
    return NULL;
}

void het_star_write_table(het_star_writer *writer, const char *name, const het_star_table *base,
                          const int64_t *rows, int64_t count, const het_star_column_data *data,
                          int64_t data_count)
{
    FILE *file = writer->file;
    int64_t columns = 0;
    fprintf(file, "\ndata_%s\n\nloop_\n", name);
    for (int64_t c = 0; base != NULL && c < base->columns; c++)
        if (!is_left_out(replacement(data, data_count, base->label[c]))) fprintf(file, "_%s #%lld\n", base->label[c], (long long)++columns);
    for (int64_t i = 0; i < data_count; i++)
        if (!is_left_out(&data[i]) && (base == NULL || het_star_column(base, data[i].label) < 0))
            fprintf(file, "_%s #%lld\n", data[i].label, (long long)++columns);
    for (int64_t r = 0; r < count; r++) {
        for (int64_t c = 0; base != NULL && c < base->columns; c++) {
            const het_star_column_data *other = replacement(data, data_count, base->label[c]);
            if (is_left_out(other)) continue;
            if (other != NULL) put_data(file, other, r);
            else put_text(file, het_star_text(base, rows == NULL ? r : rows[r], c));
            fputc(' ', file);
        }
        for (int64_t i = 0; i < data_count; i++) {
            if (is_left_out(&data[i]) || (base != NULL && het_star_column(base, data[i].label) >= 0)) continue;
            put_data(file, &data[i], r);
            fputc(' ', file);
        }
        fputc('\n', file);
    }
    fputc('\n', file);
}

void het_star_write_copy(het_star_writer *writer, const het_star_table *table)
{
    if (table->is_loop) {
        het_star_write_table(writer, table->name, table, NULL, table->rows, NULL, 0);
        return;
    }
    fprintf(writer->file, "\ndata_%s\n\n", table->name);
    for (int64_t c = 0; c < table->columns; c++) {
        fprintf(writer->file, "_%s ", table->label[c]);
        put_text(writer->file, table->cell[c]);
        fputc('\n', writer->file);
    }
}

het_status het_star_finish(het_star_writer *w, het_status mine)
{
    if (w == NULL) return mine;
    const int failed = fflush(w->file) != 0 || ferror(w->file) || fsync(fileno(w->file)) != 0;
    const int reason = errno;
    const int unclosed = fclose(w->file) != 0;
    if (mine == HET_OK && (failed || unclosed))
        mine = het_fail(HET_E_IO, "%s: cannot write: %s", w->temporary, strerror(failed ? reason : errno));
    if (mine == HET_OK && rename(w->temporary, w->path) != 0)
        mine = het_fail(HET_E_IO, "%s: cannot put it in place: %s", w->path, strerror(errno));
    if (mine != HET_OK) unlink(w->temporary);
    het_release(w->path);
    het_release(w->temporary);
    het_release(w);
    return mine;
}
