#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../data/out_file.h"
#include "../data/predictions.h"
#include "../log.h"
#include "../physics/kmeans.h"
#include "../physics/latent.h"
#include "../physics/stats.h"
#include "../run.h"
#include "cli.h"
#include "figures.h"
#include "map_file.h"
#include "options.h"
#include "selection.h"

enum { MAPS_MAX = 1000, Z_MAX = 64 };

static const char usage[] =
    "usage: hetacumn volume RUN {--z V,V,.. | --pc K --points N | --kmeans K | --class-modes [--truth stack.h5]} -o DIR\n"
    "Maps (.mrc) of conformations of a trained run, and DIR/z.txt with the conformation of each.\n"
    "  --z V,V,..       one conformation, all of its numbers\n"
    "  --pc K           a traversal along principal component K (1, 2, ..) from the 5th to the 95th percentile\n"
    "  --points N       maps of the traversal (default 5)\n"
    "  --kmeans K       the image nearest to each of K cluster centres\n"
    "  --class-modes    the mode of each class: two classes by a threshold on component 1, or those of --truth\n"
    "  --truth FILE     stack with true classes\n"
    "  -D, --box BOX    box of the maps (default: the run's), same physical size\n"
    "      --amortised  volumes of the training, not those refined by train --refine\n"
    "      --device NAME    cpu | cuda | cuda:N (the GPU N) | auto: a GPU where one can be used (default)\n"
    "  -o, --output DIR\n"
    "(all but --z need RUN/predictions.h5: run `hetacumn predict` first)\n";

static const struct option options[] = {
    {"z", required_argument, NULL, 'z'},      {"pc", required_argument, NULL, 'p'},
    {"points", required_argument, NULL, 'n'}, {"kmeans", required_argument, NULL, 'k'},
    {"class-modes", no_argument, NULL, 'm'},  {"truth", required_argument, NULL, 't'},
    {"box", required_argument, NULL, 'D'},    {"output", required_argument, NULL, 'o'},
    {"amortised", no_argument, NULL, 'a'},    {"device", required_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},         {0}};

typedef struct job {
    const char *run, *out, *z_text, *truth, *device;
    int64_t pc, points, clusters, box;
    int modes, amortised, help;
    int64_t z_dim, count; /* maps wanted */
    float *z;             /* (count, z_dim) */
} job;

static het_status parse(job *j, int argc, char **argv)
{
    het_status status = HET_OK;
    int option;
    j->points = 5;
    optind = 0;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":D:o:", options, NULL)) != -1) {
        switch (option) {
        case 'z': j->z_text = optarg; break;
        case 'p': HET_TRY(het_options_whole("--pc", optarg, 1, Z_MAX, &j->pc)); break;
        case 'n': HET_TRY(het_options_whole("--points", optarg, 1, MAPS_MAX, &j->points)); break;
        case 'k': HET_TRY(het_options_whole("--kmeans", optarg, 1, MAPS_MAX, &j->clusters)); break;
        case 'm': j->modes = 1; break;
        case 't': j->truth = optarg; break;
        case 'D': HET_TRY(het_options_whole("--box", optarg, 4, 1024, &j->box)); break;
        case 'o': j->out = optarg; break;
        case 'a': j->amortised = 1; break;
        case 'd': HET_TRY(het_device_check(j->device = optarg)); break;
        case 'h': j->help = 1; goto done;
        default: HET_TRY(het_options_refused(argv, option));
        }
    }
    if (optind + 1 != argc) HET_TRY(het_fail(HET_E_USAGE, "volume takes one RUN; see hetacumn volume --help"));
    j->run = argv[optind];
    if ((j->z_text != NULL) + (j->pc > 0) + (j->clusters > 0) + j->modes != 1)
        HET_TRY(het_fail(HET_E_USAGE, "volume needs one of --z, --pc, --kmeans, --class-modes"));
    if (j->out == NULL) HET_TRY(het_fail(HET_E_USAGE, "volume needs -o DIR"));
    if (j->box % 2 != 0) HET_TRY(het_fail(HET_E_USAGE, "--box %lld: it must be even", (long long)j->box));
done:
    return status;
}

