/* The command table, set-up of MPI and messages, and the only place that ends the process. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../log.h"
#include "cli.h"

static const struct {
    const char *name;
    het_command run;
    const char *what;
} commands[] = {
    {"simulate", het_cmd_simulate, "particle images from maps or atoms"},
    {"import", het_cmd_import, "a RELION or cryoSPARC stack into stack.h5"},
    {"train", het_cmd_train, "poses, conformations and volumes from a stack"},
    {"predict", het_cmd_predict, "poses and conformations of any stack"},
    {"select", het_cmd_select, "images of some conformations, back to RELION"},
    {"volume", het_cmd_volume, "maps of conformations"},
    {"reconstruct", het_cmd_reconstruct, "maps from the images alone, and half maps"},
    {"evaluate", het_cmd_evaluate, "measures against the truth"},
    {"plot", het_cmd_plot, "figures of a run"},
    {"analyze", het_cmd_analyze, "figures and maps of a run on one page"},
    {"fsc", het_cmd_fsc, "Fourier shell correlation of two maps"},
    {"status", het_cmd_status, "what runs are at, from their folders"},
    {"info", het_cmd_info, "any file in plain words"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: hetacumn COMMAND ...   (hetacumn COMMAND --help tells more; hetacumn --version)\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].what);
    fprintf(out, "exit codes: 0 done, 1 error, 2 wrong usage, 75 stopped early with a checkpoint (run again to go on),\n"
                 "            74 a rank, its node or the network was lost (the same: run again)\n");
}

static int exit_code_of(het_status status, int wanted)
{
    if (status == HET_OK) return wanted;
    if (status == HET_E_PEER) return HET_EXIT_LOST;
    return status == HET_E_USAGE ? 2 : 1;
}

int main(int argc, char **argv)
{
    het_comm *comm = NULL;
    int wanted = 0;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        het_version_print();
        return 0;
    }
    int chosen = 0;
    while (chosen < COMMANDS && strcmp(commands[chosen].name, argv[1]) != 0) chosen++;
    if (chosen == COMMANDS) {
        fprintf(stderr, "hetacumn: '%s' is not a command; see hetacumn --help\n", argv[1]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit shows as a write error with words */
    het_status status = het_comm_open(&comm, &argc, &argv);
    if (status != HET_OK) {
        fprintf(stderr, "hetacumn: %s\n", het_status_message());
        return 1;
    }
    het_log_init(HET_LOG_INFO, het_comm_rank(comm) == 0);
    het_comm_phase(comm, commands[chosen].name);
    status = commands[chosen].run(comm, argc - 1, argv + 1, &wanted);
    /* Failures are agreed upon where they happen, so every rank is here with the same one. A rank that comes alone would
     * wait for the others for ever: it ends them all. */
    if (status != HET_OK) het_log(HET_LOG_ERROR, "%s", het_status_message());
    if (status != HET_OK && het_comm_size(comm) > 1) {
        if (het_comm_rank(comm) != 0) usleep(300000); /* the root speaks first */
        het_comm_abort(comm, exit_code_of(status, wanted));
    }
    het_comm_close(comm);
    return exit_code_of(status, wanted);
}
