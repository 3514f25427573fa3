/* cryoSPARC datasets: every kind of column, two files of a job joined by uid, what is refused. The files are written here as NumPy
 * writes them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/cs.h"
#include "../src/data/mrc.h"
#include "../src/data/particles.h"

enum { ROWS = 3 };

static char folder[] = "/tmp/het_cs_XXXXXX";
static const het_particles_options plain;

static const char *path_of(const char *file)
{
    static char name[4][128];
    static int turn;
    char *path = name[turn++ % 4];
    snprintf(path, sizeof name[0], "%s/%s", folder, file);
    return path;
}

static void put(FILE *out, const void *data, size_t bytes)
{
    assert_int_equal(fwrite(data, 1, bytes, out), bytes);
}

/* The start of a .npy file of the format version with this header, padded as NumPy pads it. */
static FILE *start_file(const char *file, int version, const char *header)
{
    FILE *out = fopen(path_of(file), "wb");
    assert_non_null(out);
    const size_t start = version == 1 ? 10 : 12, length = (start + strlen(header) + 64) / 64 * 64 - start;
    const unsigned char head[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0, (unsigned char)(length & 255),
                                    (unsigned char)(length >> 8), 0, 0};
    put(out, head, start);
    fputs(header, out);
    for (size_t i = strlen(header); i + 1 < length; i++) putc(' ', out);
    putc('\n', out);
    return out;
}

#define BLOB "('blob/path', '|S12'), ('blob/idx', '<u4'), ('blob/psize_A', '<f4')"
#define CTF                                                                                                            \
    "('ctf/accel_kv', '<f4'), ('ctf/cs_mm', '<f4'), ('ctf/amp_contrast', '<f4'), ('ctf/df1_A', '<f4'), ('ctf/df2_A', '<f4'), "        \
    "('ctf/df_angle_rad', '<f4'), ('ctf/phase_shift_rad', '<f4')"
#define ALIGNED "('alignments3D/shift', '<f4', (2,)), ('alignments3D/pose', '<f4', (3,)), ('alignments3D/psize_A', '<f4')"
#define HEADER(fields) "{'descr': [('uid', '<u8'), " fields "], 'fortran_order': False, 'shape': (3,), }"

static uint64_t uid_of(int i)
{
    return UINT64_C(0xfedcba9876543210) - (uint64_t)i;
}

static void put_images(FILE *out, int i)
{
    const char path[12] = ">J1/im.mrcs";
    const uint32_t index = (uint32_t)(2 - i);
    const float apix = 1.5F;
    put(out, path, 12);
    put(out, &index, 4);
    put(out, &apix, 4);
}

static void put_ctf(FILE *out, int i)
{
    const float ctf[7] = {300.0F, 2.7F, 0.1F, 15000.0F + (float)i, 14000.0F, 0.5F, 0.25F};
    put(out, ctf, sizeof ctf);
}

static void put_pose(FILE *out, int i)
{
    const float pose[6] = {2.0F, -4.0F, 0.1F * (float)i, 0.2F, -0.3F, 3.0F};
    put(out, pose, sizeof pose);
}

static void put_uid(FILE *out, int i)
{
    const uint64_t uid = uid_of(i);
    put(out, &uid, 8);
}

/* One file of all; and the same in two, of which the second has the rows in another order and one more. */
static void write_files(void)
{
    FILE *out = start_file("all.cs", 1, HEADER(BLOB ", " CTF ", " ALIGNED));
    for (int i = 0; i < ROWS; i++) {
        put_uid(out, i);
        put_images(out, i);
        put_ctf(out, i);
        put_pose(out, i);
    }
    fclose(out);
    out = start_file("aligned.cs", 2, HEADER(ALIGNED));
    for (int i = 0; i < ROWS; i++) {
        put_uid(out, i);
        put_pose(out, i);
    }
    fclose(out);
    out = start_file("passthrough.cs", 1, "{'descr': [" BLOB ", ('uid', '<u8'), " CTF "], 'fortran_order': False, 'shape': (4,), }");
    for (int i = ROWS; i >= 0; i--) {
        put_images(out, i % ROWS);
        put_uid(out, i);
        put_ctf(out, i);
    }
    fclose(out);
}

