#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/out_file.h"
#include "../log.h"
#include "../physics/fsc.h"
#include "../reconstruct.h"
#include "cli.h"
#include "figures.h"
#include "map_file.h"
#include "options.h"
#include "selection.h"

static const char usage[] =
    "usage: hetacumn reconstruct [RUN] stack.h5 -o DIR [conditions]\n"
    "Maps from the images alone, by back-projection: at the poses of RUN/predictions.h5, to see what the images themselves show of a\n"
    "conformation; without RUN at those that came with the stack (`import --poses`), to see that CTF, sign and pixel size are right.\n"
    "The stack may have another box than the one that was predicted, but the same images in the same order, recentred or not as those were.\n"
    "  DIR/vol_000.mrc                      of all images, its shells weighted as the half maps agree\n"
    "  DIR/vol_000_half1.mrc, _half2.mrc    of a half of them each, drawn by chance, unweighted\n"
    "  DIR/vol_000_fsc.tsv                  the halves' FSC (poses were found with all images: it is an upper bound)\n"
    "Conditions, with RUN: which images. --kmeans K alone gives a map of each cluster, vol_000.mrc ..\n"
    HET_SELECTION_USAGE
    "      --predictions FILE            in place of RUN/predictions.h5\n"
    "      --classes                     without RUN: a map of each class of the stack, as `simulate` makes them\n"
    "  -o, --output DIR\n"
    "      --help\n";

typedef struct job {
    const char *run, *stack_path, *out, *given;
    char predicted[1200]; /* file of the predictions; "" for the stack's own poses */
    het_selection selection;
    int conditions, classes, help;
    het_stack *stack;
    float *rotation, *shift; /* of the stack's images, px of the stack */
    int64_t *group, groups;
} job;

