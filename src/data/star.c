#include "star.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

#include "../arena.h"

/* One pass over the text, which is cut into tokens in place: a row per line, as RELION writes and reads
 * tables. */
typedef struct parser {
    het_star *star;
    const char *block;     /* name of the current data block, NULL before the first */
    het_star_table *table; /* the current table, NULL after data_ */
    int64_t line;
    int64_t tables_room, cells_room, lines_room,
        labels_room; /* entries that fit; the last three: of `table` */
} parser;

static het_status bad_line(const parser *p, const char *what)
{
    return het_fail(HET_E_INPUT, "%s: line %lld: %s", p->star->path, (long long)p->line, what);
}

/* Make room for `need` entries of `size` bytes in *array, which holds *room; doubles. */
static het_status make_room(void *array, int64_t *room, int64_t need, size_t size)
{
    void *old;
    if (need <= *room) return HET_OK;
    memcpy(&old, array, sizeof old); /* of whatever pointer type the caller has */
    const int64_t more = need > 2 * *room ? need + 16 : 2 * *room;
    void *larger = het_alloc((size_t)more * size);
    if (larger == NULL) return het_fail(HET_E_MEMORY, "no memory for a STAR table");
    if (*room > 0) memcpy(larger, old, (size_t)*room * size);
    het_release(old);
    memcpy(array, &larger, sizeof larger);
    *room = more;
    return HET_OK;
}

/* The next token of a line, ended by a NUL in place; NULL at the end of the line or a comment. *quoted tells
 * whether it stood in quotes; -1 for a quote that is never closed. A quote ends where white space follows
 * it. */
static char *next_token(char **cursor, int *quoted)
{
    char *c = *cursor + strspn(*cursor, " \t\r");
    *quoted = 0;
    if (*c == '\0' || *c == '#') return NULL;
    char *start = c;
    if (*c == '\'' || *c == '"') {
        const char quote = *c;
        *quoted = 1;
        start = ++c;
        while (*c != '\0' && !(*c == quote && strchr(" \t\r", c[1]) != NULL))
            c++; /* strchr finds the final NUL too */
        if (*c == '\0') *quoted = -1;
    } else {
        c += strcspn(c, " \t\r");
    }
    *cursor = *c == '\0' ? c : c + 1;
    *c = '\0';
    return start;
}

static het_status new_table(parser *p, int is_loop)
{
    if (p->block == NULL) return bad_line(p, "text before the first data_ block: not a STAR file");
    const het_status status =
        make_room(&p->star->table, &p->tables_room, p->star->count + 1, sizeof *p->star->table);
    if (status != HET_OK) return status;
    p->table = &p->star->table[p->star->count++];
    *p->table = (het_star_table){.name = p->block, .is_loop = is_loop, .path = p->star->path};
    p->cells_room = p->lines_room = p->labels_room = 0;
    return HET_OK;
}

static het_status add_label(parser *p, const char *token)
{
    het_star_table *t = p->table;
    if (het_star_column(t, token + 1) >= 0)
        return het_fail(HET_E_INPUT, "%s: line %lld: column %s stands twice", p->star->path,
                        (long long)p->line, token);
    const het_status status = make_room(&t->label, &p->labels_room, t->columns + 1, sizeof *t->label);
    if (status == HET_OK) t->label[t->columns++] = token + 1;
    return status;
}

static het_status add_pair(parser *p, const char *key, char *cursor)
{
    het_status status = HET_OK;
    int quoted;
    const char *value = next_token(&cursor, &quoted);
    if (value == NULL)
        return het_fail(HET_E_INPUT, "%s: line %lld: %s has no value", p->star->path, (long long)p->line,
                        key);
    if (quoted < 0) return bad_line(p, "a quote is not closed");
    if (p->table == NULL || p->table->is_loop) HET_TRY(new_table(p, 0));
    HET_TRY(add_label(p, key));
    het_star_table *t = p->table;
    HET_TRY(make_room(&t->cell, &p->cells_room, t->columns, sizeof *t->cell));
    t->cell[t->columns - 1] = value;
    if (t->rows == 0) {
        HET_TRY(make_room(&t->line, &p->lines_room, 1, sizeof *t->line));
        t->line[0] = p->line;
        t->rows = 1;
    }
done:
    return status;
}

static het_status add_row(parser *p, const char *first, char *cursor)
{
    het_status status = HET_OK;
    het_star_table *t = p->table;
    if (p->block == NULL) return bad_line(p, "text before the first data_ block: not a STAR file");
    if (t == NULL || !t->is_loop || t->columns == 0)
        return bad_line(p, "values outside of a loop_ with columns");
    HET_TRY(make_room(&t->cell, &p->cells_room, (t->rows + 1) * t->columns, sizeof *t->cell));
    HET_TRY(make_room(&t->line, &p->lines_room, t->rows + 1, sizeof *t->line));
    const char **cell = t->cell + t->rows * t->columns;
    int64_t n = 0;
    int quoted = 0;
    for (const char *token = first; token != NULL; token = next_token(&cursor, &quoted)) {
        if (quoted < 0) return bad_line(p, "a quote is not closed");
        if (n < t->columns) cell[n] = token;
        n++;
    }
    if (n != t->columns)
        return het_fail(HET_E_INPUT, "%s: line %lld: %lld values where data_%s has %lld columns",
                        p->star->path, (long long)p->line, (long long)n, t->name, (long long)t->columns);
    t->line[t->rows++] = p->line;
done:
    return status;
}

