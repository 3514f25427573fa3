/** The weight gradient of the bf16 tiles: after a transpose it is the same product as the others. */

/* dw (k,n) += a^T dz over the tile's rows, dz from its packed form; rows of dw beyond k are never read. */
static void weight_grad(float *dw, het_tile *tile, const elem *a, const elem *dz, int64_t k, int64_t n)
{
    enum { PADDING = 32 };
    const int64_t rows = tile->rows, ldt = tile->capacity + PADDING;
    elem *left = tile->left;
    const elem *right = tile->right;
    (void)dz;
    transpose(left, ldt, a, k + PADDING, rows, k);
    for (int64_t j = 0; j < n; j += NR) {
        for (int64_t i = 0; i < k; i += MR) block(dw + i * n + j, n, left + i * ldt, ldt, right + j * rows, rows, 1);
    }
}
