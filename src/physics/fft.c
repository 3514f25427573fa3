#include "fft.h"

#include <fftw3.h>
#include <math.h>
#include <pthread.h>

#include "../arena.h"

struct het_fft {
    int rank;
    int64_t box;
    float scale;
    fftwf_plan forward, inverse;
};

/* FFTW's planner is the one part of it that threads may not share. */
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

int64_t het_fft_size(const het_fft *fft)
{
    const int64_t rows = fft->rank == 3 ? fft->box * fft->box : fft->box;
    return rows * (fft->box / 2 + 1) * 2;
}

het_status het_fft_new(het_fft **fft, int rank, int64_t box)
{
    *fft = NULL;
    if ((rank != 2 && rank != 3) || box < 4 || box > 4096 || box % 2 != 0)
        return het_fail(HET_E_SHAPE, "Fourier transform of box %lld: it must be even and between 4 and 4096",
                        (long long)box);
    het_fft *made = het_alloc(sizeof *made);
    if (made == NULL) return het_fail(HET_E_MEMORY, "no memory for a Fourier plan");
    *made = (het_fft){.rank = rank, .box = box, .scale = (float)pow((double)box, -0.5 * rank)};
    const int n[3] = {(int)box, (int)box, (int)box};
    /* FFTW_ESTIMATE looks at no data and gives the same plan, and so the same bits, every time. */
    const unsigned flags = FFTW_ESTIMATE | FFTW_UNALIGNED;
    float anchor[2] = {0}, other[2] = {0};
    pthread_mutex_lock(&planner);
    made->forward = fftwf_plan_dft_r2c(rank, n, anchor, (fftwf_complex *)other, flags | FFTW_PRESERVE_INPUT);
    made->inverse = fftwf_plan_dft_c2r(rank, n, (fftwf_complex *)other, anchor, flags);
    pthread_mutex_unlock(&planner);
    if (made->forward == NULL || made->inverse == NULL) {
        het_fft_free(made);
        return het_fail(HET_E_MEMORY, "FFTW made no plan for box %lld", (long long)box);
    }
    *fft = made;
    return HET_OK;
}

void het_fft_free(het_fft *fft)
{
    if (fft == NULL) return;
    pthread_mutex_lock(&planner);
    if (fft->forward != NULL) fftwf_destroy_plan(fft->forward);
    if (fft->inverse != NULL) fftwf_destroy_plan(fft->inverse);
    pthread_mutex_unlock(&planner);
    het_release(fft);
}

/* Moving the origin by D/2 multiplies F(k) by (-1)^(kx+ky[+kz]); the index has the parity of k because D is even. */
static void scale_and_centre(const het_fft *fft, float *spectrum)
{
    const int64_t columns = fft->box / 2 + 1;
    const int64_t rows = fft->rank == 3 ? fft->box * fft->box : fft->box;
    for (int64_t row = 0; row < rows; row++) {
        const int odd = (int)((row / fft->box + row % fft->box) & 1);
        const float even_scale = odd ? -fft->scale : fft->scale;
        float *line = spectrum + 2 * columns * row;
        for (int64_t x = 0; x < columns; x++) {
            const float factor = x & 1 ? -even_scale : even_scale;
            line[2 * x] *= factor;
            line[2 * x + 1] *= factor;
        }
    }
}

void het_fft_forward(const het_fft *fft, float *spectrum, const float *real)
{
    /* FFTW_PRESERVE_INPUT: the input is only read. */
    fftwf_execute_dft_r2c(fft->forward, (float *)(uintptr_t)real, (fftwf_complex *)spectrum);
    scale_and_centre(fft, spectrum);
}

void het_fft_inverse(const het_fft *fft, float *real, float *spectrum)
{
    scale_and_centre(fft, spectrum);
    fftwf_execute_dft_c2r(fft->inverse, (fftwf_complex *)spectrum, real);
}
