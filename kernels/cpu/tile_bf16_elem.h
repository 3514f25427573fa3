/** bf16 operands of tile_body.h, shared by the AVX512-BF16 and the AMX tile. The packed operand holds pairs of
 *  consecutive k side by side, as vdpbf16ps and tdpbf16ps want them: panels (n/NR, k/2, NR, 2). */
#include <immintrin.h>

#include "bf16.h"
#include "tile_vector.h"

typedef uint16_t elem;

static inline vf load_elem(const elem *p)
{
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}

static inline void store_elem(elem *p, vf v)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

/* NR = 32 columns at once */
static inline void store_row(elem *p, const vf v[NV])
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)v[1], (__m512)v[0]));
}

/* Two rows of 32 columns as pairs, for the operand whose k are the rows. */
static inline void store_pair(elem *panels, const vf first[NV], const vf second[NV])
{
    const __m512i weave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int v = 0; v < NV; v++) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second[v], (__m512)first[v]);
        _mm512_storeu_si512(panels + 32 * v, _mm512_permutexvar_epi16(weave, both));
    }
}

static void pack(void *panels, const float *w, int64_t k, int64_t n, int64_t row, int64_t col)
{
    elem *to = panels;
    for (int64_t j = 0; j < n; j += NR) {
        for (int64_t i = 0; i < k; i += 2) {
            for (int64_t u = 0; u < NR; u++) {
                *to++ = het_bf16_from_f32(w[i * row + (j + u) * col]);
                *to++ = het_bf16_from_f32(w[(i + 1) * row + (j + u) * col]);
            }
        }
    }
}

/* 16 x 16 transpose of 32-bit words, in place */
static inline void transpose_words(__m512i w[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        w[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        w[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        w[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        w[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* w[4 g + c]: lane i holds column 4 i + c of rows 4 g .. 4 g + 3 */
    for (int c = 0; c < 4; c++) {
        const __m512i a = _mm512_shuffle_i32x4(w[c], w[4 + c], 0x88), b = _mm512_shuffle_i32x4(w[c], w[4 + c], 0xdd);
        const __m512i d = _mm512_shuffle_i32x4(w[8 + c], w[12 + c], 0x88);
        const __m512i e = _mm512_shuffle_i32x4(w[8 + c], w[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(a, d, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
        t[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
    }
    for (int i = 0; i < 16; i++) w[i] = t[i];
}

/* to (n,rows), stride ldt = transpose of x (rows,n), stride ld; n a multiple of 16; rows beyond `rows` are not read:
   the last block of 32 repeats rows already written where rows is not a multiple of 32 */
static void transpose(elem *to, int64_t ldt, const elem *x, int64_t ld, int64_t rows, int64_t n)
{
    for (int64_t r0 = 0; r0 < rows; r0 += 32) {
        for (int64_t j = 0; j < n; j += 16) {
            __m512i w[16];
            for (int i = 0; i < 16; i++) {
                const int64_t r = r0 + 2 * i < rows ? r0 + 2 * i : rows - 2;
                const __m256i a = _mm256_loadu_si256((const __m256i *)(x + r * ld + j));
                const __m256i b = _mm256_loadu_si256((const __m256i *)(x + (r + 1) * ld + j));
                w[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
            }
            transpose_words(w);
            for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + (j + i) * ldt + r0, w[i]);
        }
    }
}
