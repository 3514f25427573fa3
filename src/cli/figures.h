#pragma once
#include "measures.h"

/** The figures of a run, each as numbers and picture in a folder: NAME.tsv (tab-separated, one line of names)
 *  and NAME.svg; columns: docs/formats.md. Errors of all: HET_E_IO, HET_E_MEMORY. Test: tests/test_figures.c */

/** Make the folder where it is not there. */
het_status het_figures_folder(const char *folder);

/** latent: z and its first two principal components; density, distribution of PC1, and - with the truth (NULL:
 *  none) - classes and the true coordinate. */
het_status het_figure_latent(const char *folder, const het_predictions *predictions, const het_truth *truth);
/** views: how many images see the particle from where, in cells of equal area; 0 is that of the run's own frame. */
het_status het_figure_views(const char *folder, const het_predictions *predictions);
/** rotation: histogram of the angle between true and predicted rotation, in the common frame. */
het_status het_figure_rotation(const char *folder, const het_measures *measures, const het_truth *truth);
/** fsc: the curves of every class; images: area and Res of each image of the per-image FSC, where there are
 *  any. */
het_status het_figure_fsc(const char *folder, const het_measures *measures);
/** training: every number of RUN/log.jsonl, a line per report. A run without log gives no file. Errors:
 *  HET_E_INPUT for a line that is no JSON object. */
het_status het_figure_training(const char *folder, const char *run);
