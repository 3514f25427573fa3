#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "../data/json.h"
#include "measures.h"

/* Columns of the tables and arrays of the JSON file: one number per class. A table begins where
 * `table` says so. */
static const struct {
    const char *key, *title;
    size_t member;
    int table;
} COLUMN[] = {
    {"class_rot", "Rot", offsetof(het_class_measures, rot), 1},
    {"class_rot_own", "Rot own", offsetof(het_class_measures, rot_own), 0},
    {"class_hand_own", "Hand own", offsetof(het_class_measures, hand_own), 0},
    {"class_frame_deg", "Frame deg", offsetof(het_class_measures, frame_degrees), 0},
    {"class_trans_raw", "Trans px2", offsetof(het_class_measures, trans_raw), 0},
    {"class_trans_own", "Trans own", offsetof(het_class_measures, trans_own), 0},
    {"class_err", "Err", offsetof(het_class_measures, err), 1},
    {"class_pc1_mean", "PC1 mean", offsetof(het_class_measures, pc1_mean), 0},
    {"class_pc1_std", "PC1 std", offsetof(het_class_measures, pc1_std), 0},
    {"class_pc1_mode", "PC1 mode", offsetof(het_class_measures, pc1_mode), 0},
    {"res", "Res px", offsetof(het_class_measures, res), 1},
    {"res143", "Res .143", offsetof(het_class_measures, res143), 0},
    {"res_own", "Res own", offsetof(het_class_measures, res_own), 0},
    {"res_fitted", "Res fitted", offsetof(het_class_measures, res_fitted), 0},
    {"class_image_area", "Image area", offsetof(het_class_measures, area), 0},
    {"class_image_res", "Image Res", offsetof(het_class_measures, image_res), 0},
};
enum { COLUMNS = sizeof COLUMN / sizeof *COLUMN };

static double member(const het_class_measures *c, int column)
{
    return *(const double *)(const void *)((const char *)c + COLUMN[column].member);
}

/* A column that no class has a number for is left out of the table. */
static int known(const het_measures *m, int column)
{
    for (int64_t k = 0; k < m->classes; k++)
        if (isfinite(member(&m->klass[k], column))) return 1;
    return 0;
}

/* Columns first .. last-1, one line per class; nothing, and 0 returned, where no number is known. */
static int print_table(const het_measures *m, FILE *out, int first, int last)
{
    int any = 0;
    for (int c = first; c < last; c++) any |= known(m, c);
    if (!any) return 0;
    fprintf(out, "%5s %8s", "class", "images");
    for (int c = first; c < last; c++)
        if (known(m, c)) fprintf(out, " %10s", COLUMN[c].title);
    fputc('\n', out);
    for (int64_t k = 0; k < m->classes; k++) {
        fprintf(out, "%5lld %8lld", (long long)k, (long long)m->klass[k].images);
        for (int c = first; c < last; c++) {
            const double value = member(&m->klass[k], c);
            if (!known(m, c)) continue;
            if (isfinite(value)) fprintf(out, " %10.4g", value);
            else fprintf(out, " %10s", "-");
        }
        fputc('\n', out);
    }
    return 1;
}

static void print_classes(const het_measures *m, FILE *out)
{
    int maps = 0; /* the last table is that of maps */
    for (int first = 0, last; first < COLUMNS; first = last) {
        for (last = first + 1; last < COLUMNS && !COLUMN[last].table; last++) continue;
        maps = print_table(m, out, first, last);
    }
    fprintf(out, "own: the class alone, with its own rotation, hand and origin; Frame: angle between that "
                 "rotation and A\n");
    if (maps)
        fprintf(out, "Res: px, first crossing of FSC = 0.5 (.143) with the true map, no mask, in the common "
                     "frame, the class's\nown, and fitted to the true map; floor 2 px\n");
    if (m->sampled > 0)
        fprintf(out, "Image: %lld images, each with the map of its own z in the common frame: mean area under "
                     "FSC, median Res\n",
                (long long)m->sampled);
}

static void line(FILE *out, const char *name, double value, const char *meaning)
{
    if (isfinite(value)) fprintf(out, "%-18s %12.5g  %s\n", name, value, meaning);
}

