/** The code of one het_tile_ops (tile.h), compiled once per instruction set.
 *
 *  The including file defines, before it includes this:
 *    VL, NV, MR   lanes of a vector, vectors of a block's row, rows of a block;  NR = NV VL columns of a block
 *    elem         type of matrix operands, and load_elem / store_elem between vf and elem
 *    block()      c (MR,NR) [+]= a (MR,k) b, with b one packed panel
 *    pack(), weight_grad()
 *  tile_vector.h gives vf and its helpers. Loops are written with GCC's vector extensions: one source, any width. */

enum { PAD = 64 / sizeof(elem), PAD_F32 = 16 };

static void unit(float *c, float *s, const float *coarse, const float *fine, const float *offset, float k, int64_t f)
{
    for (int64_t i = 0; i < f; i += VL) {
        const vf p = splat(k) * load(coarse + i); /* exact: 12 bits times at most 12 */
        vf turns = p - nearest(p) + splat(k) * load(fine + i);
        if (offset != NULL) turns += load(offset + i);
        vf sine, cosine;
        sincos_turns(turns, &sine, &cosine);
        store(c + i, cosine);
        store(s + i, sine);
    }
}

static void multiply(float *c, float *s, const float *ca, const float *sa, const float *cb, const float *sb, int64_t f)
{
    for (int64_t i = 0; i < f; i += VL) {
        const vf pa = load(ca + i), qa = load(sa + i), pb = load(cb + i), qb = load(sb + i);
        store(c + i, pa * pb - qa * qb);
        store(s + i, pa * qb + qa * pb);
    }
}

static void features(const het_net *net, het_tile *tile, const het_phases *phases, int64_t first, int64_t last)
{
    const int64_t f = net->frequencies, ld = 2 * f + PAD;
    for (int64_t r = first; r < last; r++) {
        const int32_t ky = tile->ky[r];
        const float *cx = phases->cx + tile->kx[r] * f, *sx = phases->sx + tile->kx[r] * f;
        const float *cy = phases->cy + (ky < 0 ? -ky : ky) * f, *sy = phases->sy + (ky < 0 ? -ky : ky) * f;
        const vf side = splat(ky < 0 ? -1.0f : 1.0f), sign = splat(tile->sign[r]);
        elem *x = (elem *)tile->x + r * ld;
        for (int64_t i = 0; i < f; i += VL) {
            const vf a = load(cx + i), b = load(sx + i), c = load(cy + i), d = side * load(sy + i);
            store_elem(x + i, a * c - b * d);
            store_elem(x + f + i, sign * (b * c + a * d));
        }
    }
}

/* The block's sums of layer l become activations: h = [h_prev +] relu(c + bias). */
static inline void activate(const het_net *net, het_tile *tile, const float *c, elem *h, const elem *prev, int64_t l,
                            int64_t m, int64_t n, int keep)
{
    const int64_t ld = net->width + PAD;
    for (int i = 0; i < MR; i++) {
        const float *bias = l == 0 ? tile->bias[m + i] : net->bias[l];
        for (int v = 0; v < NV; v++) {
            const int64_t at = (m + i) * ld + n + v * VL;
            const vf z = load(c + i * NR + v * VL) + load(bias + n + v * VL);
            if (keep) store_mask(tile->mask[l] + (m + i) * net->width + n + v * VL, z > 0.0f);
            vf r = positive(z);
            if (l > 0) r += load_elem(prev + at);
            store_elem(h + at, r);
        }
    }
}

static void hidden(const het_net *net, het_tile *tile, int keep)
{
    const int64_t f2 = 2 * net->frequencies, width = net->width;
    _Alignas(64) float c[MR * NR];
    for (int64_t l = 0; l < net->layers; l++) {
        const int64_t k = l == 0 ? f2 : width, lda = k + PAD;
        const elem *prev = l == 0 ? NULL : tile->h[keep ? l - 1 : (l - 1) % 2];
        const elem *a = l == 0 ? tile->x : prev;
        elem *h = tile->h[keep ? l : l % 2];
        for (int64_t n = 0; n < width; n += NR) {
            const elem *panel = (const elem *)net->forward[l] + n * k;
            for (int64_t m = 0; m < tile->rows; m += MR) {
                block(c, NR, a + m * lda, lda, panel, k, 0);
                activate(net, tile, c, h, prev, l, m, n, keep);
            }
        }
    }
}

static void output(const het_net *net, het_tile *tile)
{
    const int64_t width = net->width, ld = width + PAD;
    const elem *h = tile->h[(net->layers - 1) % 2];
    for (int64_t r = 0; r < tile->rows; r++) {
        vf re = splat(0.0f), im = splat(0.0f);
        for (int64_t n = 0; n < width; n += VL) {
            const vf v = load_elem(h + r * ld + n);
            re += v * load(net->out + n);
            im += v * load(net->out + width + n);
        }
        tile->out[2 * r] = sum(re) + net->out_bias[0];
        tile->out[2 * r + 1] = (sum(im) + net->out_bias[1]) * tile->sign[r];
    }
}

