#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>

#include "../src/data/atoms.h"

static char folder[] = "/tmp/het_atoms_XXXXXX";
static char path[256];

static const char *write_text(const char *name, const char *text, int packed)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    gzFile file = gzopen(path, packed ? "wb" : "wbT");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), (int)strlen(text));
    gzclose(file);
    return path;
}

static const char pdb[] =
    "HEADER    TWO MODELS\n"
    "MODEL        1\n"
    "ATOM      1  N   GLY A  10      11.000  -2.500   3.250  1.00  0.00           N\n"
    "ATOM      2  CA  GLY A  11      12.000  -2.500   3.250  0.50  0.00           C\n"
    "ATOM      3  HA  GLY A  11      12.000  -2.500   4.250  1.00  0.00           H\n"
    "ATOM      4  P    DA B  -3       1.000   2.000   3.000  1.00  0.00\n"
    "HETATM    5 ZN    ZN C   1       5.000   6.000   7.000  1.00  0.00          ZN\n"
    "HETATM    6  O   HOH D   1       5.000   6.000   7.000  1.00  0.00           O\n"
    "ENDMDL\n"
    "MODEL        2\n"
    "ATOM      1  N   GLY A  10      21.000  -2.500   3.250  1.00  0.00           N\n"
    "ENDMDL\nEND\n";

static const char cif[] =
    "# comment\n"
    "data_TEST\n#\nloop_\n_atom_site.group_PDB\n_atom_site.id\n_atom_site.type_symbol\n_atom_site.auth_atom_id\n"
    "_atom_site.label_atom_id\n_atom_site.label_comp_id\n_atom_site.label_asym_id\n_atom_site.label_seq_id\n"
    "_atom_site.Cartn_x\n_atom_site.Cartn_y\n_atom_site.Cartn_z\n_atom_site.occupancy\n_atom_site.auth_seq_id\n"
    "_atom_site.auth_asym_id\n_atom_site.pdbx_PDB_model_num\n"
    "ATOM 1 N  N     N     GLY A 1 11.000 -2.500 3.250 1.00 10 L50 1\n"
    "ATOM 2 C  CA    CA    GLY A 2 12.000 -2.500 3.250 0.50 11 L50 1\n"
    "ATOM 3 O  \"O5'\" \"O5'\" C   B . 1.000  2.000 3.000 ?    -3 S1  1\n"
    "ATOM 4 O  'O5'' 'O5'' C   B . 1.000  2.000 3.000 .    -3 S1  1\n"
    "ATOM 5 H  H     H     GLY A 2 12.000 -2.500 3.250 1.00 11 L50 1\n"
    "ATOM 6 N  N     N     GLY A 1 21.000 -2.500 3.250 1.00 10 L50 2\n"
    "#\nloop_\n_other.id\n_other.x\n1 nonsense\n";

static void reads_pdb(void **state)
{
    (void)state;
    het_atoms atoms;
    for (int packed = 0; packed < 2; packed++) {
        assert_int_equal(het_atoms_load(&atoms, write_text(packed ? "a.pdb.gz" : "a.pdb", pdb, packed), 0), HET_OK);
        assert_int_equal(atoms.models, 2);
        assert_int_equal(atoms.count, 5);
        assert_int_equal(atoms.first[1], 4);
        assert_int_equal(atoms.first[2], 5);
        const het_atom *a = atoms.atom;
        assert_true(a[0].xyz[0] == 11.0 && a[0].xyz[1] == -2.5 && a[0].xyz[2] == 3.25 && a[0].weight == 7.0);
        assert_true(a[1].weight == 3.0 && a[1].residue == 11); /* half occupied */
        assert_string_equal(a[1].name, "CA");
        assert_string_equal(a[2].chain, "B");
        assert_true(a[2].weight == 15.0 && a[2].residue == -3); /* P by its name */
        assert_true(a[3].weight == 30.0);
        assert_true(a[4].xyz[0] == 21.0);
        het_atoms_free(&atoms);
    }
    assert_int_equal(het_atoms_load(&atoms, write_text("a.pdb", pdb, 0), 1), HET_OK);
    assert_int_equal(atoms.first[1], 5); /* with its hydrogen, still without water */
    het_atoms_free(&atoms);
}

static void reads_cif(void **state)
{
    (void)state;
    het_atoms atoms;
    assert_int_equal(het_atoms_load(&atoms, write_text("a.cif.gz", cif, 1), 0), HET_OK);
    assert_int_equal(atoms.models, 2);
    assert_int_equal(atoms.first[1], 4);
    assert_int_equal(atoms.count, 5);
    assert_string_equal(atoms.atom[0].chain, "L50");
    assert_int_equal(atoms.atom[0].residue, 10);
    assert_true(atoms.atom[1].weight == 3.0 && atoms.atom[2].weight == 8.0);
    assert_string_equal(atoms.atom[2].name, "O5'");
    assert_string_equal(atoms.atom[3].name, "O5'");
    assert_int_equal(atoms.atom[2].residue, -3);
    assert_true(atoms.atom[4].xyz[0] == 21.0);
    het_atoms_free(&atoms);
}

