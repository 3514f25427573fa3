#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "../log.h"
#include "cli.h"
#include "figures.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn plot RUN [-o DIR]\n"
    "The figures of a run that need no truth, as SVG with their numbers as TSV: training curves, and where RUN/predictions.h5\n"
    "is there the conformations and views of its images. With truth: `hetacumn evaluate --plots`.\n"
    "  -o, --output DIR        default: RUN/plots\n"
    "      --predictions FILE  in place of RUN/predictions.h5\n"
    "      --help\n";

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"predictions", required_argument, NULL, 'p'},
                                        {"help", no_argument, NULL, 'h'},
                                        {0}};

typedef struct job {
    const char *run, *out, *predictions;
    char standard_out[1200], standard_predictions[1200];
    int help;
} job;

static het_status parse(job *j, int argc, char **argv)
{
    int option;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:", options, NULL)) != -1) {
        if (option == 'h') j->help = 1;
        if (option == 'o') j->out = optarg;
        if (option == 'p') j->predictions = optarg;
        if (option == '?' || option == ':') return het_options_refused(argv, option);
    }
    if (j->help) return HET_OK;
    if (optind + 1 != argc) return het_fail(HET_E_USAGE, "plot takes one RUN; see hetacumn plot --help");
    j->run = argv[optind];
    snprintf(j->standard_out, sizeof j->standard_out, "%s/plots", j->run);
    snprintf(j->standard_predictions, sizeof j->standard_predictions, "%s/predictions.h5", j->run);
    return HET_OK;
}

static het_status draw(const job *j)
{
    het_status status = HET_OK;
    het_predictions predictions = {0};
    const char *out = j->out != NULL ? j->out : j->standard_out;
    const char *from = j->predictions != NULL ? j->predictions : j->standard_predictions;
    if (access(j->run, F_OK) != 0)
        return het_fail(HET_E_INPUT, "%s is not there: give the folder of a run", j->run);
    HET_TRY(het_figures_folder(out));
    HET_TRY(het_figure_training(out, j->run));
    if (j->predictions != NULL || access(from, F_OK) == 0) {
        HET_TRY(het_predictions_load(&predictions, from));
        HET_TRY(het_figure_latent(out, &predictions, NULL));
        HET_TRY(het_figure_views(out, &predictions));
    } else {
        het_info("no %s: without conformations; `hetacumn predict` makes it", from);
    }
    het_info("the figures are in %s", out);
done:
    het_predictions_free(&predictions);
    return status;
}

het_status het_cmd_plot(het_comm *comm, int argc, char **argv, int *exit_code)
{
    job j = {0};
    (void)exit_code;
    const het_status status = het_comm_agree(comm, parse(&j, argc, argv));
    if (status != HET_OK) return status;
    if (j.help && het_comm_rank(comm) == 0) fputs(usage, stdout);
    return het_comm_agree(comm, het_comm_rank(comm) == 0 && !j.help ? draw(&j) : HET_OK);
}
