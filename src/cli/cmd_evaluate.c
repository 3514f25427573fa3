#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../arena.h"
#include "../log.h"
#include "../progress.h"
#include "../run.h"
#include "cli.h"
#include "conformations.h"
#include "figures.h"
#include "measures.h"
#include "options.h"

enum { USUAL_EACH = 100, MOST_MAPS = 1000 }; /* images whose own maps are compared: of each class, in all */

static const char usage[] =
    "usage: hetacumn evaluate RUN --truth stack.h5 [options]\n"
    "Every measure of poses, conformations and maps against the truth: a table on stdout, and JSON.\n"
    "RUN/predictions.h5 must be there: `hetacumn predict RUN stack.h5` makes it.\n"
    "      --truth FILE        the stack that was predicted, with its truth (simulate; import --poses)\n"
    "      --maps A.mrc,B.mrc  the true map of each class in order: adds the resolution of the run's maps\n"
    "      --volumes X,Y       the run's map of each class, in place of the map at the class's mode of z\n"
    "      --per-image N       with --maps: N images of each class, each with the map of its own z; 0: none\n"
    "                          (100, but at most 1000 in all)\n"
    "      --plots DIR         the figures as SVG, and their numbers as TSV\n"
    "      --predictions FILE  in place of RUN/predictions.h5\n"
    "      --amortised         maps of the training, not those refined by train --refine\n"
    "      --device NAME       for the run's maps: cpu | cuda | cuda:N (the GPU N) | auto: a GPU where one can be used (default)\n"
    "      --json FILE         in place of RUN/metrics.json; - for stdout, without the table\n"
    "      --help              this text\n";

typedef struct options {
    const char *run, *truth, *maps, *volumes, *plots, *predictions, *json, *device;
    int64_t per_image;
    int amortised;
    char standard_predictions[1200], standard_json[1200];
} options;

static het_status parse(options *o, int argc, char **argv, int *help)
{
    enum { TRUTH = 256, MAPS, VOLUMES, PER_IMAGE, PLOTS, PREDICTIONS, JSON, AMORTISED, DEVICE, HELP };
    static const struct option list[] = {{"truth", required_argument, NULL, TRUTH},
                                         {"maps", required_argument, NULL, MAPS},
                                         {"volumes", required_argument, NULL, VOLUMES},
                                         {"per-image", required_argument, NULL, PER_IMAGE},
                                         {"plots", required_argument, NULL, PLOTS},
                                         {"predictions", required_argument, NULL, PREDICTIONS},
                                         {"json", required_argument, NULL, JSON},
                                         {"amortised", no_argument, NULL, AMORTISED},
                                         {"device", required_argument, NULL, DEVICE},
                                         {"help", no_argument, NULL, HELP},
                                         {NULL, 0, NULL, 0}};
    het_status status;
    *help = 0;
    o->per_image = -1;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", list, NULL)) != -1;) {
        switch (c) {
        case TRUTH: o->truth = optarg; break;
        case MAPS: o->maps = optarg; break;
        case VOLUMES: o->volumes = optarg; break;
        case PLOTS: o->plots = optarg; break;
        case PER_IMAGE:
            if ((status = het_options_whole("--per-image", optarg, 0, 1000000, &o->per_image)) != HET_OK) return status;
            break;
        case PREDICTIONS: o->predictions = optarg; break;
        case JSON: o->json = optarg; break;
        case AMORTISED: o->amortised = 1; break;
        case DEVICE: o->device = optarg; break;
        case HELP: *help = 1; return HET_OK;
        default: return het_options_refused(argv, c);
        }
    }
    const het_status named = het_device_check(o->device);
    if (named != HET_OK) return named;
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

/* The run's model, where its maps are asked for. */
typedef struct source {
    het_device dev;
    het_model *model;
    het_survey survey;
    het_run_state state;
} source;

static het_status source_open(source *s, const options *o, const het_comm *comm, int64_t z_dim)
{
    enum { PLANES = 32 };
    char folder[1100];
    het_status status = HET_OK;
    HET_TRY(het_device_open(&s->dev, o->device, het_comm_local_rank(comm), 0, HET_PRECISION_F32));
    het_run_results(folder, sizeof folder, o->run, o->amortised);
    HET_TRY(het_run_load(folder, &s->dev, PLANES, &s->model, &s->survey, &s->state));
    if (s->model->config.z_dim != z_dim)
        status =
            het_fail(HET_E_INPUT,
                     "the predictions have %lld numbers z, the run has %lld: run `hetacumn predict` again",
                     (long long)z_dim, (long long)s->model->config.z_dim);
done:
    return status;
}

static void source_close(source *s)
{
    het_model_free(s->model);
    het_survey_free(&s->survey);
    if (s->dev.ops != NULL) het_device_close(&s->dev);
}

