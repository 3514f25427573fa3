#include "cs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../arena.h"

enum { HEADER_MOST = 1 << 24, FIELDS_MOST = 4096, BYTES_MOST = 1 << 20 };

static het_status bad(const het_cs *cs, const char *what)
{
    return het_fail(HET_E_INPUT, "%s: %s", cs->path, what);
}

static char *skip(char *c)
{
    return c + strspn(c, " ,\n");
}

/* 'text' at *at, ended by a NUL in place; *at goes behind it. NULL where there is none. */
static char *quoted(char **at)
{
    char *start = skip(*at), *end;
    if (*start != '\'' || (end = strchr(start + 1, '\'')) == NULL) return NULL;
    *end = '\0';
    *at = end + 1;
    return start + 1;
}

/* (A, B, ..) at *at: A B ..; -1 where there is no such thing. */
static int64_t product(char **at)
{
    int64_t all = 1;
    char *c = skip(*at);
    if (*c++ != '(') return -1;
    for (c = skip(c); *c != ')'; c = skip(c)) {
        char *end;
        const long long n = strtoll(c, &end, 10);
        if (end == c || n < 0 || n > INT64_MAX / (all > 0 ? all : 1)) return -1;
        all *= n;
        c = end;
    }
    *at = c + 1;
    return all;
}

/* ('name', '<f4') or ('name', '<f4', (2,)) at *at. */
static het_status parse_field(het_cs *cs, char **at, het_cs_field *f)
{
    char *c = skip(*at), *type, *end;
    *f = (het_cs_field){.count = 1, .offset = cs->width};
    if (*c++ != '(' || (f->name = quoted(&c)) == NULL || (type = quoted(&c)) == NULL) return bad(cs, "its header cannot be read");
    if (*type == '>') return bad(cs, "its numbers are big-endian: not read");
    f->kind = type[0] != '\0' ? type[1] : '\0';
    if (f->kind == 'O') return bad(cs, "it holds Python objects: not a cryoSPARC dataset");
    f->size = f->kind != '\0' ? strtoll(type + 2, &end, 10) : 0;
    if (f->kind == 'U') f->size = f->size <= BYTES_MOST ? 4 * f->size : f->size;
    if (f->kind == '\0' || end == type + 2 || *end != '\0') return bad(cs, "its header cannot be read");
    c = skip(c);
    if (*c == '(') f->count = product(&c);
    c = skip(c);
    if (*c != ')' || f->size < 0 || f->size > BYTES_MOST || f->count < 0 || f->count > BYTES_MOST) return bad(cs, "its header cannot be read");
    cs->width += f->size * f->count;
    *at = c + 1;
    return HET_OK;
}

