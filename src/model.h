#pragma once
#include "config.h"
#include "data/loader.h"
#include "nn/decoder.h"
#include "nn/encoder.h"
#include "physics/points.h"
#include "survey.h"

/** The two networks joined by the physics of image formation: METHOD sections 2 to 5.
 *
 *  Task one (image):  image and mirror -> encoder -> R, t, z -> slice -> CTF, shift -> loss against the
 *                     image; the better of image and mirror counts, and only it goes through the decoder's
 *                     backward.
 *  Task two (pose):   drawn R, t and z of the images seen last -> slice -> CTF, shift, noise -> encoder ->
 *                     pose loss.
 *
 *  A model lives on one rank. Its gradients are sums over this rank's images divided by the *global* batch,
 *  so ranks only have to be added up. Not collective. */

typedef enum het_task { HET_TASK_IMAGE, HET_TASK_POSE } het_task;

enum { HET_GROUPS_MAX = 256 }; /* batch-norm groups on one rank */

typedef struct het_model_spec {
    int64_t box;
    double apix;
    int64_t batch, global_batch;   /* images of task one per step: at once on this rank, over all ranks */
    int64_t groups, global_groups; /* batch-norm groups (shards): at once on this rank, over all ranks */
    int64_t parts;                 /* batches that this rank takes one after the other in a step; 0 is 1 */
    double shift_range;            /* px, of the synthetic images */
    int infer_only;                /* no gradients, no optimiser */
} het_model_spec;

/** Sums over images of one step; added over ranks. */
typedef struct het_tally {
    /* task one; zero_loss: of predicting nothing */
    double image_loss, kl, shift_penalty, zero_loss, mirrored;
    double images, pixels;                       /* pixels: Fourier pixels of the loss's whole disc, for each image */
    double pose_loss, rotation_error, synthetic; /* task two: eq. 8, |R-R'|^2 */
    double conformation_loss;                    /* task two, with z given in task one */
    double spread, spread_pairs;                 /* |R_i - R_j|^2 of predicted rotations in task one */
    double z_square, z_std;
    double non_finite;
    double stop;                                 /* ranks that noted a signal */
} het_tally;

typedef struct het_model {
    het_device *dev;
    het_config config;
    het_model_spec spec;
    het_points points;
    het_layout layout;
    het_encoder *encoder[2]; /* per task: they differ in batch only; [1] may be [0] */
    het_decoder *decoder;
    het_fourier *fourier;
    int64_t synthetic;       /* images of one step of task two on this rank */
    int64_t trained_encoder; /* parameters [0, this): encoder; [decoder_first, total): decoder */
    int64_t decoder_first;
    float *params, *grads, *moment1, *moment2; /* (layout.total) on the device */
    float *running;                            /* (HET_STATS_SETS, stats) running statistics */
    int64_t adam_steps[2];                     /* of encoder and decoder */
    /* state of the step */
    int64_t part;         /* which of the parts; set by who calls forward */
    int64_t active;       /* Fourier points within the present radius */
    double real_scale;    /* 1 / standard deviation of a low-passed standardised image */
    double snr, noise_variance;
    float *envelope_shells; /* [host] (box/2) */
    het_whitening whitening; /* of the images */
    int64_t step_images;  /* images of the last image step: 0 before the first */
    het_task task;
    int pairs;            /* rows per image of the last image step: 2 with its mirror */
    int given;            /* the last image step had its poses given */
    int encoded;          /* and ran the encoder, for poses and z or for z alone */
    int turned;           /* it showed the encoder turned images (train.augment) */
    int z_given;          /* and its z: task two then teaches the conformation head too */
    int frozen;           /* FCH: z carries nothing yet; set by forward, or by who loads a checkpoint */
    size_t plan_bytes;    /* what plans hold on the host: packed weights, threads' buffers */
    het_graph *graph[2];  /* of each task's work; NULL: none yet */
    struct het_model_buffers *buffers;
} het_model;

/** Build networks and buffers and draw initial parameters from config->train.seed. dev is borrowed.
 *  Errors: HET_E_SHAPE, HET_E_MEMORY. */
het_status het_model_new(het_model **model, het_device *dev, const het_config *config,
                         const het_model_spec *spec);
/** The same in two parts: networks and plans, of which het_model_memory() knows already what the rest will take; then
 *  parameters and buffers. */
het_status het_model_plan(het_model **model, het_device *dev, const het_config *config,
                          const het_model_spec *spec);
