#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../arena.h"
#include "../data/predictions.h"
#include "../log.h"
#include "../physics/kmeans.h"
#include "../physics/latent.h"
#include "../physics/stats.h"
#include "cli.h"
#include "options.h"
#include "poses.h"

static const char usage[] =
    "usage: hetacumn select RUN stack.h5 -o FILE.star|FILE.txt [conditions]\n"
    "Images of a stack that was predicted (RUN/predictions.h5), by their conformation: a STAR file with their poses for RELION, or\n"
    "their numbers in the stack, from 0. Images that meet all conditions are taken:\n"
    "      --kmeans K --clusters I,J,..  those of some of K clusters of z, from 0, numbered as the maps of `volume --kmeans K`\n"
    "      --pc N --from A --to B        component N of z (1, 2, ..) from A to B, as in latent.tsv of `plot`; one end may be left out\n"
    "      --confirmed                   poses that other conformations confirm (guide, section 3)\n"
    "      --best PERCENT                of those that are left, so many with the least loss\n"
    "  -o, --output FILE\n"
    "      --help\n";

enum { Z_MAX = 64, CLUSTERS_MAX = 1000 };

typedef struct job {
    const char *run, *stack, *out, *clusters;
    int64_t kmeans, pc;
    double from, to, best;
    int confirmed, help;
} job;

static het_status parse(job *j, int argc, char **argv)
{
    enum { KMEANS = 256, CLUSTERS, PC, FROM, TO, CONFIRM, BEST, HELP };
    static const struct option list[] = {{"output", required_argument, NULL, 'o'}, {"kmeans", required_argument, NULL, KMEANS},
                                         {"clusters", required_argument, NULL, CLUSTERS}, {"pc", required_argument, NULL, PC},
                                         {"from", required_argument, NULL, FROM}, {"to", required_argument, NULL, TO},
                                         {"confirmed", no_argument, NULL, CONFIRM}, {"best", required_argument, NULL, BEST},
                                         {"help", no_argument, NULL, HELP}, {NULL, 0, NULL, 0}};
    het_status status = HET_OK;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":o:", list, NULL)) != -1;) {
        switch (c) {
        case 'o': j->out = optarg; break;
        case KMEANS: HET_TRY(het_options_whole("--kmeans", optarg, 1, CLUSTERS_MAX, &j->kmeans)); break;
        case CLUSTERS: j->clusters = optarg; break;
        case PC: HET_TRY(het_options_whole("--pc", optarg, 1, Z_MAX, &j->pc)); break;
        case FROM: HET_TRY(het_options_number("--from", optarg, &j->from)); break;
        case TO: HET_TRY(het_options_number("--to", optarg, &j->to)); break;
        case CONFIRM: j->confirmed = 1; break;
        case BEST: HET_TRY(het_options_number("--best", optarg, &j->best)); break;
        case HELP: j->help = 1; goto done;
        default: HET_TRY(het_options_refused(argv, c));
        }
    }
    if (optind + 2 != argc) HET_TRY(het_fail(HET_E_USAGE, "select takes RUN and stack.h5; see hetacumn select --help"));
    j->run = argv[optind];
    j->stack = argv[optind + 1];
    if (j->out == NULL || (!het_options_ends_with(j->out, ".star") && !het_options_ends_with(j->out, ".txt")))
        HET_TRY(het_fail(HET_E_USAGE, "select needs -o FILE, whose name ends in .star or .txt"));
    if ((j->kmeans > 0) != (j->clusters != NULL)) HET_TRY(het_fail(HET_E_USAGE, "--kmeans K and --clusters I,J,.. belong together"));
    if ((j->pc > 0) != (isfinite(j->from) || isfinite(j->to)))
        HET_TRY(het_fail(HET_E_USAGE, "--pc N needs --from A or --to B, and they need it"));
    if (!(j->best > 0.0 && j->best <= 100.0)) HET_TRY(het_fail(HET_E_USAGE, "--best %g: it must be a percentage above 0", j->best));
done:
    return status;
}

static het_status parse_clusters(const job *j, uint8_t *wanted)
{
    for (const char *at = j->clusters;;) {
        char *end;
        const long long k = strtoll(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || k < 0 || k >= j->kmeans)
            return het_fail(HET_E_USAGE, "--clusters %s: numbers from 0 to %lld with commas between", j->clusters, (long long)j->kmeans - 1);
        wanted[k] = 1;
        if (*end == '\0') return HET_OK;
        at = end + 1;
    }
}