static void refuse(const char *name, const char *text, const char *expected)
{
    het_atoms atoms;
    assert_int_equal(het_atoms_load(&atoms, write_text(name, text, 0), 0), HET_E_INPUT);
    if (strstr(het_status_message(), expected) == NULL) fail_msg("\"%s\" lacks \"%s\"", het_status_message(), expected);
    assert_null(atoms.atom);
}

static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

static void refuses_with_line(void **state)
{
    (void)state;
    char text[4096];
    strcpy(text, pdb);
    replace(text, "12.000", "12.0x0");
    refuse("b.pdb", text, "line 4: a coordinate that is no number \"12.0x0\"");
    strcpy(text, pdb);
    replace(text, "  -2.500", "        ");
    refuse("b.pdb", text, "line 3: a coordinate");
    strcpy(text, pdb);
    replace(text, "ZN\nHETATM", "Qq\nHETATM");
    refuse("b.pdb", text, "line 7: unknown element \"Qq\"");
    strcpy(text, pdb);
    replace(text, "  3.250  1.00", "  3.250  1.0o");
    refuse("b.pdb", text, "line 3: an occupancy");
    refuse("c.pdb", "ATOM      1  N   GLY A  10      11.000\n", "line 1: an atom's record that ends");
    strcpy(text, cif);
    replace(text, "12.000", "   nan");
    refuse("b.cif", text, "line 21: a coordinate that is no number \"nan\"");
    strcpy(text, cif);
    replace(text, "0.50 11 L50 1", "0.50 11 L50  ");
    refuse("b.cif", text, "line 21: 14 values in an _atom_site loop of 15 columns");
    strcpy(text, cif);
    replace(text, "Cartn_z", "Kartn_z");
    refuse("b.cif", text, "line 20: the _atom_site loop lacks");
    strcpy(text, cif);
    replace(text, "-2.500 3.250 1.00 10 L50", "-2.5 3.2 1 10 LONGCHAIN1");
    refuse("b.cif", text, "line 20: too long a chain name");
    refuse("d.pdb", "HEADER only\n", "no atoms");
    refuse("e.cif", "data_x\n_cell.a 1\n", "no atoms");
    het_atoms atoms;
    assert_int_equal(het_atoms_load(&atoms, "/nowhere/x.pdb", 0), HET_E_IO);
}

static int64_t selected(const het_atoms *atoms, const char *selection)
{
    uint8_t mark[16];
    int64_t bits = 0;
    if (het_atoms_select(atoms, 0, selection, mark) != HET_OK) return -1;
    for (int64_t i = 0; i < atoms->first[1]; i++) bits |= (int64_t)mark[i] << i;
    return bits;
}

/* Model 1: L50/10 N, L50/11 CA, S1/-3 O5', S1/-3 O5': bits 0 .. 3. */
static void selects(void **state)
{
    (void)state;
    het_atoms atoms;
    assert_int_equal(het_atoms_load(&atoms, write_text("a.cif", cif, 0), 0), HET_OK);
    assert_int_equal(selected(&atoms, "chain:L*"), 3);
    assert_int_equal(selected(&atoms, "!chain:L*"), 12);
    assert_int_equal(selected(&atoms, "chain:?1"), 12);
    assert_int_equal(selected(&atoms, "chain:L50/11"), 2);
    assert_int_equal(selected(&atoms, "chain:L50/11-12,chain:S1"), 14);
    assert_int_equal(selected(&atoms, "chain:*/-5-10"), 13);
    assert_int_equal(selected(&atoms, "chain:*@CA"), 2);
    assert_int_equal(selected(&atoms, "chain:L50/10@N, chain:L50/11@CA"), 3);
    assert_int_equal(selected(&atoms, "!chain:*/-3@O*"), 3);
    static const char *const wrong[] = {"",           "L*",          "chain:",       "chain:A/",  "chain:A/5-",
                                        "chain:A/9-5", "chain:A@",   "chain:L50,",   "chain:Z",   "chain:L50 x",
                                        "chain:L50/1x", "!",         "chain:L50@CA/3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t mark[16];
        assert_int_equal(het_atoms_select(&atoms, 0, wrong[i], mark), HET_E_USAGE);
    }
    het_atoms_free(&atoms);
}

static void elements(void **state)
{
    (void)state;
    assert_int_equal(het_element_number("C"), 6);
    assert_int_equal(het_element_number("MG"), 12);
    assert_int_equal(het_element_number("zn"), 30);
    assert_int_equal(het_element_number("U"), 92);
    assert_int_equal(het_element_number("D"), 1);
    assert_int_equal(het_element_number("X"), 0);
    assert_int_equal(het_element_number(""), 0);
    assert_int_equal(het_element_number("CAX"), 0);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_pdb), cmocka_unit_test(reads_cif), cmocka_unit_test(refuses_with_line),
        cmocka_unit_test(selects),   cmocka_unit_test(elements),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
