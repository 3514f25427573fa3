#pragma once
#include "context.h"

/** What is known about a set of points before any image comes, in the GPU's memory. */
struct het_fourier {
    het_cuda *cuda;
    int64_t box, max_points, half; /* half = D/2 */
    int32_t *reach;      /* [host] (P) largest |kx|, |ky| of points 0..p */
    int32_t *kxy;        /* (P,2) */
    int32_t *mirror;     /* (P) point of (-kx,ky), or ~point of (kx,-ky): its conjugate */
    int32_t *turn;       /* (P) the same of (ky,-kx) */
    float2 *circle;      /* (D) cos, sin of 2 pi i/D */
    float2 *rows;        /* (IMAGES, D, D/2): half-transformed images; cuFFT's spectra, (IMAGES, D, D/2+1) */
    float2 *spectrum;    /* (IMAGES, D/2, D): the points on their grid; images for cuFFT, (IMAGES, D, D) floats */
    double *parts;       /* (GROUPS_MAX, PARTS) */
    struct het_fft *fft; /* cufft.h; NULL: none */
};

enum { HET_FOURIER_IMAGES = 64, HET_FOURIER_PARTS = 64, HET_FOURIER_GROUPS = 1024 };

/* The sums of up to three numbers of each thread of a block of HET_BLOCK, in one order; valid in all threads. */
__device__ static inline void het_block_sums(double *value, int count)
{
    __shared__ double part[3][HET_BLOCK];
    for (int k = 0; k < count; k++) part[k][threadIdx.x] = value[k];
    __syncthreads();
    for (int width = HET_BLOCK / 2; width > 0; width /= 2) {
        for (int k = 0; k < count; k++)
            if ((int)threadIdx.x < width) part[k][threadIdx.x] += part[k][threadIdx.x + width];
        __syncthreads();
    }
    for (int k = 0; k < count; k++) value[k] = part[k][0];
    __syncthreads();
}
