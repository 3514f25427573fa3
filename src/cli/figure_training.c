/* The training curves: every number of RUN/log.jsonl. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../data/json.h"
#include "../data/out_file.h"
#include "figures.h"
#include "plot.h"

enum { PATH = 1200 };

/* The reports of a log: their objects in order. */
static het_status read_log(json_t **reports, const char *path)
{
    het_status status = HET_OK;
    char *line = NULL;
    size_t room = 0;
    *reports = json_array();
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return errno == ENOENT ? HET_OK : het_fail(HET_E_IO, "cannot open %s: %s", path, strerror(errno));
    for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
        if (line[n - 1] != '\n') break; /* being written now */
        json_t *report = json_loads(line, 0, NULL);
        if (!json_is_object(report)) {
            json_decref(report);
            HET_TRY(
                het_fail(HET_E_INPUT, "%s: line %zu is no JSON object", path, json_array_size(*reports) + 1));
        }
        json_array_append_new(*reports, report);
    }
done:
    free(line);
    fclose(file);
    return status;
}

/* Number `key` of a report; NAN where it has none. */
static double value_of(const json_t *report, const char *key)
{
    const json_t *value = json_object_get(report, key);
    return json_is_boolean(value) ? json_is_true(value) : het_json_number(report, key);
}

/* A column for each number of the newest report. */
static het_status write_table(const char *path, const json_t *reports)
{
    const char *key;
    json_t *value, *newest = json_array_get(reports, json_array_size(reports) - 1);
    size_t row;
    FILE *f;
    const het_status status = het_out_open(&f, path);
    if (status != HET_OK) return status;
    for (row = 0; row <= json_array_size(reports); row++) { /* the names, then the reports */
        const char *gap = "";
        json_object_foreach(newest, key, value)
        {
            if (!json_is_number(value) && !json_is_boolean(value)) continue;
            if (row == 0) fprintf(f, "%s%s", gap, key);
            else fprintf(f, "%s%.9g", gap, value_of(json_array_get(reports, row - 1), key));
            gap = "\t";
        }
        fputc('\n', f);
    }
    return het_out_close(f, path);
}

typedef struct curve {
    const char *key, *name;
    het_mark mark;
    const char *colour;
} curve;

static const struct {
    const char *title, *label;
    int log, from_zero;
    curve curve[2];
} PANEL[] = {
    {"Images",
     "mean square error per pixel",
     0,
     1,
     {{"image_loss", "model", HET_MARK_LINE, "#0072b2"},
      {"zero_loss", "empty model", HET_MARK_DASH, "#888888"}}},
    {"Poses of synthetic images",
     "mean |R \u2212 R\u2032|² (Frobenius)",
     1,
     0,
     {{"pose_rotation_error", NULL, HET_MARK_LINE, "#0072b2"}}},
    {"Predicted views (6: from everywhere)",
     "spread of the rotations",
     0,
     1,
     {{"rotation_spread", NULL, HET_MARK_LINE, "#0072b2"}}},
    {"Resolution in use", "radius (Fourier pixels)", 0, 1, {{"radius", NULL, HET_MARK_LINE, "#0072b2"}}},
    {"Conformations",
     "z",
     0,
     1,
     {{"z_rms", "size (rms)", HET_MARK_LINE, "#0072b2"}, {"z_std", "uncertainty", HET_MARK_LINE, "#d55e00"}}},
    {"Speed", "images per second", 0, 1, {{"images_per_second", NULL, HET_MARK_LINE, "#0072b2"}}},
};
enum { PANELS = sizeof PANEL / sizeof *PANEL };

/* y (rows) = the numbers `key`; returns the largest finite one, at least `most`. */
static double column_of(double *y, const json_t *reports, const char *key, double most)
{
    json_t *report;
    size_t row;
    json_array_foreach(reports, row, report)
    {
        y[row] = value_of(report, key);
        if (isfinite(y[row])) most = fmax(most, y[row]);
    }
    return most;
}

static void draw(het_plot *plot, const json_t *reports, double *x, double *y)
{
    const int64_t rows = (int64_t)json_array_size(reports);
    const double end = column_of(x, reports, "epoch", 0.0);
    for (int p = 0; p < PANELS; p++) {
        const curve *c = PANEL[p].curve;
        double most = 0.0;
        for (int k = 0; k < 2 && c[k].key != NULL; k++) most = column_of(y, reports, c[k].key, most);
        het_plot_panel(plot, PANEL[p].title, (het_axis){"epoch", 0.0, end, 0},
                       (het_axis){PANEL[p].label, 0.0, PANEL[p].from_zero ? 1.05 * most : 0.0, PANEL[p].log});
        for (int k = 0; k < 2 && c[k].key != NULL; k++) {
            column_of(y, reports, c[k].key, 0.0);
            het_plot_add(plot, c[k].mark, c[k].name, c[k].colour, x, y, rows);
        }
    }
}

het_status het_figure_training(const char *folder, const char *run)
{
    het_status status = HET_OK;
    json_t *reports = NULL;
    char path[PATH];
    double *values = NULL;
    snprintf(path, sizeof path, "%s/log.jsonl", run);
    HET_TRY(read_log(&reports, path));
    const size_t rows = json_array_size(reports);
    if (rows == 0) goto done;
    values = het_alloc(2 * rows * sizeof *values);
    if (values == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %zu reports", rows));
    snprintf(path, sizeof path, "%s/training.tsv", folder);
    HET_TRY(write_table(path, reports));
    snprintf(path, sizeof path, "%s/training.svg", folder);
    het_plot *plot = het_plot_new(3);
    draw(plot, reports, values, values + rows);
    HET_TRY(het_plot_finish(plot, path));
done:
    json_decref(reports);
    het_release(values);
    return status;
}