het_status het_model_allocate(het_model *model);
void het_model_free(het_model *model);
/** What the images of a batch are made of for this device: fp16 where it computes in bf16 in a memory of its own, half as much
 *  to copy and to keep there; else fp32. */
het_dtype het_model_image_type(const het_device *dev);
/** Images of task one per step on a rank, of all parts. */
int64_t het_model_images(const het_model_spec *spec);
/** Bytes of parameters (with running statistics), gradients, optimiser and workspace on the device. */
void het_model_memory(const het_model *model, size_t bytes[4]);
/** Give the model what the survey found; survey may be freed afterwards. */
void het_model_set_survey(het_model *model, const het_survey *survey);
/** The images' whitening, by which CTFs are multiplied; before it: none. */
void het_model_set_whitening(het_model *model, const het_whitening *whitening);
/** Frequency marching: use the disc of this radius (Fourier pixels). */
void het_model_set_radius(het_model *model, double radius, const het_survey *survey);

void het_model_zero_grad(het_model *model);
/** Forward pass of a task. batch is used by task one only; task two takes CTFs and z of the last task one. What the host gives to it
 *  goes through memory that serves again: het_model_tally(), which waits, must come before the next one.
 *  step keys the random numbers; frozen: the conformation head is not trained (FCH).
 *  With poses given in the batch task one looks at the image alone, not at its mirror: both would be right, and
 *  the choice between them told the decoder what z should. The encoder then serves for z, unless z is given too;
 *  frozen, it does not run and z carries nothing of the image. */
void het_model_forward(het_model *model, het_task task, const het_batch *batch, int64_t step, int frozen);
/** Backward of the last forward; `ready` is told about final gradients, from the end of the block to its
 *  start. */
void het_model_backward(het_model *model, het_ready ready, void *context);
/** What a step of training computes: gradients from zero, forward, backward. The arguments are those of the three. Where the
 *  device can (kernels/ops.h, graph_begin) the work is launched as one, or as one from each call of `ready` to the next, but for
 *  parts, which have memory of their own each. ready may be NULL; a context belongs to one ready. Test: tests/cli_graphs.sh */
void het_model_gradients(het_model *model, het_task task, const het_batch *batch, int64_t step, int frozen, het_ready ready,
                         void *context);
/** Add the numbers of the last step to *tally; waits for the device, whose faults show here. */
het_status het_model_tally(het_model *model, het_tally *tally);
/** One Adam step of what the last task trains, and the running statistics. A network whose rate is 0 stays as
 *  it is. */
void het_model_update(het_model *model, double rate_encoder, double rate_decoder);
/** Of the last step of task one, for its n images: slopes of each image's own loss along the z it was given,
 *  dz (n,Z; of no use where none was given), and the loss (n), eq. 4, part after part; [host]. After the tally of batches with poses
 *  given. */
void het_model_answers_given(het_model *model, float *dz, float *loss);
/** Adam begins anew: moments and their counts are 0. */
void het_model_forget_moments(het_model *model);

/** Answers for n <= spec.batch standardised images (n,D,D): rotation (n,9), shift (n,2) px, z mean (n,Z), z
 *  standard deviation (n,Z), loss (n), mirrored (n). Uses running statistics; the better of image and mirror,
 *  mapped back. */
typedef struct het_answers {
    float *rotation, *shift, *z, *z_std, *loss;
    uint8_t *mirrored;
    float *other_rotation, *other_shift; /* the worse one, mapped back (n,9), (n,2); NULL: not wanted */
} het_answers;
het_status het_model_infer(het_model *model, const float *images, const het_ctf_row *ctf, int64_t n,
                           const het_answers *answers);

/** What the loss compares, to the host: the points (n,P,2) of n <= spec.batch standardised images within the
 *  present radius, P = model->active, and their CTFs times the envelope (n,P). */
het_status het_model_observe(het_model *model, float *points, float *ctf, const float *images,
                             const het_ctf_row *rows, int64_t n);
/** The decoder's slices (n,p,2), before the CTF, at rotations rot (n,9) and conformations z (n,Z), any n,
 *  p <= P; all on the host. */
void het_model_slices(het_model *model, float *slices, const float *rot, const float *z, int64_t n,
                      int64_t p);

/** The volume of one conformation: real space, (D,D,D) [z][y][x], in units of standardised images (projection
 *  sums along z). Frequencies beyond the present radius are 0. D is the run's box. */
het_status het_model_volume(het_model *model, const float *z, float *volume);
