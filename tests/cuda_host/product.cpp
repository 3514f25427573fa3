/* Stands in for kernels/cuda/product.cu: plain loops, fp32 sums in one order. */
#include "../../kernels/cuda/product.h"

#include "../../kernels/cuda/act.h"
#include "../guard.h"
#include "stream.h"

het_status het_cuda_products_open(het_cuda *)
{
    return HET_OK;
}

void het_cuda_products_close(het_cuda *) {}

template <class In> static float dot(const het_product &p, const In *a, const In *b, int64_t i, int64_t j)
{
    const int64_t a_row = p.turn_a ? 1 : p.k, a_step = p.turn_a ? p.m : 1;
    const int64_t b_column = p.turn_b ? p.k : 1, b_step = p.turn_b ? 1 : p.n;
    float sum = 0.0f;
    for (int64_t k = 0; k < p.k; k++) sum += het_load(a, i * a_row + k * a_step) * het_load(b, j * b_column + k * b_step);
    return sum;
}

/* Row by row of B where that lies in memory so: the same sums in the same order. */
template <class In> static void row_of(const het_product &p, float *sums, const In *a, const In *b, int64_t i)
{
    for (int64_t j = 0; j < p.n; j++) sums[j] = p.turn_b ? dot(p, a, b, i, j) : 0.0f;
    for (int64_t k = 0; k < p.k && !p.turn_b; k++) {
        const float x = het_load(a, p.turn_a ? i + k * p.m : i * p.k + k);
        for (int64_t j = 0; j < p.n; j++) sums[j] += x * het_load(b, k * p.n + j);
    }
}

template <class In, class Out> static void multiply(const het_product &p, Out *c, const In *a, const In *b)
{
    float *sums = new float[p.n];
    for (int64_t i = 0; i < p.m; i++) {
        row_of(p, sums, a, b, i);
        for (int64_t j = 0; j < p.n; j++)
            het_store(c, i * p.n + j, sums[j] + (p.beta == 0.0f ? 0.0f : p.beta * het_load(c, i * p.n + j)));
    }
    delete[] sums;
}

/* The p-th of so many products. */
static void one_of(const het_product &s, int64_t p, void *out, const void *a, const void *b)
{
    const int64_t in = s.narrow ? sizeof(het_narrow) : sizeof(float), of = s.narrow_out ? sizeof(het_narrow) : sizeof(float);
    void *c = (char *)out + p * s.m * s.n * of;
    const void *x = (const char *)a + p * s.m * s.k * in, *y = (const char *)b + p * s.k * s.n * in;
    if (!s.narrow) multiply(s, (float *)c, (const float *)x, (const float *)y);
    else if (s.narrow_out) multiply(s, (het_narrow *)c, (const het_narrow *)x, (const het_narrow *)y);
    else multiply(s, (float *)c, (const het_narrow *)x, (const het_narrow *)y);
}

void het_cuda_product(het_cuda *c, const het_product *p, void *out, const void *a, const void *b)
{
    if (c->status != HET_OK) return;
    const het_product shape = *p;
    if (het_host_record(c->stream, [=] { het_cuda_product(c, &shape, out, a, b); })) return;
    het_guard_open();
    for (int64_t i = 0; i < p->parts; i++) one_of(*p, i, out, a, b);
    het_guard_close();
}
