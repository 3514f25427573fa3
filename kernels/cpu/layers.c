#include "layers.h"

#include <math.h>

#include "bf16.h"
#include "context.h"

/* ---- element by element ---- */

typedef void range_function(void *y, const void *a, const void *b, int64_t begin, int64_t end, int bf16);

/* Run over 0..n-1, cut into one range per thread. */
static void split(const het_device *dev, range_function *f, void *y, const void *a, const void *b, int64_t n)
{
    enum { GRAIN = 1024, SERIAL = 16 * GRAIN }; /* below SERIAL waking threads costs more than it gains */
    const int bf16 = dev->precision == HET_BF16;
    const int64_t grains = (n + GRAIN - 1) / GRAIN;
#pragma omp parallel num_threads(dev->threads) if (n > SERIAL)
    {
        const int64_t begin = grains * omp_get_thread_num() / omp_get_num_threads() * GRAIN;
        const int64_t end = grains * (omp_get_thread_num() + 1) / omp_get_num_threads() * GRAIN;
        f(y, a, b, begin, end < n ? end : n, bf16);
    }
}

static HET_INLINE void add_relu_body(void *y, const void *a, const void *b, int64_t begin, int64_t end,
                                     int bf16)
{
#pragma GCC ivdep
    for (int64_t i = begin; i < end; i++) {
        const float sum = het_act_load(a, i, bf16) + het_act_load(b, i, bf16);
        het_act_store(y, i, sum <= 0.0f ? 0.0f : sum, bf16); /* so that NaN passes */
    }
}

HET_CLONES
static void add_relu(void *y, const void *a, const void *b, int64_t begin, int64_t end, int bf16)
{
    if (bf16)
        add_relu_body(y, a, b, begin, end, 1);
    else
        add_relu_body(y, a, b, begin, end, 0);
}

/* dx may be dy: ivdep tells the compiler what restrict would deny */
static HET_INLINE void mask_body(void *dx, const void *dy, const void *y, int64_t begin, int64_t end,
                                 int bf16)
{
#pragma GCC ivdep
    for (int64_t i = begin; i < end; i++)
        het_act_store(dx, i, het_act_load(y, i, bf16) > 0.0f ? het_act_load(dy, i, bf16) : 0.0f, bf16);
}

HET_CLONES
static void mask(void *dx, const void *dy, const void *y, int64_t begin, int64_t end, int bf16)
{
    if (bf16)
        mask_body(dx, dy, y, begin, end, 1);
    else
        mask_body(dx, dy, y, begin, end, 0);
}

static HET_INLINE void add_body(void *restrict y, const void *a, int64_t begin, int64_t end, int bf16)
{
    for (int64_t i = begin; i < end; i++)
        het_act_store(y, i, het_act_load(y, i, bf16) + het_act_load(a, i, bf16), bf16);
}

HET_CLONES
static void add(void *y, const void *a, const void *b, int64_t begin, int64_t end, int bf16)
{
    (void)b;
    if (bf16)
        add_body(y, a, begin, end, 1);
    else
        add_body(y, a, begin, end, 0);
}

HET_CLONES
static void to_float(void *y, const void *a, const void *b, int64_t begin, int64_t end, int bf16)
{
    (void)b;
    float *out = y;
    if (bf16)
        for (int64_t i = begin; i < end; i++) out[i] = het_act_load(a, i, 1);
    else
        for (int64_t i = begin; i < end; i++) out[i] = het_act_load(a, i, 0);
}

HET_CLONES
static void from_float(void *y, const void *a, const void *b, int64_t begin, int64_t end, int bf16)
{
    (void)b;
    const float *in = a;
    if (bf16)
        for (int64_t i = begin; i < end; i++) het_act_store(y, i, in[i], 1);
    else
        for (int64_t i = begin; i < end; i++) het_act_store(y, i, in[i], 0);
}

void het_cpu_add_relu(het_device *dev, void *y, const void *a, const void *b, int64_t n)
{
    split(dev, add_relu, y, a, b, n);
}

void het_cpu_add_relu_backward(het_device *dev, void *dsum, const void *dy, const void *y, int64_t n)
{
    split(dev, mask, dsum, dy, y, n);
}

