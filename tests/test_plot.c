/* Pictures: where things lie on them, and that what is written is XML. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/cli/plot.h"

static char path[] = "/tmp/het_plot_XXXXXX";

/* The whole file; free() it. */
static char *slurp(void)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) n++;
    return n;
}

/* Every element that opens closes, in order. */
static void is_xml(const char *text)
{
    char open[32][32];
    int depth = 0;
    for (const char *at = strchr(text, '<'); at != NULL; at = strchr(at + 1, '<')) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        char name[32] = {0};
        sscanf(at + 1 + (at[1] == '/'), "%31[a-zA-Z]", name);
        if (at[1] == '/') {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/') {
            assert_true(depth < 32);
            strcpy(open[depth++], name);
        }
    }
    assert_int_equal(depth, 0);
}

static void has(const char *text, const char *word)
{
    if (strstr(text, word) == NULL) fail_msg("'%s' is not in the picture", word);
}

/* A panel is 300 x 220: the middle of the ranges is at 150, 110; y grows upwards. */
static void points_and_lines_lie_where_they_should(void **state)
{
    (void)state;
    const double x[] = {5.0, 0.0, NAN, 10.0}, y[] = {0.5, 0.0, 0.7, 1.0};
    het_plot *plot = het_plot_new(2);
    het_plot_panel(plot, "Points", (het_axis){"x (px)", 0.0, 10.0, 0}, (het_axis){"y (Å)", 0.0, 1.0, 0});
    het_plot_add(plot, HET_MARK_POINT, "dots", "#123456", x, y, 4);
    het_plot_add(plot, HET_MARK_LINE, "joined", "#654321", x, y, 4);
    het_plot_add(plot, HET_MARK_DASH, NULL, "#888888", x, y, 2);
    assert_int_equal(het_plot_finish(plot, path), HET_OK);
    char *text = slurp();
    is_xml(text);
    has(text, "stroke=\"#123456\" stroke-width=\"2\" stroke-linecap=\"round\" stroke-opacity=\".5\" "
              "d=\"M150.0 110.0h0M0.0 220.0h0M300.0 0.0h0\"");
    has(text, "d=\"M150.0 110.0L0.0 220.0M300.0 0.0\""); /* a gap where there is no number */
    has(text, "stroke-dasharray=\"5 3\" d=\"M150.0 110.0L0.0 220.0\"");
    assert_int_equal(count(text, ">dots<") + count(text, ">joined<"), 2);
    assert_int_equal(count(text, "<path stroke=\"#654321\""), 1); /* in the legend */
    has(text, ">x (px)<");
    has(text, ">y (Å)<");
    has(text, ">Points<");
    has(text, "<text x=\"60.0\" y=\"238.0\" text-anchor=\"middle\">2<");
    has(text, "<text x=\"-8.0\" y=\"180.0\" text-anchor=\"end\">0.2<"); /* 220 - 44 + 4 */
    has(text, "width=\"470\" height=\"302\""); /* one panel, though two would fit into a row */
    free(text);
}

static void logarithms_and_ranges_from_the_data(void **state)
{
    (void)state;
    const double x[] = {0.1, 10.0, 1000.0, -1.0, 0.0}, y[] = {1.0, 3.0, 5.0, 100.0, 100.0};
    const double shift[] = {-2.0, 2.0}, same[] = {4.0, 4.0};
    het_plot *plot = het_plot_new(1);
    het_plot_panel(plot, "a", (het_axis){"x", 0.1, 1000.0, 1}, (het_axis){.label = "y"});
    het_plot_add(plot, HET_MARK_LINE, NULL, "#000000", x, y, 5);
    het_plot_panel(plot, "b", (het_axis){.label = "x"}, (het_axis){.label = "y"});
    het_plot_add(plot, HET_MARK_LINE, NULL, "#000000", shift, same, 2);
    het_plot_panel(plot, "nothing", (het_axis){.label = "x"}, (het_axis){.label = "y", .log = 1});
    assert_int_equal(het_plot_finish(plot, path), HET_OK);
    char *text = slurp();
    is_xml(text);
    /* y from 1 - 4 % of 4 to 5 + 4 % of 4; what has no logarithm is left out, of the range too */
    has(text, "d=\"M0.0 211.9L150.0 110.0L300.0 8.1\"");
    has(text, ">0.1<");
    has(text, ">1000<");
    has(text, "d=\"M0.0 110.0L300.0 110.0\""); /* all alike: in the middle */
    has(text, ">\u22122<");                    /* a minus sign */
    assert_int_equal(count(text, "nan") + count(text, "inf"), 0);
    has(text, "height=\"906\""); /* three rows */
    free(text);
}

