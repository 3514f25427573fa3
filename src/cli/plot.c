#include "plot.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/out_file.h"

enum { TEXT = 96, TICKS = 32, LEVELS = 24 };
enum { WIDTH = 300, HEIGHT = 220, LEFT = 66, RIGHT = 104, TOP = 30, BOTTOM = 52 }; /* of a panel, SVG units */

typedef struct series {
    struct series *next;
    het_mark mark;
    char name[TEXT], colour[8];
    double *x, *y; /* in the same block */
    int64_t count;
} series;

typedef struct panel {
    struct panel *next;
    char title[TEXT], label[2][TEXT];
    het_axis axis[2];
    series *first, *last;
    double *cell;
    int columns, rows;
} panel;

struct het_plot {
    panel *first, *last;
    int columns, panels, failed;
};

het_plot *het_plot_new(int columns)
{
    het_plot *plot = het_alloc(sizeof *plot);
    if (plot != NULL) plot->columns = columns;
    return plot;
}

static void copy_text(char to[TEXT], const char *from)
{
    snprintf(to, TEXT, "%s", from);
}

void het_plot_panel(het_plot *plot, const char *title, het_axis x, het_axis y)
{
    panel *p = plot != NULL && !plot->failed ? het_alloc(sizeof *p) : NULL;
    if (plot != NULL && p == NULL) plot->failed = 1;
    if (p == NULL) return;
    copy_text(p->title, title);
    copy_text(p->label[0], x.label);
    copy_text(p->label[1], y.label);
    p->axis[0] = x;
    p->axis[1] = y;
    if (plot->last != NULL) plot->last->next = p;
    else plot->first = p;
    plot->last = p;
    plot->panels++;
}

void het_plot_add(het_plot *plot, het_mark mark, const char *name, const char *colour, const double *x,
                  const double *y, int64_t count)
{
    if (plot == NULL || plot->failed) return;
    const size_t bytes = (size_t)count * sizeof(double);
    panel *p = plot->last;
    series *s = het_alloc(sizeof *s + 2 * bytes);
    plot->failed = s == NULL;
    if (s == NULL) return;
    s->mark = mark;
    s->count = count;
    s->x = (double *)(void *)(s + 1);
    s->y = s->x + count;
    copy_text(s->name, name != NULL ? name : "");
    snprintf(s->colour, sizeof s->colour, "%s", colour);
    memcpy(s->x, x, bytes);
    memcpy(s->y, y, bytes);
    if (p->last != NULL) p->last->next = s;
    else p->first = s;
    p->last = s;
}

void het_plot_cells(het_plot *plot, const double *count, int columns, int rows)
{
    if (plot == NULL || plot->failed) return;
    panel *p = plot->last;
    const size_t bytes = (size_t)(columns * rows) * sizeof *count;
    p->cell = het_alloc(bytes);
    plot->failed = p->cell == NULL;
    if (p->cell == NULL) return;
    memcpy(p->cell, count, bytes);
    p->columns = columns;
    p->rows = rows;
}

/* Colour at t = 0..1 of a row of five. */
static void shade(char colour[8], const unsigned char anchor[5][3], double t)
{
    const int k = t < 1.0 ? (int)(4.0 * t) : 3;
    const double f = 4.0 * t - k;
    int c[3];
    for (int i = 0; i < 3; i++) c[i] = (int)lround((1.0 - f) * anchor[k][i] + f * anchor[k + 1][i]);
    snprintf(colour, 8, "#%02x%02x%02x", c[0] & 255, c[1] & 255, c[2] & 255);
}

void het_plot_colour(char colour[8], int64_t k, int64_t of)
{
    /* Okabe & Ito's colours, told apart by the colour-blind too; Matplotlib's viridis, its yellow darker */
    static const char *const distinct[8] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                            "#56b4e9", "#e69f00", "#7f3c8d", "#000000"};
    static const unsigned char row[5][3] = {
        {0x44, 0x01, 0x54}, {0x3b, 0x52, 0x8b}, {0x21, 0x91, 0x8c}, {0x5e, 0xc9, 0x62}, {0xd8, 0xc2, 0x1a}};
    if (of <= 8) snprintf(colour, 8, "%s", distinct[k % 8]);
    else shade(colour, row, (double)k / (double)(of - 1));
}

int het_plot_ticks(double tick[TICKS], double from, double to, int wanted)
{
    const double rough = (to - from) / wanted, power = pow(10.0, floor(log10(rough))), part = rough / power;
    const double step = power * (part < 1.5 ? 1.0 : part < 3.5 ? 2.0 : part < 7.5 ? 5.0 : 10.0);
    int count = 0;
    for (double k = ceil(from / step - 1e-9); k * step <= to + 1e-9 * step && count < TICKS; k += 1.0)
        tick[count++] = k * step;
    return count;
}