static void check_particles(const het_particles *p)
{
    assert_int_equal(p->count, ROWS);
    assert_int_equal(p->file_count, 1);
    assert_string_equal(p->file[0], path_of("im.mrcs"));
    assert_float_equal(p->apix, 1.5, 1e-9);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(p->image[i], 2 - i);
        assert_float_equal(p->ctf[i].defocus_u, 15000.0 + i, 0.01);
        assert_float_equal(p->ctf[i].defocus_v, 14000.0, 0.01);
        assert_float_equal(p->ctf[i].angle, 0.5, 1e-7);
        assert_float_equal(p->ctf[i].voltage, 3.0e5, 0.1);
        assert_float_equal(p->ctf[i].cs, 2.7e7, 10.0);
        assert_float_equal(p->ctf[i].amplitude, 0.1, 1e-7);
        assert_float_equal(p->ctf[i].phase, 0.25, 1e-7);
        assert_float_equal(p->turn[3 * i], 0.1 * i, 1e-7);
        assert_float_equal(p->turn[3 * i + 2], -0.3, 1e-7);
        assert_float_equal(p->shift[2 * i], -4.0, 1e-6); /* -2 pixels of 3 A, in pixels of 1.5 A */
        assert_float_equal(p->shift[2 * i + 1], 8.0, 1e-6);
    }
}

static void one_file_or_two(void **state)
{
    (void)state;
    het_particles p;
    const char *all = path_of("all.cs"), *two[2] = {path_of("aligned.cs"), path_of("passthrough.cs")};
    assert_int_equal(het_particles_load_cs(&p, &all, 1, &plain), HET_OK);
    check_particles(&p);
    het_particles_free(&p);
    assert_int_equal(het_particles_load_cs(&p, two, 2, &plain), HET_OK);
    check_particles(&p);
    het_particles_free(&p);
}

static void every_kind_of_column(void **state)
{
    (void)state;
    het_cs cs;
    char text[8];
    FILE *out = start_file("kinds.cs", 1, "{'descr': [('a', '|i1'), ('b', '<i8', (2, 2)), ('c', '<f8'), ('d', '|b1'), ('e', '<U3'), ('f', '<c8'), "
                                          "('g', '<u2')], 'fortran_order': False, 'shape': (1,), }");
    const int8_t a = -7;
    const int64_t b[4] = {1, -2, 3, -4000000000};
    const double c = 0.1;
    const uint8_t d = 1;
    const uint32_t e[3] = {'x', 0x3b1, 0};
    const float f[2] = {1, 2};
    const uint16_t g = 65535;
    put(out, &a, 1);
    put(out, b, sizeof b);
    put(out, &c, 8);
    put(out, &d, 1);
    put(out, e, sizeof e);
    put(out, f, sizeof f);
    put(out, &g, 2);
    fclose(out);
    assert_int_equal(het_cs_load(&cs, path_of("kinds.cs")), HET_OK);
    assert_float_equal(het_cs_number(&cs, het_cs_find(&cs, "a", 0, 1), 0, 0), -7.0, 0.0);
    assert_float_equal(het_cs_number(&cs, het_cs_find(&cs, "b", 0, 4), 0, 3), -4.0e9, 0.0);
    assert_float_equal(het_cs_number(&cs, het_cs_find(&cs, "c", 0, 1), 0, 0), 0.1, 0.0);
    assert_float_equal(het_cs_number(&cs, het_cs_find(&cs, "d", 0, 1), 0, 0), 1.0, 0.0);
    assert_float_equal(het_cs_number(&cs, het_cs_find(&cs, "g", 0, 1), 0, 0), 65535.0, 0.0);
    het_cs_text(&cs, het_cs_find(&cs, "e", 1, 1), 0, text, sizeof text);
    assert_string_equal(text, "x?");
    assert_null(het_cs_find(&cs, "f", 0, 1)); /* complex */
    assert_null(het_cs_find(&cs, "b", 0, 5));
    assert_null(het_cs_find(&cs, "e", 0, 1));
    assert_null(het_cs_find(&cs, "h", 0, 1));
    het_cs_free(&cs);
}

