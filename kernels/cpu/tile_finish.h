/** What becomes of a block of sums c (MR,NR), rows m.. and columns n.. of a tile: activations in the forward, the
 *  gradient before the previous relu in the backward. Rows come in pairs, for the packing of bf16. */

enum { PAD = 64 / sizeof(elem), PAD_F32 = 16 };

typedef struct finish {
    const het_net *net;
    het_tile *tile;
    int64_t layer;    /* whose activation, or whose dz is made */
    int backward;
    int keep;         /* forward: store masks */
    elem *h;          /* forward: h_l, and h_{l-1} */
    const elem *prev;
    int fresh;        /* backward: dh = c instead of dh += c */
    elem *dz;
    float *db;        /* (H) += sum of dz over rows; NULL: skip */
} finish;

/* h = [h_prev +] relu(c + bias); the first layer's bias is the image's */
static inline __attribute__((always_inline)) void activate(const finish *f, const float *c, int64_t m, int64_t n,
                                                           int first, int last, int input, int residual, int keep)
{
    const int64_t width = f->net->width, ld = width + PAD;
    const float *const *row_bias = f->tile->bias + m, *bias = f->net->bias[f->layer] + n;
    uint8_t *mask = f->tile->mask[f->layer] + m * width + n;
    const elem *prev = f->prev + m * ld + n;
    elem *h = f->h + m * ld + n;
    for (int i = first; i < last; i++) {
        const float *b = input ? row_bias[i] + n : bias;
        vf r[NV];
        for (int v = 0; v < NV; v++) {
            const vf z = load(c + i * NR + v * VL) + load(b + v * VL);
            if (keep) store_mask(mask + i * width + v * VL, z);
            r[v] = positive(z);
            if (residual) r[v] += load_elem(prev + i * ld + v * VL);
        }
        store_row(h + i * ld, r);
    }
}

/* dh [+]= c; dz = dh where the relu passed; db += sum dz. The first layer has no further use for dh and keeps dz there. */
static inline __attribute__((always_inline)) void deactivate(const finish *f, const float *c, int64_t m, int64_t n,
                                                             int first, int last, int fresh)
{
    const int64_t width = f->net->width, ld = width + PAD, ldd = width + PAD_F32;
    const int keep_dz = f->layer == 0;
    const uint8_t *mask = f->tile->mask[f->layer] + m * width + n;
    float *dh = f->tile->dh + m * ldd + n;
    elem *dz = f->dz + m * ld + n, *pairs = (elem *)f->tile->right + n * f->tile->rows + m * NR;
    vf total[NV];
    for (int v = 0; v < NV; v++) total[v] = splat(0.0f);
    for (int i = first; i < last; i += 2) {
        vf g[2][NV];
        for (int u = 0; u < 2; u++) {
            for (int v = 0; v < NV; v++) {
                float *at = dh + (i + u) * ldd + v * VL;
                vf d = load(c + (i + u) * NR + v * VL);
                if (!fresh) d += load(at);
                g[u][v] = where_mask(mask + (i + u) * width + v * VL, d);
                store(at, keep_dz ? g[u][v] : d);
                total[v] += g[u][v];
            }
            store_row(dz + (i + u) * ld, g[u]);
        }
        store_pair(pairs + i * NR, g[0], g[1]);
    }
    for (int v = 0; v < NV && f->db != NULL; v++) add(f->db + n + v * VL, total[v]);
}

/* Rows [first, last) of the block. */
static void finish_rows(const finish *f, const float *c, int64_t m, int64_t n, int first, int last)
{
    if (f->backward && f->fresh)
        deactivate(f, c, m, n, first, last, 1);
    else if (f->backward)
        deactivate(f, c, m, n, first, last, 0);
    else if (f->layer > 0 && f->net->plain)
        activate(f, c, m, n, first, last, 0, 0, f->keep);
    else if (f->keep && f->layer > 0)
        activate(f, c, m, n, first, last, 0, 1, 1);
    else if (f->keep)
        activate(f, c, m, n, first, last, 1, 0, 1);
    else if (f->layer > 0)
        activate(f, c, m, n, first, last, 0, 1, 0);
    else
        activate(f, c, m, n, first, last, 1, 0, 0);
}
