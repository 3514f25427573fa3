#include "figures.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "../arena.h"
#include "../data/out_file.h"
#include "../physics/latent.h"
#include "../physics/rotation.h"
#include "../rng.h"
#include "plot.h"

enum {
    PATH = 1200,
    CELLS = 64,
    BINS = 60,
    ANGLES = 48,
    POINTS = 4000,
    MOST_NAMES = 10,
    MOST_CURVES = 50,
    SEED = 1
};

static const char GREY[] = "#888888", BLUE[] = "#0072b2";

het_status het_figures_folder(const char *folder)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST) return HET_OK;
    return het_fail(HET_E_IO, "cannot make %s: %s", folder, strerror(errno));
}

static void path_of(char path[PATH], const char *folder, const char *name)
{
    snprintf(path, PATH, "%s/%s", folder, name);
}

static het_status table_open(FILE **file, char path[PATH], const char *folder, const char *name)
{
    path_of(path, folder, name);
    return het_out_open(file, path);
}

/* Name of class k for a legend, "" where there are too many to name all. */
static const char *class_name(char name[32], int64_t k, int64_t classes)
{
    const int64_t every = (classes + MOST_NAMES - 1) / MOST_NAMES;
    *name = '\0';
    if (classes > 1 && k % every == 0) snprintf(name, 32, "class %lld", (long long)k);
    return name;
}

/* Classes drawn: all, or every so many of a long row. */
static int64_t class_step(int64_t classes)
{
    return (classes + MOST_CURVES - 1) / MOST_CURVES;
}

/* Outline of a histogram: flat over every bin from edge[b] to edge[b+1]; from and to zero at its ends. */
static void add_steps(het_plot *plot, const char *name, const char *colour, const double *edge,
                      const double *height, int bins)
{
    double x[2 * BINS + 2], y[2 * BINS + 2];
    HET_ASSERT(bins <= BINS);
    x[0] = edge[0];
    x[2 * bins + 1] = edge[bins];
    y[0] = y[2 * bins + 1] = 0.0;
    for (int b = 0; b < bins; b++) {
        x[2 * b + 1] = edge[b];
        x[2 * b + 2] = edge[b + 1];
        y[2 * b + 1] = y[2 * b + 2] = height[b];
    }
    het_plot_add(plot, HET_MARK_LINE, name, colour, x, y, 2 * bins + 2);
}

/* ---- latent ---- */

typedef struct latent {
    int64_t count, dim;
    const float *z;
    const het_truth *truth;
    double *pc[2]; /* (count) each, the second of zeros where z has one number */
    double range[2][2];
    double percent[2]; /* of the variance of z */
} latent;

static het_status latent_new(latent *l, const het_predictions *p, const het_truth *truth)
{
    het_status status = HET_OK;
    het_pca pca;
    double total = 0.0;
    *l = (latent){.count = p->count, .dim = p->z_dim, .z = p->z, .truth = truth};
    HET_TRY(het_latent_pca(&pca, p->z, p->count, p->z_dim));
    for (int64_t k = 0; k < p->z_dim; k++) total += pca.variance[k];
    for (int k = 0; k < 2; k++) {
        l->pc[k] = het_alloc((size_t)p->count * sizeof *l->pc[k]);
        if (l->pc[k] == NULL)
            HET_TRY(
                het_fail(HET_E_MEMORY, "no memory for the components of %lld images", (long long)p->count));
        if (k < p->z_dim) het_latent_project(l->pc[k], &pca, k, p->z, p->count);
        l->percent[k] = k < p->z_dim && total > 0.0 ? 100.0 * pca.variance[k] / total : 0.0;
        l->range[k][0] = l->range[k][1] = l->pc[k][0];
        for (int64_t i = 0; i < p->count; i++) {
            l->range[k][0] = fmin(l->range[k][0], l->pc[k][i]);
            l->range[k][1] = fmax(l->range[k][1], l->pc[k][i]);
        }
        const double margin =
            l->range[k][1] > l->range[k][0] ? 0.02 * (l->range[k][1] - l->range[k][0]) : 0.5;
        l->range[k][0] -= margin;
        l->range[k][1] += margin;
    }
done:
    return status;
}