/* dh of the last layer and the gradient of W_out, b_out. */
static void output_grad(const het_net *net, het_net_grad *grad, het_tile *tile)
{
    const int64_t width = net->width, ld = width + PAD, ldd = width + PAD_F32;
    const elem *h = tile->h[net->layers - 1];
    for (int64_t n = 0; n < width; n += NR) {
        vf re[NV], im[NV];
        for (int v = 0; v < NV; v++) re[v] = im[v] = splat(0.0f);
        for (int64_t r = 0; r < tile->rows; r++) {
            const vf a = splat(tile->out[2 * r]), b = splat(tile->out[2 * r + 1]);
            for (int v = 0; v < NV; v++) {
                const int64_t j = n + v * VL;
                const vf x = load_elem(h + r * ld + j);
                re[v] += x * a;
                im[v] += x * b;
                store(tile->dh + r * ldd + j, a * load(net->out + j) + b * load(net->out + width + j));
            }
        }
        for (int v = 0; v < NV; v++) {
            add(grad->out + n + v * VL, re[v]);
            add(grad->out + width + n + v * VL, im[v]);
        }
    }
    for (int64_t r = 0; r < tile->rows; r++) {
        grad->out_bias[0] += tile->out[2 * r];
        grad->out_bias[1] += tile->out[2 * r + 1];
    }
}

/* dz = dh where the relu passed; db (NULL: skip) += its sum over rows. dh keeps dh, in layer 0 it becomes dz. */
static void relu_grad(const het_net *net, float *db, het_tile *tile, int64_t l)
{
    const int64_t width = net->width, ld = width + PAD, ldd = width + PAD_F32;
    for (int64_t n = 0; n < width; n += NR) {
        vf total[NV];
        for (int v = 0; v < NV; v++) total[v] = splat(0.0f);
        for (int64_t r = 0; r < tile->rows; r++) {
            for (int v = 0; v < NV; v++) {
                const int64_t j = n + v * VL;
                const vf g = where(load_mask(tile->mask[l] + r * width + j), load(tile->dh + r * ldd + j));
                total[v] += g;
                store_elem((elem *)tile->dz + r * ld + j, g);
                if (l == 0) store(tile->dh + r * ldd + j, g);
            }
        }
        for (int v = 0; v < NV && db != NULL; v++) add(db + n + v * VL, total[v]);
    }
}

/* c (rows, n) [+]= dz W^T */
static void data_grad(const het_net *net, float *c, int64_t ldc, const het_tile *tile, int64_t l, int64_t n, int accumulate)
{
    const int64_t width = net->width, ld = width + PAD;
    for (int64_t j = 0; j < n; j += NR) {
        const elem *panel = (const elem *)net->backward[l] + j * width;
        for (int64_t m = 0; m < tile->rows; m += MR) {
            const elem *a = (const elem *)tile->dz + m * ld;
            block(c + m * ldc + j, ldc, a, ld, panel, width, accumulate);
        }
    }
}

static void backward(const het_net *net, het_net_grad *grad, het_tile *tile)
{
    const int64_t f2 = 2 * net->frequencies, width = net->width;
    output_grad(net, grad, tile);
    for (int64_t l = net->layers - 1; l >= 0; l--) {
        relu_grad(net, l > 0 ? grad->bias[l] : NULL, tile, l);
        if (l > 0) {
            weight_grad(grad->weight[l], tile, tile->h[l - 1], width, width);
            data_grad(net, tile->dh, width + PAD_F32, tile, l, width, 1);
        } else {
            weight_grad(grad->weight[0], tile, tile->x, f2, width);
            data_grad(net, tile->dx, f2 + PAD_F32, tile, 0, f2, 0);
        }
    }
}

static void bias_grad(const het_net *net, float *dbias, const het_tile *tile, int64_t first, int64_t last)
{
    const int64_t ldd = net->width + PAD_F32;
    for (int64_t n = 0; n < net->width; n += NR) {
        vf total[NV];
        for (int v = 0; v < NV; v++) total[v] = splat(0.0f);
        for (int64_t r = first; r < last; r++) {
            for (int v = 0; v < NV; v++) total[v] += load(tile->dh + r * ldd + n + v * VL);
        }
        for (int v = 0; v < NV; v++) add(dbias + n + v * VL, total[v]);
    }
}

/* x = (c, n) = (cos, s sin):  dphase = s (c dn - n dc) */
static void phase_grad(const het_net *net, float *da, float *db, const het_tile *tile, int64_t first, int64_t last)
{
    const int64_t f = net->frequencies, ld = 2 * f + PAD, ldd = 2 * f + PAD_F32;
    for (int64_t i = 0; i < f; i += VL) {
        vf a = splat(0.0f), b = splat(0.0f);
        for (int64_t r = first; r < last; r++) {
            const elem *x = (const elem *)tile->x + r * ld + i;
            const float *dx = tile->dx + r * ldd + i;
            const vf dphase = load_elem(x) * load(dx + f) - load_elem(x + f) * load(dx);
            a += splat(tile->sign[r] * (float)tile->kx[r]) * dphase;
            b += splat(tile->sign[r] * (float)tile->ky[r]) * dphase;
        }
        add(da + i, a);
        add(db + i, b);
    }
}
