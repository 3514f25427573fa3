#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "../arena.h"
#include "../data/checkpoint.h"
#include "../data/cs.h"
#include "../data/mrc.h"
#include "../data/predictions.h"
#include "../data/stack.h"
#include "../data/star.h"
#include "cli.h"
#include "last_line.h"
#include "options.h"

static const char usage[] = "usage: hetacumn info FILE\n"
                            "Say in plain words what a stack (.h5), map or image stack (.mrc, .mrcs, .map, "
                            ".ccp4), STAR or .cs file, checkpoint,\n"
                            "predictions file or run folder holds.\n";

static void print_json(const char *text)
{
    const char *key;
    json_t *value, *object = json_loads(text, 0, NULL);
    json_object_foreach(object, key, value)
    {
        if (json_is_string(value)) printf("  %-20s %s\n", key, json_string_value(value));
        else if (json_is_integer(value)) printf("  %-20s %lld\n", key, (long long)json_integer_value(value));
        else if (json_is_real(value)) printf("  %-20s %.6g\n", key, json_real_value(value));
        else if (json_is_boolean(value)) printf("  %-20s %s\n", key, json_is_true(value) ? "yes" : "no");
    }
    json_decref(object);
}

static het_status describe_ctf(const het_stack *stack)
{
    enum { BLOCK = 4096 };
    het_status status = HET_OK;
    static het_ctf_row ctf[BLOCK];
    static int64_t index[BLOCK];
    het_ctf_row first = {0};
    const int64_t count = het_stack_get_info(stack)->count;
    double least = INFINITY, most = -INFINITY;
    int64_t with = 0;
    for (int64_t at = 0; at < count; at += BLOCK) {
        const int64_t n = count - at < BLOCK ? count - at : BLOCK;
        for (int64_t i = 0; i < n; i++) index[i] = at + i;
        HET_TRY(het_stack_read_ctf(stack, ctf, index, n));
        if (at == 0) first = ctf[0];
        for (int64_t i = 0; i < n; i++) {
            if (ctf[i].voltage == 0.0f) continue;
            const double defocus = 0.5 * ((double)ctf[i].defocus_u + ctf[i].defocus_v);
            least = fmin(least, defocus);
            most = fmax(most, defocus);
            with++;
        }
    }
    if (with == 0) {
        printf("  CTF          none\n");
        goto done;
    }
    printf("  CTF          defocus %.0f to %.0f A; the first: %.0f kV, Cs %.2f mm, amplitude contrast %.3f\n",
           least, most, first.voltage / 1.0e3, first.cs / 1.0e7, first.amplitude);
    if (with < count) printf("  CTF          none for %lld images\n", (long long)(count - with));
done:
    return status;
}

static het_status describe_stack(const char *path)
{
    het_stack *stack = NULL;
    het_status status = het_stack_open(&stack, path);
    if (status != HET_OK) return status;
    const het_stack_info *info = het_stack_get_info(stack);
    const char *source;
    int64_t row;
    printf("%s: a particle stack\n", path);
    if (info->files > 1) printf("  files        %lld\n", (long long)info->files);
    printf("  images       %lld of %lld x %lld pixels, %s\n", (long long)info->count, (long long)info->box,
           (long long)info->box, info->type == HET_F16 ? "float16" : "float32");
    printf("  pixel size   %.5g A; finest detail %.4g A\n", info->apix, 2.0 * info->apix);
    printf("  pixels       mean %.6g, standard deviation %.6g\n", info->mean, info->std);
    if (het_whitening_is(&info->whitening))
        printf("  noise        whitened: low frequencies times %.3g, the highest times %.3g\n", het_whitening_at(&info->whitening, 0.0, info->box),
               het_whitening_at(&info->whitening, 0.5 * (double)info->box, info->box));
    printf("  sign         pixels of the source were %s\n", info->sign < 0 ? "multiplied by -1" : "kept");
    printf("  shifts       up to %.3g pixels expected\n", info->shift_range);
    status = describe_ctf(stack);
    printf("  truth        %s\n",
           info->has_truth ? "stored (rotations, shifts): `evaluate` can use it" : "none");
    if (info->has_source && het_stack_source(stack, 0, &source, &row) == HET_OK)
        printf("  source       %s, first image from row %lld%s\n", source, (long long)row,
               info->recentred ? "; recentred" : "");
    het_stack_close(stack);
    return status;
}

static het_status describe_checkpoint(const char *path)
{
    char *json = NULL;
    const het_status status = het_checkpoint_json(path, &json);
    if (status != HET_OK) return status;
    printf("%s: a checkpoint\n", path);
    print_json(json);
    free(json);
    return HET_OK;
}

