#pragma once
#include "data/predictions.h"
#include "model.h"
#include "mpi/comm.h"
#include "physics/fit.h"
#include "watch.h"

/** Poses of all images of a stack against the model's decoder, shared among the ranks. For each image a few
 *  candidates - the present pose, the encoder's answer for the mirror image, and the likeliest poses of a coarse
 *  search that stand apart from these and each other - are brought to their minima at half the radius; the best
 *  two go on to the full radius (physics/fit.h), the better one stays. z stays.
 *  The search compares images with the decoder's slices at the centre of a cluster of z. Needs no gradients. */

enum { HET_POSES_BATCH = 256 }; /* images at once, at most */
enum { HET_POSE_PRESENT, HET_POSE_MIRROR, HET_POSE_SEARCHED }; /* places of candidates: the last and those after it */

typedef struct het_poses {
    het_comm *comm;
    het_model *model;
    const het_stack *stack;
    double noise_variance;
    het_predictions all;  /* of all images, the same on every rank */
    int64_t first, count; /* this rank's images: [first, first + count) */
    int places;           /* for candidates of an image */
    het_fit_pose *candidate;           /* (count, places); image < 0: none there */
    float *images, *transform, *ctf;   /* of a batch */
    float *noise;                      /* (points of the box) noise_variance, as searches take it */
    het_watch *watch;                  /* is told how far work in pieces is (borrowed); NULL: nobody */
    const char *folder;                /* of the run: what is done of a search is kept there (borrowed); NULL: nowhere */
    float *found;                      /* (all) 1: the image's piece is done; NULL: no work in pieces is under way */
    int64_t piece, piece_size;         /* its number, and images of a piece in each of a rank's parts */
    int got_on;                        /* a piece was done since the program began: the end of its time may stop the next one */
    int64_t in_batch[HET_POSES_BATCH]; /* their places in the stack */
} het_poses;

/** model, stack are borrowed. Free with het_poses_close, also after an error. Errors: HET_E_MEMORY.
 *  Not collective. */
het_status het_poses_open(het_poses *poses, het_comm *comm, het_model *model, const het_stack *stack,
                          double noise_variance);
void het_poses_close(het_poses *poses);
/** The encoder's answers for all images. Collective; a noted signal sets *stopped on all ranks: it is
 *  not done then. */
het_status het_poses_encode(het_poses *poses, int *stopped);
/** Improve the poses of all images; search: also from the candidates of a search. Collective; *stopped
 *  as above. */
het_status het_poses_improve(het_poses *poses, int search, int *stopped);

/** The mirror images' poses are tried once, in the first improvement: it was done before. */
void het_poses_forget_mirrors(het_poses *poses);

/** Find the poses of all images, whatever the present ones are, by a search over all poses that gets finer from level
 *  to level (Zhong et al. 2021, CryoDRGN2, ICCV), within the model's present radius. z is the encoder's mean, or 0
 *  while the model is frozen; loss that of eq. 4. Collective; *stopped as above. */
het_status het_poses_locate(het_poses *poses, int *stopped);

/** Which poses other conformations confirm. Clusters of z are conformations; of a sample of each, the share whose likeliest pose in the
 *  maps of the others is the present one, within 30 degrees. The conformation with the least share below HET_CONFIRMED no longer counts
 *  as one of the others, and so on, while at least half of the images are in those that count.
 *  Sets all.confirmed: the share of the image's conformation. Where poses are right it is above 0.9, where most are wrong below
 *  0.8 (docs/poses.md). Collective; *stopped as above. Errors: HET_E_MEMORY, those of reading. */
het_status het_poses_confirm(het_poses *poses, int *stopped);
/** Whether others were asked, and do not confirm the image's conformation; the share of such images. */
int het_poses_is_doubted(const het_predictions *predictions, int64_t image);
double het_poses_doubted(const het_poses *poses);
/** Whether there is nothing to search, and say so: others confirm nearly all poses, and these go back to the start's linear model, which are finer than
 *  those that the decoder finds before it is finer itself (docs/poses.md). */
int het_poses_are_sure(const het_poses *poses);
/** Warn of them, at the end of a run. */
void het_poses_warn(const het_poses *poses);

/** Find lost poses together with the conformation, after het_poses_confirm: the images that are farthest out in z, and those of conformations that are not
 *  confirmed, are searched against the decoder's maps at the centres of clusters of z of the confirmed images. The likeliest pose,
 *  with the centre's z or, in the image's own cluster, its own, is brought to its minimum and replaces the present one, brought to
 *  its minimum as well, where that one is not confirmed, or its loss is higher.
 *  Collective; *stopped as above. Errors: HET_E_MEMORY, those of reading. */
