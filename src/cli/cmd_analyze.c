#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../data/out_file.h"
#include "../data/png_write.h"
#include "../data/predictions.h"
#include "../log.h"
#include "../watch.h"
#include "cli.h"
#include "figures.h"
#include "map_file.h"
#include "options.h"
#include "selection.h"

static const char usage[] =
    "usage: hetacumn analyze RUN [-o DIR]\n"
    "What a run has found, on one page: DIR/report.html with the training's course and warnings, conformations and views of all\n"
    "images, and maps - DIR/kmeans of clusters of conformations, DIR/pc1 along the strongest motion - as projections. Needs\n"
    "RUN/predictions.h5: run `hetacumn predict` first.\n"
    "  -o, --output DIR     default: RUN/report\n"
    "      --kmeans K       clusters (default 8)\n"
    "      --points N       maps along component 1 (default 8)\n"
    "      --device NAME    cpu | cuda | cuda:N (the GPU N) | auto: a GPU where one can be used (default)\n"
    "      --help\n";

enum { MAPS_MAX = 1000, PATH = 1200, DIRECTIONS = 3 };

typedef struct job {
    const char *run, *device;
    char out[1024];
    int64_t kmeans, points;
    int help;
} job;

static het_status parse(job *j, int argc, char **argv)
{
    static const struct option list[] = {{"output", required_argument, NULL, 'o'}, {"kmeans", required_argument, NULL, 'k'},
                                         {"points", required_argument, NULL, 'n'}, {"device", required_argument, NULL, 'd'},
                                         {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    het_status status = HET_OK;
    const char *out = NULL;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":o:", list, NULL)) != -1;) {
        switch (c) {
        case 'o': out = optarg; break;
        case 'k': HET_TRY(het_options_whole("--kmeans", optarg, 1, MAPS_MAX, &j->kmeans)); break;
        case 'n': HET_TRY(het_options_whole("--points", optarg, 1, MAPS_MAX, &j->points)); break;
        case 'd': HET_TRY(het_device_check(j->device = optarg)); break;
        case 'h': j->help = 1; goto done;
        default: HET_TRY(het_options_refused(argv, c));
        }
    }
    if (optind + 1 != argc) HET_TRY(het_fail(HET_E_USAGE, "analyze takes one RUN; see hetacumn analyze --help"));
    j->run = argv[optind];
    const int size = out != NULL ? snprintf(j->out, sizeof j->out, "%s", out) : snprintf(j->out, sizeof j->out, "%s/report", j->run);
    if (size >= (int)sizeof j->out) HET_TRY(het_fail(HET_E_USAGE, "-o: the folder's name is too long"));
done:
    return status;
}

/* ---- pictures of maps ---- */

/* Projections of the map along z, y and x side by side, white at the largest and black at nothing. */
static het_status draw_map(const char *folder, int64_t number)
{
    het_status status = HET_OK;
    char path[PATH];
    het_volume map = {0};
    double *sum = NULL, most = 0.0;
    uint8_t *grey = NULL;
    snprintf(path, sizeof path, "%s/vol_%03lld.mrc", folder, (long long)number);
    HET_TRY(het_map_load(&map, path, 0.0));
    const int64_t d = map.box, width = DIRECTIONS * d;
    sum = het_alloc((size_t)(d * width) * sizeof *sum);
    grey = het_alloc((size_t)(d * width));
    if (sum == NULL || grey == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for a picture of %s", path));
    for (int64_t i = 0; i < d * d * d; i++) {
        const int64_t x = i % d, y = i / d % d, z = i / d / d;
        const double v = map.data[i];
        sum[y * width + x] += v;
        sum[z * width + d + x] += v;
        sum[z * width + 2 * d + y] += v;
    }
    for (int64_t i = 0; i < d * width; i++) most = fmax(most, sum[i]);
    for (int64_t i = 0; i < d * width && most > 0.0; i++) grey[i] = (uint8_t)lround(255.0 * fmax(sum[i], 0.0) / most);
    snprintf(path, sizeof path, "%s/vol_%03lld.png", folder, (long long)number);
    status = het_png_write(path, grey, width, d);
done:
    het_volume_free(&map);
    het_release(sum);
    het_release(grey);
    return status;
}

static het_status draw_maps(const char *folder, int64_t count)
{
    het_status status = HET_OK;
    for (int64_t i = 0; i < count; i++) HET_TRY(draw_map(folder, i));
done:
    return status;
}

/* ---- the page ---- */

static void put_text(FILE *f, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<') fputs("&lt;", f);
        else if (*text == '&') fputs("&amp;", f);
        else fputc(*text, f);
    }
}

