#pragma once
#include <getopt.h>

#include "../data/predictions.h"

/** Which images of a predicted stack a command takes: conditions that all have to be met. Test: tests/cli_select.sh */
typedef struct het_selection {
    int64_t kmeans;       /* clusters of z, numbered as the maps of `volume --kmeans`; 0: none */
    const char *clusters; /* "I,J,..": these of them; NULL: all */
    int64_t pc;           /* component of z from 1; 0: none */
    double from, to;      /* its range */
    double best;          /* percent: of those that are left, so many with the least loss */
    int confirmed, particles;
} het_selection;

/** What takes every image. */
#define HET_SELECTION_ALL {.from = -INFINITY, .to = INFINITY, .best = 100.0}

/** Rows of a command's option table, and what --help says of them. */
enum { HET_SELECTION_KMEANS = 1000, HET_SELECTION_CLUSTERS, HET_SELECTION_PC, HET_SELECTION_FROM, HET_SELECTION_TO,
       HET_SELECTION_CONFIRMED, HET_SELECTION_PARTICLES, HET_SELECTION_BEST };
#define HET_SELECTION_OPTIONS                                                                                              \
    {"kmeans", required_argument, NULL, HET_SELECTION_KMEANS}, {"clusters", required_argument, NULL, HET_SELECTION_CLUSTERS}, \
    {"pc", required_argument, NULL, HET_SELECTION_PC}, {"from", required_argument, NULL, HET_SELECTION_FROM},              \
    {"to", required_argument, NULL, HET_SELECTION_TO}, {"confirmed", no_argument, NULL, HET_SELECTION_CONFIRMED},          \
    {"particles", no_argument, NULL, HET_SELECTION_PARTICLES}, {"best", required_argument, NULL, HET_SELECTION_BEST}
#define HET_SELECTION_USAGE                                                                                                \
    "      --kmeans K --clusters I,J,..  those of some of K clusters of z, from 0, numbered as the maps of `volume --kmeans K`\n" \
    "      --pc N --from A --to B        component N of z (1, 2, ..) from A to B, as in latent.tsv of `plot`; one end may be left out\n" \
    "      --confirmed                   poses that other conformations confirm (guide, section 3)\n"                     \
    "      --particles                   without those that are likelier no particles than any of the maps' (guide, section 3)\n" \
    "      --best PERCENT                of those that are left, so many with the least loss\n"

/** The K clusters of z that users ask for by number, the same in every command (kmeans.h): centre (K,Z) and label (images) [out],
 *  to be freed by the caller, also after an error. Errors: HET_E_SHAPE for more clusters than images, HET_E_MEMORY. */
het_status het_selection_clusters(double **centre, int64_t **label, const het_predictions *predictions, int64_t clusters);
/** An answer of getopt_long with its argument; *known: whether it is one of these. Errors: HET_E_USAGE. */
het_status het_selection_option(het_selection *selection, int option, const char *argument, int *known);
/** Whether what was given belongs together. Errors: HET_E_USAGE. */
het_status het_selection_check(const het_selection *selection);
/** group [out] (images): 0 for those that are taken, -1 for the others; with clusters of which none are named the number of
 *  each image's. *groups: 1, or the number of clusters. `path` of the predictions, for messages. Errors: HET_E_USAGE,
 *  HET_E_INPUT where there are no images or nobody asked for what is wanted, HET_E_MEMORY. */
het_status het_selection_apply(const het_selection *selection, const het_predictions *predictions, const char *path, int64_t *group,
                               int64_t *groups);
