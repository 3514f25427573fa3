#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../arena.h"
#include "../log.h"
#include "../run.h"
#include "cli.h"
#include "conformations.h"
#include "measures.h"
#include "options.h"

static const char usage[] =
    "usage: hetacumn evaluate RUN --truth stack.h5 [options]\n"
    "Every measure of poses, conformations and maps against the truth: a table on stdout, and JSON.\n"
    "RUN/predictions.h5 must be there: `hetacumn predict RUN stack.h5` makes it.\n"
    "      --truth FILE        the stack that was predicted, with its truth (simulate; import --poses)\n"
    "      --maps A.mrc,B.mrc  the true map of each class in order: adds the resolution of the run's maps\n"
    "      --volumes X,Y       the run's map of each class, in place of the map at the class's mode of z\n"
    "      --predictions FILE  in place of RUN/predictions.h5\n"
    "      --json FILE         in place of RUN/metrics.json; - for stdout, without the table\n"
    "      --help              this text\n";

typedef struct options {
    const char *run, *truth, *maps, *volumes, *predictions, *json;
    char standard_predictions[1200], standard_json[1200];
} options;

static het_status parse(options *o, int argc, char **argv, int *help)
{
    enum { TRUTH = 256, MAPS, VOLUMES, PREDICTIONS, JSON, HELP };
    static const struct option list[] = {
        {"truth", required_argument, NULL, TRUTH},     {"maps", required_argument, NULL, MAPS},
        {"volumes", required_argument, NULL, VOLUMES}, {"predictions", required_argument, NULL, PREDICTIONS},
        {"json", required_argument, NULL, JSON},       {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0}};
    *help = 0;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", list, NULL)) != -1;) {
        switch (c) {
        case TRUTH: o->truth = optarg; break;
        case MAPS: o->maps = optarg; break;
        case VOLUMES: o->volumes = optarg; break;
        case PREDICTIONS: o->predictions = optarg; break;
        case JSON: o->json = optarg; break;
        case HELP: *help = 1; return HET_OK;
        default: return het_options_refused(argv, c);
        }
    }
    if (optind != argc - 1) return het_fail(HET_E_USAGE, "evaluate: give one RUN; see --help");
    o->run = argv[optind];
    if (o->truth == NULL)
        return het_fail(HET_E_USAGE, "evaluate: give the stack with the truth: --truth stack.h5");
    if (o->volumes != NULL && o->maps == NULL)
        return het_fail(HET_E_USAGE, "evaluate: --volumes are compared with the true maps: give them with "
                                     "--maps");
    snprintf(o->standard_predictions, sizeof o->standard_predictions, "%s/predictions.h5", o->run);
    snprintf(o->standard_json, sizeof o->standard_json, "%s/metrics.json", o->run);
    return HET_OK;
}

/* Predictions that fit the stack. */
static het_status load_predictions(het_predictions *p, const options *o, const het_stack_info *info)
{
    het_status status = HET_OK;
    const char *path = o->predictions != NULL ? o->predictions : o->standard_predictions;
    *p = (het_predictions){0};
    if (access(path, F_OK) != 0)
        return het_fail(HET_E_INPUT, "%s is not there: make it with `hetacumn predict %s %s`", path, o->run,
                        o->truth);
    HET_TRY(het_predictions_load(p, path));
    if (p->count != info->count || p->box != info->box || fabs(p->apix - info->apix) > 1e-3 * info->apix) {
        status = het_fail(HET_E_INPUT,
                          "%s is of %lld images of box %lld at %g A, %s has %lld of box %lld at %g A: run "
                          "`hetacumn predict` on this stack",
                          path, (long long)p->count, (long long)p->box, p->apix, o->truth,
                          (long long)info->count, (long long)info->box, info->apix);
        het_predictions_free(p);
    }
done:
    return status;
}

/* The run's map of class k, from a file or at the class's z. */
static het_status class_map(het_volume *map, const options *o, const het_conformations *given,
                            const het_measures *m, int64_t k)
{
    het_status status = HET_OK;
    double apix;
    HET_TRY(het_volume_new(map, m->box, m->apix));
    if (given->count > 0)
        memcpy(map->data, given->map[k].data, (size_t)(m->box * m->box * m->box) * sizeof *map->data);
    else
        HET_TRY(het_run_volume(o->run, m->z_star + k * m->z_dim, m->z_dim, m->box, map->data, &apix));
done:
    return status;
}

static het_status compare_maps(const options *o, het_measures *m)
{
    het_status status = HET_OK;
    het_conformations truth = {0}, given = {0};
    het_volume map = {0};
    HET_TRY(het_conformations_from_maps(&truth, o->maps, m->box, m->apix));
    if (o->volumes != NULL) HET_TRY(het_conformations_from_maps(&given, o->volumes, m->box, m->apix));
    if (truth.count != m->classes || (o->volumes != NULL && given.count != m->classes))
        HET_TRY(het_fail(HET_E_USAGE, "evaluate: %lld maps for %lld classes: give one for each, in order",
                         (long long)(truth.count != m->classes ? truth.count : given.count),
                         (long long)m->classes));
    for (int64_t k = 0; k < m->classes; k++) {
        if (m->klass[k].images == 0) continue;
        HET_TRY(class_map(&map, o, &given, m, k));
        HET_TRY(het_measures_of_map(m, k, &map, &truth.map[k]));
        het_volume_free(&map);
    }
done:
    het_volume_free(&map);
    het_conformations_free(&truth);
    het_conformations_free(&given);
    return status;
}

static het_status evaluate(const options *o)
{
    het_status status = HET_OK;
    het_stack *stack = NULL;
    het_truth truth = {0};
    het_predictions predictions = {0};
    het_measures measures = {0};
    const char *json = o->json != NULL ? o->json : o->standard_json;
    HET_TRY(het_stack_open(&stack, o->truth));
    HET_TRY(load_predictions(&predictions, o, het_stack_get_info(stack)));
    HET_TRY(het_truth_load(&truth, stack, o->truth));
    HET_TRY(het_measures_of_images(&measures, &predictions, &truth));
    if (o->maps != NULL) HET_TRY(compare_maps(o, &measures));
    if (strcmp(json, "-") != 0) het_measures_print(&measures, stdout);
    HET_TRY(het_measures_write_json(&measures, json));
    if (strcmp(json, "-") != 0) het_info("the measures are in %s", json);
done:
    het_measures_free(&measures);
    het_predictions_free(&predictions);
    het_truth_free(&truth);
    if (stack != NULL) het_stack_close(stack);
    return status;
}

het_status het_cmd_evaluate(het_comm *comm, int argc, char **argv, int *exit_code)
{
    options o = {0};
    int help = 0;
    (void)exit_code;
    het_status status = het_comm_agree(comm, parse(&o, argc, argv, &help));
    if (status != HET_OK) return status;
    if (help) {
        if (het_comm_rank(comm) == 0) fputs(usage, stdout);
        return HET_OK;
    }
    return het_comm_agree(comm, het_comm_rank(comm) == 0 ? evaluate(&o) : HET_OK);
}
