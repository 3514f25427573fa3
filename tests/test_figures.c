/* The numbers beside the figures, against a plain computation; and that every picture is there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/cli/cli.h"
#include "../src/cli/figures.h"
#include "../src/rng.h"

enum { N = 500, BOX = 8, CLASSES = 3, COLUMNS = 16, ROWS = 1000 };

static char folder[] = "/tmp/het_figures_XXXXXX";

typedef struct table {
    char name[COLUMNS][64];
    int columns, rows;
    double value[ROWS][COLUMNS];
} table;

/* A tab-separated file with a line of names. */
static void read_table(table *t, const char *name)
{
    char path[128], line[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    if (f == NULL) fail_msg("%s is not there", path);
    *t = (table){.rows = -1};
    while (fgets(line, sizeof line, f) != NULL) {
        int column = 0;
        for (char *word = strtok(line, "\t\n"); word != NULL; word = strtok(NULL, "\t\n"), column++) {
            assert_true(column < COLUMNS && t->rows < ROWS);
            if (t->rows < 0) snprintf(t->name[column], 64, "%s", word);
            else t->value[t->rows][column] = strtod(word, NULL);
        }
        if (t->rows < 0) t->columns = column;
        assert_int_equal(column, t->columns);
        t->rows++;
    }
    fclose(f);
}

static int column(const table *t, const char *name)
{
    for (int c = 0; c < t->columns; c++)
        if (strcmp(t->name[c], name) == 0) return c;
    return -1;
}

/* The file as one text; free() it. */
static char *picture(const char *name)
{
    char path[128];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (stat(path, &about) != 0) fail_msg("%s is not there", path);
    char *text = calloc(1, (size_t)about.st_size + 1);
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(text, 1, (size_t)about.st_size, f), about.st_size);
    fclose(f);
    assert_non_null(strstr(text, "</svg>"));
    assert_null(strstr(text, "nan"));
    return text;
}