static het_status room(job *j, int64_t count)
{
    j->count = count;
    j->z = het_alloc((size_t)(count * j->z_dim) * sizeof *j->z);
    return j->z == NULL ? het_fail(HET_E_MEMORY, "no memory for %lld conformations", (long long)count) : HET_OK;
}

static het_status given_z(job *j)
{
    het_status status = HET_OK;
    const char *at = j->z_text;
    HET_TRY(room(j, 1));
    for (int64_t i = 0; i < j->z_dim; i++) {
        char *end;
        j->z[i] = strtof(at, &end);
        const char wanted = i + 1 < j->z_dim ? ',' : '\0';
        if (end == at || *end != wanted)
            HET_TRY(het_fail(HET_E_USAGE, "--z %s: %lld numbers with commas between are needed", j->z_text,
                             (long long)j->z_dim));
        at = end + 1;
    }
done:
    return status;
}

static het_status traversal(job *j, const het_predictions *all, const het_pca *pca, double *value)
{
    het_status status = HET_OK;
    const int64_t axis = j->pc - 1, dim = j->z_dim;
    if (axis >= dim) HET_TRY(het_fail(HET_E_USAGE, "--pc %lld: there are %lld components", (long long)j->pc, (long long)dim));
    het_latent_project(value, pca, (int)axis, all->z, all->count);
    het_sort(value, all->count);
    const double low = value[all->count / 20], high = value[all->count - 1 - all->count / 20];
    HET_TRY(room(j, j->points));
    for (int64_t i = 0; i < j->points; i++) {
        const double at = j->points == 1 ? 0.5 * (low + high) : low + (high - low) * (double)i / (double)(j->points - 1);
        for (int64_t k = 0; k < dim; k++) j->z[i * dim + k] = (float)(pca->mean[k] + at * pca->axis[axis * dim + k]);
    }
done:
    return status;
}