static het_status latent_table(const latent *l, const char *folder)
{
    char path[PATH];
    FILE *f;
    const het_status status = table_open(&f, path, folder, "latent.tsv");
    if (status != HET_OK) return status;
    const double *coordinate = l->truth != NULL ? l->truth->coordinate : NULL;
    fprintf(f, "index%s%s", l->truth != NULL ? "\tclass" : "", coordinate != NULL ? "\tcoordinate" : "");
    for (int64_t k = 0; k < l->dim; k++) fprintf(f, "\tz%lld", (long long)k + 1);
    fprintf(f, "\tpc1%s\n", l->dim > 1 ? "\tpc2" : "");
    for (int64_t i = 0; i < l->count; i++) {
        fprintf(f, "%lld", (long long)i);
        if (l->truth != NULL) fprintf(f, "\t%lld", (long long)l->truth->klass[i]);
        if (coordinate != NULL) fprintf(f, "\t%.7g", coordinate[i]);
        for (int64_t k = 0; k < l->dim; k++) fprintf(f, "\t%.7g", (double)l->z[i * l->dim + k]);
        for (int k = 0; k < 2 && k < l->dim; k++) fprintf(f, "\t%.7g", l->pc[k][i]);
        fputc('\n', f);
    }
    return het_out_close(f, path);
}

static int bin_of(double value, const double range[2], int bins)
{
    const int b = (int)((value - range[0]) / (range[1] - range[0]) * bins);
    return b < 0 ? 0 : b < bins ? b : bins - 1;
}

static het_axis component_axis(const latent *l, int k, char label[64])
{
    snprintf(label, 64, "PC%d of z (%.0f %% of the variance)", k + 1, l->percent[k]);
    return (het_axis){.label = label, .from = l->range[k][0], .to = l->range[k][1]};
}

static void latent_density(het_plot *plot, const latent *l)
{
    const double fitting = sqrt(0.25 * (double)l->count); /* about 4 images in a cell */
    const int cells = fitting < 16.0 ? 16 : fitting < CELLS ? (int)fitting : CELLS;
    double cell[CELLS * CELLS] = {0};
    char label[2][64];
    for (int64_t i = 0; i < l->count; i++)
        cell[bin_of(l->pc[1][i], l->range[1], cells) * cells + bin_of(l->pc[0][i], l->range[0], cells)] +=
            1.0;
    het_plot_panel(plot, "All images", component_axis(l, 0, label[0]), component_axis(l, 1, label[1]));
    het_plot_cells(plot, cell, cells, cells);
}

static void latent_histogram(het_plot *plot, const latent *l)
{
    const int64_t classes = l->truth != NULL ? l->truth->classes : 1;
    double edge[BINS + 1];
    char label[64], name[32], colour[8];
    for (int b = 0; b <= BINS; b++) edge[b] = l->range[0][0] + (l->range[0][1] - l->range[0][0]) * b / BINS;
    het_plot_panel(plot, "Distribution", component_axis(l, 0, label), (het_axis){.label = "images per bin"});
    for (int64_t k = 0; k < classes; k += class_step(classes)) {
        double height[BINS] = {0};
        for (int64_t i = 0; i < l->count; i++)
            if (classes == 1 || l->truth->klass[i] == k)
                height[bin_of(l->pc[0][i], l->range[0], BINS)] += 1.0;
        het_plot_colour(colour, k, classes);
        add_steps(plot, class_name(name, k, classes), colour, edge, height, BINS);
    }
}

/* Up to POINTS drawn images as points (x, y), class by class; x, y (count). */
static het_status latent_points(het_plot *plot, const latent *l, const double *x, const double *y)
{
    const int64_t classes = l->truth->classes, drawn = l->count < POINTS ? l->count : POINTS;
    int64_t *list = het_alloc((size_t)l->count * sizeof *list);
    double across[POINTS], up[POINTS];
    char name[32], colour[8];
    if (list == NULL)
        return het_fail(HET_E_MEMORY, "no memory to draw from %lld images", (long long)l->count);
    het_rng rng = het_rng_at(SEED, HET_STREAM_SEARCH, 2, 0);
    for (int64_t i = 0; i < l->count; i++) list[i] = i;
    het_rng_choose(&rng, list, l->count, drawn);
    for (int64_t k = 0; k < classes; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < drawn; i++) {
            if (l->truth->klass[list[i]] != k) continue;
            across[n] = x[list[i]];
            up[n++] = y[list[i]];
        }
        het_plot_colour(colour, k, classes);
        het_plot_add(plot, HET_MARK_POINT, class_name(name, k, classes), colour, across, up, n);
    }
    het_release(list);
    return HET_OK;
}

