#pragma once
#include "../../kernels/ops.h"
#include "fft.h"
#include "points.h"
#include "slicer.h"

/** Synthetic particles of known maps (METHOD 2 and 7). Image i is a function of (seed, i) alone - not of ranks, threads or
 *  the order of calls: class i mod K, R uniform on SO(3), t uniform in [-shift, shift]^2, a CTF row drawn with its weight,
 *      image = scale ( F^-1[ T_t(k) C(k) S_class(R^T k) ] + noise ),   |k| <= D/2-1,
 *  Gaussian noise of variance var(signal)/SNR, scale chosen for unit total variance. Noise is white, or of the power
 *      S(k) ~ 1 + (colour - 1) exp(-(|k|/(D/8))^2),
 *  as ice and molecules beside the particle make it. A share `junk` of the images is noise alone: class -1. Test: tests/test_simulate.c */

typedef struct het_simulate_spec {
    double snr;               /* linear var(signal)/var(noise); INFINITY: no noise */
    double shift;             /* px */
    double junk;              /* 0 .. 1 */
    double colour;            /* 0: white */
    uint64_t seed;
    const het_ctf_row *ctf;   /* (ctf_count) copied; ctf_count 0: C = 1 */
    const double *ctf_weight; /* (ctf_count) how often a row is drawn, relative; NULL: all alike */
    int64_t ctf_count;
} het_simulate_spec;

typedef struct het_simulator {
    het_simulate_spec spec;
    int64_t box, classes;
    double apix;
    het_slicer *slicer;       /* (classes) */
    het_points points;
    het_fft *fft;
    het_ctf_row *ctf;
    double *ctf_end;          /* (ctf_count) running sum of the weights, last one 1 */
    float *colour;            /* (D, D/2 + 1) sqrt(S / mean of S); NULL: white */
    double noise, scale;      /* set by het_simulator_set_level; 0 and 1 before */
} het_simulator;

/** What is true of image i. */
typedef struct het_simulated {
    double rotation[9], shift[2];
    int64_t klass;            /* -1: junk */
    het_ctf_row ctf;
} het_simulated;

/** maps (classes) of equal box and apix; not kept. Errors: HET_E_SHAPE, HET_E_MEMORY, HET_E_INPUT (weights). */
het_status het_simulator_new(het_simulator *sim, const het_simulate_spec *spec, const het_volume *maps,
                             int64_t classes);
void het_simulator_free(het_simulator *sim);
het_simulated het_simulator_truth(const het_simulator *sim, int64_t i);
/** images (count,D,D) of first .. first+count-1, by all OpenMP threads. Errors: HET_E_MEMORY. */
het_status het_simulator_images(const het_simulator *sim, float *images, int64_t first, int64_t count);
/** sums (count,2): sum and sum of squares over the pixels of each clean image. */
het_status het_simulator_measure(const het_simulator *sim, double *sums, int64_t first, int64_t count);
/** Set noise and scale from the sums of the first `count` images (count,2), without junk. Errors: HET_E_NUMERIC when they hold no
 *  signal. */
het_status het_simulator_set_level(het_simulator *sim, const double *sums, int64_t count);