static het_status clusters(job *j, const het_predictions *all)
{
    het_status status = HET_OK;
    double *centre = NULL;
    int64_t *label = NULL, *nearest = het_alloc((size_t)j->clusters * sizeof *nearest);
    if (nearest == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for k-means"));
    HET_TRY(het_selection_clusters(&centre, &label, all, j->clusters));
    het_kmeans_nearest(nearest, centre, j->clusters, all->z, all->count, j->z_dim);
    HET_TRY(room(j, j->clusters));
    for (int64_t i = 0; i < j->clusters; i++)
        memcpy(j->z + i * j->z_dim, all->z + nearest[i] * j->z_dim, (size_t)j->z_dim * sizeof *j->z);
done:
    het_release(centre);
    het_release(label);
    het_release(nearest);
    return status;
}

/* Labels of the truth, or of a threshold on component 1; *classes: the largest and one. */
static het_status labels(const job *j, const het_predictions *all, const double *pc1, int64_t *label, int64_t *classes)
{
    het_status status = HET_OK;
    het_stack *stack = NULL;
    double threshold;
    *classes = j->truth == NULL ? 2 : 1;
    if (j->truth == NULL) {
        HET_TRY(het_latent_threshold(&threshold, pc1, all->count));
        for (int64_t i = 0; i < all->count; i++) label[i] = pc1[i] > threshold;
        goto done;
    }
    HET_TRY(het_stack_open(&stack, j->truth));
    if (het_stack_get_info(stack)->count != all->count)
        HET_TRY(het_fail(HET_E_INPUT, "%s has %lld images, the predictions %lld: give the stack that was predicted", j->truth,
                         (long long)het_stack_get_info(stack)->count, (long long)all->count));
    HET_TRY(het_stack_read_truth(stack, 0, all->count, &(het_stack_truth){.klass = label}));
    for (int64_t i = 0; i < all->count; i++) {
        if (label[i] < 0 || label[i] >= MAPS_MAX)
            HET_TRY(het_fail(HET_E_INPUT, "%s: class %lld of image %lld is out of range", j->truth, (long long)label[i],
                             (long long)i));
        if (label[i] >= *classes) *classes = label[i] + 1;
    }
done:
    het_stack_close(stack);
    return status;
}

static het_status modes(job *j, const het_predictions *all, const het_pca *pca, double *value)
{
    het_status status = HET_OK;
    int64_t classes, *label = het_alloc((size_t)all->count * sizeof *label);
    if (label == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for class labels"));
    het_latent_project(value, pca, 0, all->z, all->count);
    HET_TRY(labels(j, all, value, label, &classes));
    HET_TRY(room(j, classes));
    j->count = 0;
    for (int64_t c = 0; c < classes; c++) {
        int64_t images = 0;
        for (int64_t i = 0; i < all->count; i++) images += label[i] == c;
        if (images == 0) continue; /* a number that the truth leaves out */
        HET_TRY(het_latent_class_mode(j->z + j->count * j->z_dim, NULL, all->z, value, label, c, all->count, j->z_dim));
        j->count++;
    }
done:
    het_release(label);
    return status;
}

static het_status choose(job *j)
{
    het_status status = HET_OK;
    char path[1200];
    het_predictions all = {0};
    het_pca pca;
    double *value = NULL;
    if (j->z_text != NULL) return given_z(j);
    snprintf(path, sizeof path, "%s/predictions.h5", j->run);
    HET_TRY(het_predictions_load(&all, path));
    if (all.z_dim != j->z_dim)
        HET_TRY(het_fail(HET_E_INPUT, "%s: conformations of %lld numbers, the run has %lld: run `hetacumn predict` again", path,
                         (long long)all.z_dim, (long long)j->z_dim));
    value = het_alloc((size_t)all.count * sizeof *value);
    if (value == NULL || all.count < 1) HET_TRY(het_fail(HET_E_INPUT, "%s holds no images", path));
    HET_TRY(het_latent_pca(&pca, all.z, all.count, all.z_dim));
    if (j->pc > 0) HET_TRY(traversal(j, &all, &pca, value));
    if (j->clusters > 0) HET_TRY(clusters(j, &all));
    if (j->modes) HET_TRY(modes(j, &all, &pca, value));
done:
    het_release(value);
    het_predictions_free(&all);
    return status;
}

static het_status write_map(const job *j, het_model *model, const het_run_state *state, int64_t i)
{
    het_status status = HET_OK;
    char path[1200];
    het_volume map = {0};
    HET_TRY(het_run_map(model, state, j->z + i * j->z_dim, j->box, &map));
    snprintf(path, sizeof path, "%s/vol_%03lld.mrc", j->out, (long long)i);
    HET_TRY(het_map_save(path, &map));
done:
    het_volume_free(&map);
    return status;
}

static het_status write_z(const job *j)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/z.txt", j->out);
    FILE *file;
    const het_status status = het_out_open(&file, path);
    if (status != HET_OK) return status;
    for (int64_t i = 0; i < j->count; i++)
        for (int64_t k = 0; k < j->z_dim; k++)
            fprintf(file, "%.6g%c", (double)j->z[i * j->z_dim + k], k + 1 < j->z_dim ? ' ' : '\n');
    return het_out_close(file, path);
}

static het_status make_maps(job *j, const het_comm *comm)
{
    het_status status = HET_OK;
    enum { PLANES = 32 };
    char folder[1100];
    het_device dev = {0};
    het_model *model = NULL;
    het_survey survey = {0};
    het_run_state state;
    HET_TRY(het_device_open(&dev, j->device, het_comm_local_rank(comm), 0, HET_PRECISION_F32));
    het_run_results(folder, sizeof folder, j->run, j->amortised);
    HET_TRY(het_run_load(folder, &dev, PLANES, &model, &survey, &state));
    j->z_dim = model->config.z_dim;
    HET_TRY(choose(j));
    HET_TRY(het_figures_folder(j->out));
    for (int64_t i = 0; i < j->count; i++) HET_TRY(write_map(j, model, &state, i));
    HET_TRY(write_z(j));
    het_info("%lld map(s) in %s, radius %.1f of %lld Fourier pixels", (long long)j->count, j->out, state.radius,
             (long long)(state.box / 2 - 1));
done:
    het_model_free(model);
    het_survey_free(&survey);
    if (dev.ops != NULL) het_device_close(&dev);
    return status;
}

het_status het_cmd_volume(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.device = "auto"};
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv)));
    if (het_comm_rank(comm) == 0 && j.help) fputs(usage, stdout);
    if (het_comm_rank(comm) == 0 && !j.help) status = make_maps(&j, comm);
    HET_TRY(het_comm_agree(comm, status));
done:
    het_release(j.z);
    return status;
}