/* What the run has warned of, each once. */
static void put_warnings(FILE *f, const char *run)
{
    char path[PATH], *line = NULL;
    size_t room = 0;
    int any = 0;
    json_t *said = json_object();
    snprintf(path, sizeof path, "%s/" HET_WATCH_WARNINGS, run);
    FILE *file = fopen(path, "r");
    while (file != NULL && getline(&line, &room, file) > 0) {
        json_t *entry = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(entry, "text"));
        if (text != NULL && json_object_get(said, text) == NULL) {
            fputs(any++ == 0 ? "<h2>Warnings</h2>\n<ul>\n<li>" : "<li>", f);
            put_text(f, text);
            fputc('\n', f);
            json_object_set_new(said, text, json_true());
        }
        json_decref(entry);
    }
    fputs(any ? "</ul>\n" : "<p>The run has warned of nothing.</p>\n", f);
    if (file != NULL) fclose(file);
    json_decref(said);
    free(line);
}

static void put_map(FILE *f, const char *folder, int64_t number)
{
    fprintf(f, "<a href=\"%s/vol_%03lld.mrc\"><img class=\"map\" src=\"%s/vol_%03lld.png\" alt=\"vol_%03lld.mrc\"></a>", folder, (long long)number,
            folder, (long long)number, (long long)number);
}

/* A row for each cluster: images, how well they fit, and the map. */
static het_status put_clusters(FILE *f, const job *j, const het_predictions *p)
{
    het_status status = HET_OK;
    double *centre = NULL;
    int64_t *label = NULL;
    HET_TRY(het_selection_clusters(&centre, &label, p, j->kmeans));
    fputs("<h2>Clusters of conformations</h2>\n<table>\n<tr><th>cluster<th>images<th>share<th>mean loss<th>poses confirmed<th>projections "
          "along z, y, x of the map of the image nearest to the centre\n", f);
    for (int64_t k = 0; k < j->kmeans; k++) {
        int64_t n = 0, confirmed = 0, asked = 0;
        double loss = 0.0;
        for (int64_t i = 0; i < p->count; i++) {
            if (label[i] != k) continue;
            n++;
            loss += p->loss[i];
            asked += p->confirmed[i] >= 0.0F;
            confirmed += p->confirmed[i] >= HET_CONFIRMED;
        }
        fprintf(f, "<tr><td>%lld<td>%lld<td>%.1f %%<td>%.5f<td>", (long long)k, (long long)n, 100.0 * (double)n / (double)p->count,
                n > 0 ? loss / (double)n : 0.0);
        if (asked > 0) fprintf(f, "%.0f %%", 100.0 * (double)confirmed / (double)asked);
        else fputs("not asked", f);
        fputs("<td>", f);
        put_map(f, "kmeans", k);
        fputc('\n', f);
    }
    fputs("</table>\n", f);
done:
    het_release(centre);
    het_release(label);
    return status;
}

static void put_next_steps(FILE *f, const job *j)
{
    fputs("<h2>From here</h2>\n<pre>hetacumn select ", f);
    put_text(f, j->run);
    fprintf(f, " stack.h5 --kmeans %lld --clusters 0,1 -o particles.star     # particles of some clusters, with poses\nhetacumn reconstruct ",
            (long long)j->kmeans);
    put_text(f, j->run);
    fprintf(f, " stack.h5 --kmeans %lld -o images                   # the same maps from the images alone, with half maps</pre>\n"
               "<p>The hand is arbitrary. Maps that differ as a whole (turned, shifted) rather than in a part mean that z holds no shape.</p>\n",
            (long long)j->kmeans);
}

