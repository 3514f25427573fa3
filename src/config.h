#pragma once
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/** The configuration of a run: YAML by schema (libcyaml), `--set section.key=value` overrides, defaults below.
 *  One row per key in config.c gives name, range, default and help. The resolved configuration is saved in the run. */

typedef enum het_pool { HET_POOL_FLATTEN, HET_POOL_AVG } het_pool;
typedef enum het_encoder_norm { HET_ENCODER_BATCH_NORM, HET_ENCODER_GROUP_NORM } het_encoder_norm;
typedef enum het_shift_unit { HET_SHIFT_BOX, HET_SHIFT_PIXEL } het_shift_unit;
typedef enum het_standardise { HET_STANDARDISE_SET, HET_STANDARDISE_IMAGE } het_standardise;
/* What finds poses and conformations; what it implies for other keys: het_config_resolve(). */
typedef enum het_method { HET_METHOD_HETACUMN, HET_METHOD_CRYOFIRE, HET_METHOD_CRYODRGN2 } het_method;
typedef enum het_frozen_z { HET_FROZEN_ZERO, HET_FROZEN_NORMAL } het_frozen_z;

typedef struct het_config_encoder {
    int64_t width;        /* channels of the stem and first stage (64: ResNet-18); multiples of 16 */
    het_pool pool;        /* before the heads: flatten | avg */
    int stem_pool;        /* 3x3/2 max pooling after the stem, as in ResNet-18 (false: keeps twice the resolution) */
    int stem_stride;      /* 2 as in ResNet-18, or 1 */
    int64_t head;         /* hidden width of each head (256) */
    het_encoder_norm norm;       /* batch | group */
    het_shift_unit shift_unit;   /* of the shift head, and of the shift terms of the losses: box | pixel */
    het_standardise standardise; /* what the encoder sees: over the data set | each image by itself */
    double window_inner;  /* soft circular window, as a fraction of the half-box */
    double window_outer;
    int separate_stats;   /* running statistics of real and synthetic images kept apart */
    double stats_momentum;/* of the running statistics */
} het_config_encoder;

typedef struct het_config_decoder {
    int64_t width;        /* 256 */
    int64_t frequencies;  /* 192 */
    int64_t layers;       /* hidden activations: 4 */
    int residual;         /* h_l = h_{l-1} + relu(..) */
    double sigma;         /* of the frequencies, in units of D/4 pixels */
    int envelope;         /* scale the output by the data's radial amplitude */
} het_config_decoder;

/* The start without a model (start.h). */
typedef enum het_start_method { HET_START_NONE, HET_START_SEARCH } het_start_method;

typedef struct het_config_init {
    het_start_method method; /* none: random networks | search: pose search from random starts */
    int64_t images;        /* at most; spread evenly over the stack */
    int64_t starts;        /* random starts, at most, until two agree */
    int64_t search_images; /* of each of them */
    int64_t search_rounds; /* of expectation-maximisation in each of them */
    double radius;        /* Fourier pixels: of the start, and where frequency marching then begins */
    int64_t rounds;       /* of expectation-maximisation from there */
    int64_t fine_rounds;  /* at most, of poses and maps at the box's full radius (start_fine.h) */
    int64_t components;   /* of a linear model that gives the first conformations (start_components.h); 0: random ones */
    double epochs;        /* passes of the decoder over these images at the poses found */
    double join_epoch;    /* epochs after conformations were released: poses searched anew, one frame; 0: never, -1: in mid-training */
    double keep_epochs;   /* then: epochs in which task one uses the poses found, while task two teaches the encoder */
    double lambda_z;      /* weight of the conformation of synthetic images, which the encoder learns meanwhile */
    double prior_z;       /* weight of |z|^2/2 of each image's conformation meanwhile; -1: het_latents_prior() */
    double rate_z;        /* Adam's rate for the conformation of each image meanwhile */
} het_config_init;