static het_status parse(job *j, int argc, char **argv)
{
    static const struct option list[] = {HET_SELECTION_OPTIONS, {"predictions", required_argument, NULL, 'p'}, {"classes", no_argument, NULL, 'c'},
                                         {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    het_status status = HET_OK;
    optind = 0;
    opterr = 0;
    for (int c, known; (c = getopt_long(argc, argv, ":o:", list, NULL)) != -1;) {
        HET_TRY(het_selection_option(&j->selection, c, optarg, &known));
        j->conditions |= known;
        if (known) continue;
        if (c == 'o') j->out = optarg;
        else if (c == 'p') j->given = optarg;
        else if (c == 'c') j->classes = 1;
        else if (c == 'h') j->help = 1;
        else HET_TRY(het_options_refused(argv, c));
        if (j->help) goto done;
    }
    if (argc - optind < 1 || argc - optind > 2)
        HET_TRY(het_fail(HET_E_USAGE, "reconstruct takes stack.h5, or RUN and stack.h5; see hetacumn reconstruct --help"));
    j->stack_path = argv[argc - 1];
    if (argc - optind == 2) j->run = argv[optind];
    if (j->given != NULL) snprintf(j->predicted, sizeof j->predicted, "%s", j->given);
    else if (j->run != NULL) snprintf(j->predicted, sizeof j->predicted, "%s/predictions.h5", j->run);
    if (j->out == NULL) HET_TRY(het_fail(HET_E_USAGE, "reconstruct needs -o DIR"));
    if (j->conditions && j->predicted[0] == '\0') HET_TRY(het_fail(HET_E_USAGE, "conditions of images need RUN, or --predictions FILE"));
    if (j->classes && j->predicted[0] != '\0') HET_TRY(het_fail(HET_E_USAGE, "--classes goes with the stack's own poses, without RUN"));
    status = het_selection_check(&j->selection);
done:
    return status;
}

static het_status take_predictions(job *j)
{
    het_status status = HET_OK;
    het_predictions p = {0};
    const het_stack_info *info = het_stack_get_info(j->stack);
    HET_TRY(het_predictions_load(&p, j->predicted));
    if (p.count != info->count)
        HET_TRY(het_fail(HET_E_INPUT, "%s has %lld images, %s has %lld: give a stack of the images that were predicted, in the same order",
                         j->stack_path, (long long)info->count, j->predicted, (long long)p.count));
    HET_TRY(het_selection_apply(&j->selection, &p, j->predicted, j->group, &j->groups));
    memcpy(j->rotation, p.rotation, (size_t)(9 * p.count) * sizeof *j->rotation);
    for (int64_t i = 0; i < 2 * p.count; i++) j->shift[i] = (float)(p.shift[i] * p.apix / info->apix);
done:
    het_predictions_free(&p);
    return status;
}

static het_status take_own(job *j)
{
    het_status status = HET_OK;
    const size_t n = (size_t)het_stack_get_info(j->stack)->count;
    het_truth own = {0};
    if (!het_stack_get_info(j->stack)->has_truth)
        HET_TRY(het_fail(HET_E_INPUT, "%s has no poses of its own: give RUN, or import it with --poses", j->stack_path));
    HET_TRY(het_truth_load(&own, j->stack, j->stack_path));
    memcpy(j->rotation, own.rotation, 9 * n * sizeof *j->rotation);
    memcpy(j->shift, own.shift, 2 * n * sizeof *j->shift);
    j->groups = 1;
    if (!j->classes) goto done;
    memcpy(j->group, own.klass, n * sizeof *j->group);
    j->groups = own.classes;
done:
    het_truth_free(&own);
    return status;
}

static het_status write_fsc(const het_reconstruction *made, const char *path)
{
    const int64_t d = made->map.box;
    const double side = (double)d * made->map.apix;
    FILE *file;
    const het_status status = het_out_open(&file, path);
    if (status != HET_OK) return status;
    fprintf(file, "shell\tfrequency\tfsc\n");
    for (int64_t s = 0; s < d / 2; s++) fprintf(file, "%lld\t%.6g\t%.6f\n", (long long)s, (double)s / side, made->fsc[s]);
    return het_out_close(file, path);
}

static void tell(const het_reconstruction *made, int64_t number)
{
    static const double threshold[2] = {0.143, 0.5};
    char text[2][60];
    const int64_t d = made->map.box;
    for (int i = 0; i < 2; i++) {
        int crossed;
        const double shell = het_fsc_shell(made->fsc, d, threshold[i], &crossed);
        snprintf(text[i], sizeof text[i], "%.1f A (FSC %g%s)", (double)d * made->map.apix / shell, threshold[i], crossed ? "" : ", never below");
    }
    het_info("vol_%03lld.mrc: %lld images; its half maps agree to %s, %s", (long long)number, (long long)(made->images[0] + made->images[1]),
             text[0], text[1]);
}

static het_status write_maps(const job *j, const het_reconstruction *made, int64_t number)
{
    het_status status = HET_OK;
    char path[1200];
    const het_volume *const map[] = {&made->map, &made->half[0], &made->half[1]};
    static const char *const ending[] = {".mrc", "_half1.mrc", "_half2.mrc"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/vol_%03lld%s", j->out, (long long)number, ending[i]);
        HET_TRY(het_map_save(path, map[i]));
    }
    snprintf(path, sizeof path, "%s/vol_%03lld_fsc.tsv", j->out, (long long)number);
    HET_TRY(write_fsc(made, path));
    tell(made, number);
done:
    return status;
}

static het_status make_map(const job *j, het_comm *comm, het_reconstructor *from, int64_t number)
{
    het_status status = HET_OK;
    het_reconstruction made = {0};
    HET_TRY(het_reconstruct(&made, from, j->group, number, "reconstruct"));
    HET_TRY(het_comm_agree(comm, het_comm_rank(comm) == 0 ? write_maps(j, &made, number) : HET_OK));
done:
    het_reconstruction_free(&made);
    return status;
}

/* Every rank has all groups, so all go the same way. */
static het_status make_maps(const job *j, het_comm *comm, het_reconstructor *from)
{
    het_status status = HET_OK;
    int64_t made = 0, images[2];
    for (int64_t i = 0; i < j->groups; i++) {
        het_reconstruct_count(images, from, j->group, i);
        if (images[0] > 0 && images[1] > 0) {
            HET_TRY(make_map(j, comm, from, i));
            made++;
        } else {
            het_warn("vol_%03lld.mrc is left out: its %lld images are too few for two half maps", (long long)i, (long long)(images[0] + images[1]));
        }
    }
    if (made == 0) status = het_fail(HET_E_INPUT, "reconstruct: too few images for two half maps: nothing is written");
done:
    return status;
}

static het_status room(job *j)
{
    const size_t n = (size_t)het_stack_get_info(j->stack)->count;
    j->rotation = het_alloc(9 * n * sizeof *j->rotation);
    j->shift = het_alloc(2 * n * sizeof *j->shift);
    j->group = het_alloc(n * sizeof *j->group);
    if (j->rotation == NULL || j->shift == NULL || j->group == NULL) return het_fail(HET_E_MEMORY, "no memory for the poses of %lld images", (long long)n);
    return HET_OK;
}

static het_status make_all(job *j, het_comm *comm)
{
    het_status status = HET_OK;
    const int root = het_comm_rank(comm) == 0;
    het_reconstructor *from = NULL;
    het_device dev = {0};
    HET_TRY(het_stack_open_together(&j->stack, comm, j->stack_path));
    const size_t n = (size_t)het_stack_get_info(j->stack)->count;
    HET_TRY(het_comm_agree(comm, room(j)));
    HET_TRY(het_comm_agree(comm, !root ? HET_OK : j->predicted[0] != '\0' ? take_predictions(j) : take_own(j)));
    HET_TRY(het_comm_broadcast(comm, j->rotation, 9 * n * sizeof *j->rotation, 0));
    HET_TRY(het_comm_broadcast(comm, j->shift, 2 * n * sizeof *j->shift, 0));
    HET_TRY(het_comm_broadcast(comm, j->group, n * sizeof *j->group, 0));
    HET_TRY(het_comm_broadcast(comm, &j->groups, sizeof j->groups, 0));
    HET_TRY(het_comm_agree(comm, root ? het_figures_folder(j->out) : HET_OK));
    HET_TRY(het_comm_agree(comm, het_device_open_cpu(&dev, 0, HET_PRECISION_F32)));
    HET_TRY(het_reconstructor_new(&from, comm, &dev, j->stack, j->rotation, j->shift, 0.5 * (double)het_stack_get_info(j->stack)->box - 1.0));
    status = make_maps(j, comm, from);
done:
    het_reconstructor_free(from);
    if (dev.ops != NULL) het_device_close(&dev);
    return status;
}

het_status het_cmd_reconstruct(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.selection = HET_SELECTION_ALL};
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv)));
    if (j.help && het_comm_rank(comm) == 0) fputs(usage, stdout);
    if (!j.help) status = make_all(&j, comm);
done:
    het_stack_close(j.stack);
    het_release(j.rotation);
    het_release(j.shift);
    het_release(j.group);
    return status;
}
