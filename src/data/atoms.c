#include "atoms.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "../arena.h"

enum { LINE = 4096, COLUMNS = 64 };

/* What of an atom's record is text until it is checked. */
typedef struct record {
    const char *element, *name, *chain, *residue_name, *residue, *x, *y, *z, *occupancy, *model;
} record;

typedef struct reader {
    gzFile file;
    const char *path;
    char line[LINE];
    int64_t number;  /* of the line */
    int hydrogens;
    het_atoms *atoms;
    int64_t capacity, first_capacity;
    char model[16];  /* of the last atom; "" before the first */
    int column[10];  /* mmCIF: where each field of a record stands, -1 where it does not */
    int columns;     /* mmCIF: fields of a row; 0 outside the loop */
} reader;

static het_status bad(const reader *in, const char *what, const char *text)
{
    return het_fail(HET_E_INPUT, "%s line %lld: %s \"%.20s\"", in->path, (long long)in->number, what, text);
}

/* Next line without its end; 0 at the end of the file. */
static int next_line(reader *in, het_status *status)
{
    if (gzgets(in->file, in->line, LINE) == NULL) {
        int code = Z_OK;
        const char *why = gzerror(in->file, &code);
        if (code != Z_OK && code != Z_STREAM_END)
            *status = het_fail(HET_E_IO, "%s: %s", in->path, code == Z_ERRNO ? strerror(errno) : why);
        return 0;
    }
    in->number++;
    size_t length = strlen(in->line);
    if (length == LINE - 1 && in->line[length - 1] != '\n') {
        *status = het_fail(HET_E_INPUT, "%s line %lld: longer than %d characters: not a PDB or mmCIF file", in->path,
                           (long long)in->number, LINE);
        return 0;
    }
    while (length > 0 && isspace((unsigned char)in->line[length - 1])) in->line[--length] = '\0';
    return 1;
}