/* Ticks of a logarithmic axis: the powers of ten, with 2 and 5 between where there are few. */
static int log_ticks(double tick[TICKS], double from, double to)
{
    static const double between[3] = {1.0, 2.0, 5.0};
    const int few = log10(to / from) < 2.5;
    int count = 0;
    for (double e = floor(log10(from)); e <= ceil(log10(to)); e += 1.0)
        for (int b = 0; b < (few ? 3 : 1); b++) {
            const double at = between[b] * pow(10.0, e);
            if (at >= from * (1.0 - 1e-9) && at <= to * (1.0 + 1e-9) && count < TICKS) tick[count++] = at;
        }
    return count;
}

static int drawable(const panel *p, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!p->axis[0].log || x > 0.0) && (!p->axis[1].log || y > 0.0);
}

/* Set the ranges that the caller left to the data. */
static void find_range(panel *p, int which)
{
    het_axis *a = &p->axis[which];
    double low = DBL_MAX, high = -DBL_MAX;
    int points = 0;
    if (a->from < a->to) return;
    for (const series *s = p->first; s != NULL; s = s->next) {
        points |= s->mark == HET_MARK_POINT;
        for (int64_t i = 0; i < s->count; i++) {
            if (!drawable(p, s->x[i], s->y[i])) continue;
            low = fmin(low, which == 0 ? s->x[i] : s->y[i]);
            high = fmax(high, which == 0 ? s->x[i] : s->y[i]);
        }
    }
    if (low > high) low = high = 1.0;
    const double margin = which == 1 || points ? 0.04 : 0.0;
    if (a->log) {
        const double more = high > low ? pow(high / low, margin) : 2.0;
        a->from = low / more;
        a->to = high * more;
    } else {
        const double more = high > low ? margin * (high - low) : fmax(0.5 * fabs(high), 0.5);
        a->from =
            low == 0.0 && !points ? 0.0 : low - more; /* a line that begins at nothing stands on the axis */
        a->to = high + more;
    }
}

/* Place of a value on the picture, from the panel's left or bottom edge. */
static double place(const het_axis *a, double value, double length)
{
    if (a->log) return length * log(value / a->from) / log(a->to / a->from);
    return length * (value - a->from) / (a->to - a->from);
}

static void text(FILE *f, double x, double y, const char *anchor, const char *words)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, words);
}

/* Upwards, along the middle of the panel's height. */
static void upright_text(FILE *f, int x, const char *words)
{
    fprintf(f, "<text transform=\"translate(%d %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", x,
            HEIGHT / 2, words);
}

/* "-" becomes a minus sign. */
static void number(char out[TEXT], double value, double scale)
{
    char plain[32];
    if (fabs(value) < 1e-9 * scale) value = 0.0;
    snprintf(plain, sizeof plain, "%.6g", value);
    snprintf(out, TEXT, "%s%s", plain[0] == '-' ? "\u2212" : "", plain + (plain[0] == '-'));
}

static void draw_axis(FILE *f, const panel *p, int which)
{
    const het_axis *a = &p->axis[which];
    const double length = which == 0 ? WIDTH : HEIGHT;
    double tick[TICKS];
    char words[TEXT];
    const int count = a->log ? log_ticks(tick, a->from, a->to) : het_plot_ticks(tick, a->from, a->to, 5);
    for (int i = 0; i < count; i++) {
        const double at = place(a, tick[i], length);
        number(words, tick[i], a->log ? tick[i] : a->to - a->from);
        if (which == 0) {
            fprintf(f, "<path stroke=\"#000\" d=\"M%.1f %dv5\"/>\n", at, HEIGHT);
            text(f, at, HEIGHT + 18, "middle", words);
        } else {
            fprintf(f, "<path stroke=\"#000\" d=\"M0 %.1fh-5\"/>\n", HEIGHT - at);
            text(f, -8, HEIGHT - at + 4, "end", words);
        }
    }
    if (which == 0) text(f, WIDTH / 2.0, HEIGHT + 38, "middle", p->label[0]);
    else upright_text(f, -50, p->label[1]);
}

static void draw_series(FILE *f, const panel *p, const series *s)
{
    int drawn = 0;
    if (s->mark == HET_MARK_POINT)
        fprintf(f,
                "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linecap=\"round\" "
                "stroke-opacity=\".5\" d=\"",
                s->colour);
    else
        fprintf(f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.4\" stroke-linejoin=\"round\"%s d=\"",
                s->colour, s->mark == HET_MARK_DASH ? " stroke-dasharray=\"5 3\"" : "");
    for (int64_t i = 0; i < s->count; i++) {
        const int here = drawable(p, s->x[i], s->y[i]);
        if (here)
            fprintf(f, "%s%.1f %.1f%s", drawn && s->mark != HET_MARK_POINT ? "L" : "M",
                    place(&p->axis[0], s->x[i], WIDTH), HEIGHT - place(&p->axis[1], s->y[i], HEIGHT),
                    s->mark == HET_MARK_POINT ? "h0" : "");
        drawn = here;
    }
    fprintf(f, "\"/>\n");
}

