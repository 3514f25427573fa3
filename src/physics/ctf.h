#pragma once
#include "../../kernels/ops.h"

/** The contrast transfer function on the host, in double precision (METHOD 2):
 *      gamma = pi lambda df s^2 - pi/2 Cs lambda^3 s^4 + phase,   df = (dfU + dfV + (dfU - dfV) cos 2(theta - angle))/2
 *      C = -( sqrt(1 - w^2) sin gamma + w cos gamma );   C = 1 for voltage 0
 *  s in 1/A with components (sx, sy), theta = atan2(sy, sx). Test: tests/test_simulate.c */
double het_ctf_at(const het_ctf_row *row, double sx, double sy);

/** Relativistic wavelength in A of electrons of `voltage` V: h / sqrt(2 m e V (1 + e V / (2 m c^2))). */
double het_ctf_wavelength(double voltage);
