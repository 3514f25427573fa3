#pragma once
#include "../mpi/comm.h"
#include "../status.h"

/** A subcommand: one file cmd_NAME.c, one row in main.c's table.
 *  argv[0] is the subcommand's name; options are parsed with getopt_long (long names; --help prints usage on stdout).
 *  Returns HET_OK; HET_E_USAGE (exit 2); HET_E_PEER (exit 74); another status (exit 1). *exit_code may be set to 75 (stopped
 *  early, run again).
 *  Messages go through het_log; results to stdout or files. main prints the status's message once. Collective. */
typedef het_status (*het_command)(het_comm *comm, int argc, char **argv, int *exit_code);

/** What `hetacumn --version` says: version, build, and the libraries it runs with. */
void het_version_print(void);

het_status het_cmd_simulate(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_import(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_train(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_predict(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_select(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_volume(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_reconstruct(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_evaluate(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_plot(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_analyze(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_fsc(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_status(het_comm *comm, int argc, char **argv, int *exit_code);
het_status het_cmd_info(het_comm *comm, int argc, char **argv, int *exit_code);
