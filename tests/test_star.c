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

#include "../src/arena.h"
#include "../src/data/star.h"

static char folder[] = "/tmp/het_star_XXXXXX";
static char name[64];

static const char *path_of(const char *file)
{
    snprintf(name, sizeof name, "%s/%s", folder, file);
    return name;
}

static const char *write_text(const char *file, const char *text)
{
    FILE *out = fopen(path_of(file), "wb");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    return name;
}

static void rows_of_another_length_are_refused(void **state)
{
    (void)state;
    static const char text[] = "\n\ndata_particles\nloop_\n_rlnA #1\n_rlnB #2\n_rlnC #3\n1 2 3 4\n";
    het_star star;
    assert_int_equal(het_star_load(&star, write_text("d.star", text)), HET_E_INPUT);
    assert_non_null(
        strstr(het_status_message(), "d.star: line 8: 4 values where data_particles has 3 columns"));
}

static void dialects_are_read(void **state)
{
    (void)state;
    het_star star;
    write_text("e.star", "# written by hand\r\n\r\ndata_particles\r\nloop_ \r\n_rlnImageName #1 \r\n"
                         "_rlnMtfFileName #2 [Modulation Transfer Function]\r\n_rlnDefocusU\r\n"
                         "\t000001@a#b.mrcs 'it''s one'\t1.5e3 # a comment\r\n\r\n"
                         "000002@a.mrcs \"two words\" -7\r\n"
                         "'' \"5' end\" +.5   \r\n"
                         "\r\n# version 30001\r\ndata_optics\r\n\r\n_rlnOpticsGroup 1\r\n_rlnOpticsGroupName "
                         "'group one' # c\r\n"
                         "data_\r\nloop_\r\n_rlnCoordinateX #1\r\n"
                         "data_last\nloop_\n_a\n_b\n1 2");
    assert_int_equal(het_star_load(&star, name), HET_OK);
    assert_int_equal(star.count, 4);
    const het_star_table *p = het_star_find(&star, "particles");
    assert_non_null(p);
    assert_int_equal(p->rows, 3);
    assert_int_equal(p->columns, 3);
    assert_string_equal(p->label[1], "rlnMtfFileName");
    assert_string_equal(het_star_text(p, 0, 0), "000001@a#b.mrcs"); /* # within a word is no comment */
    assert_string_equal(het_star_text(p, 0, 1), "it''s one");       /* a quote ends before white space only */
    assert_string_equal(het_star_text(p, 1, 1), "two words");
    assert_string_equal(het_star_text(p, 2, 0), "");
    assert_string_equal(het_star_text(p, 2, 1), "5' end");
    assert_int_equal(p->line[2], 11);
    double value;
    assert_int_equal(het_star_number(p, 0, 2, &value), HET_OK);
    assert_true(value == 1500.0);
    assert_int_equal(het_star_number(p, 2, 2, &value), HET_OK);
    assert_true(value == 0.5);
    int64_t whole;
    assert_int_equal(het_star_integer(p, 1, 2, &whole), HET_OK);
    assert_int_equal(whole, -7);
    const het_star_table *o = het_star_find(&star, "optics");
    assert_false(o->is_loop);
    assert_string_equal(het_star_text(o, 0, het_star_column(o, "rlnOpticsGroupName")), "group one");
    assert_int_equal(het_star_column(o, "rlnVoltage"), -1);
    assert_int_equal(het_star_find(&star, "")->rows, 0); /* an empty loop */
    assert_int_equal(het_star_find(&star, "")->columns, 1);
    assert_string_equal(het_star_text(het_star_find(&star, "last"), 0, 1), "2"); /* no newline at the end */
    assert_null(het_star_find(&star, "absent"));
    assert_ptr_equal(het_star_find_with(&star, "rlnDefocusU"), p);
    het_star_free(&star);
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"", "no data_ block"},
        {"hello world\n", "line 1: text before the first data_ block"},
        {"data_\n_a 1\n_b\n", "line 3: _b has no value"},
        {"data_\n_a 1\n_a 2\n", "line 3: column _a stands twice"},
        {"data_\nloop_\n_a\n_a\n", "line 4: column _a stands twice"},
        {"data_\nloop_\n_a\n'open\n", "line 4: a quote is not closed"},
        {"data_\n_a 'open\n", "line 2: a quote is not closed"},
        {"data_\n1 2\n", "line 2: values outside of a loop_"},
        {"data_\nloop_\n1 2\n", "line 3: values outside of a loop_"},
        {"data_\nloop_\n_a\n;text\n;\n", "line 4: multi-line"},
        {"loop_\n", "line 1: text before the first data_ block"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        het_star star;
        assert_int_equal(het_star_load(&star, write_text("bad.star", bad[i].text)), HET_E_INPUT);
        assert_non_null(strstr(het_status_message(), bad[i].words));
        assert_non_null(strstr(het_status_message(), "bad.star"));
    }
    FILE *out = fopen(path_of("binary.star"), "wb");
    fwrite("data_\0\1\2", 1, 8, out);
    fclose(out);
    het_star star;
    assert_int_equal(het_star_load(&star, name), HET_E_INPUT);
    assert_int_equal(het_star_load(&star, folder), HET_E_INPUT);
    assert_int_equal(het_star_load(&star, path_of("absent.star")), HET_E_IO);
}

