#include <ctype.h>
#include <string.h>

#include "atoms.h"

int het_element_number(const char *symbol)
{
    static const char table[][3] = {
        "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",
        "Cl", "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge",
        "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd",
        "In", "Sn", "Sb", "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd",
        "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg",
        "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U"};
    const size_t length = strlen(symbol);
    if (length < 1 || length > 2) return 0;
    const char first = (char)toupper((unsigned char)symbol[0]);
    const char second = (char)tolower((unsigned char)symbol[1]);
    if (first == 'D' && second == '\0') return 1;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i][0] == first && table[i][1] == second) return (int)i + 1;
    return 0;
}
