#pragma once
#include <stddef.h>
#include <stdint.h>

/** IEEE 754 binary16 in files, float32 in memory. Test: tests/test_mrc.c */

/** y[i] = x[i], exact. */
void het_half_to_float(float *y, const uint16_t *x, size_t n);
/** y[i] = x[i] rounded to nearest even; beyond 65504 it becomes infinite. */
void het_half_from_float(uint16_t *y, const float *x, size_t n);