/* {'descr': [fields], 'fortran_order': False, 'shape': (rows,), } */
static het_status parse_header(het_cs *cs)
{
    het_status status = HET_OK;
    static const char descr[] = "'descr': [", shape[] = "'shape': ";
    char *at = strstr(cs->header, descr), *text;
    if (at == NULL) HET_TRY(bad(cs, "a NumPy array without named columns, not a cryoSPARC dataset"));
    at += sizeof descr - 1;
    cs->field = het_alloc(FIELDS_MOST * sizeof *cs->field);
    if (cs->field == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", cs->path));
    for (at = skip(at); *at != ']'; at = skip(at)) {
        if (cs->fields == FIELDS_MOST) HET_TRY(bad(cs, "it has too many columns"));
        HET_TRY(parse_field(cs, &at, &cs->field[cs->fields++]));
    }
    text = strstr(at, shape);
    if (text != NULL) text += sizeof shape - 1;
    cs->rows = text != NULL ? product(&text) : -1;
    if (cs->rows < 0 || cs->width == 0) HET_TRY(bad(cs, "its header cannot be read"));
    if (cs->rows == 0) HET_TRY(bad(cs, "it has no rows"));
done:
    return status;
}

static het_status read_header(het_cs *cs, FILE *file)
{
    unsigned char start[12] = {0};
    const size_t got = fread(start, 1, 10, file);
    int64_t length = start[8] | start[9] << 8;
    if (got >= 6 && memcmp(start, "\224CSDAT", 6) == 0)
        return bad(cs, "a compressed cryoSPARC dataset: with cryosparc-tools, Dataset.load(\"in.cs\").save(\"out.cs\", format=1) "
                       "makes one that can be read");
    if (got < 10 || memcmp(start, "\223NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3) return bad(cs, "this is no cryoSPARC dataset");
    if (start[6] > 1) {
        if (fread(start + 10, 1, 2, file) != 2) return bad(cs, "it is cut off");
        length |= (int64_t)start[10] << 16 | (int64_t)start[11] << 24;
    }
    if (length > HEADER_MOST) return bad(cs, "its header cannot be read");
    cs->header = het_alloc((size_t)length + 1);
    if (cs->header == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", cs->path);
    if (fread(cs->header, 1, (size_t)length, file) != (size_t)length) return bad(cs, "it is cut off");
    return HET_OK;
}

static het_status read_rows(het_cs *cs, FILE *file)
{
    struct stat about;
    const off_t at = ftello(file);
    if (at < 0 || fstat(fileno(file), &about) != 0) return het_fail(HET_E_IO, "%s: cannot read: %s", cs->path, strerror(errno));
    if (cs->rows > (about.st_size - at) / cs->width) return bad(cs, "it is cut off");
    cs->data = het_alloc((size_t)(cs->rows * cs->width));
    if (cs->data == NULL) return het_fail(HET_E_MEMORY, "%s: no memory for its %lld rows", cs->path, (long long)cs->rows);
    if (fread(cs->data, (size_t)cs->width, (size_t)cs->rows, file) != (size_t)cs->rows)
        return het_fail(HET_E_IO, "%s: cannot read: %s", cs->path, strerror(errno));
    return HET_OK;
}

het_status het_cs_load(het_cs *cs, const char *path)
{
    het_status status = HET_OK;
    *cs = (het_cs){0};
    FILE *file = fopen(path, "rb");
    if (file == NULL) return het_fail(HET_E_IO, "%s: cannot open: %s", path, strerror(errno));
    cs->path = het_alloc(strlen(path) + 1);
    if (cs->path == NULL) HET_TRY(het_fail(HET_E_MEMORY, "%s: no memory", path));
    memcpy(cs->path, path, strlen(path) + 1);
    HET_TRY(read_header(cs, file));
    HET_TRY(parse_header(cs));
    HET_TRY(read_rows(cs, file));
done:
    fclose(file);
    if (status != HET_OK) het_cs_free(cs);
    return status;
}

void het_cs_free(het_cs *cs)
{
    het_release(cs->path);
    het_release(cs->header);
    het_release(cs->data);
    het_release(cs->field);
    *cs = (het_cs){0};
}

static int is_number(const het_cs_field *f)
{
    const int64_t size = f->size;
    if (f->kind == 'f') return size == 4 || size == 8;
    return strchr("uib", f->kind) != NULL && (size == 1 || size == 2 || size == 4 || size == 8);
}

const het_cs_field *het_cs_find(const het_cs *cs, const char *name, int text, int64_t items)
{
    for (int64_t i = 0; i < cs->fields; i++) {
        const het_cs_field *f = &cs->field[i];
        if (strcmp(f->name, name) == 0)
            return f->count >= items && (text ? f->kind == 'S' || f->kind == 'U' : is_number(f)) ? f : NULL;
    }
    return NULL;
}

static const unsigned char *item_at(const het_cs *cs, const het_cs_field *f, int64_t row, int64_t item)
{
    HET_ASSERT(row >= 0 && row < cs->rows && item >= 0 && item < f->count);
    return cs->data + row * cs->width + f->offset + item * f->size;
}

/* `size` bytes, little-endian; the sign bit carried on where `with_sign`. */
static uint64_t whole(const unsigned char *from, int64_t size, int with_sign)
{
    uint64_t value = with_sign && (from[size - 1] & 0x80) != 0 ? UINT64_MAX : 0;
    for (int64_t k = size - 1; k >= 0; k--) value = value << 8 | from[k];
    return value;
}

double het_cs_number(const het_cs *cs, const het_cs_field *f, int64_t row, int64_t item)
{
    const unsigned char *from = item_at(cs, f, row, item);
    float single;
    double value;
    if (f->kind == 'i') return (double)(int64_t)whole(from, f->size, 1);
    if (f->kind != 'f') return (double)whole(from, f->size, 0);
    if (f->size == 4) {
        memcpy(&single, from, sizeof single);
        return single;
    }
    memcpy(&value, from, sizeof value);
    return value;
}

uint64_t het_cs_uid(const het_cs *cs, const het_cs_field *f, int64_t row)
{
    return whole(item_at(cs, f, row, 0), f->size, 0);
}

void het_cs_text(const het_cs *cs, const het_cs_field *f, int64_t row, char *text, size_t size)
{
    const unsigned char *from = item_at(cs, f, row, 0);
    const int64_t step = f->kind == 'U' ? 4 : 1;
    size_t n = 0;
    for (int64_t i = 0; i < f->size && n + 1 < size; i += step) {
        const uint64_t c = whole(from + i, step, 0);
        if (c == 0) break;
        text[n++] = step == 1 || c < 128 ? (char)c : '?';
    }
    text[n] = '\0';
}
