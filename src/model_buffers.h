#pragma once
#include "model.h"

/* What goes to and fro in one piece, on the host: each (B') rows. */
typedef struct het_model_host {
    void *block;
    het_ctf_row *rows;
    float *rot, *rot_true, *shift, *px, *latent, *z; /* 9, 9, 2, 2, 2Z, Z numbers a row */
    float *loss, *kl, *same;
    int32_t *which;
    uint8_t *quarters;
} het_model_host;

/* The workspace of a step, on the device; shared by model.c, model_tasks.c and model_infer.c only.
 * Image i of task one has rows 2i (itself) and 2i+1 (its mirror). */
typedef struct het_model_buffers {
    het_model_host host;
    void *workspace;
    size_t workspace_bytes;
    float *image;                 /* (B',D,D) what the encoder sees */
    uint16_t *half;               /* (B,D,D) of a batch in fp16, where there are such */
    int64_t *index;               /* (B) of a batch that is stored on the device */
    float *window, *envelope;     /* (D,D), (P) */
    float *points, *target;       /* (B,P,2), (2B,P,2) */
    float *slice, *dslice, *ctf;  /* (B',P,2), (B',P,2), (B',P) */
    het_ctf_row *rows, *rows_synthetic; /* (2B), (k B) of each part */
    uint8_t *mirrored, *quarters; /* (2B) */
    float *scale, *power, *sigma2;
    float *head[HET_ENCODER_HEADS], *dhead[HET_ENCODER_HEADS];
    float *rot, *drot, *rot_true; /* (B',9) */
    float *shift_px, *dshift_px, *shift_true;
    float *z, *dz, *eps;          /* (B',Z) */
    float *z_seen, *z_synthetic;  /* (B,Z) of the winners of the last task one, of each part; (k B,Z) */
    float *given_dz, *given_loss; /* (B,Z), (B) of each part: dz and loss of the last task one with z given */
    float *kl, *loss, *total, *weight;
    int32_t *which;               /* (B) winners */
} het_model_buffers;

/* Amplitude of the decoder's unit at a radius in Fourier pixels. */
float het_model_envelope(const het_model *model, double radius);
/* Pixels in a unit of the shift head. */
float het_model_shift_pixels(const het_model *model);
/* The n images in `image` to targets, rows of the image and (pairs = 2) its mirror, with CTFs and the scale for the encoder. */
void het_model_show(het_model *model, const het_ctf_row *ctf, int64_t n, int pairs);
/* What the encoder sees of n images given as points (n,P,2), times `scale` of the buffers: `image`. */
void het_model_look(het_model *model, const float *points, int64_t n);