het_status het_poses_relocate(het_poses *poses, int *stopped);

/** Conformations brought to their minima at the present poses (physics/conform.h), with their deviations; the prior is
 *  that of training (het_latents_prior). Collective; *stopped as above. Errors: HET_E_MEMORY,
 *  those of reading. */
het_status het_poses_conform(het_poses *poses, int *stopped);
/** Poses and conformations of all images as if nothing were known of them: searched as by het_poses_relocate, all of them, in conformations
 *  of the trained images, known; pose and conformation are then brought to their minima by turns. Where training's own answers
 *  had a wrong pose and a z that had bent to fit it, these are better, though their loss may be higher. known may be poses->all; those of
 *  its conformations that are not confirmed are left out. Collective; *stopped as above. Errors: HET_E_MEMORY, those of reading. */
het_status het_poses_place(het_poses *poses, const het_predictions *known, int *stopped);

/* Shared by refine_*.c, searched.c, join.c and frames.c only. */

/** All ranks fail or stop when one does. Collective. */
het_status het_poses_agree(const het_poses *poses, het_status mine, int *stopped);
/** The same, else every rank gets the others' rows. Collective. */
het_status het_poses_share(het_poses *poses, het_status mine, int *stopped);

/** Read the images in_batch[0..n): standardised, their CTF rows, points and CTFs. */
het_status het_poses_observe(het_poses *poses, het_ctf_row *rows, int64_t n);
/** Rows of what was read to their first p points, for a search within a smaller radius. */
void het_poses_shorten(het_poses *poses, int64_t n, int64_t p);
/** Images at once, and the radius in use: that of the disc's last point. */
int64_t het_poses_batch(const het_poses *poses);
double het_poses_radius(const het_poses *poses);
double het_poses_distance2(const float *a, const float *b);
/** Work on all images, piece by piece (refine_pieces.c). */
typedef struct het_poses_work {
    const char *name; /* what it is, for messages and for what is kept of it */
    int64_t size;     /* images of a piece, in each of a rank's parts */
    /* All of it for the images of one piece, by het_poses_each; collective: it ends with het_poses_share */
    het_status (*run)(het_poses *poses, void *context, int *stopped);
    void *context;
} het_poses_work;

enum { HET_POSES_ABOUT = 512 };

/** Do all pieces but those that were done before the program was stopped, where poses->folder keeps them (run_stage.h): of the same
 *  work with the same settings, parameters, poses and conformations. The result is the same to the bit. Rows of images
 *  that are not done when it returns with *stopped are of no use. Collective. Errors: HET_E_MEMORY, those of the work. */
het_status het_poses_pieces(het_poses *poses, const het_poses_work *work, int *stopped);
/** For het_stage.about: all that work on these poses depends on. Errors: HET_E_MEMORY. Not collective. */
het_status het_poses_describe(char about[HET_POSES_ABOUT], const het_poses *poses, const char *work);
/** Images [first, end) of one of this rank's parts: the piece's under work in pieces, else all. */
void het_poses_window(const het_poses *poses, int64_t part, int64_t *first, int64_t *end);

/** het_poses_improve for one piece; with the mirror images' poses, where they are known. */
het_status het_poses_improve_piece(het_poses *poses, int search, int *stopped);
/** Call work(context, n) with in_batch[0..n) for the images of one label in one part of this rank's (het_poses_window) that are not
 *  done, batch by batch. label (all); NULL: all images, and those of a batch follow one another. Stops early with *stopped: at a
 *  signal, or as the time is up, but not for that before a piece was done. Not collective. */
het_status het_poses_each(het_poses *poses, int64_t part, const int64_t *label, int64_t wanted,
                          het_status (*work)(void *context, int64_t n), void *context, int *stopped);
/** The same for all of this rank's images, by at most `clusters` clusters of z: for each load(context, centre (Z)), then
 *  work. Stops early with *stopped. Not collective. Errors: HET_E_MEMORY, those of work. */
het_status het_poses_by_cluster(het_poses *poses, int64_t clusters, void (*load)(void *context, const double *centre),
                                het_status (*work)(void *context, int64_t n), void *context, int *stopped);
/** Fill the places from HET_POSE_SEARCHED on of this rank's images. Stops early with *stopped.
 *  Not collective. */
het_status het_poses_search(het_poses *poses, int *stopped);
