#pragma once
#include "model.h"

/* The workspace of a step, on the device; shared by the files model*.c only.
 * Image i of task one has rows 2i (itself) and 2i+1 (its mirror).
 *
 * It begins with all that crosses between host and device: what a step is given, in one copy before its work, and what it
 * tells, in one copy after it. The host has a mirror of this part, pinned where the device has a memory of its own, so that
 * the first copy does not wait. The second waits: the mirror is free again when a step is told. */
typedef struct het_model_buffers {
    void *workspace, *mirror;     /* mirror: [host] (given_bytes + told_bytes) */
    size_t workspace_bytes, given_bytes, told_bytes;
    int pinned;
    /* given: to task one as its batch has it, to task two as drawn */
    het_ctf_row *rows_given;      /* (B) */
    int64_t *index;               /* (B) of a batch that is stored on the device */
    uint8_t *quarters;            /* (2B) */
    float *rot_true, *shift_true, *px_true; /* (B',9), (B',2) in the unit of the shift head and in pixels */
    float *normal, *z_given;      /* (B',Z), (B,Z) */
    uint64_t *noise_at;           /* (2) */
    /* told; of the head of rotations nothing */
    int32_t *which;               /* (B) winners */
    float *loss, *kl, *rot, *z, *dz; /* (B'), (B'), (B',9), (B',Z), (B',Z) */
    float *head[HET_ENCODER_HEADS];
    float *zero_loss;             /* (1) of predicting nothing */
    /* never seen by the host */
    const void *stored;           /* of the batch: images on the device, or NULL: in `image`, or as fp16 in `half` */
    int in_half;                  /* it is of fp16 */
    float *image;                 /* (B',D,D) what the encoder sees */
    uint16_t *half;               /* (B,D,D) of a batch in fp16, where there are such */
    float *window, *envelope;     /* (D,D), (P) */
    float *points, *target;       /* (B,P,2), (2B,P,2) */
    float *slice, *dslice, *ctf;  /* (B',P,2), (B',P,2), (B',P) */
    het_ctf_row *rows, *rows_synthetic; /* (2B), (k B) of each part */
    uint8_t *mirrored;            /* (2B) */
    float *scale;                 /* (B') */
    float *power, *noisy_power;   /* (groups) that sets the noise of synthetic images; of these with it */
    float *dhead[HET_ENCODER_HEADS];
    float *drot;                  /* (B',9) */
    float *shift_px, *dshift_px;
    float *z_seen, *z_synthetic;  /* (B,Z) of the winners of the last task one, of each part; (k B,Z) */
    float *total, *weight;
    float *given_dz, *given_loss; /* [host] (B,Z), (B) of each part: dz and loss of the last task one with z given */
} het_model_buffers;

/* Where the host has its copy of an array that crosses. */
static inline void *het_model_mirror(const het_model_buffers *b, const void *device)
{
    return (char *)b->mirror + ((const char *)device - (const char *)b->workspace);
}

/* What the host does for a step before its work: draws, copies of the batch, uploads. Sets the state of the step. */
void het_model_give(het_model *model, het_task task, const het_batch *batch, int64_t step, int frozen);
/* Whether task two teaches the conformation head, and whether it draws z instead of taking what task one saw last. */
int het_model_teaches_z(const het_model *model);
int het_model_draws_z(const het_model *model);

/* Amplitude of the decoder's unit at a radius in Fourier pixels. */
float het_model_envelope(const het_model *model, double radius);
/* Pixels in a unit of the shift head. */
float het_model_shift_pixels(const het_model *model);
/* The n images in `image` to targets, rows of the image and (pairs = 2) its mirror, with the CTFs of `rows_given` and the scale
   for the encoder. */
void het_model_show(het_model *model, int64_t n, int pairs);
/* What the encoder sees of n images given as points (n,P,2), times `scale` of the buffers: `image`. */
void het_model_look(het_model *model, const float *points, int64_t n);
