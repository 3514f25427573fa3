#pragma once
#include <stdio.h>

#include "../data/predictions.h"
#include "../physics/align.h"
#include "../physics/place.h"
#include "../physics/volume.h"

/** Every measure of one set of predictions against the truth, for `hetacumn evaluate`. A number that does not
 *  apply (one class, no maps) is NAN, null in JSON. Test: tests/test_evaluate.c, tests/test_measures.c
 *
 *  Frames: the run's frame is brought to the truth's by one rotation A, hand and origin u (align.h) for all
 *  images together - the convention of Rot, Trans and Res - and again for each class alone ("own"). Where a
 *  class fits much better alone, its frame has drifted: conformation and pose share a turn. */

/** The curves kept of every class: its map placed in the frame of all images, in the class's own frame, fitted
 *  to the true map; and the mean over single images, each with the map of its own z, in the frame of all. */
typedef enum het_fsc_kind {
    HET_FSC_COMMON,
    HET_FSC_OWN,
    HET_FSC_FITTED,
    HET_FSC_IMAGES,
    HET_FSC_KINDS
} het_fsc_kind;

typedef struct het_class_measures {
    int64_t images;
    double rot;               /* median d with the A of all images */
    double rot_own;           /* median d with the class's own A and hand */
    double hand_own;          /* +1 or -1 */
    double frame_degrees;     /* angle between the class's own refined A and that of all; NAN for other hands */
    double trans_raw;         /* median |t_pred - t_true|^2, px^2 */
    double trans_own;         /* the same after the class's own origin */
    double err;               /* misclassified share of this class; two classes only */
    double pc1_mean, pc1_std, pc1_mode;
    double res, res143;       /* px: box over the shell where FSC first crosses 0.5, 0.143; 2.0: never */
    double res_own;           /* px, FSC = 0.5, in the class's own frame */
    double res_fitted;        /* px, FSC = 0.5, after rotation and origin are fitted to the true map */
    double area, image_res;   /* of single images: mean area under FSC, median Res (het_image_fsc) */
    het_pose3 own;            /* the class's own frame: refined A, hand, u */
} het_class_measures;

/** One image whose own map was compared with the true map of its class. */
typedef struct het_image_fsc {
    int64_t image, klass;
    double area; /* under the FSC over k in cycles per pixel, trapezoids of shells 0 (taken as 1) .. box/2-1:
                    at most 1/2 - 1/box */
    double res;  /* px, FSC = 0.5 */
} het_image_fsc;

/** Images that are no particles, class -1: how many, how many of them /particle finds, and how many particles it takes for some. */
typedef struct het_junk {
    int64_t images, found, particles;
} het_junk;

typedef struct het_measures {
    het_junk junk;            /* not among the images */
    int64_t images, box, classes, z_dim;
    double apix;
    het_align align;
    het_origin origin;
    double frames_degrees;    /* largest angle between the own frames of two classes of the same hand */
    double err, err_best;     /* two classes: threshold found without and with the labels */
    double corr;              /* |Spearman| of PC1 and truth->coordinate */
    double similarity;        /* share of the 10 nearest neighbours in z that have the same class ... */
    double chance;            /* ... and what mixed classes give */
    double e_pose;            /* Rot + Trans_raw/D^2 */
    double e_z, entanglement; /* two classes: Err, more: het_latent_overlap(), one: NAN; e_pose + e_z */
    int64_t sampled;          /* images compared each by its own map */
    double area_mean, area_median, image_res_mean, image_res_median; /* over them */
    double *distance2;        /* (images) owned: d of every image, for figures */
    het_class_measures *klass;/* (classes) owned */
    float *z_star;            /* (classes, z_dim) owned: where each class's map is taken */
    double *fsc;              /* (classes, HET_FSC_KINDS, box/2) owned; NAN where not measured */
    het_image_fsc *sample;    /* (sampled) owned */
} het_measures;

typedef struct het_truth {
    float *rotation, *shift;  /* (count,9), (count,2) px */
    int64_t *klass;           /* (count) 0..classes-1; -1: no particle */
    int64_t classes;          /* largest number + 1; every class may not have images */
    double *coordinate;       /* (count) place of each conformation in a row: the stack's z where it is known for
                                 all images, else the class; NULL where it takes fewer than three values */
} het_truth;

/** The truth of a stack, checked: rotations are rotations, -1 <= class < 1000; a stack without any known class is
 *  one class. Errors: HET_E_INPUT, HET_E_IO, HET_E_MEMORY. */
het_status het_truth_load(het_truth *truth, const het_stack *stack, const char *path);
void het_truth_free(het_truth *truth);
/** Take images of class -1 out of truth and predictions of the same stack. */
void het_truth_leave_out_junk(het_truth *truth, het_predictions *predictions, het_junk *junk);

/** All measures but those of maps. Errors: HET_E_MEMORY; HET_E_SHAPE for no images. */
het_status het_measures_of_images(het_measures *measures, const het_predictions *predictions,
                                  const het_truth *truth);
/** Res of class k: `predicted` (in the run's frame) against `truth`, both of measures->box and apix. A map
 *  that agrees only when negated is named in a warning. Errors: HET_E_MEMORY. */
het_status het_measures_of_map(het_measures *measures, int64_t k, const het_volume *predicted,
                               const het_volume *truth);
/** Draw up to `each` images of every class, without repetition, in the order of the classes: they become
 *  measures->sample, not measured yet. Errors: HET_E_MEMORY. */
het_status het_measures_draw_images(het_measures *measures, const het_truth *truth, int64_t each);
/** Per-image FSC (Jeon et al., CryoBench, 2024) of sample i: `predicted`, the map of the image's own z, against
 *  the true map of its class. Errors: HET_E_MEMORY. */
het_status het_measures_of_image_map(het_measures *measures, int64_t i, const het_volume *predicted,
                                     const het_volume *truth);
/** Means and medians, when every sample has been measured. Errors: HET_E_MEMORY. */
het_status het_measures_sum_up_images(het_measures *measures);
void het_measures_free(het_measures *measures);

/** A table for people, with the convention beside each figure. */
void het_measures_print(const het_measures *measures, FILE *out);
/** The same as JSON; path "-" is stdout. Keys: docs/formats.md. Errors: HET_E_IO, HET_E_MEMORY. */
het_status het_measures_write_json(const het_measures *measures, const char *path);