static het_status write_page(const job *j, const het_predictions *p)
{
    char path[PATH];
    FILE *f;
    snprintf(path, sizeof path, "%s/report.html", j->out);
    het_status status = het_out_open(&f, path);
    if (status != HET_OK) return status;
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>", f);
    put_text(f, j->run);
    fputs("</title>\n<style>body { font: 15px sans-serif; margin: 2em; max-width: 75em } td, th { padding: 0.2em 0.8em; text-align: right }\n"
          "img.map { width: 27em; image-rendering: pixelated; vertical-align: middle } img.figure { max-width: 100% }\n"
          "pre { background: #eee; padding: 0.6em }</style>\n</head>\n<body>\n<h1>", f);
    put_text(f, j->run);
    fprintf(f, "</h1>\n<p>%lld images of %lld pixels of %g A, conformations of %lld numbers.</p>\n", (long long)p->count, (long long)p->box,
            p->apix, (long long)p->z_dim);
    put_warnings(f, j->run);
    status = put_clusters(f, j, p);
    fputs("<h2>Along component 1</h2>\n<p>From the 5th to the 95th percentile.</p>\n<p>", f);
    for (int64_t i = 0; i < j->points; i++) {
        put_map(f, "pc1", i);
        fputs("<br>\n", f);
    }
    fputs("</p>\n<h2>Conformations of all images</h2>\n<p><img class=\"figure\" src=\"latent.svg\" alt=\"latent.tsv\"></p>\n"
          "<h2>Views</h2>\n<p><img class=\"figure\" src=\"views.svg\" alt=\"views.tsv\"></p>\n"
          "<h2>Training</h2>\n<p><img class=\"figure\" src=\"training.svg\" alt=\"training.tsv\"></p>\n", f);
    put_next_steps(f, j);
    fputs("</body>\n</html>\n", f);
    const het_status closed = het_out_close(f, path);
    if (status == HET_OK) status = closed;
    if (status == HET_OK) het_info("the report is %s", path);
    return status;
}

/* ---- all of it ---- */

/* Another command, as a user would give it. */
static het_status call(het_command command, het_comm *comm, const char *const *words, int count)
{
    char *argv[16];
    int exit_code = 0;
    HET_ASSERT(count < 16);
    for (int i = 0; i < count; i++) argv[i] = (char *)words[i];
    argv[count] = NULL;
    return command(comm, count, argv, &exit_code);
}

/* No more clusters than images, and one where all conformations are alike (they were frozen). */
static het_status look(job *j, het_predictions *p)
{
    het_status status = HET_OK;
    char path[PATH];
    int alike = 1;
    snprintf(path, sizeof path, "%s/predictions.h5", j->run);
    HET_TRY(het_predictions_load(p, path));
    if (p->count < 1) HET_TRY(het_fail(HET_E_INPUT, "%s holds no images", path));
    for (int64_t i = 0; i < p->count * p->z_dim && alike; i++) alike = p->z[i] == p->z[i % p->z_dim];
    if (j->kmeans > p->count) j->kmeans = p->count;
    if (alike) j->kmeans = j->points = 1;
    status = het_figures_folder(j->out);
done:
    return status;
}

static het_status analyze(job *j, het_comm *comm)
{
    het_status status = HET_OK;
    const int root = het_comm_rank(comm) == 0;
    char clusters[PATH], path[PATH], kmeans[24], points[24];
    het_predictions p = {0};
    HET_TRY(het_comm_agree(comm, look(j, &p)));
    snprintf(clusters, sizeof clusters, "%s/kmeans", j->out);
    snprintf(path, sizeof path, "%s/pc1", j->out);
    snprintf(kmeans, sizeof kmeans, "%lld", (long long)j->kmeans);
    snprintf(points, sizeof points, "%lld", (long long)j->points);
    HET_TRY(call(het_cmd_plot, comm, (const char *[]){"plot", j->run, "-o", j->out}, 4));
    HET_TRY(call(het_cmd_volume, comm, (const char *[]){"volume", j->run, "--kmeans", kmeans, "-o", clusters, "--device", j->device}, 8));
    HET_TRY(call(het_cmd_volume, comm, (const char *[]){"volume", j->run, "--pc", "1", "--points", points, "-o", path, "--device", j->device}, 10));
    HET_TRY(het_comm_agree(comm, root ? draw_maps(clusters, j->kmeans) : HET_OK));
    HET_TRY(het_comm_agree(comm, root ? draw_maps(path, j->points) : HET_OK));
    HET_TRY(het_comm_agree(comm, root ? write_page(j, &p) : HET_OK));
done:
    het_predictions_free(&p);
    return status;
}

het_status het_cmd_analyze(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.device = "auto", .kmeans = 8, .points = 8};
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv)));
    if (j.help && het_comm_rank(comm) == 0) fputs(usage, stdout);
    if (!j.help) status = analyze(&j, comm);
done:
    return status;
}
