/* How close the fused decoder comes to the core's peak.
 *
 *   bench_kernels [threads] [rounds]
 *
 * For each instruction set of this machine: the peak by a register-only loop of the same multiply-add instruction, then
 * the decoder's forward and its backward (which recomputes the forward) at D = 32 and 64 with 192 frequencies, width 256
 * and 4 layers. Variants are interleaved; every sample stands between two runs of its loop on all threads, whose mean is
 * its peak (the clock changes with the instruction set and with time), and is dropped where the two differ by more than
 * 10 %: then a neighbour had the machine. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../kernels/cpu/decode.h"
#include "../kernels/cpu/isa.h"
#include "../src/arena.h"
#include "../src/physics/points.h"
#include "../src/rng.h"

enum { FREQUENCIES = 192, WIDTH = 256, LAYERS = 4, SIZES = 2, VARIANTS = 5, ROUNDS_MAX = 100 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- peak loops: independent sums in registers; each returns floating-point operations per call ------------------ */

typedef float v4 __attribute__((vector_size(16)));
static volatile float sink;

static double loop_plain(long n)
{
    v4 a[12], x = {1e-9f, 1e-9f, 1e-9f, 1e-9f};
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = x;
    for (long j = 0; j < n; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            a[i] = a[i] * x + x;
            __asm__ volatile("" : "+x"(a[i]));
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) sink += a[i][0];
    return 12.0 * 8 * (double)n;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define KEEP(x, class) __asm__ volatile("" : "+" class(x))

__attribute__((target("avx2,fma"))) static double loop_avx2(long n)
{
    __m256 a[12], x = _mm256_set1_ps(1e-9f);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = x;
    for (long j = 0; j < n; j++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            a[i] = _mm256_fmadd_ps(a[i], x, x);
            KEEP(a[i], "x");
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) sink += _mm256_cvtss_f32(a[i]);
    return 12.0 * 16 * (double)n;
}

__attribute__((target("avx512f"))) static double loop_avx512(long n)
{
    __m512 a[24], x = _mm512_set1_ps(1e-9f);
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) a[i] = x;
    for (long j = 0; j < n; j++) {
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++) {
            a[i] = _mm512_fmadd_ps(a[i], x, x);
            KEEP(a[i], "v");
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) sink += _mm512_cvtss_f32(a[i]);
    return 24.0 * 32 * (double)n;
}

__attribute__((target("avx512f,avx512bf16"))) static double loop_bf16(long n)
{
    __m512 a[24];
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3080);
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) a[i] = _mm512_set1_ps(1.0f);
    for (long j = 0; j < n; j++) {
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++) {
            a[i] = _mm512_dpbf16_ps(a[i], x, x);
            KEEP(a[i], "v");
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) sink += _mm512_cvtss_f32(a[i]);
    return 24.0 * 64 * (double)n;
}

__attribute__((target("amx-tile,amx-bf16"))) static double loop_amx(long n)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(&config);
    _tile_zero(6);
    _tile_zero(7);
    for (long j = 0; j < n; j++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
    }
    _tile_release();
    return 4.0 * 2 * 16 * 16 * 32 * (double)n;
}
#endif

/* GFLOP/s of all threads together over about 2 ms */
static double peak_rate(int isa, int threads)
{
    double (*loop)(long) = loop_plain;
    long n = 200000;
#if defined(__x86_64__)
    double (*const loops[])(long) = {loop_plain, loop_avx2, loop_avx512, loop_bf16, loop_amx};
    loop = loops[isa];
    n = isa == HET_ISA_AMX ? 60000 : isa >= HET_ISA_AVX512 ? 300000 : 600000;
#endif
    double flop = 0;
    const double start = now();
#pragma omp parallel num_threads(threads) reduction(+ : flop)
    flop += loop(n);
    return flop / (now() - start) * 1e-9;
}

/* ---- the decoder ------------------------------------------------------------------------------------------------ */

typedef struct subject {
    int isa;
    het_decode *dec;
    int64_t points, images;
    double forward[ROUNDS_MAX], backward[ROUNDS_MAX], peak[ROUNDS_MAX]; /* GFLOP/s; the loop's around each */
    double forward_share[ROUNDS_MAX], backward_share[ROUNDS_MAX];
    int samples;
} subject;

typedef struct arrays {
    float *params, *freq, *rot, *bias, *slice, *dparams, *drot, *dbias;
} arrays;

static float *filled(int64_t n, double scale, uint64_t sample)
{
    float *x = het_alloc((size_t)n * sizeof *x);
    HET_ASSERT(x != NULL);
    het_rng rng = het_rng_at(1, HET_STREAM_INIT, 0, sample);
    for (int64_t i = 0; i < n; i++) x[i] = (float)scale * het_rng_normal(&rng);
    return x;
}

