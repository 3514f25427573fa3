#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "../stop.h"
#include "../train.h"
#include "cli.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn train stack.h5 -o RUN [options]\n"
    "Train on a particle stack, or go on with the run in RUN (the same command line resumes it).\n"
    "  -o, --output RUN       folder of the run\n"
    "      --config FILE      YAML configuration\n"
    "      --starts N         random starts at most, until two agree: short for --set init.starts=N\n"
    "      --method NAME      hetacumn | cryofire | cryodrgn2: short for --set train.method=NAME\n"
    "      --set KEY=VALUE    override one key; may be repeated\n"
    "      --deterministic    the same results, bit for bit, on 1, 2, 4, ... ranks: short for\n"
    "                         --set train.deterministic=true\n"
    "      --max-hours H      stop with a checkpoint after H hours (exit code 75: run again to go on)\n"
    "      --refine           then refine the poses of the stack's images and the volumes: results in RUN/refined\n"
    "      --device NAME      cpu | cuda | cuda:N (the GPU N) | auto: a GPU where one can be used (default)\n"
    "      --prometheus FILE  keep numbers of the run in FILE (.prom) for Prometheus\n"
    "      --memory SIZE      take at most SIZE (8G, 500M) of each node, shared by its ranks; default: what is free; no: do not check\n"
    "      --dry-run          print the memory it takes, and leave\n"
    "      --keys             list all configuration keys\n"
    "      --help\n";

static const struct option options[] = {
    {"output", required_argument, NULL, 'o'}, {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},    {"max-hours", required_argument, NULL, 'm'},
    {"device", required_argument, NULL, 'd'}, {"dry-run", no_argument, NULL, 'n'},
    {"refine", no_argument, NULL, 'r'},        {"method", required_argument, NULL, 'M'},
    {"memory", required_argument, NULL, 'B'},
    {"starts", required_argument, NULL, 'S'}, {"prometheus", required_argument, NULL, 'P'},
    {"deterministic", no_argument, NULL, 'D'},
    {"keys", no_argument, NULL, 'k'},         {"help", no_argument, NULL, 'h'},
    {0}};

static het_status parse_hours(const char *text, double *hours)
{
    char *end;
    *hours = strtod(text, &end);
    if (end == text || *end != '\0' || !(*hours > 0.0))
        return het_fail(HET_E_USAGE, "--max-hours %s: it must be a number of hours above 0", text);
    return HET_OK;
}

static het_status parse_memory(const char *text, int64_t *bytes)
{
    static const char units[] = "kMGT";
    char *end;
    double size = strtod(text, &end);
    const char *unit = *end == '\0' ? NULL : strchr(units, *end == 'K' ? 'k' : *end);
    for (const char *u = units; unit != NULL && u <= unit; u++) size *= 1024.0;
    *bytes = -1;
    if (strcmp(text, "no") == 0) return HET_OK;
    if (end == text || (*end != '\0' && (unit == NULL || end[1] != '\0')) || !(size >= 1.0 && size < 1e18))
        return het_fail(HET_E_USAGE, "--memory %s: it must be a number of bytes above 0, as 8G or 500M, or no", text);
    *bytes = (int64_t)size;
    return HET_OK;
}

/* One key by an option of its own. */
static het_status set_key(het_config *config, const char *key, const char *value)
{
    char assignment[80];
    snprintf(assignment, sizeof assignment, "%s=%.40s", key, value);
    return het_config_set(config, assignment);
}

/* Overrides come after the file, whatever their order on the line: two passes. */
static het_status parse(int argc, char **argv, het_config *config, het_train_options *train, const char **device,
                        int *leave)
{
    het_status status = HET_OK;
    int option;
    for (int pass = 0; pass < 2; pass++) {
        optind = 0;
        opterr = 0;
        while ((option = getopt_long(argc, argv, ":o:", options, NULL)) != -1) {
            if (option == 'h' || option == 'k') {
                *leave = option;
                goto done;
            }
            if (option == '?' || option == ':') HET_TRY(het_options_refused(argv, option));
            if (option == 'o') train->run = optarg;
            if (option == 'P') train->prometheus = optarg;
            if (option == 'n') train->dry_run = 1;
            if (option == 'r') train->refine = 1;
            if (option == 'm') HET_TRY(parse_hours(optarg, &train->max_hours));
            if (option == 'B') HET_TRY(parse_memory(optarg, &train->memory));
            if (option == 'd') HET_TRY(het_device_check(*device = optarg));
            if (option == 'c' && pass == 0) HET_TRY(het_config_load(config, optarg));
            if (option == 'M' && pass == 1) HET_TRY(set_key(config, "train.method", optarg));
            if (option == 'S' && pass == 1) HET_TRY(set_key(config, "init.starts", optarg));
            if (option == 'D' && pass == 1) HET_TRY(set_key(config, "train.deterministic", "true"));
            if (option == 's' && pass == 1) HET_TRY(het_config_set(config, optarg));
        }
    }
    if (optind + 1 != argc) HET_TRY(het_fail(HET_E_USAGE, "train takes one stack.h5; see hetacumn train --help"));
    if (train->run == NULL) HET_TRY(het_fail(HET_E_USAGE, "train needs -o RUN, the folder of the run"));
    train->stack = argv[optind];
    HET_TRY(het_config_resolve(config));
    HET_TRY(het_config_check(config));
done:
    return status;
}

het_status het_cmd_train(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    het_config config;
    het_train_options train = {0};
    het_device dev = {0};
    const char *device = "auto";
    int leave = 0, interrupted = 0;
    het_config_default(&config);
    HET_TRY(het_comm_agree(comm, parse(argc, argv, &config, &train, &device, &leave)));
    if (leave != 0) {
        if (het_comm_rank(comm) == 0 && leave == 'h') fputs(usage, stdout);
        if (het_comm_rank(comm) == 0 && leave == 'k') het_config_help();
        goto done;
    }
    het_comm_watch(comm, config.run.watchdog);
    HET_TRY(het_comm_agree(comm, het_stop_on_signals()));
    HET_TRY(het_comm_agree(comm, het_device_open(&dev, device, het_comm_local_rank(comm),
                                                 (int)config.train.threads, (het_precision)config.train.precision)));
    HET_TRY(het_train(comm, &dev, &config, &train, &interrupted));
    if (interrupted) {
        het_info("stopped early: the same command goes on");
        *exit_code = 75;
    }
done:
    if (dev.ops != NULL) het_device_close(&dev);
    return status;
}
