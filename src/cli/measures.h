#pragma once
#include <stdio.h>

#include "../data/predictions.h"
#include "../physics/align.h"
#include "../physics/volume.h"

/** Every measure of METHOD 8 of one set of predictions against the truth, for `hetacumn evaluate`.
 *  A number that does not apply (one class, no maps) is NAN, null in JSON. */

typedef struct het_class_measures {
    int64_t images;
    double rot;               /* median d with the global A */
    double rot_aligned;       /* median d with the class's own A: what is left without drift of its frame */
    double trans_raw;         /* median |t_pred - t_true|^2, px^2 */
    double err;               /* misclassified share of this class; two classes only */
    double pc1_mean, pc1_std, pc1_mode;
    double res, res143;       /* px: box over the shell where FSC first crosses 0.5, 0.143; 2.0: never */
    double res_aligned;       /* px, FSC = 0.5, after rotation and origin are refined against the true map */
} het_class_measures;

typedef struct het_measures {
    int64_t images, box, classes, z_dim;
    double apix;
    het_align align;
    het_origin origin;
    double err, err_best;     /* two classes: threshold found without and with the labels */
    double corr;              /* more than two classes: |Spearman| of PC1 and class number */
    double similarity;        /* share of the 10 nearest neighbours in z that have the same class ... */
    double chance;            /* ... and what mixed classes give */
    double e_pose, e_z, entanglement; /* Rot + Trans_raw/D^2; Err or het_latent_overlap(); their sum */
    het_class_measures *klass;/* (classes) owned */
    float *z_star;            /* (classes, z_dim) owned: where each class's map is taken */
} het_measures;

typedef struct het_truth {
    float *rotation, *shift;  /* (count,9), (count,2) px */
    int64_t *klass;           /* (count) 0..classes-1 */
    int64_t classes;          /* largest number + 1; every class may not have images */
} het_truth;

/** The truth of a stack, checked: rotations are rotations, 0 <= class < 1000. Errors: HET_E_INPUT, HET_E_IO,
 *  HET_E_MEMORY. */
het_status het_truth_load(het_truth *truth, const het_stack *stack, const char *path);
void het_truth_free(het_truth *truth);

/** All measures but those of maps. Errors: HET_E_MEMORY; HET_E_SHAPE for no images. */
het_status het_measures_of_images(het_measures *measures, const het_predictions *predictions,
                                  const het_truth *truth);
/** Res of class k: `predicted` (in the run's frame) against `truth`, both of measures->box and apix. A map
 *  that agrees only when negated is named in a warning. Errors: HET_E_MEMORY. */
het_status het_measures_of_map(het_measures *measures, int64_t k, const het_volume *predicted,
                               const het_volume *truth);
void het_measures_free(het_measures *measures);

/** A table for people, with the convention beside each figure. */
void het_measures_print(const het_measures *measures, FILE *out);
/** The same as JSON; path "-" is stdout. Keys: docs/formats.md. Errors: HET_E_IO, HET_E_MEMORY. */
het_status het_measures_write_json(const het_measures *measures, const char *path);