static arrays arrays_new(int64_t images, int64_t points)
{
    const int64_t count = het_decode_params_count(FREQUENCIES, WIDTH, LAYERS);
    arrays a = {filled(count, 0.05, 0), filled(3 * FREQUENCIES, 8, 1), filled(9 * images, 0.6, 2), filled(WIDTH * images, 0.1, 3),
                filled(2 * images * points, 1, 4), filled(count, 0, 5), filled(9 * images, 0, 6), filled(WIDTH * images, 0, 7)};
    return a;
}

static int subject_new(subject *s, int isa, int64_t box, int threads, const arrays *a)
{
    static const char *const names[] = {"plain", "avx2", "avx512", "bf16", "amx"};
    unsetenv("HET_CPU_ISA");
    *s = (subject){.isa = isa};
    if ((int)het_isa_get() < isa) return 0;
    setenv("HET_CPU_ISA", names[isa], 1);
    het_points points;
    HET_ASSERT(het_points_new(&points, box) == HET_OK);
    const het_decode_spec spec = {box, FREQUENCIES, WIDTH, LAYERS, points.count, points.kxy, 0};
    het_device dev = {.precision = isa >= HET_ISA_BF16 ? HET_BF16 : HET_F32, .threads = threads};
    if (het_cpu_decode_new(&dev, &s->dec, &spec) != HET_OK) fprintf(stderr, "%s\n", het_status_message());
    unsetenv("HET_CPU_ISA");
    if (s->dec == NULL) return 0;
    s->points = points.count;
    het_points_free(&points);
    het_cpu_decode_load(s->dec, a->params, a->freq);
    return 1;
}

static void sample(subject *s, const arrays *a, int threads)
{
    const double flop = 2.0 * (2 * FREQUENCIES * WIDTH + (LAYERS - 1) * WIDTH * WIDTH + 2 * WIDTH) *
                        (double)(s->points * s->images);
    const double before = peak_rate(s->isa, threads), t0 = now();
    het_cpu_decode_forward(s->dec, a->slice, a->rot, a->bias, NULL, s->images, s->points);
    const double t1 = now();
    het_cpu_decode_backward(s->dec, a->dparams, a->drot, a->dbias, a->slice, a->rot, a->bias, NULL, s->images, s->images,
                            s->points);
    const double t2 = now(), after = peak_rate(s->isa, threads), peak = 0.5 * (before + after);
    if (fmin(before, after) < 0.9 * fmax(before, after) || s->samples == ROUNDS_MAX) return;
    const int i = s->samples++;
    s->peak[i] = peak;
    s->forward[i] = flop / (t1 - t0) * 1e-9;
    s->backward[i] = 3 * flop / (t2 - t1) * 1e-9;
    s->forward_share[i] = s->forward[i] / peak;
    s->backward_share[i] = s->backward[i] / peak;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return values[n / 2];
}

static void report(const char *what, double *rates, double *shares, int n)
{
    const double middle = median(rates, n);
    printf("  %s %7.1f GFLOP/s [%.1f..%.1f] %4.1f %%", what, middle, rates[0], rates[n - 1], 100 * median(shares, n));
}

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : 1, rounds = argc > 2 ? atoi(argv[2]) : 10;
    static const int64_t boxes[SIZES] = {32, 64}, images[SIZES] = {16, 4};
    static subject subjects[SIZES][VARIANTS];
    const arrays a = arrays_new(16, 1700);
    const int machine = (int)het_isa_get();
    for (int d = 0; d < SIZES; d++) {
        for (int v = 0; v < VARIANTS; v++) {
            if (subject_new(&subjects[d][v], v, boxes[d], threads, &a)) subjects[d][v].images = images[d];
        }
    }
    for (int r = -1; r < rounds && r < ROUNDS_MAX; r++) {
        for (int v = 0; v <= machine; v++) {
            for (int d = 0; d < SIZES; d++) {
                if (subjects[d][v].dec != NULL && (v > 0 || r < 2)) sample(&subjects[d][v], &a, threads);
                if (r < 0) subjects[d][v].samples = 0; /* warming up */
            }
        }
    }
    printf("%d thread(s), %d rounds; rate, [least..most], median share of the loop's\n", threads, rounds);
    for (int v = 0; v <= machine; v++) {
        for (int d = 0; d < SIZES; d++) {
            subject *s = &subjects[d][v];
            if (s->samples == 0) continue;
            printf("%-6s D=%-3d kept %2d  loop %7.1f", het_isa_name((het_isa)v), (int)boxes[d], s->samples,
                   median(s->peak, s->samples));
            report("forward", s->forward, s->forward_share, s->samples);
            report("backward", s->backward, s->backward_share, s->samples);
            printf("\n");
            het_cpu_decode_free(s->dec);
        }
    }
    return 0;
}
