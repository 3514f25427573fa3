#pragma once
#include "../../kernels/ops.h"

/** The device that a test of operations is about: the CPU, or what HET_TEST_DEVICE names ("cuda"; HET_PLUGIN_PATH may
 *  point to a test double). So the same tests and tolerances serve all backends. */

int ref_device_is_cpu(void);
/** As het_device_open_cpu. Where another device cannot be opened the program ends: with 77 (skipped) where
 *  HET_TEST_SKIP is set, otherwise as failed. */
het_status ref_device_open(het_device *device, int threads, het_precision precision);
/** The same, but its operations take the host's arrays: each copies them to the device, to the byte as kernels/ops.h
 *  declares them, runs there, and copies back. On the CPU they are its own. Only the operations on poses, points and
 *  slices have that; a program uses one such device at a time. */
void ref_device_open_staged(het_device *device, int threads, het_precision precision);

/* tests/ref/staged.c */
void ref_device_stage(het_device *device);