het_status het_figure_latent(const char *folder, const het_predictions *p, const het_truth *truth)
{
    het_status status = HET_OK;
    latent l = {0};
    het_plot *plot = NULL;
    char path[PATH], label[2][64];
    if (p->count < 1)
        return het_fail(HET_E_INPUT, "the predictions hold no images: there is nothing to draw");
    HET_TRY(latent_new(&l, p, truth));
    HET_TRY(latent_table(&l, folder));
    plot = het_plot_new(2);
    if (l.dim > 1) latent_density(plot, &l);
    latent_histogram(plot, &l);
    if (truth != NULL && truth->classes > 1 && l.dim > 1) {
        het_plot_panel(plot, "True classes", component_axis(&l, 0, label[0]),
                       component_axis(&l, 1, label[1]));
        HET_TRY(latent_points(plot, &l, l.pc[0], l.pc[1]));
    }
    if (truth != NULL && truth->coordinate != NULL) {
        het_plot_panel(plot, "True coordinate", (het_axis){.label = "true coordinate or class"},
                       component_axis(&l, 0, label[0]));
        HET_TRY(latent_points(plot, &l, truth->coordinate, l.pc[0]));
    }
done:
    path_of(path, folder, "latent.svg");
    if (status == HET_OK) status = het_plot_finish(plot, path);
    else het_plot_free(plot);
    het_release(l.pc[0]);
    het_release(l.pc[1]);
    return status;
}

/* ---- rotation ---- */

/* Column 0: all images; column k + 1: class k. count (ANGLES, classes + 1). */
static void count_angles(double *count, const double *edge, const het_measures *m, const het_truth *t)
{
    for (int64_t i = 0; i < m->images; i++) {
        const double angle = 57.29577951308232 * het_rotation_angle(m->distance2[i]);
        int b = 0;
        while (b + 1 < ANGLES && angle >= edge[b + 1]) b++;
        count[b * (m->classes + 1)] += 1.0;
        count[b * (m->classes + 1) + t->klass[i] + 1] += 1.0;
    }
}

static het_status rotation_table(const char *folder, const double *edge, const double *count, int64_t classes)
{
    char path[PATH];
    FILE *f;
    const het_status status = table_open(&f, path, folder, "rotation.tsv");
    if (status != HET_OK) return status;
    fprintf(f, "from\tto\tall");
    for (int64_t k = 0; k < classes; k++) fprintf(f, "\tclass%lld", (long long)k);
    fputc('\n', f);
    for (int b = 0; b < ANGLES; b++) {
        fprintf(f, "%.6g\t%.6g", b == 0 ? 0.0 : edge[b], edge[b + 1]);
        for (int64_t k = 0; k <= classes; k++) fprintf(f, "\t%.0f", count[b * (classes + 1) + k]);
        fputc('\n', f);
    }
    return het_out_close(f, path);
}

/* Histogram of column `column`, or the share of its images within each edge. */
static void add_angles(het_plot *plot, const char *name, const char *colour, const double *edge,
                       const double *count, int64_t column, int64_t columns, int share)
{
    double height[ANGLES], within[ANGLES + 1] = {0};
    for (int b = 0; b < ANGLES; b++) {
        height[b] = count[b * columns + column];
        within[b + 1] = within[b] + height[b];
    }
    for (int b = 0; b <= ANGLES; b++) within[b] /= fmax(within[ANGLES], 1.0);
    if (share) het_plot_add(plot, HET_MARK_LINE, name, colour, edge + 1, within + 1, ANGLES);
    else add_steps(plot, name, colour, edge, height, ANGLES);
}

het_status het_figure_rotation(const char *folder, const het_measures *m, const het_truth *t)
{
    het_status status = HET_OK;
    const int64_t columns = m->classes + 1;
    const het_axis angle = {
        .label = "angle between true and predicted rotation (degrees)", .from = 0.1, .to = 180.0, .log = 1};
    char path[PATH], name[32], colour[8];
    double edge[ANGLES + 1], *count = het_alloc((size_t)(ANGLES * columns) * sizeof *count);
    if (count == NULL)
        return het_fail(HET_E_MEMORY, "no memory for a histogram of %lld classes", (long long)m->classes);
    for (int b = 0; b <= ANGLES; b++) edge[b] = angle.from * pow(angle.to / angle.from, (double)b / ANGLES);
    count_angles(count, edge, m, t);
    HET_TRY(rotation_table(folder, edge, count, m->classes));
    het_plot *plot = het_plot_new(2);
    for (int share = 0; share < 2; share++) {
        if (share)
            het_plot_panel(plot, "Images within an angle", angle,
                           (het_axis){"share of the images", 0.0, 1.02, 0});
        else het_plot_panel(plot, "Rotation error", angle, (het_axis){.label = "images per bin"});
        for (int64_t k = 0; k < m->classes; k += class_step(m->classes)) {
            het_plot_colour(colour, k, m->classes);
            add_angles(plot, class_name(name, k, m->classes), colour, edge, count, k + 1, columns, share);
        }
    }
    path_of(path, folder, "rotation.svg");
    HET_TRY(het_plot_finish(plot, path));
done:
    het_release(count);
    return status;
}

