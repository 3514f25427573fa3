#pragma once
#include "config.h"
#include "data/checkpoint.h"
#include "data/loader.h"
#include "model.h"
#include "mpi/comm.h"

/** A conformation of its own for every image of the stack, learned by gradient with the decoder: an auto-decoder
 *  (as for the heterogeneous stage of DRGN-AI: Levy et al. 2025, Nat. Methods). At rough poses an image tells its
 *  decoder more than an encoder learns from a few thousand noisy images. The same on every rank.
 *  Test: tests/test_latents.c */
typedef struct het_latents {
    int64_t count;                         /* images of the stack */
    int64_t z_dim, global_batch;
    float *z, *moment1, *moment2, *visits; /* (count,Z), .., (count): conformations, their Adam, steps on each */
    float *loss;                           /* (count): of the last visit */
    float *batch_dz, *batch_loss;          /* (batch,Z), (batch) */
    int64_t *shared_index;                 /* (global_batch) */
    float *shared;                         /* (global_batch, 3 Z + 2): z, moments, loss, visits, as changed */
} het_latents;

enum { HET_LATENTS_FIELDS = 5 };

/** First conformations: normal, keyed by train.seed and image, of a spread that tells images apart. Free with
 *  het_latents_free, also after an error. Errors: HET_E_MEMORY. Not collective. */
het_status het_latents_new(het_latents *latents, int64_t count, const het_config *config,
                           const het_model_spec *model);
void het_latents_free(het_latents *latents);
/** What changes from step to step, for checkpoints. */
void het_latents_fields(het_field fields[HET_LATENTS_FIELDS], const het_latents *latents);
/** Conformations z (count,Z) from elsewhere; those that are new begin without Adam's moments. */
void het_latents_put(het_latents *latents, const float *z);
/** Weight lambda of |z|^2/2 against the loss of an image: init.prior_z, or by default 4 s^2/D^2. With noise of variance s^2 a pixel the loss
 *  is -2 s^2/D^2 times the log-likelihood, so that z ~ N(0,1) has half of that: twice its weight was best where it was tried (docs/poses.md). */
double het_latents_prior(const het_model *model);
/** After the step of task one on a batch with given poses: each image's loss, and one step of Adam on its conformation,
 *      dL/dz_i (of the image's own loss) + lambda z_i,   lambda = het_latents_prior(),
 *  unless conformations are frozen, so that none were given, or the loss is not finite. Collective. */
het_status het_latents_learn(het_latents *latents, het_comm *comm, const het_batch *batch, het_model *model,
                             double rate);