static void numbers_name_their_place(void **state)
{
    (void)state;
    het_star star;
    write_text("n.star", "data_p\nloop_\n_rlnA\n_rlnB\n1 1.5\n2 1.5x\n3 nan\n4 inf\n5 ''\n");
    assert_int_equal(het_star_load(&star, name), HET_OK);
    const het_star_table *t = &star.table[0];
    double value;
    int64_t whole;
    for (int64_t row = 1; row < 5; row++) {
        char words[64];
        snprintf(words, sizeof words, "n.star: line %d, column _rlnB", (int)row + 5);
        assert_int_equal(het_star_number(t, row, 1, &value), HET_E_INPUT);
        assert_non_null(strstr(het_status_message(), words));
    }
    assert_int_equal(het_star_integer(t, 0, 1, &whole), HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "no whole number"));
    het_star_free(&star);
}

static void many_rows_and_gzip(void **state)
{
    (void)state;
    enum { ROWS = 20000 };
    gzFile out = gzopen(path_of("many.star.gz"), "wb");
    gzprintf(out, "data_particles\nloop_\n_rlnX #1\n_rlnY #2\n");
    for (int i = 0; i < ROWS; i++) gzprintf(out, "%d %d.25\n", i, -i);
    gzclose(out);
    het_star star;
    assert_int_equal(het_star_load(&star, name), HET_OK);
    assert_int_equal(star.table[0].rows, ROWS);
    double value;
    for (int64_t i = 0; i < ROWS; i += 777) {
        assert_int_equal(het_star_number(&star.table[0], i, 0, &value), HET_OK);
        assert_true(value == (double)i);
        assert_int_equal(star.table[0].line[i], i + 5);
    }
    het_star_free(&star);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    het_star star, back;
    write_text(
        "in.star",
        "data_general\n_rlnTitle 'two words'\n_rlnEmpty ''\n\ndata_optics\nloop_\n_rlnOpticsGroup\n_rlnName\n"
        "1 \"a b\"\n2 ''\n\ndata_particles\nloop_\n_rlnImageName\n_rlnAngleRot\n_rlnNote\n1@a.mrcs 10 "
        "\"x 'y'\"\n2@a.mrcs 20 loop_\n3@a.mrcs 30 '_z'\n");
    assert_int_equal(het_star_load(&star, name), HET_OK);
    const double rot[2] = {1.25, -179.5}, z[2] = {0.5, 1e-7};
    const char *const words[2] = {"", "# no comment"};
    const het_star_column_data data[3] = {
        {"rlnAngleRot", rot, NULL}, {"hetZ1", z, NULL}, {"hetWord", NULL, words}};
    const int64_t rows[2] = {2, 0};
    het_star_writer *writer;
    assert_int_equal(het_star_create(&writer, path_of("out.star")), HET_OK);
    het_star_write_copy(writer, het_star_find(&star, "general"));
    het_star_write_copy(writer, het_star_find(&star, "optics"));
    het_star_write_table(writer, "particles", het_star_find(&star, "particles"), rows, 2, data, 3);
    het_star_write_table(writer, "new", NULL, NULL, 2, data + 1, 2);
    assert_int_not_equal(access(name, F_OK), 0); /* only .tmp so far */
    assert_int_equal(het_star_finish(writer, HET_OK), HET_OK);
    assert_int_equal(het_star_load(&back, name), HET_OK);
    assert_int_equal(back.count, 4);
    for (int64_t t = 0; t < 2; t++) {
        const het_star_table *a = &star.table[t], *b = &back.table[t];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->rows, b->rows);
        assert_int_equal(a->columns, b->columns);
        for (int64_t c = 0; c < a->columns; c++) {
            assert_string_equal(a->label[c], b->label[c]);
            for (int64_t r = 0; r < a->rows; r++)
                assert_string_equal(het_star_text(a, r, c), het_star_text(b, r, c));
        }
    }
    const het_star_table *p = het_star_find(&back, "particles");
    assert_int_equal(p->columns, 5);
    assert_int_equal(p->rows, 2);
    assert_string_equal(het_star_text(p, 0, 0), "3@a.mrcs");
    assert_string_equal(het_star_text(p, 0, 1), "1.25");
    assert_string_equal(het_star_text(p, 0, 2), "_z");
    assert_string_equal(het_star_text(p, 1, 2), "x 'y'");
    assert_string_equal(het_star_text(p, 1, 4), "# no comment");
    assert_string_equal(het_star_text(p, 0, 4), "");
    assert_string_equal(het_star_text(het_star_find(&back, "new"), 0, 0), "0.5");
    het_star_free(&star);
    het_star_free(&back);
}

static void a_failed_table_leaves_nothing(void **state)
{
    (void)state;
    het_star_writer *writer;
    assert_int_equal(het_star_create(&writer, path_of("f.star")), HET_OK);
    assert_int_equal(het_star_finish(writer, HET_E_NUMERIC), HET_E_NUMERIC);
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_not_equal(access(path_of("f.star.tmp"), F_OK), 0);
    assert_int_equal(het_star_create(&writer, "/nowhere/f.star"), HET_E_IO);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0 || het_arena_live() != 0; /* every test is a leak test */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_another_length_are_refused),
        cmocka_unit_test(dialects_are_read),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(numbers_name_their_place),
        cmocka_unit_test(many_rows_and_gzip),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_failed_table_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
