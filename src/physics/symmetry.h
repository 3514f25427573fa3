#pragma once
#include <stdint.h>

#include "../status.h"

/** Poses that are equal but for the particle's own symmetry, which nobody has to know beforehand.
 *
 *  Of a particle that looks the same after each turn g of a group G, R and R g are the same view. So two sets of poses R~, R of the
 *  same images, each in a frame of its own, are related by R = R~ A g_i, with any g_i of G for each image. The turns
 *  A_i = R~_i^T R_i then lie in |G| clusters of about one size, A G, in place of a single one; those of unrelated poses lie
 *  everywhere, 1 in 1,000 of them within 15 degrees of any turn. Test: tests/test_symmetry.c */

enum { HET_SYMMETRY_MOST = 24, HET_SYMMETRY_SUBSET = 2000 };

typedef struct het_symmetry {
    int order;           /* turns of G; 1: none but the identity; 0: the turns lie together nowhere */
    int hand;            /* of het_symmetry_between(): -1 where R~ are poses of the mirror image (align.h) */
    double base[9];      /* A */
    double turn[HET_SYMMETRY_MOST][9]; /* G; the first is the identity */
    double share;        /* of the A_i within 15 degrees of a turn of A G */
    double apart;        /* degrees: median distance of those from it */
} het_symmetry;

/** From turns A_i (count,9), float rotations. Clusters are taken as a group where the product of any two of their turns is a third
 *  one, within 15 degrees, and the smallest has at least a quarter of the images of the largest, or half where there are two: order 1
 *  otherwise, with the largest cluster alone. Of more than HET_SYMMETRY_SUBSET the first ones count. Errors: HET_E_MEMORY. */
het_status het_symmetry_find(het_symmetry *symmetry, const float *turn, int64_t count);
/** From predicted poses R~ and others R, (count,9) each: the hand with the larger share. Errors: HET_E_MEMORY. */
het_status het_symmetry_between(het_symmetry *symmetry, const float *predicted, const float *others, int64_t count);
/** turn (9) = R~^T R; hand -1: of R~ as a pose of the mirror image. */
void het_symmetry_turn(float *turn, const float *predicted, const float *other, int hand);
/** |R - R' g|^2, least over the group; R, R' (9). */
double het_symmetry_distance2(const het_symmetry *symmetry, const float *r, const float *other);