void het_cpu_accumulate(het_device *dev, void *a, const void *b, int64_t n)
{
    split(dev, add, a, b, NULL, n);
}

void het_cpu_to_float(het_device *dev, float *y, const void *x, int64_t n)
{
    split(dev, to_float, y, x, NULL, n);
}

void het_cpu_from_float(het_device *dev, void *y, const float *x, int64_t n)
{
    split(dev, from_float, y, x, NULL, n);
}

/* ---- averaging ---- */

HET_CLONES
static void average(float *restrict y, const void *x, int64_t image, int64_t hw, int64_t c, int bf16)
{
    float *row = y + image * c;
    for (int64_t k = 0; k < c; k++) row[k] = 0.0f;
    for (int64_t i = 0; i < hw; i++) {
        const int64_t at = (image * hw + i) * c;
        if (bf16)
            for (int64_t k = 0; k < c; k++) row[k] += het_act_load(x, at + k, 1);
        else
            for (int64_t k = 0; k < c; k++) row[k] += het_act_load(x, at + k, 0);
    }
    for (int64_t k = 0; k < c; k++) row[k] /= (float)hw;
}

HET_CLONES
static void average_backward(void *restrict dx, const float *dy, int64_t image, int64_t hw, int64_t c,
                             int bf16)
{
    const float *row = dy + image * c, scale = 1.0f / (float)hw;
    for (int64_t i = 0; i < hw; i++) {
        const int64_t at = (image * hw + i) * c;
        if (bf16)
            for (int64_t k = 0; k < c; k++) het_act_store(dx, at + k, row[k] * scale, 1);
        else
            for (int64_t k = 0; k < c; k++) het_act_store(dx, at + k, row[k] * scale, 0);
    }
}

void het_cpu_avgpool(het_device *dev, float *y, const void *x, int64_t batch, int64_t hw, int64_t c)
{
    const int bf16 = dev->precision == HET_BF16;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t b = 0; b < batch; b++) average(y, x, b, hw, c, bf16);
}

void het_cpu_avgpool_backward(het_device *dev, void *dx, const float *dy, int64_t batch, int64_t hw,
                              int64_t c)
{
    const int bf16 = dev->precision == HET_BF16;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t b = 0; b < batch; b++) average_backward(dx, dy, b, hw, c, bf16);
}

/* ---- linear ---- */

/* y = [relu](y + b), one row */
HET_CLONES
static void finish_row(float *restrict y, const float *b, int64_t n, int relu)
{
    if (b != NULL)
        for (int64_t i = 0; i < n; i++) y[i] += b[i];
    if (relu)
        for (int64_t i = 0; i < n; i++) y[i] = y[i] <= 0.0f ? 0.0f : y[i];
}

HET_CLONES
static void add_row(float *restrict sum, const float *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++) sum[i] += row[i];
}

/* c (M,N) = op(a) op(b) + beta c, row-major and dense: a is (M,K) or, transposed, (K,M); b likewise */
static void product(char ta, char tb, int64_t m, int64_t n, int64_t k, const float *a, const float *b,
                    float beta, float *c)
{
    HET_ASSERT(dnnl_sgemm(ta, tb, m, n, k, 1.0f, a, ta == 'N' ? k : m, b, tb == 'N' ? n : k, beta, c, n) ==
               dnnl_success);
}

void het_cpu_linear(het_device *dev, float *y, const float *x, const float *w, const float *b, int64_t batch,
                    int64_t n, int64_t k, int relu)
{
    het_cpu_set_threads(dev);
    product('N', 'T', batch, n, k, x, w, 0.0f, y);
    for (int64_t i = 0; i < batch; i++) finish_row(y + i * n, b, n, relu);
}

void het_cpu_linear_backward(het_device *dev, float *dx, float *dw, float *db, float *dy, const float *x,
                             const float *y, const float *w, int64_t batch, int64_t n, int64_t k, int relu)
{
    het_cpu_set_threads(dev);
    if (relu)
        for (int64_t i = 0; i < batch * n; i++) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
    if (dx != NULL) product('N', 'N', batch, k, n, dy, w, 0.0f, dx);
    product('T', 'N', n, k, batch, dy, x, 1.0f, dw);
    if (db != NULL)
        for (int64_t i = 0; i < batch; i++) add_row(db, dy + i * n, n);
}