static int has(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

/* z = 3 a e1 + b e2 + 1 with e1 = (0.6, 0.8), e2 = (-0.8, 0.6) and a, b such that their covariance is exactly
 * nothing. */
static void fill(het_predictions *p, het_truth *t, double *pc)
{
    assert_int_equal(het_predictions_new(p, N, 2), HET_OK);
    for (int i = 0; i < N; i++) {
        const double turn = 6.283185307179586 * (i + 0.5) / N, a = 3.0 * cos(turn), b = sin(turn);
        pc[2 * i] = a;
        pc[2 * i + 1] = b;
        p->z[2 * i] = (float)(0.6 * a - 0.8 * b + 1.0);
        p->z[2 * i + 1] = (float)(0.8 * a + 0.6 * b + 1.0);
        t->klass[i] = i % CLASSES;
        t->coordinate[i] = 0.5 * i;
    }
}

static void conformations(void **state)
{
    (void)state;
    het_predictions p;
    het_truth t = {.klass = het_alloc(N * sizeof(int64_t)),
                   .coordinate = het_alloc(N * sizeof(double)),
                   .classes = CLASSES};
    double *pc = malloc(2 * N * sizeof *pc);
    table *read = malloc(sizeof *read);
    fill(&p, &t, pc);
    assert_int_equal(het_figure_latent(folder, &p, &t), HET_OK);
    read_table(read, "latent.tsv");
    assert_int_equal(read->rows, N);
    assert_int_equal(read->columns, 7);
    const char *const names[] = {"index", "class", "coordinate", "z1", "z2", "pc1", "pc2"};
    for (int c = 0; c < 7; c++) assert_string_equal(read->name[c], names[c]);
    const double sign[2] = {read->value[0][5] > 0.0 ? 1.0 : -1.0, read->value[0][6] > 0.0 ? 1.0 : -1.0};
    for (int i = 0; i < N; i++) {
        const double *row = read->value[i];
        assert_true(row[0] == i && row[1] == i % CLASSES && row[2] == 0.5 * i);
        for (int k = 0; k < 2; k++) {
            assert_true(fabs(row[3 + k] - (double)p.z[2 * i + k]) < 1e-6);
            assert_true(fabs(sign[k] * row[5 + k] - pc[2 * i + k]) < 1e-5);
        }
    }
    char *text = picture("latent.svg");
    assert_true(has(text, ">All images<") && has(text, ">Distribution<") && has(text, ">True classes<"));
    assert_true(has(text, ">True coordinate<") && has(text, "PC1 of z (90 % of the variance)") &&
                has(text, ">class 2<"));
    free(text);
    assert_int_equal(het_figure_latent(folder, &p, NULL), HET_OK);
    read_table(read, "latent.tsv");
    assert_true(read->columns == 5 && column(read, "class") == -1 && column(read, "pc2") == 4);
    text = picture("latent.svg");
    assert_true(has(text, ">All images<") && !has(text, "True"));
    free(text);
    for (int i = 0; i < 2 * N; i++) p.z[i] = 0.5f; /* all alike, and of one number */
    p.z_dim = 1;
    assert_int_equal(het_figure_latent(folder, &p, &t), HET_OK);
    read_table(read, "latent.tsv");
    assert_true(read->columns == 5 && column(read, "pc2") == -1 &&
                fabs(read->value[7][column(read, "pc1")]) < 1e-9);
    free(picture("latent.svg"));
    p.count = 0;
    assert_int_equal(het_figure_latent(folder, &p, NULL), HET_E_INPUT);
    het_predictions_free(&p);
    het_truth_free(&t);
    free(pc);
    free(read);
}

static void rotations(void **state)
{
    (void)state;
    het_measures m = {.images = N, .classes = CLASSES, .distance2 = het_alloc(N * sizeof(double))};
    het_truth t = {.klass = het_alloc(N * sizeof(int64_t)), .classes = CLASSES};
    table *read = malloc(sizeof *read);
    double *degrees = malloc(N * sizeof *degrees);
    for (int i = 0; i < N; i++) {
        degrees[i] = 0.01 * pow(1.8e4, i / (N - 1.0)); /* 0.01 to 180 */
        m.distance2[i] = 8.0 * pow(sin(0.5 * degrees[i] * 0.017453292519943295), 2.0);
        t.klass[i] = i % 7 == 0;
    }
    assert_int_equal(het_figure_rotation(folder, &m, &t), HET_OK);
    read_table(read, "rotation.tsv");
    assert_true(read->columns == 3 + CLASSES && read->value[0][0] == 0.0);
    assert_true(fabs(read->value[read->rows - 1][1] - 180.0) < 1e-9);
    double total = 0.0;
    for (int b = 0; b < read->rows; b++) {
        const double *row = read->value[b];
        int expected[3] = {0};
        if (b > 0) assert_true(row[0] == read->value[b - 1][1]);
        for (int i = 0; i < N; i++) {
            const int last = b == read->rows - 1;
            if (degrees[i] >= row[0] && (degrees[i] < row[1] || last)) expected[t.klass[i]]++;
        }
        for (int k = 0; k < CLASSES; k++)
            assert_true(fabs(row[3 + k] - expected[k]) <= 1.0); /* on the edge, to rounding */
        assert_true(row[2] == row[3] + row[4] + row[5]);
        total += row[2];
    }
    assert_true(total == N);
    char *text = picture("rotation.svg");
    assert_true(has(text, ">Rotation error<") && has(text, ">Images within an angle<"));
    free(text);
    free(read);
    free(degrees);
    het_measures_free(&m);
    het_truth_free(&t);
}

static void shell_correlations(void **state)
{
    (void)state;
    enum { VALUES = 2 * HET_FSC_KINDS * BOX / 2 };
    het_measures m = {.box = BOX,
                      .apix = 2.5,
                      .classes = 2,
                      .sampled = 2,
                      .fsc = het_alloc(VALUES * sizeof(double)),
                      .sample = het_alloc(2 * sizeof(het_image_fsc))};
    table *read = malloc(sizeof *read);
    for (int i = 0; i < VALUES; i++) m.fsc[i] = cos(0.1 * i);
    m.sample[1] = (het_image_fsc){.image = 17, .klass = 1, .area = 0.25, .res = 3.5};
    assert_int_equal(het_figure_fsc(folder, &m), HET_OK);
    read_table(read, "fsc.tsv");
    assert_true(read->rows == 2 * BOX / 2 && read->columns == 3 + HET_FSC_KINDS);
    for (int row = 0; row < read->rows; row++) {
        const double *v = read->value[row];
        assert_true(v[0] == row / 4 && v[1] == row % 4);
        assert_true(fabs(v[2] - row % 4 / (BOX * 2.5)) < 1e-9);
        for (int kind = 0; kind < HET_FSC_KINDS; kind++)
            assert_true(fabs(v[3 + kind] - cos(0.1 * (16 * (row / 4) + 4 * kind + row % 4))) < 1e-5);
    }
    read_table(read, "images.tsv");
    assert_true(read->rows == 2 && read->value[1][0] == 17 && read->value[1][1] == 1);
    assert_true(read->value[1][2] == 0.25 && read->value[1][3] == 3.5);
    char *text = picture("fsc.svg");
    assert_true(has(text, "own frame") && has(text, "each image's own z") && has(text, "(1/Å)"));
    free(text);
    free(read);
    het_measures_free(&m);
}

static void write_log(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void training(void **state)
{
    (void)state;
    table *read = malloc(sizeof *read);
    assert_int_equal(het_figure_training(folder, "/nowhere"), HET_OK); /* no log, no figure */
    write_log(
        "{\"step\":10,\"epoch\":1.5,\"image_loss\":0.5,\"frozen\":true}\n"
        "{\"step\":20,\"epoch\":3.0,\"image_loss\":0.25,\"frozen\":false,\"words\":\"none\",\"kl\":2.5}\n"
        "{\"step\":30,\"epo"); /* being written */
    assert_int_equal(het_figure_training(folder, folder), HET_OK);
    read_table(read, "training.tsv");
    assert_true(read->rows == 2 && read->columns == 5 && column(read, "words") == -1);
    assert_true(read->value[0][column(read, "step")] == 10.0 && read->value[1][column(read, "epoch")] == 3.0);
    assert_true(read->value[0][column(read, "frozen")] == 1.0 &&
                read->value[1][column(read, "frozen")] == 0.0);
    assert_true(isnan(read->value[0][column(read, "kl")]) && read->value[1][column(read, "kl")] == 2.5);
    char *text = picture("training.svg");
    assert_true(has(text, ">epoch<") && has(text, "d=\"M150.0 10.5L300.0 115.2\"")); /* 0.5, 0.25 of 0.525 */
    free(text);
    write_log("{\"step\":10}\nrubbish\n");
    assert_int_equal(het_figure_training(folder, folder), HET_E_INPUT);
    assert_true(has(het_status_message(), "line 2"));
    free(read);
}

/* `hetacumn plot` of a folder without predictions: the curves alone. */
static void the_command(void **state)
{
    (void)state;
    char words[4][64] = {"plot", "", "-o", ""}, *argv[5] = {words[0], words[1], words[2], words[3]};
    int exit_code = 0;
    het_comm *comm;
    assert_int_equal(het_comm_open(&comm, NULL, NULL), HET_OK);
    snprintf(words[1], sizeof words[1], "%s", folder);
    snprintf(words[3], sizeof words[3], "%s/made", folder);
    write_log("{\"step\":10,\"epoch\":1.5}\n");
    assert_int_equal(het_cmd_plot(comm, 4, argv, &exit_code), HET_OK);
    free(picture("made/training.svg"));
    char path[96];
    snprintf(path, sizeof path, "%s/made/latent.svg", folder);
    assert_true(access(path, F_OK) != 0);
    assert_int_equal(het_cmd_plot(comm, 1, argv, &exit_code), HET_E_USAGE);
    snprintf(words[1], sizeof words[1], "/nowhere");
    assert_int_equal(het_cmd_plot(comm, 4, argv, &exit_code), HET_E_INPUT);
    het_comm_close(comm);
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
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 && het_arena_live() == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conformations), cmocka_unit_test(rotations),   cmocka_unit_test(shell_correlations),
        cmocka_unit_test(training),      cmocka_unit_test(the_command),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
