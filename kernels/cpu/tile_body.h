/** The code of one het_tile_ops (tile.h), compiled once per instruction set.
 *
 *  The including file defines, before it includes this:
 *    VL, NV, MR   lanes of a vector, vectors of a block's row, rows of a block;  NR = NV VL columns of a block
 *    elem         type of matrix operands; load_elem, store_elem, store_row, store_pair between vf and elem
 *    block()      c (MR,NR) [+]= a (MR,k) b, with b one packed panel
 *    product()    the same over a whole tile, finished by tile_finish.h
 *    pack(), weight_grad()
 *  tile_vector.h gives vf and its helpers. Loops are written with GCC's vector extensions: one source, any width. */

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

static void hidden(const het_net *net, het_tile *tile, int keep)
{
    for (int64_t l = 0; l < net->layers; l++) {
        const int64_t k = l == 0 ? 2 * net->frequencies : net->width;
        const elem *prev = l == 0 ? tile->x : tile->h[keep ? l - 1 : (l - 1) % 2];
        const finish f = {.net = net, .tile = tile, .layer = l, .keep = keep, .h = tile->h[keep ? l : l % 2], .prev = prev};
        product(prev, k + PAD, net->forward[l], k, net->width, &f);
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

/* The gradient of W_out and b_out, and dh, dz of the last layer. */
static void output_grad(het_net_grad *grad, const finish *f)
{
    het_tile *tile = f->tile;
    const int64_t width = f->net->width, ld = width + PAD;
    const elem *h = tile->h[f->layer];
    _Alignas(64) float c[MR * NR];
    for (int64_t n = 0; n < width; n += NR) {
        const float *w0 = f->net->out + n, *w1 = w0 + width;
        vf re[NV], im[NV];
        for (int v = 0; v < NV; v++) re[v] = im[v] = splat(0.0f);
        for (int64_t m = 0; m < tile->rows; m += MR) {
            for (int i = 0; i < MR; i++) {
                const vf a = splat(tile->out[2 * (m + i)]), b = splat(tile->out[2 * (m + i) + 1]);
                for (int v = 0; v < NV; v++) {
                    const vf x = load_elem(h + (m + i) * ld + n + v * VL);
                    re[v] += x * a;
                    im[v] += x * b;
                    store(c + i * NR + v * VL, a * load(w0 + v * VL) + b * load(w1 + v * VL));
                }
            }
            finish_rows(f, c, m, n, 0, MR);
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

static void backward(const het_net *net, het_net_grad *grad, het_tile *tile)
{
    const int64_t f2 = 2 * net->frequencies, width = net->width, top = net->layers - 1;
    finish f = {.net = net, .tile = tile, .layer = top, .backward = 1, .fresh = 1, .dz = tile->dz[top % 2]};
    f.db = top > 0 ? grad->bias[top] : NULL;
    output_grad(grad, &f);
    f.fresh = net->plain; /* without residual sums dh_{l-1} has no share of dh_l */
    for (int64_t l = top; l > 0; l--) {
        const elem *dz = tile->dz[l % 2];
        weight_grad(grad->weight[l], tile, tile->h[l - 1], dz, width, width);
        f.layer = l - 1;
        f.dz = tile->dz[(l - 1) % 2];
        f.db = l > 1 ? grad->bias[l - 1] : NULL;
        product(dz, width + PAD, net->backward[l], width, width, &f);
    }
    const elem *dz = tile->dz[0], *panels = net->backward[0];
    weight_grad(grad->weight[0], tile, tile->x, dz, f2, width);
    for (int64_t j = 0; j < f2; j += NR) {
        for (int64_t m = 0; m < tile->rows; m += MR)
            block(tile->dx + m * (f2 + PAD_F32) + j, f2 + PAD_F32, dz + m * (width + PAD), width + PAD, panels + j * width,
                  width, 0);
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