void het_measures_print(const het_measures *m, FILE *out)
{
    fprintf(out, "%lld images, box %lld, %g A per pixel, %lld class%s, hand %s\n", (long long)m->images,
            (long long)m->box, m->apix, (long long)m->classes, m->classes == 1 ? "" : "es",
            m->align.hand > 0 ? "as predicted" : "mirrored");
    if (m->junk.images > 0)
        fprintf(out, "and %lld images that are no particles: /particle finds %lld of them, and takes %lld particles for some\n", (long long)m->junk.images,
                (long long)m->junk.found, (long long)m->junk.particles);
    line(out, "Rot", m->align.median,
         "median |R_true - R_pred A|_F^2, A of the best of 200 anchors, better hand");
    line(out, "  refined A", m->align.median_refined, "the same with A averaged over the images that agree");
    line(out, "  other hand", m->align.median_other, "the same for the other hand, up to 2000 images");
    line(out, "  mean", m->align.mean_degrees, "degrees");
    line(out, "  median", m->align.median_degrees, "degrees");
    line(out, "  within 0.1", m->align.within, "share of images closer than 12.8 degrees");
    line(out, "  frames", m->frames_degrees, "degrees: largest angle between the own frames of two classes");
    line(out, "Trans raw", m->origin.raw, "median |t_true - t_pred|^2, px^2");
    line(out, "Trans corrected", m->origin.corrected, "the same after one 3D origin by least squares, px^2");
    line(out, "Err", m->err, "misclassified share, PC1 of z, threshold midway between its two groups");
    line(out, "  best threshold", m->err_best, "the same with the threshold chosen by the labels");
    line(out, "Corr", m->corr,
         "|Spearman| of PC1 and the true coordinate, or class number where none is known");
    line(out, "Neighbours", m->similarity, "share of the 10 nearest in z that have the same class");
    line(out, "  by chance", m->chance, "for mixed classes");
    line(out, "E", m->entanglement, "entanglement: E_pose + E_z");
    line(out, "  E_pose", m->e_pose, "Rot + Trans raw / box^2");
    line(out, "  E_z", m->e_z,
         m->classes == 2 ? "Err" : "mean overlap of neighbouring classes on PC1 (own reading of eq. 11)");
    line(out, "Image area", m->area_mean,
         "per-image FSC: mean area under it, k in cycles per pixel (at most 1/2 - 1/box)");
    line(out, "  median", m->area_median, "the same, median");
    line(out, "Image Res", m->image_res_median, "per-image FSC: median px where it crosses 0.5");
    line(out, "  mean", m->image_res_mean, "the same, mean");
    print_classes(m, out);
}

static json_t *vector(const double *values, int64_t count)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) json_array_append_new(list, het_json_real(values[i]));
    return list;
}

/* Mean over classes, by their samples, of the curves of single images. */
static json_t *image_curve(const het_measures *m)
{
    json_t *list = json_array();
    for (int64_t s = 0; s < m->box / 2 && m->sampled > 0; s++) {
        double sum = 0.0;
        for (int64_t i = 0; i < m->sampled; i++)
            sum += m->fsc[(m->sample[i].klass * HET_FSC_KINDS + HET_FSC_IMAGES) * (m->box / 2) + s];
        json_array_append_new(list, het_json_real(sum / (double)m->sampled));
    }
    return list;
}

static void add_classes(json_t *root, const het_measures *m)
{
    json_t *images = json_array();
    for (int64_t k = 0; k < m->classes; k++) json_array_append_new(images, json_integer(m->klass[k].images));
    json_object_set_new(root, "class_images", images);
    for (int c = 0; c < COLUMNS; c++) {
        json_t *list = json_array();
        for (int64_t k = 0; k < m->classes; k++)
            json_array_append_new(list, het_json_real(member(&m->klass[k], c)));
        json_object_set_new(root, COLUMN[c].key, list);
    }
}

het_status het_measures_write_json(const het_measures *m, const char *path)
{
    json_t *root = json_object();
    json_object_set_new(root, "images", json_integer(m->images));
    json_object_set_new(root, "box", json_integer(m->box));
    json_object_set_new(root, "classes", json_integer(m->classes));
    if (m->junk.images > 0)
        json_object_set_new(root, "junk", json_pack("{s:I, s:I, s:I}", "images", (json_int_t)m->junk.images, "found", (json_int_t)m->junk.found, "particles", (json_int_t)m->junk.particles));
    het_json_put(root, "apix", m->apix);
    het_json_put(root, "rot", m->align.median);
    het_json_put(root, "rot_refined", m->align.median_refined);
    het_json_put(root, "rot_other_hand", m->align.median_other);
    het_json_put(root, "rot_mean_deg", m->align.mean_degrees);
    het_json_put(root, "rot_median_deg", m->align.median_degrees);
    het_json_put(root, "rot_within_0.1", m->align.within);
    json_object_set_new(root, "hand", json_integer(m->align.hand));
    json_object_set_new(root, "alignment", vector(m->align.refined, 9));
    json_object_set_new(root, "origin", vector(m->origin.u, 3));
    het_json_put(root, "trans_raw", m->origin.raw);
    het_json_put(root, "trans_corrected", m->origin.corrected);
    het_json_put(root, "err", m->err);
    het_json_put(root, "err_best", m->err_best);
    het_json_put(root, "corr", m->corr);
    het_json_put(root, "neighbours", m->similarity);
    het_json_put(root, "neighbours_chance", m->chance);
    het_json_put(root, "entanglement", m->entanglement);
    het_json_put(root, "e_pose", m->e_pose);
    het_json_put(root, "e_z", m->e_z);
    het_json_put(root, "frames_deg", m->frames_degrees);
    json_object_set_new(root, "image_count", json_integer(m->sampled));
    het_json_put(root, "image_area_mean", m->area_mean);
    het_json_put(root, "image_area_median", m->area_median);
    het_json_put(root, "image_res_mean", m->image_res_mean);
    het_json_put(root, "image_res_median", m->image_res_median);
    json_object_set_new(root, "image_fsc", image_curve(m));
    add_classes(root, m);
    const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    int failed;
    if (strcmp(path, "-") == 0) {
        failed = json_dumpf(root, stdout, flags) != 0;
        putchar('\n');
    } else {
        failed = json_dump_file(root, path, flags) != 0;
    }
    json_decref(root);
    return failed ? het_fail(HET_E_IO,
                             "%s: cannot write the measures: is the folder there, and is there space?", path)
                  : HET_OK;
}