static het_status describe_predictions(const char *path)
{
    het_predictions p;
    const het_status status = het_predictions_load(&p, path);
    if (status != HET_OK) return status;
    printf("%s: predictions\n  images       %lld: rotation, shift and z of %lld numbers\n", path,
           (long long)p.count, (long long)p.z_dim);
    printf("  stack        box %lld, %.5g A per pixel\n", (long long)p.box, p.apix);
    het_predictions_free(&p);
    return HET_OK;
}

static het_status describe_hdf5(const char *path)
{
    char why[512];
    if (describe_stack(path) == HET_OK) return HET_OK;
    snprintf(why, sizeof why, "%s", het_status_message());
    if (describe_checkpoint(path) == HET_OK || describe_predictions(path) == HET_OK) return HET_OK;
    return het_fail(
        HET_E_INPUT,
        "%s: HDF5, but no whole stack, checkpoint or predictions file of this program (as a stack: "
        "%s)",
        path, why);
}

/* Statistics of the first sections, as many as fit 64 MiB. */
static het_status describe_pixels(het_mrc *mrc)
{
    const het_mrc_info *info = het_mrc_get_info(mrc);
    const int64_t section = info->nx * info->ny;
    int64_t sections = (16 << 20) / section + 1, bad = 0;
    if (sections > info->nz) sections = info->nz;
    if (info->axis[0] != 0 || info->axis[1] != 1) return HET_OK; /* read through the axes only as a volume */
    float *pixels = het_alloc((size_t)(sections * section) * sizeof *pixels);
    if (pixels == NULL)
        return het_fail(HET_E_MEMORY, "no memory for %lld pixels", (long long)(sections * section));
    const het_status status = het_mrc_read(mrc, pixels, 0, sections);
    double sum = 0.0, sum2 = 0.0, least = INFINITY, most = -INFINITY;
    for (int64_t i = 0; status == HET_OK && i < sections * section; i++) {
        if (!isfinite(pixels[i])) {
            bad++;
            continue;
        }
        sum += pixels[i];
        sum2 += (double)pixels[i] * pixels[i];
        least = fmin(least, pixels[i]);
        most = fmax(most, pixels[i]);
    }
    const double n = (double)(sections * section - bad), mean = sum / fmax(n, 1.0);
    if (status == HET_OK && n > 0)
        printf("  pixels       %.5g to %.5g, mean %.5g, standard deviation %.5g%s\n", least, most, mean,
               sqrt(fmax(sum2 / n - mean * mean, 0.0)),
               sections < info->nz ? " (of the first sections)" : "");
    if (bad > 0) printf("  pixels       %lld are NaN or infinite\n", (long long)bad);
    het_release(pixels);
    return status;
}

static het_status describe_cs(const char *path)
{
    het_cs cs;
    char name[PATH_MAX];
    const het_status status = het_cs_load(&cs, path);
    if (status != HET_OK) return status;
    printf("%s: a cryoSPARC dataset, %lld rows of %lld columns\n", path, (long long)cs.rows, (long long)cs.fields);
    const het_cs_field *image = het_cs_find(&cs, "blob/path", 1, 1), *apix = het_cs_find(&cs, "blob/psize_A", 0, 1);
    if (image != NULL) {
        het_cs_text(&cs, image, 0, name, sizeof name);
        printf("  first image  in %s\n", name);
    }
    if (apix != NULL) printf("  pixel size   %.5g A\n", het_cs_number(&cs, apix, 0, 0));
    printf("  CTF          %s\n", het_cs_find(&cs, "ctf/df1_A", 0, 1) != NULL ? "yes" : "none");
    printf("  poses        %s\n", het_cs_find(&cs, "alignments3D/pose", 0, 3) != NULL ? "yes" : "none");
    if (image == NULL) printf("  it names no images: give `import` the job's other file too\n");
    het_cs_free(&cs);
    return HET_OK;
}

