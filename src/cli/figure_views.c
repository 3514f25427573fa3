/* Where the particles are seen from. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../data/out_file.h"
#include "figures.h"
#include "plot.h"

enum { AROUND = 36, UP = 18, PATH = 1200 };
static const double DEGREES = 57.29577951308232;

/* Equal areas of the sphere: azimuth by azimuth, and by the height cos(tilt). */
static void count_views(double cell[UP * AROUND], const het_predictions *p)
{
    memset(cell, 0, UP * AROUND * sizeof *cell);
    for (int64_t i = 0; i < p->count; i++) {
        const float *view = p->rotation + 9 * i + 6; /* x_image = R x_volume: its third row looks along z of the image */
        const int up = (int)fmin(UP - 1, fmax(0.0, 0.5 * UP * (1.0 + (double)view[2])));
        const int around = (int)fmin(AROUND - 1, fmax(0.0, AROUND * (0.5 + atan2(view[1], view[0]) / (2.0 * M_PI))));
        cell[up * AROUND + around] += 1.0;
    }
}

static het_status write_table(const char *path, const double *cell)
{
    FILE *file;
    const het_status status = het_out_open(&file, path);
    if (status != HET_OK) return status;
    fprintf(file, "azimuth\tcos_tilt\timages\n");
    for (int u = 0; u < UP; u++)
        for (int a = 0; a < AROUND; a++)
            fprintf(file, "%.6g\t%.6g\t%.0f\n", DEGREES * 2.0 * M_PI * ((a + 0.5) / AROUND - 0.5), 2.0 * (u + 0.5) / UP - 1.0,
                    cell[u * AROUND + a]);
    return het_out_close(file, path);
}

het_status het_figure_views(const char *folder, const het_predictions *p)
{
    double cell[UP * AROUND];
    char path[PATH];
    count_views(cell, p);
    snprintf(path, sizeof path, "%s/views.tsv", folder);
    const het_status status = write_table(path, cell);
    if (status != HET_OK) return status;
    het_plot *plot = het_plot_new(1);
    het_plot_panel(plot, "Views", (het_axis){"azimuth (degrees)", -180.0, 180.0, 0}, (het_axis){"cos(tilt)", -1.0, 1.0, 0});
    het_plot_cells(plot, cell, AROUND, UP);
    snprintf(path, sizeof path, "%s/views.svg", folder);
    return het_plot_finish(plot, path);
}