/* keep (images): 0 for those of other clusters. */
static het_status by_cluster(const job *j, const het_predictions *p, uint8_t *keep)
{
    het_status status = HET_OK;
    uint8_t wanted[CLUSTERS_MAX] = {0};
    double *centre = het_alloc((size_t)(j->kmeans * p->z_dim) * sizeof *centre);
    int64_t *label = het_alloc((size_t)p->count * sizeof *label);
    if (centre == NULL || label == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for k-means"));
    HET_TRY(parse_clusters(j, wanted));
    HET_TRY(het_kmeans(centre, label, NULL, p->z, p->count, p->z_dim, j->kmeans, HET_CLUSTERS_SEED));
    for (int64_t i = 0; i < p->count; i++) keep[i] &= wanted[label[i]];
done:
    het_release(centre);
    het_release(label);
    return status;
}

static het_status by_component(const job *j, const het_predictions *p, uint8_t *keep)
{
    het_status status = HET_OK;
    het_pca pca;
    double *value = het_alloc((size_t)p->count * sizeof *value);
    if (value == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count));
    if (j->pc > p->z_dim) HET_TRY(het_fail(HET_E_USAGE, "--pc %lld: there are %lld components", (long long)j->pc, (long long)p->z_dim));
    HET_TRY(het_latent_pca(&pca, p->z, p->count, p->z_dim));
    het_latent_project(value, &pca, (int)j->pc - 1, p->z, p->count);
    for (int64_t i = 0; i < p->count; i++) keep[i] &= value[i] >= j->from && value[i] <= j->to;
done:
    het_release(value);
    return status;
}

static het_status by_confirmation(const job *j, const het_predictions *p, uint8_t *keep)
{
    for (int64_t i = 0; i < p->count; i++) {
        if (p->confirmed[i] < 0.0F)
            return het_fail(HET_E_INPUT, "--confirmed: %s/predictions.h5 does not say which poses are confirmed: they are asked at the end of a "
                            "training with a start, of its own images", j->run);
        keep[i] &= p->confirmed[i] >= HET_CONFIRMED;
    }
    return HET_OK;
}

static het_status by_loss(const job *j, const het_predictions *p, uint8_t *keep)
{
    int64_t n = 0;
    double *loss = het_alloc((size_t)p->count * sizeof *loss);
    if (loss == NULL) return het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count);
    for (int64_t i = 0; i < p->count; i++)
        if (keep[i]) loss[n++] = p->loss[i];
    het_sort(loss, n);
    const int64_t last = (int64_t)ceil(j->best / 100.0 * (double)n) - 1;
    for (int64_t i = 0; i < p->count; i++) keep[i] &= n > 0 && p->loss[i] <= loss[last];
    het_release(loss);
    return HET_OK;
}

static het_status write_list(const char *path, const int64_t *image, int64_t n)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) return het_fail(HET_E_IO, "cannot write %s: %s", path, strerror(errno));
    for (int64_t i = 0; i < n; i++) fprintf(file, "%lld\n", (long long)image[i]);
    if (fclose(file) != 0) return het_fail(HET_E_IO, "cannot write %s: %s", path, strerror(errno));
    return HET_OK;
}

static het_status write_selected(const job *j, const het_predictions *p, const uint8_t *keep)
{
    het_status status = HET_OK;
    het_stack *stack = NULL;
    int64_t n = 0, *image = het_alloc((size_t)p->count * sizeof *image);
    if (image == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p->count));
    for (int64_t i = 0; i < p->count; i++)
        if (keep[i]) image[n++] = i;
    if (n == 0) HET_TRY(het_fail(HET_E_INPUT, "select: none of the %lld images meets the conditions: nothing is written", (long long)p->count));
    HET_TRY(het_stack_open(&stack, j->stack));
    if (p->count != het_stack_get_info(stack)->count)
        HET_TRY(het_fail(HET_E_INPUT, "%s has %lld images, %s/predictions.h5 has %lld: give the stack that was predicted", j->stack,
                         (long long)het_stack_get_info(stack)->count, j->run, (long long)p->count));
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
    uint8_t *keep = NULL;
    snprintf(path, sizeof path, "%s/predictions.h5", j->run);
    HET_TRY(het_predictions_load(&p, path));
    keep = het_alloc((size_t)p.count);
    if (keep == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for %lld images", (long long)p.count));
    memset(keep, 1, (size_t)p.count);
    if (j->kmeans > 0) HET_TRY(by_cluster(j, &p, keep));
    if (j->pc > 0) HET_TRY(by_component(j, &p, keep));
    if (j->confirmed) HET_TRY(by_confirmation(j, &p, keep));
    if (j->best < 100.0) HET_TRY(by_loss(j, &p, keep));
    HET_TRY(write_selected(j, &p, keep));
done:
    het_release(keep);
    het_predictions_free(&p);
    return status;
}

het_status het_cmd_select(het_comm *comm, int argc, char **argv, int *exit_code)
{
    het_status status = HET_OK;
    job j = {.from = -INFINITY, .to = INFINITY, .best = 100.0};
    (void)exit_code;
    HET_TRY(het_comm_agree(comm, parse(&j, argc, argv)));
    if (het_comm_rank(comm) == 0 && j.help) fputs(usage, stdout);
    if (het_comm_rank(comm) == 0 && !j.help) status = select_images(&j);
    HET_TRY(het_comm_agree(comm, status));
done:
    return status;
}