static void draw_legend(FILE *f, const panel *p)
{
    double y = 8;
    for (const series *s = p->first; s != NULL; s = s->next) {
        if (s->name[0] == '\0') continue;
        if (s->mark == HET_MARK_POINT)
            fprintf(f, "<circle cx=\"%d\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", WIDTH + 18, y, s->colour);
        else
            fprintf(f, "<path stroke=\"%s\" stroke-width=\"2\"%s d=\"M%d %.1fh16\"/>\n", s->colour,
                    s->mark == HET_MARK_DASH ? " stroke-dasharray=\"5 3\"" : "", WIDTH + 10, y);
        text(f, WIDTH + 31, y + 4, "start", s->name);
        y += 16;
    }
}

static void cell_colour(char colour[8], int level)
{
    static const unsigned char blues[5][3] = {
        {0xff, 0xff, 0xff}, {0xb5, 0xd3, 0xe9}, {0x6b, 0xae, 0xd6}, {0x21, 0x71, 0xb5}, {0x08, 0x30, 0x6b}};
    shade(colour, blues, (double)level / LEVELS);
}

/* The cells of one shade after another, then the scale. */
static void draw_cells(FILE *f, const panel *p)
{
    const double w = (double)WIDTH / p->columns, h = (double)HEIGHT / p->rows;
    const int cells = p->columns * p->rows;
    double most = 0.0;
    char colour[8], words[TEXT];
    for (int i = 0; i < cells; i++) most = fmax(most, p->cell[i]);
    fprintf(f, "<g shape-rendering=\"crispEdges\">\n");
    for (int level = 1; level <= LEVELS && most > 0.0; level++) {
        cell_colour(colour, level);
        fprintf(f, "<path fill=\"%s\" d=\"", colour);
        for (int i = 0; i < cells; i++)
            if ((int)ceil(LEVELS * sqrt(p->cell[i] / most)) == level)
                fprintf(f, "M%.2f %.2fh%.2fv%.2fh%.2fz", w * (i % p->columns),
                        HEIGHT - h * (i / p->columns + 1), w, h, -w);
        fprintf(f, "\"/>\n<path fill=\"%s\" d=\"M%d %.2fh12v%.2fh-12z\"/>\n", colour, WIDTH + 12,
                HEIGHT - (double)HEIGHT * level / LEVELS, (double)HEIGHT / LEVELS);
    }
    fprintf(f, "</g>\n<path fill=\"none\" stroke=\"#000\" d=\"M%d 0h12v%dh-12z\"/>\n", WIDTH + 12, HEIGHT);
    for (int k = 0; k <= 2; k++) {
        number(words, most * k * k / 4.0, most);
        text(f, WIDTH + 29, HEIGHT - HEIGHT * k / 2.0 + 4, "start", words);
    }
    upright_text(f, WIDTH + 80, "images per cell");
}

static void draw_panel(FILE *f, panel *p, int at, int columns)
{
    find_range(p, 0);
    find_range(p, 1);
    fprintf(f, "<g transform=\"translate(%d %d)\">\n", at % columns * (LEFT + WIDTH + RIGHT) + LEFT,
            at / columns * (TOP + HEIGHT + BOTTOM) + TOP);
    fprintf(f, "<text y=\"-10\" font-weight=\"bold\">%s</text>\n", p->title);
    if (p->cell != NULL) draw_cells(f, p);
    fprintf(f, "<g clip-path=\"url(#frame)\">\n");
    for (const series *s = p->first; s != NULL; s = s->next) draw_series(f, p, s);
    fprintf(f, "</g>\n<path fill=\"none\" stroke=\"#000\" d=\"M0 0h%dv%dh%dz\"/>\n", WIDTH, HEIGHT, -WIDTH);
    draw_axis(f, p, 0);
    draw_axis(f, p, 1);
    draw_legend(f, p);
    fprintf(f, "</g>\n");
}

static het_status write_file(const het_plot *plot, const char *path)
{
    const int columns = plot->panels < plot->columns ? plot->panels : plot->columns;
    const int width = columns * (LEFT + WIDTH + RIGHT);
    const int height = (plot->panels + columns - 1) / columns * (TOP + HEIGHT + BOTTOM);
    FILE *f;
    const het_status status = het_out_open(&f, path);
    if (status != HET_OK) return status;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n",
            width, height, width, height);
    fprintf(f,
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n<clipPath id=\"frame\"><rect width=\"%d\" "
            "height=\"%d\"/>"
            "</clipPath>\n<g font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"11\">\n",
            width, height, WIDTH, HEIGHT);
    int at = 0;
    for (panel *p = plot->first; p != NULL; p = p->next) draw_panel(f, p, at++, columns);
    fprintf(f, "</g>\n</svg>\n");
    return het_out_close(f, path);
}

void het_plot_free(het_plot *plot)
{
    if (plot == NULL) return;
    for (panel *p = plot->first, *next; p != NULL; p = next) {
        next = p->next;
        for (series *s = p->first, *after; s != NULL; s = after) {
            after = s->next;
            het_release(s);
        }
        het_release(p->cell);
        het_release(p);
    }
    het_release(plot);
}

het_status het_plot_finish(het_plot *plot, const char *path)
{
    if (plot == NULL) return het_fail(HET_E_MEMORY, "no memory for %s", path);
    const het_status status =
        plot->failed ? het_fail(HET_E_MEMORY, "no memory for %s", path) : write_file(plot, path);
    het_plot_free(plot);
    return status;
}