static int number_in(const char *text, double *value)
{
    char *end = NULL;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

static het_status grow(void **memory, int64_t *capacity, int64_t need, size_t size)
{
    if (need <= *capacity) return HET_OK;
    const int64_t larger = need > 2 * *capacity ? need + 1024 : 2 * *capacity;
    void *moved = realloc(*memory, (size_t)larger * size);
    if (moved == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld atoms", (long long)larger);
    *memory = moved;
    *capacity = larger;
    return HET_OK;
}

/* Open the next model when the record's differs from the last one's. */
static het_status enter_model(reader *in, const char *model)
{
    het_atoms *atoms = in->atoms;
    if (atoms->models > 0 && strcmp(in->model, model) == 0) return HET_OK;
    const het_status status =
        grow((void **)&atoms->first, &in->first_capacity, atoms->models + 2, sizeof *atoms->first);
    if (status != HET_OK) return status;
    strncpy(in->model, model, sizeof in->model - 1);
    atoms->first[atoms->models++] = atoms->count;
    return HET_OK;
}

static het_status copy_name(const reader *in, char *to, const char *from, const char *what)
{
    if (strlen(from) >= HET_ATOM_NAME) return bad(in, what, from);
    strcpy(to, from);
    return HET_OK;
}

/* Check a record and append it as an atom. */
static het_status take(reader *in, const record *r)
{
    static const char *const water[] = {"HOH", "WAT", "DOD"};
    het_status status = HET_OK;
    het_atom atom = {0};
    const char *const place[3] = {r->x, r->y, r->z};
    for (int i = 0; i < 3; i++)
        if (!number_in(place[i], &atom.xyz[i])) return bad(in, "a coordinate that is no number", place[i]);
    const int element = het_element_number(r->element);
    if (element == 0) return bad(in, "unknown element", r->element);
    for (int i = 0; i < 3; i++)
        if (strcmp(r->residue_name, water[i]) == 0) return HET_OK;
    if (element == 1 && !in->hydrogens) return HET_OK;
    double occupancy = 1.0, residue = 0.0;
    if (r->occupancy[0] != '\0' && strcmp(r->occupancy, "?") != 0 && strcmp(r->occupancy, ".") != 0 &&
        !number_in(r->occupancy, &occupancy))
        return bad(in, "an occupancy that is no number", r->occupancy);
    if (number_in(r->residue, &residue)) atom.residue = (int64_t)residue;
    atom.weight = element * occupancy;
    HET_TRY(copy_name(in, atom.chain, r->chain, "too long a chain name"));
    HET_TRY(copy_name(in, atom.name, r->name, "too long an atom name"));
    HET_TRY(enter_model(in, r->model));
    HET_TRY(grow((void **)&in->atoms->atom, &in->capacity, in->atoms->count + 1, sizeof atom));
    in->atoms->atom[in->atoms->count++] = atom;
done:
    return status;
}

/* Columns first .. last (from 1) of a PDB line without surrounding blanks. */
static const char *cut(char *to, const char *line, size_t first, size_t last)
{
    const size_t length = strlen(line);
    size_t from = first - 1, end = length < last ? length : last;
    while (from < end && line[from] == ' ') from++;
    while (end > from && line[end - 1] == ' ') end--;
    const size_t size = end > from ? end - from : 0;
    memcpy(to, line + from, size);
    to[size] = '\0';
    return to;
}

/* Old files leave the element's columns empty; then the name tells: its symbol ends in column 14. */
static void element_from_name(char element[8], const char *line)
{
    char symbol[3] = {0};
    cut(element, line, 13, 14);
    if (strlen(element) == 2 && isalpha((unsigned char)element[0]) && het_element_number(element) != 0 &&
        strncmp(line, "HETATM", 6) == 0)
        return;
    for (const char *c = line + 12; *c != '\0' && c < line + 16 && symbol[0] == '\0'; c++)
        if (isalpha((unsigned char)*c)) symbol[0] = *c;
    strcpy(element, symbol);
}

static het_status read_pdb_line(reader *in, char model[16])
{
    char field[9][16];
    const char *line = in->line;
    if (strncmp(line, "MODEL", 5) == 0) cut(model, line, 7, 20);
    if (strncmp(line, "ATOM  ", 6) != 0 && strncmp(line, "HETATM", 6) != 0) return HET_OK;
    if (strlen(line) < 54) return bad(in, "an atom's record that ends before its coordinates:", line);
    record r = {.model = model};
    r.name = cut(field[0], line, 13, 16);
    r.residue_name = cut(field[1], line, 18, 20);
    r.chain = cut(field[2], line, 21, 22);
    r.residue = cut(field[3], line, 23, 26);
    r.x = cut(field[4], line, 31, 38);
    r.y = cut(field[5], line, 39, 46);
    r.z = cut(field[6], line, 47, 54);
    r.occupancy = cut(field[7], line, 55, 60);
    r.element = cut(field[8], line, 77, 78);
    if (field[8][0] == '\0') element_from_name(field[8], line);
    return take(in, &r);
}

/* Split a line of mmCIF into tokens in place; returns their number. */
static int split(char *line, char *token[COLUMNS])
{
    int count = 0;
    for (char *c = line; *c != '\0' && count < COLUMNS;) {
        while (isspace((unsigned char)*c)) c++;
        if (*c == '\0') break;
        const char quote = *c == '"' || *c == '\'' ? *c : '\0';
        if (quote != '\0') c++;
        token[count++] = c;
        /* a quote ends a token only before a blank: 'O5'' is O5' */
        while (*c != '\0' && (quote ? *c != quote || (c[1] != '\0' && !isspace((unsigned char)c[1]))
                                    : !isspace((unsigned char)*c)))
            c++;
        if (*c != '\0') *c++ = '\0';
    }
    return count;
}

enum { ELEMENT, NAME, CHAIN, RESIDUE_NAME, RESIDUE, X, Y, Z, OCCUPANCY, MODEL };

/* Note where a column of the atom_site loop stands. Author's names win over the file's own. */
static void note_column(reader *in, const char *label)
{
    static const struct { const char *label; int field, author; } known[] = {
        {"type_symbol", ELEMENT, 0},   {"label_atom_id", NAME, 0},  {"auth_atom_id", NAME, 1},
        {"label_asym_id", CHAIN, 0},   {"auth_asym_id", CHAIN, 1},  {"label_comp_id", RESIDUE_NAME, 0},
        {"auth_comp_id", RESIDUE_NAME, 1}, {"label_seq_id", RESIDUE, 0}, {"auth_seq_id", RESIDUE, 1},
        {"Cartn_x", X, 0},             {"Cartn_y", Y, 0},           {"Cartn_z", Z, 0},
        {"occupancy", OCCUPANCY, 0},   {"pdbx_PDB_model_num", MODEL, 0}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(label, known[i].label) == 0 && (known[i].author || in->column[known[i].field] < 0))
            in->column[known[i].field] = in->columns;
    in->columns++;
}

static het_status read_cif_line(reader *in)
{
    static const char *const missing[] = {"", "", "A", "", "", NULL, NULL, NULL, "1", "1"};
    const char *value[10];
    char *token[COLUMNS];
    if (strncasecmp(in->line, "_atom_site.", 11) == 0) {
        note_column(in, in->line + 11);
        return HET_OK;
    }
    if (in->columns == 0) return HET_OK;
    if (in->line[0] == '#' || in->line[0] == '_' || in->line[0] == '\0' || strncmp(in->line, "loop_", 5) == 0 ||
        strncmp(in->line, "data_", 5) == 0) {
        in->columns = 0;
        for (int i = 0; i < 10; i++) in->column[i] = -1;
        return HET_OK;
    }
    if (in->column[X] < 0 || in->column[Y] < 0 || in->column[Z] < 0 || in->column[ELEMENT] < 0)
        return het_fail(HET_E_INPUT, "%s line %lld: the _atom_site loop lacks Cartn_x, _y, _z or type_symbol", in->path,
                        (long long)in->number);
    const int count = split(in->line, token);
    if (count != in->columns)
        return het_fail(HET_E_INPUT, "%s line %lld: %d values in an _atom_site loop of %d columns", in->path,
                        (long long)in->number, count, in->columns);
    for (int i = 0; i < 10; i++) value[i] = in->column[i] >= 0 ? token[in->column[i]] : missing[i];
    const record r = {.element = value[ELEMENT], .name = value[NAME], .chain = value[CHAIN],
                      .residue_name = value[RESIDUE_NAME], .residue = value[RESIDUE], .x = value[X], .y = value[Y],
                      .z = value[Z], .occupancy = value[OCCUPANCY], .model = value[MODEL]};
    return take(in, &r);
}

/* mmCIF starts with data_ after comments and blank lines; anything else is read as PDB. */
static het_status read_all(reader *in)
{
    het_status status = HET_OK;
    int cif = -1;
    char model[16] = "1";
    for (int i = 0; i < 10; i++) in->column[i] = -1;
    while (next_line(in, &status)) {
        if (cif < 0 && in->line[0] != '\0' && in->line[0] != '#') cif = strncasecmp(in->line, "data_", 5) == 0;
        if (cif < 0) continue;
        HET_TRY(cif ? read_cif_line(in) : read_pdb_line(in, model));
    }
done:
    return status;
}

het_status het_atoms_load(het_atoms *atoms, const char *path, int hydrogens)
{
    het_status status = HET_OK;
    *atoms = (het_atoms){0};
    reader *in = het_alloc(sizeof *in);
    if (in == NULL) return het_fail(HET_E_MEMORY, "no memory to read %s", path);
    in->path = path;
    in->atoms = atoms;
    in->hydrogens = hydrogens;
    in->file = gzopen(path, "rb");
    if (in->file == NULL) {
        status = het_fail(HET_E_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    gzbuffer(in->file, 1 << 17);
    HET_TRY(read_all(in));
    if (atoms->count == 0) {
        status = het_fail(HET_E_INPUT, "%s: no atoms in it: a PDB or mmCIF file is needed", path);
        goto done;
    }
    atoms->first[atoms->models] = atoms->count;
done:
    if (in->file != NULL) gzclose(in->file);
    het_release(in);
    if (status != HET_OK) het_atoms_free(atoms);
    return status;
}

void het_atoms_free(het_atoms *atoms)
{
    free(atoms->atom);
    free(atoms->first);
    *atoms = (het_atoms){0};
}
