/* Gradients of weights: products with sums over all rows of a batch, 10^5 and more, whose result is a few squares of 128 x 128. As one
 * product such a result would occupy as many multiprocessors, unless the library chooses to cut the sum; so it is cut here. */
#include "act.h"
#include "members.h"
#include "product.h"

enum { WIDE = 32, HIGH = 32 };
enum { STEP = 128, PARTS_MOST = 64 }; /* rows that parts are multiples of */

/* to (n) += the sum of partial (slices, n). Grid (column tiles). */
__global__ void join_slices(float *to, const float *partial, int64_t slices, int64_t n)
{
    __shared__ double part[HIGH][WIDE];
    const int64_t j = (int64_t)blockIdx.x * WIDE + threadIdx.x;
    double sum = 0.0;
    for (int64_t s = threadIdx.y; j < n && s < slices; s += HIGH) sum += partial[s * n + j];
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || j >= n) return;
    for (int i = 1; i < HIGH; i++) sum += part[i][threadIdx.x];
    to[j] += (float)sum;
}

void het_cuda_join(het_cuda *c, float *to, const float *partial, int64_t slices, int64_t n)
{
    HET_LAUNCH_MEET(c, join_slices, het_tiles(n, WIDE), dim3(WIDE, HIGH), to, partial, slices, n);
}

/* One and a half squares of the result for each multiprocessor. */
static int64_t parts_of(const het_cuda *c, int64_t m, int64_t n)
{
    const int64_t squares = (int64_t)het_tiles(m, 128) * het_tiles(n, 128), wanted = 3 * c->processors / (2 * squares);
    return wanted < 1 ? 1 : het_least(wanted, PARTS_MOST);
}

het_status het_cuda_long_reserve(het_cuda *c, int64_t m, int64_t n)
{
    const int64_t parts = parts_of(c, m, n);
    return parts > 1 ? het_cuda_reserve(c, &c->partial, (size_t)(2 * parts * m * n) * sizeof(float)) : HET_OK;
}

/* `parts` products of `rows` rows each, from row *done on; to *slice of the partial results. */
static void cut(het_cuda *c, const void *a, const void *b, int64_t m, int64_t n, int64_t rows, int64_t parts, int64_t *done, int64_t *slice)
{
    const int64_t bytes = c->narrow ? sizeof(het_narrow) : sizeof(float);
    const het_product p = {m, n, rows, 1, 0, c->narrow, 0, 0.0f, 0, (int)parts};
    if (rows == 0 || parts == 0) return;
    het_cuda_product(c, &p, (float *)c->partial.memory + *slice * m * n, (const char *)a + *done * m * bytes, (const char *)b + *done * n * bytes);
    *done += parts * rows;
    *slice += parts;
}

void het_cuda_long_product(het_cuda *c, float *out, const void *a, const void *b, int64_t m, int64_t n, int64_t k)
{
    const int64_t parts = parts_of(c, m, n), steps = k / STEP;
    const het_product whole = {m, n, k, 1, 0, c->narrow, 0, 1.0f, 0, 1};
    int64_t done = 0, slice = 0;
    if (parts == 1 || steps < parts) {
        het_cuda_product(c, &whole, out, a, b);
        return;
    }
    cut(c, a, b, m, n, steps / parts * STEP, parts, &done, &slice);
    cut(c, a, b, m, n, STEP, steps % parts, &done, &slice);
    cut(c, a, b, m, n, k % STEP, 1, &done, &slice);
    het_cuda_join(c, out, (const float *)c->partial.memory, slice, m * n);
}