static het_status describe_mrc(const char *path)
{
    static const char *const kinds[] = {"a stack of images", "a map", "a stack of maps"};
    static const char axis[] = "xyz";
    het_mrc *mrc = NULL;
    het_status status = het_mrc_open(&mrc, path);
    if (status != HET_OK) return status;
    const het_mrc_info *info = het_mrc_get_info(mrc);
    const char *type = info->mode == 0   ? "8-bit integers"
                       : info->mode == 1 ? "16-bit integers"
                       : info->mode == 2 ? "float32"
                       : info->mode == 6 ? "unsigned 16-bit integers"
                                         : "float16";
    printf("%s: MRC/CCP4, by its header %s\n", path, kinds[info->kind]);
    printf("  size         %lld columns x %lld rows x %lld sections, %s, %s-endian\n", (long long)info->nx,
           (long long)info->ny, (long long)info->nz, type, info->big_endian ? "big" : "little");
    if (info->volumes > 1) printf("  maps         %lld\n", (long long)info->volumes);
    if (info->axis[0] != 0 || info->axis[1] != 1)
        printf("  axes         columns, rows, sections run along %c, %c, %c\n", axis[info->axis[0]],
               axis[info->axis[1]], axis[info->axis[2]]);
    if (info->apix[0] > 0.0)
        printf("  pixel size   %.5g x %.5g x %.5g A\n", info->apix[0], info->apix[1], info->apix[2]);
    else printf("  pixel size   not given\n");
    if (info->data_offset > 1024)
        printf("  header       extended by %lld bytes\n", (long long)info->data_offset - 1024);
    if (info->extra) printf("  note         the file is longer than its header says\n");
    status = describe_pixels(mrc);
    het_mrc_close(mrc);
    return status;
}

static het_status describe_star(const char *path)
{
    static const char *const wanted[] = {"rlnDefocusU",   "rlnImagePixelSize", "rlnPixelSize",
                                         "rlnAngleRot",   "rlnOriginXAngst",   "rlnOriginX",
                                         "rlnOpticsGroup"};
    het_star star;
    const het_status status = het_star_load(&star, path);
    if (status != HET_OK) return status;
    printf("%s: a STAR file of %lld tables\n", path, (long long)star.count);
    for (int64_t t = 0; t < star.count; t++) {
        const het_star_table *table = &star.table[t];
        printf("  data_%-20s %lld rows of %lld columns%s\n", table->name, (long long)table->rows,
               (long long)table->columns, table->is_loop ? "" : " (a list of values)");
        if (het_star_column(table, "rlnImageName") < 0) continue;
        printf("    particles; of the columns that matter it has:");
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (het_star_column(table, wanted[i]) >= 0) printf(" _%s", wanted[i]);
        printf("\n");
    }
    het_star_free(&star);
    return HET_OK;
}

static het_status describe_run(const char *path)
{
    char folder[PATH_MAX], newest[PATH_MAX], report[8192];
    struct stat about;
    if (snprintf(folder, sizeof folder, "%s/checkpoints", path) >= (int)sizeof folder ||
        stat(folder, &about) != 0)
        return het_fail(HET_E_INPUT, "%s: a folder, but not of a run (it has no checkpoints/)", path);
    printf("%s: a training run\n", path);
    *report = '\0';
    if (snprintf(newest, sizeof newest, "%s/log.jsonl", path) < (int)sizeof newest)
        het_last_line(newest, report, sizeof report);
    if (*report != '\0') printf("last report\n");
    if (*report != '\0') print_json(report);
    const het_status status = het_checkpoint_newest(folder, newest, sizeof newest);
    if (status != HET_OK) return status;
    if (*newest != '\0') return describe_checkpoint(newest);
    printf("no checkpoint yet\n");
    return HET_OK;
}

static het_status describe(const char *path)
{
    struct stat about;
    unsigned char magic[8] = {0};
    if (stat(path, &about) != 0) return het_fail(HET_E_IO, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(about.st_mode)) return describe_run(path);
    FILE *file = fopen(path, "rb");
    if (file == NULL) return het_fail(HET_E_IO, "%s: cannot open: %s", path, strerror(errno));
    const size_t got = fread(magic, 1, sizeof magic, file);
    fclose(file);
    if (got == sizeof magic && memcmp(magic, "\211HDF\r\n\032\n", 8) == 0) return describe_hdf5(path);
    if (got == sizeof magic && (memcmp(magic, "\223NUMPY", 6) == 0 || memcmp(magic, "\224CSDAT", 6) == 0)) return describe_cs(path);
    if (het_options_ends_with(path, ".txt")) return describe_stack(path);
    if (het_options_is_star(path)) return describe_star(path);
    return describe_mrc(path);
}

het_status het_cmd_info(het_comm *comm, int argc, char **argv, int *exit_code)
{
    static const struct option list[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    (void)exit_code;
    optind = 1;
    opterr = 0;
    const int c = getopt_long(argc, argv, ":", list, NULL);
    if (c == 'h') {
        if (het_comm_rank(comm) == 0) fputs(usage, stdout);
        return HET_OK;
    }
    if (c != -1) return het_options_refused(argv, c);
    if (optind != argc - 1) return het_fail(HET_E_USAGE, "info: give one file or run folder");
    return het_comm_agree(comm, het_comm_rank(comm) == 0 ? describe(argv[optind]) : HET_OK);
}