static void cells_and_their_scale(void **state)
{
    (void)state;
    const double cell[] = {0.0, 16.0, 4.0, 0.0}; /* bottom row first */
    het_plot *plot = het_plot_new(1);
    het_plot_panel(plot, "map", (het_axis){"x", 0.0, 1.0, 0}, (het_axis){"y", 0.0, 1.0, 0});
    het_plot_cells(plot, cell, 2, 2);
    assert_int_equal(het_plot_finish(plot, path), HET_OK);
    char *text = slurp();
    is_xml(text);
    has(text, "fill=\"#08306b\" d=\"M150.00 110.00h150.00v110.00h-150.00z\""); /* 16: bottom right, darkest */
    has(text, "fill=\"#6baed6\" d=\"M0.00 0.00h150.00v110.00"); /* 4: half of the scale, sqrt(4/16) */
    has(text, ">16<");
    has(text, "y=\"114.0\" text-anchor=\"start\">4<");
    free(text);
}

static void ticks_are_round(void **state)
{
    (void)state;
    double tick[32];
    assert_int_equal(het_plot_ticks(tick, 0.0, 1.0, 5), 6);
    for (int i = 0; i < 6; i++) assert_true(fabs(tick[i] - 0.2 * i) < 1e-12);
    assert_int_equal(het_plot_ticks(tick, -0.037, 0.04, 5), 4); /* -0.02 .. 0.04 */
    assert_true(fabs(tick[0] + 0.02) < 1e-12 && fabs(tick[3] - 0.04) < 1e-12);
    const int n = het_plot_ticks(tick, 1234.0, 98765.0, 5);
    assert_int_equal(n, 4);
    assert_true(tick[0] == 20000.0 && tick[3] == 80000.0);
}

static void colours_differ(void **state)
{
    (void)state;
    for (int of = 2; of <= 40; of += 19) {
        char a[8], b[8];
        for (int k = 0; k + 1 < of; k++) {
            het_plot_colour(a, k, of);
            het_plot_colour(b, k + 1, of);
            assert_int_equal(strlen(a), 7);
            assert_string_not_equal(a, b);
        }
    }
}

static void failures_are_said(void **state)
{
    (void)state;
    const double one[] = {1.0};
    het_plot *plot = het_plot_new(1);
    het_plot_panel(plot, "a", (het_axis){.label = "x"}, (het_axis){.label = "y"});
    het_plot_add(plot, HET_MARK_POINT, NULL, "#000000", one, one, 1);
    assert_int_equal(het_plot_finish(plot, "/nowhere/a.svg"), HET_E_IO);
    het_plot_panel(NULL, "a", (het_axis){.label = "x"}, (het_axis){.label = "y"});
    het_plot_add(NULL, HET_MARK_POINT, NULL, "#000000", one, one, 1);
    het_plot_cells(NULL, one, 1, 1);
    assert_int_equal(het_plot_finish(NULL, path), HET_E_MEMORY);
    het_plot_free(NULL);
}

static int set_up(void **state)
{
    (void)state;
    const int file = mkstemp(path);
    return file < 0 || close(file) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    return remove(path) == 0 && het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_and_lines_lie_where_they_should),
        cmocka_unit_test(logarithms_and_ranges_from_the_data),
        cmocka_unit_test(cells_and_their_scale),
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(colours_differ),
        cmocka_unit_test(failures_are_said),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