static void refuse(const char *header, size_t bytes, const char *words)
{
    het_cs cs;
    static const char zero[256];
    FILE *out = start_file("bad.cs", 1, header);
    put(out, zero, bytes);
    fclose(out);
    assert_int_equal(het_cs_load(&cs, path_of("bad.cs")), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), words));
    assert_non_null(strstr(het_status_message(), "bad.cs"));
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", 11, "cut off");
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (9000000000000000000,), }", 12, "cut off");
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (9000000000000000000, 9000000000000000000), }", 12, "header");
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,), }", 0, "no rows");
    refuse("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (-1,), }", 0, "header");
    refuse("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 12, "without named columns");
    refuse("{'descr': [('a', '>f4')], 'fortran_order': False, 'shape': (3,), }", 12, "big-endian");
    refuse("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (3,), }", 12, "Python objects");
    refuse("{'descr': [('a', '<f4'), 'fortran_order': False, 'shape': (3,), }", 12, "header");
    refuse("{'descr': [('a', '<f4', (99999999999,))], 'fortran_order': False, 'shape': (3,), }", 12, "header");
    refuse("{'descr': [('a', '<f4", 12, "header");
    refuse("{'descr': [('a', '<f')], 'fortran_order': False, 'shape': (3,), }", 12, "header");
    refuse("{'descr': [], 'fortran_order': False, 'shape': (3,), }", 12, "header");
}

static void refuse_particles(const char *first, const char *second, const het_particles_options *options, const char *words)
{
    het_particles p;
    const char *paths[2] = {path_of(first), second != NULL ? path_of(second) : NULL};
    assert_int_equal(het_particles_load_cs(&p, paths, second != NULL ? 2 : 1, options), HET_E_INPUT);
    if (strstr(het_status_message(), words) == NULL) fail_msg("'%s' is not in: %s", words, het_status_message());
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    FILE *out = start_file("other.cs", 1, HEADER(BLOB));
    for (int i = 0; i < ROWS; i++) {
        put_uid(out, i + 100);
        put_images(out, i);
    }
    fclose(out);
    const het_particles_options bare = {.no_ctf = 1, .apix = 1.0};
    refuse_particles("aligned.cs", NULL, &plain, "no column ctf/df1_A");
    refuse_particles("aligned.cs", NULL, &bare, "no column blob/path");
    refuse_particles("aligned.cs", "other.cs", &plain, "is not in it");
    out = start_file("strange.cs", 1, HEADER(BLOB ", " CTF));
    for (int i = 0; i < ROWS; i++) {
        const float ctf[7] = {i == 2 ? NAN : 300.0F};
        put_uid(out, i);
        put_images(out, i);
        put(out, ctf, sizeof ctf);
    }
    fclose(out);
    refuse_particles("strange.cs", NULL, &plain, "particle 2: a voltage");
    out = start_file("nowhere.cs", 1, HEADER(BLOB ", " ALIGNED));
    for (int i = 0; i < ROWS; i++) {
        const float pose[6] = {2.0F, -4.0F, i == 1 ? INFINITY : 0.1F, 0.2F, -0.3F, 3.0F};
        put_uid(out, i);
        put_images(out, i);
        put(out, pose, sizeof pose);
    }
    fclose(out);
    refuse_particles("nowhere.cs", NULL, &bare, "row 1: its pose or shift is not finite");
}

static int make_folder(void **state)
{
    (void)state;
    het_mrc_writer *writer;
    const float image[16] = {0};
    assert_non_null(mkdtemp(folder));
    write_files();
    assert_int_equal(het_mrc_create(&writer, path_of("im.mrcs"), HET_F32, 4, 4, ROWS, 1.5), HET_OK);
    for (int i = 0; i < ROWS; i++) assert_int_equal(het_mrc_append(writer, image, 1), HET_OK);
    return het_mrc_finish(writer, HET_OK) != HET_OK;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || het_arena_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_file_or_two), cmocka_unit_test(every_kind_of_column),
                                       cmocka_unit_test(bad_files_are_refused), cmocka_unit_test(what_is_missing_is_named)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