static int is_last_token(const char *cursor)
{
    cursor += strspn(cursor, " \t\r");
    return *cursor == '\0' || *cursor == '#';
}

static het_status parse_line(parser *p, char *text)
{
    int quoted;
    char *cursor = text;
    if (*text == ';') return bad_line(p, "multi-line text values (;) are not supported");
    char *token = next_token(&cursor, &quoted);
    if (token == NULL) return HET_OK;
    if (quoted < 0) return bad_line(p, "a quote is not closed");
    if (!quoted && is_last_token(cursor)) {
        if (strncasecmp(token, "data_", 5) == 0) {
            p->block = token + 5;
            p->table = NULL;
            return HET_OK;
        }
        if (strcasecmp(token, "loop_") == 0) return new_table(p, 1);
    }
    if (quoted || *token != '_') return add_row(p, token, cursor);
    if (p->table != NULL && p->table->is_loop && p->table->rows == 0) return add_label(p, token);
    return add_pair(p, token, cursor);
}

/* The whole file, unpacked where it is gzip'ed, as text with a final NUL. */
static het_status read_text(het_star *star, int64_t *length)
{
    het_status status = HET_OK;
    struct stat about;
    int64_t room = 0, n = 1;
    gzFile file = NULL;
    *length = 0;
    if (stat(star->path, &about) != 0)
        return het_fail(HET_E_IO, "%s: cannot open: %s", star->path, strerror(errno));
    if (S_ISDIR(about.st_mode)) return het_fail(HET_E_INPUT, "%s: not a file but a folder", star->path);
    file = gzopen(star->path, "rb");
    if (file == NULL) return het_fail(HET_E_IO, "%s: cannot open: %s", star->path, strerror(errno));
    HET_TRY(make_room(&star->text, &room, about.st_size + 2, 1));
    while (n > 0) {
        HET_TRY(make_room(&star->text, &room, *length + 2, 1));
        const int64_t most = room - *length - 1 < (1 << 24) ? room - *length - 1 : 1 << 24;
        n = gzread(file, star->text + *length, (unsigned)most);
        if (n < 0) HET_TRY(het_fail(HET_E_INPUT, "%s: cannot be unpacked or read: damaged", star->path));
        *length += n;
    }
    star->text[*length] = '\0';
    if (memchr(star->text, '\0', (size_t)*length) != NULL)
        HET_TRY(het_fail(HET_E_INPUT, "%s: holds binary data: not a STAR file", star->path));
done:
    gzclose(file);
    return status;
}

het_status het_star_load(het_star *star, const char *path)
{
    het_status status = HET_OK;
    int64_t length = 0;
    *star = (het_star){.path = het_alloc(strlen(path) + 1)};
    parser p = {.star = star};
    if (star->path == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(star->path, path, strlen(path) + 1);
    HET_TRY(read_text(star, &length));
    for (char *at = star->text, *end = star->text + length; at < end;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        *stop = '\0';
        p.line++;
        HET_TRY(parse_line(&p, at));
        at = stop + 1;
    }
    if (p.block == NULL) HET_TRY(het_fail(HET_E_INPUT, "%s: no data_ block: not a STAR file", path));
done:
    if (status != HET_OK) het_star_free(star);
    return status;
}

void het_star_free(het_star *star)
{
    for (int64_t i = 0; i < star->count; i++) {
        het_release(star->table[i].label);
        het_release(star->table[i].cell);
        het_release(star->table[i].line);
    }
    het_release(star->table);
    het_release(star->text);
    het_release(star->path);
    *star = (het_star){0};
}

const het_star_table *het_star_find(const het_star *star, const char *name)
{
    for (int64_t i = 0; i < star->count; i++)
        if (strcmp(star->table[i].name, name) == 0) return &star->table[i];
    return NULL;
}

const het_star_table *het_star_find_with(const het_star *star, const char *label)
{
    for (int64_t i = 0; i < star->count; i++)
        if (star->table[i].is_loop && het_star_column(&star->table[i], label) >= 0) return &star->table[i];
    return NULL;
}

int64_t het_star_column(const het_star_table *table, const char *label)
{
    for (int64_t c = 0; c < table->columns; c++)
        if (strcmp(table->label[c], label) == 0) return c;
    return -1;
}

const char *het_star_text(const het_star_table *table, int64_t row, int64_t column)
{
    HET_ASSERT(row >= 0 && row < table->rows && column >= 0 && column < table->columns);
    return table->cell[row * table->columns + column];
}

het_status het_star_number(const het_star_table *table, int64_t row, int64_t column, double *value)
{
    const char *text = het_star_text(table, row, column);
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(*value))
        return het_fail(HET_E_INPUT, "%s: line %lld, column _%s: '%s' is no finite number", table->path,
                        (long long)table->line[row], table->label[column], text);
    return HET_OK;
}

het_status het_star_integer(const het_star_table *table, int64_t row, int64_t column, int64_t *value)
{
    double number;
    const het_status status = het_star_number(table, row, column, &number);
    if (status != HET_OK) return status;
    if (number != floor(number) || fabs(number) > 9.0e15)
        return het_fail(HET_E_INPUT, "%s: line %lld, column _%s: '%s' is no whole number", table->path,
                        (long long)table->line[row], table->label[column], het_star_text(table, row, column));
    *value = (int64_t)number;
    return HET_OK;
}