/* Per-image FSC: the map of each drawn image's own z. */
static het_status compare_images(const options *o, het_comm *comm, het_measures *m, const het_predictions *p,
                                 const het_truth *t, const source *s, const het_conformations *truth)
{
    het_status status = HET_OK;
    het_progress progress;
    het_volume map = {0};
    const int64_t usual = MOST_MAPS / m->classes < USUAL_EACH ? MOST_MAPS / m->classes : USUAL_EACH;
    HET_TRY(het_measures_draw_images(m, t, o->per_image >= 0 ? o->per_image : usual));
    het_progress_start(&progress, comm, "per-image FSC", m->sampled);
    for (int64_t i = 0; i < m->sampled && status == HET_OK; i++) {
        const het_image_fsc *image = &m->sample[i];
        status = het_run_map(s->model, &s->state, p->z + image->image * p->z_dim, m->box, &map);
        if (status == HET_OK) status = het_measures_of_image_map(m, i, &map, &truth->map[image->klass]);
        het_volume_free(&map);
        het_progress_step(&progress, i + 1);
    }
    het_progress_end(&progress);
    HET_TRY(status);
    HET_TRY(het_measures_sum_up_images(m));
done:
    return status;
}

static het_status compare_maps(const options *o, het_comm *comm, het_measures *m, const het_predictions *p,
                               const het_truth *t)
{
    het_status status = HET_OK;
    het_conformations truth = {0}, given = {0};
    het_volume map = {0};
    source s = {0};
    HET_TRY(het_conformations_from_maps(&truth, o->maps, m->box, m->apix));
    if (o->volumes != NULL) HET_TRY(het_conformations_from_maps(&given, o->volumes, m->box, m->apix));
    if (truth.count != m->classes || (o->volumes != NULL && given.count != m->classes))
        HET_TRY(het_fail(HET_E_USAGE, "evaluate: %lld maps for %lld classes: give one for each, in order",
                         (long long)(truth.count != m->classes ? truth.count : given.count),
                         (long long)m->classes));
    if (o->volumes == NULL) HET_TRY(source_open(&s, o, comm, m->z_dim));
    for (int64_t k = 0; k < m->classes; k++) {
        if (m->klass[k].images == 0) continue;
        if (o->volumes == NULL)
            HET_TRY(het_run_map(s.model, &s.state, m->z_star + k * m->z_dim, m->box, &map));
        HET_TRY(het_measures_of_map(m, k, o->volumes != NULL ? &given.map[k] : &map, &truth.map[k]));
        het_volume_free(&map);
    }
    if (o->volumes == NULL && o->per_image != 0) HET_TRY(compare_images(o, comm, m, p, t, &s, &truth));
done:
    het_volume_free(&map);
    het_conformations_free(&truth);
    het_conformations_free(&given);
    source_close(&s);
    return status;
}

static het_status draw(const options *o, const het_measures *m, const het_predictions *p, const het_truth *t)
{
    het_status status = HET_OK;
    if (o->plots == NULL) return HET_OK;
    HET_TRY(het_figures_folder(o->plots));
    HET_TRY(het_figure_latent(o->plots, p, t));
    HET_TRY(het_figure_rotation(o->plots, m, t));
    if (o->maps != NULL) HET_TRY(het_figure_fsc(o->plots, m));
    HET_TRY(het_figure_training(o->plots, o->run));
    het_info("the figures are in %s", o->plots);
done:
    return status;
}

static het_status evaluate(const options *o, het_comm *comm)
{
    het_status status = HET_OK;
    het_stack *stack = NULL;
    het_truth truth = {0};
    het_predictions predictions = {0};
    het_measures measures = {0};
    het_junk junk;
    const char *json = o->json != NULL ? o->json : o->standard_json;
    HET_TRY(het_stack_open(&stack, o->truth));
    HET_TRY(load_predictions(&predictions, o, het_stack_get_info(stack)));
    HET_TRY(het_truth_load(&truth, stack, o->truth));
    het_truth_leave_out_junk(&truth, &predictions, &junk);
    HET_TRY(het_measures_of_images(&measures, &predictions, &truth));
    measures.junk = junk;
    if (o->maps != NULL) HET_TRY(compare_maps(o, comm, &measures, &predictions, &truth));
    if (strcmp(json, "-") != 0) het_measures_print(&measures, stdout);
    HET_TRY(het_measures_write_json(&measures, json));
    if (strcmp(json, "-") != 0) het_info("the measures are in %s", json);
    HET_TRY(draw(o, &measures, &predictions, &truth));
done:
    het_measures_free(&measures);
    het_predictions_free(&predictions);
    het_truth_free(&truth);
    if (stack != NULL) het_stack_close(stack);
    return status;
}

het_status het_cmd_evaluate(het_comm *comm, int argc, char **argv, int *exit_code)
{
    options o = {.device = "auto"};
    int help = 0;
    (void)exit_code;
    het_status status = het_comm_agree(comm, parse(&o, argc, argv, &help));
    if (status != HET_OK) return status;
    if (help) {
        if (het_comm_rank(comm) == 0) fputs(usage, stdout);
        return HET_OK;
    }
    return het_comm_agree(comm, het_comm_rank(comm) == 0 ? evaluate(&o, comm) : HET_OK);
}
