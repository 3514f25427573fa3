#pragma once
#include <stdint.h>

#include "../status.h"

/** Pictures as SVG, written here: a grid of panels with lines, points or a heat map, axes with round ticks, a
 *  legend beside each panel. Text stays text, so no font is needed to write it. A plot is built up panel by
 *  panel and remembers a failure until het_plot_finish says it. Test: tests/test_plot.c */

typedef struct het_axis {
    const char *label; /* with its unit; copied, as all texts; UTF-8 without & and < */
    double from, to;   /* from == to: what the data of the panel take */
    int log;           /* logarithmic: only values above 0 are drawn */
} het_axis;

typedef enum het_mark { HET_MARK_LINE, HET_MARK_DASH, HET_MARK_POINT } het_mark;

typedef struct het_plot het_plot;

/** An empty plot; its panels stand in rows of `columns`. NULL where there is no memory: the functions below take
 *  that too. */
het_plot *het_plot_new(int columns);
/** Begin the next panel. */
void het_plot_panel(het_plot *plot, const char *title, het_axis x, het_axis y);
/** Draw count points (x, y), joined by a line or not, in the present panel. A point that is not finite leaves a
 *  gap. name: in the legend; NULL: not there. colour: "#rrggbb". Everything is copied. */
void het_plot_add(het_plot *plot, het_mark mark, const char *name, const char *colour, const double *x,
                  const double *y, int64_t count);
/** A heat map of count (rows, columns), row 0 at the bottom, over the given ranges of both axes of the present
 *  panel, with a scale: white at 0, and darker with the square root. */
void het_plot_cells(het_plot *plot, const double *count, int columns, int rows);
/** Free a plot that is not finished (NULL: nothing). */
void het_plot_free(het_plot *plot);
/** Write the file and free the plot. Errors: HET_E_MEMORY, HET_E_IO. */
het_status het_plot_finish(het_plot *plot, const char *path);

/** Colour k of `of`: distinct ones up to 8, a row of shades for more. */
void het_plot_colour(char colour[8], int64_t k, int64_t of);

/** Round ticks of a range (Heckbert, Graphics Gems, 1990): multiples of 1, 2 or 5 times a power of ten, about
 *  `wanted` of them, inside from..to (from < to). Returns their number, at most 32. */
int het_plot_ticks(double tick[32], double from, double to, int wanted);
