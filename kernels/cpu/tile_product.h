/** A layer's product over the whole tile, block by block, each finished (tile_finish.h) while it is in cache. */
#include "tile_finish.h"

static void product(const elem *a, int64_t lda, const elem *panels, int64_t k, int64_t n, const finish *f)
{
    _Alignas(64) float c[MR * NR];
    for (int64_t j = 0; j < n; j += NR) {
        for (int64_t m = 0; m < f->tile->rows; m += MR) {
            block(c, NR, a + m * lda, lda, panels + j * k, k, 0);
            finish_rows(f, c, m, j, 0, MR);
        }
    }
}