/* ---- fsc ---- */

static const double *curve_of(const het_measures *m, int64_t k, int kind)
{
    return m->fsc + (k * HET_FSC_KINDS + kind) * (m->box / 2);
}

static het_status fsc_table(const char *folder, const het_measures *m)
{
    char path[PATH];
    FILE *f;
    const het_status status = table_open(&f, path, folder, "fsc.tsv");
    if (status != HET_OK) return status;
    fprintf(f, "class\tshell\tfrequency\tcommon\town\tfitted\timages\n");
    for (int64_t k = 0; k < m->classes; k++)
        for (int64_t s = 0; s < m->box / 2; s++) {
            fprintf(f, "%lld\t%lld\t%.7g", (long long)k, (long long)s,
                    (double)s / ((double)m->box * m->apix));
            for (int kind = 0; kind < HET_FSC_KINDS; kind++) fprintf(f, "\t%.6g", curve_of(m, k, kind)[s]);
            fputc('\n', f);
        }
    return het_out_close(f, path);
}

static het_status image_table(const char *folder, const het_measures *m)
{
    char path[PATH];
    FILE *f;
    const het_status status = table_open(&f, path, folder, "images.tsv");
    if (status != HET_OK) return status;
    fprintf(f, "index\tclass\tarea\tres\n");
    for (int64_t i = 0; i < m->sampled; i++)
        fprintf(f, "%lld\t%lld\t%.6g\t%.6g\n", (long long)m->sample[i].image, (long long)m->sample[i].klass,
                m->sample[i].area, m->sample[i].res);
    return het_out_close(f, path);
}

static void fsc_panel(het_plot *plot, const het_measures *m, const char *title, int kind, double *frequency)
{
    static const double threshold[2] = {0.5, 0.143};
    const double end = 0.5 / m->apix;
    char name[32], colour[8];
    het_plot_panel(plot, title, (het_axis){"spatial frequency (1/Å)", 0.0, end, 0},
                   (het_axis){"Fourier shell correlation", -0.2, 1.02, 0});
    for (int i = 0; i < 2; i++)
        het_plot_add(plot, HET_MARK_DASH, i == 0 ? "0.5, 0.143" : NULL, GREY, (const double[]){0.0, end},
                     (const double[]){threshold[i], threshold[i]}, 2);
    for (int64_t s = 0; s < m->box / 2; s++) frequency[s] = (double)s / ((double)m->box * m->apix);
    for (int64_t k = 0; k < m->classes; k += class_step(m->classes)) {
        het_plot_colour(colour, k, m->classes);
        het_plot_add(plot, HET_MARK_LINE, class_name(name, k, m->classes), m->classes > 1 ? colour : BLUE,
                     frequency + 1, curve_of(m, k, kind) + 1, m->box / 2 - 1);
    }
}

het_status het_figure_fsc(const char *folder, const het_measures *m)
{
    static const char *const title[HET_FSC_KINDS] = {
        "Map of each class, common frame", "Map of each class, own frame",
        "Map of each class, fitted to the true map", "Map of each image's own z, mean"};
    het_status status = HET_OK;
    char path[PATH];
    double *frequency = het_alloc((size_t)(m->box / 2) * sizeof *frequency);
    if (frequency == NULL) return het_fail(HET_E_MEMORY, "no memory for an FSC curve");
    HET_TRY(fsc_table(folder, m));
    if (m->sampled > 0) HET_TRY(image_table(folder, m));
    het_plot *plot = het_plot_new(2);
    for (int kind = 0; kind < HET_FSC_KINDS; kind++)
        if (kind != HET_FSC_IMAGES || m->sampled > 0) fsc_panel(plot, m, title[kind], kind, frequency);
    path_of(path, folder, "fsc.svg");
    HET_TRY(het_plot_finish(plot, path));
done:
    het_release(frequency);
    return status;
}
