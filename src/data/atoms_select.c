#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "atoms.h"

typedef struct term {
    int negated, ranged;
    int64_t low, high;
    char chain[64], name[64];
} term;

static int wrong(const char *selection)
{
    het_fail(HET_E_USAGE, "selection \"%s\": it must be a list of [!]chain:PATTERN[/RESIDUE[-RESIDUE]][@ATOM]",
             selection);
    return 0;
}

/* Copy text up to one of `ends` into to (64); returns where it stopped, NULL when it is empty or too long. */
static const char *copy_until(char *to, const char *from, const char *ends)
{
    const size_t size = strcspn(from, ends);
    if (size == 0 || size >= 64) return NULL;
    memcpy(to, from, size);
    to[size] = '\0';
    return from + size;
}

/* One term; moves *text behind it and its comma. */
static int parse_term(term *t, const char **text, const char *selection)
{
    *t = (term){.name = "*"};
    const char *c = *text;
    while (*c == ' ') c++;
    if (*c == '!') {
        t->negated = 1;
        c++;
    }
    if (strncmp(c, "chain:", 6) != 0) return wrong(selection);
    c = copy_until(t->chain, c + 6, "/@, ");
    if (c == NULL) return wrong(selection);
    if (*c == '/') {
        char *end = NULL;
        t->ranged = 1;
        t->low = t->high = strtoll(++c, &end, 10);
        if (end == c) return wrong(selection);
        if (*end == '-') {
            c = end + 1;
            t->high = strtoll(c, &end, 10);
            if (end == c || t->high < t->low) return wrong(selection);
        }
        c = end;
    }
    if (*c == '@') {
        c = copy_until(t->name, c + 1, ", ");
        if (c == NULL) return wrong(selection);
    }
    while (*c == ' ') c++;
    if (*c != '\0' && *c != ',') return wrong(selection);
    *text = *c == ',' ? c + 1 : c;
    return *c != ',' || c[1] != '\0' ? 1 : wrong(selection);
}

static int holds(const term *t, const het_atom *atom)
{
    const int inside = (!t->ranged || (atom->residue >= t->low && atom->residue <= t->high)) &&
                       fnmatch(t->chain, atom->chain, 0) == 0 && fnmatch(t->name, atom->name, 0) == 0;
    return inside != t->negated;
}

het_status het_atoms_select(const het_atoms *atoms, int64_t model, const char *selection, uint8_t *selected)
{
    HET_ASSERT(model >= 0 && model < atoms->models);
    const het_atom *atom = atoms->atom + atoms->first[model];
    const int64_t count = atoms->first[model + 1] - atoms->first[model];
    const char *text = selection;
    int64_t found = 0;
    memset(selected, 0, (size_t)count);
    do {
        term t;
        if (!parse_term(&t, &text, selection)) return HET_E_USAGE;
        for (int64_t i = 0; i < count; i++) selected[i] |= (uint8_t)holds(&t, &atom[i]);
    } while (*text != '\0');
    for (int64_t i = 0; i < count; i++) found += selected[i];
    if (found == 0) return het_fail(HET_E_USAGE, "selection \"%s\" names no atom", selection);
    return HET_OK;
}
