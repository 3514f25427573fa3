/* The heads' layers: fp32 products, bias and relu in a kernel of their own. cuBLASLt's relu epilogue is not used because
 * max(0, NaN) is 0 there, and a NaN must stay visible. Where the encoder is in bf16, large layers' inputs - its features, bf16 themselves -
 * and weights are rounded to TF32: without tensor cores they would take 2 % of a step. */
#include "members.h"
#include "product.h"

__global__ void add_bias(float *y, const float *b, int64_t batch, int64_t n, int relu)
{
    HET_FOR(i, batch * n)
    {
        const float v = y[i] + (b == NULL ? 0.0f : b[i % n]);
        y[i] = relu && v <= 0.0f ? 0.0f : v;
    }
}

__global__ void mask_rows(float *dy, const float *y, int64_t n)
{
    HET_FOR(i, n) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

static int rounded(const het_cuda *c, int64_t n, int64_t k)
{
    return c->narrow && n * k >= (int64_t)1 << 18;
}

void het_cuda_linear(het_device *dev, float *y, const float *x, const float *w, const float *b, int64_t batch, int64_t n,
                     int64_t k, int relu)
{
    het_cuda *c = het_cuda_of(dev);
    const het_product p = {batch, n, k, 0, 1, 0, 0, 0.0f, rounded(c, n, k), 1};
    het_cuda_product(c, &p, y, x, w);
    if (b != NULL || relu) HET_LAUNCH(c, add_bias, het_blocks(batch * n), HET_BLOCK, y, b, batch, n, relu);
}

void het_cuda_linear_backward(het_device *dev, float *dx, float *dw, float *db, float *dy, const float *x, const float *y,
                              const float *w, int64_t batch, int64_t n, int64_t k, int relu)
{
    het_cuda *c = het_cuda_of(dev);
    if (relu) HET_LAUNCH(c, mask_rows, het_blocks(batch * n), HET_BLOCK, dy, y, batch * n);
    const het_product to_x = {batch, k, n, 0, 0, 0, 0, 0.0f, rounded(c, n, k), 1}, to_w = {n, k, batch, 1, 0, 0, 0, 1.0f, rounded(c, n, k), 1};
    if (dx != NULL) het_cuda_product(c, &to_x, dx, dy, w);
    het_cuda_product(c, &to_w, dw, dy, x);
    if (db != NULL) het_cuda_join(c, db, dy, batch, n);
}
