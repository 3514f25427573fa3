#pragma once
#include "../ops.h"

/** The coordinate network on the CPU: the decode_* members of het_ops (kernels/ops.h gives formulas and shapes).
 *
 *  Points of several images are packed into tiles of rows; a tile goes through all layers while its activations stay in
 *  the core's cache. Rows are split over dev->threads in contiguous ranges, so results are the same in every run with
 *  the same number of threads; the forward does not depend on it at all.
 *  HET_CPU_ISA = plain, avx2, avx512, bf16 or amx caps the instructions used (isa.h).
 *
 *  Errors of het_cpu_decode_new: HET_E_SHAPE (frequencies not a multiple of 16, width not of 32, layers outside
 *  1..HET_DECODE_LAYERS_MAX, points outside the box), HET_E_MEMORY, HET_E_USAGE (bf16 without the instructions).
 *  Tests: tests/test_decode.c */
het_status het_cpu_decode_new(het_device *dev, het_decode **dec, const het_decode_spec *spec);
void het_cpu_decode_free(het_decode *dec); /* accepts NULL */
void het_cpu_decode_load(het_decode *dec, const float *params, const float *freq);
void het_cpu_decode_forward(het_decode *dec, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                            int64_t p);
void het_cpu_decode_backward(het_decode *dec, float *dparams, float *drot, float *dbias, const float *dslice,
                             const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p);