typedef struct het_config_train {
    het_method method;
    int64_t seed;
    int64_t batch;        /* images per step over all ranks */
    int64_t shards;       /* batch-norm groups the batch is cut into; ranks divide it; 0: the number of ranks at start */
    int deterministic;    /* sums in an order that does not depend on the number of ranks: shard by shard */
    double epochs;        /* passes over the stack */
    double rate_encoder, rate_decoder; /* Adam */
    double rate_final;    /* the rates fall by cosine to this fraction at the end */
    double lambda_z;      /* KL weight, eq. 6 */
    double lambda_t;      /* shift penalty, eq. 7 */
    double lambda_pose;   /* weight of task two, eq. 8 */
    int64_t pose_steps;   /* steps of task two per step of task one */
    int64_t pose_images;  /* synthetic images per real image in each of them */
    int mirror;           /* symmetrised loss, eq. 5 */
    int augment;          /* task one shows the encoder images turned by multiples of 90 degrees */
    double march_start;   /* frequency marching: first radius in Fourier pixels (0: full disc from the start) */
    double march_rate;    /* growth per epoch, in Fourier pixels; 0: by train.epochs */
    double freeze_epochs; /* FCH: epochs with the conformation head frozen */
    double freeze_images; /* FCH in images seen; the larger of both counts */
    het_frozen_z freeze_z;/* z while frozen: zero | normal */
    double shift_range;   /* of the synthetic images, pixels; < 0: the stack's own */
    double snr;           /* 0: estimated from the stack (eq. 9) */
    int precision;        /* het_precision: auto | fp32 | bf16 */
    int64_t threads;      /* 0: all cores of this rank */
} het_config_train;

/* Poses by search (train.method = cryodrgn2, searched.h). */
typedef struct het_config_search {
    double every;         /* epochs from one search to the next */
    double pretrain;      /* images that the decoder sees at random poses before the first */
} het_config_search;

/* The stage after the amortised training (train --refine, refine.h). */
typedef struct het_config_refine {
    int64_t rounds;       /* poses, then volumes */
    int64_t candidates;   /* poses tried for each image besides the present one, from a search over all poses */
    int64_t steps;        /* iterations of a pose, at half the radius and again at the full one */
    double epochs;        /* passes of the decoder over the stack in each round */
    double rate;          /* of the decoder, as a fraction of train.rate_decoder, falling to a tenth in each round */
    int learn_z;          /* conformations that training learned image by image go on learning */
} het_config_refine;

typedef struct het_config_ablation { /* the paper's Fig. 8: each one switched off alone */
    int cpp, fch, pds, asn;          /* 1: on (default) */
} het_config_ablation;

/* Where the images are while training goes on (train_images.h). */
typedef enum het_device_data { HET_DEVICE_DATA_AUTO, HET_DEVICE_DATA_YES, HET_DEVICE_DATA_NO } het_device_data;

typedef struct het_config_run {
    double checkpoint_minutes;
    int64_t checkpoint_steps;     /* 0: only by time and at the end */
    int64_t keep;                 /* newest checkpoints kept */
    int64_t keep_every;           /* epochs from one checkpoint kept for good to the next; 0: none */
    int64_t log_steps;            /* steps between reports */
    het_device_data device_data;  /* the whole stack in the device's memory: auto | yes | no */
    double watchdog;              /* seconds without a sign of life after which a rank is lost (mpi/pulse.h); 0: never */
} het_config_run;

typedef struct het_config {
    int64_t z_dim;
    het_config_encoder encoder;
    het_config_decoder decoder;
    het_config_init init;
    het_config_train train;
    het_config_search search;
    het_config_refine refine;
    het_config_ablation ablation;
    het_config_run run;
    uint64_t named[2];    /* bit i: the i-th key was given by file or --set */
} het_config;

/** Defaults. */
void het_config_default(het_config *config);
/** Read a YAML file over what `config` holds. Errors: HET_E_USAGE naming file, line, key and the allowed values. */
het_status het_config_load(het_config *config, const char *path);
/** Apply one "section.key=value". Errors: HET_E_USAGE naming the key and the allowed values or range. */
het_status het_config_set(het_config *config, const char *assignment);
/** Set the keys that train.method implies, once all that was given is read. Errors: HET_E_USAGE where such a key
 *  was given otherwise. */
het_status het_config_resolve(het_config *config);
/** train.shards, or what 0 stands for: the number of ranks, or with train.deterministic a fixed one. */
int64_t het_config_shards(const het_config *config, int ranks);
/** Check ranges and combinations of a complete configuration. */
het_status het_config_check(const het_config *config);
/** Write the resolved configuration as YAML (to path.tmp, then renamed). */
het_status het_config_save(const het_config *config, const char *path);
/** Name the keys in which two configurations differ, as "a.b (x, was y), ..." in `text`; returns their number. Keys that
 *  may change when a run goes on (epochs, run.*, threads, rates, ...) are skipped when `only_fixed` is set. */
int het_config_differences(const het_config *now, const het_config *was, int only_fixed, char *text, size_t size);
/** Print every key with default, range and meaning. */
void het_config_help(void);
