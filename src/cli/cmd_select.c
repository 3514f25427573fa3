#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../arena.h"
#include "../data/open_files.h"
#include "../data/out_file.h"
#include "../data/predictions.h"
#include "../log.h"
#include "cli.h"
#include "options.h"
#include "poses.h"
#include "selection.h"

static const char usage[] =
    "usage: hetacumn select RUN stack.h5 -o FILE.star|FILE.txt [conditions]\n"
    "Images of a stack that was predicted (RUN/predictions.h5), by their conformation: a STAR file with their poses for RELION, or\n"
    "their numbers in the stack, from 0. Images that meet all conditions are taken:\n"
    HET_SELECTION_USAGE
    "  -o, --output FILE\n"
    "      --help\n";

typedef struct job {
    const char *run, *stack, *out;
    het_selection selection;
    int help;
} job;

static het_status parse(job *j, int argc, char **argv)
{
    static const struct option list[] = {HET_SELECTION_OPTIONS, {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    het_status status = HET_OK;
    optind = 0;
    opterr = 0;
    for (int c, known; (c = getopt_long(argc, argv, ":o:", list, NULL)) != -1;) {
        HET_TRY(het_selection_option(&j->selection, c, optarg, &known));
        if (known) continue;
        if (c == 'o') j->out = optarg;
        else if (c == 'h') j->help = 1;
        else HET_TRY(het_options_refused(argv, c));
        if (j->help) goto done;
    }
    if (optind + 2 != argc) HET_TRY(het_fail(HET_E_USAGE, "select takes RUN and stack.h5; see hetacumn select --help"));
    j->run = argv[optind];
    j->stack = argv[optind + 1];
    if (j->out == NULL || (!het_options_ends_with(j->out, ".star") && !het_options_ends_with(j->out, ".txt")))
        HET_TRY(het_fail(HET_E_USAGE, "select needs -o FILE, whose name ends in .star or .txt"));
    if (j->selection.kmeans > 0 && j->selection.clusters == NULL) HET_TRY(het_fail(HET_E_USAGE, "--kmeans K needs --clusters I,J,.."));
    status = het_selection_check(&j->selection);
done:
    return status;
}

static het_status write_list(const char *path, const int64_t *image, int64_t n)
{
    FILE *file;
    const het_status status = het_out_open(&file, path);
    if (status != HET_OK) return status;
    for (int64_t i = 0; i < n; i++) fprintf(file, "%lld\n", (long long)image[i]);
    return het_out_close(file, path);
}

static het_status write_selected(const job *j, const het_predictions *p, const int64_t *group)
{
    het_status status = HET_OK;
    het_stack *stack = NULL;
    int64_t n = 0, *image = het_alloc((size_t)p->count * sizeof *image);
    if (image == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count));
    for (int64_t i = 0; i < p->count; i++)
        if (group[i] >= 0) image[n++] = i;
    HET_TRY(het_stack_open(&stack, j->stack));
    if (p->count != het_stack_get_info(stack)->count)
        HET_TRY(het_fail(HET_E_INPUT, "%s has %lld images, %s/predictions.h5 has %lld: give the stack that was predicted", j->stack,
                         (long long)het_stack_get_info(stack)->count, j->run, (long long)p->count));
    if (het_file_is_same(j->stack, j->out)) HET_TRY(het_fail(HET_E_USAGE, "-o %s is the stack itself", j->out));
    if (het_options_ends_with(j->out, ".txt")) HET_TRY(write_list(j->out, image, n));
    else HET_TRY(het_poses_write_star(p, image, n, stack, j->stack, j->out));
    het_info("select: %lld of %lld images are in %s", (long long)n, (long long)p->count, j->out);
done:
    het_stack_close(stack);
    het_release(image);
    return status;
}

static het_status select_images(const job *j)
{
    het_status status = HET_OK;
    char path[1200];
    het_predictions p = {0};
    int64_t *group = NULL, groups;
    snprintf(path, sizeof path, "%s/predictions.h5", j->run);
    HET_TRY(het_predictions_load(&p, path));
    group = het_alloc((size_t)p.count * sizeof *group);
    if (group == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p.count));
    HET_TRY(het_selection_apply(&j->selection, &p, path, group, &groups));
    HET_TRY(write_selected(j, &p, group));
done:
    het_release(group);
    het_predictions_free(&p);
    return status;
}

het_status het_cmd_select(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.selection = HET_SELECTION_ALL};
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv)));
    if (het_comm_rank(comm) == 0 && j.help) fputs(usage, stdout);
    if (het_comm_rank(comm) == 0 && !j.help) status = select_images(&j);
    HET_TRY(het_comm_agree(comm, status));
done:
    return status;
}
