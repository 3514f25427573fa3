#include "decoder.h"

#include <stdio.h>

#include "../arena.h"
#include "../rng.h"

struct het_decoder {
    het_device *dev;
    het_decoder_spec spec;
    het_decode *network;
    float *freq;              /* (F,3) on the device */
    int64_t w_z, b_0, block;  /* offsets */
    float *bias, *dbias;      /* (B,H) */
};

static void add_layers(het_decoder *d, het_layout *layout)
{
    const int64_t h = d->spec.width, in = 2 * d->spec.frequencies;
    char name[48];
    d->w_z = het_layout_add(layout, "decoder.z.w", (int64_t[4]){h, d->spec.z_dim}, HET_INIT_LINEAR, in, 1);
    d->b_0 = het_layout_add(layout, "decoder.0.b", (int64_t[4]){h}, HET_INIT_LINEAR, in, 1);
    d->block = het_layout_add(layout, "decoder.0.w", (int64_t[4]){in, h}, HET_INIT_LINEAR, in, 1);
    /* The network's block has no gaps: widths are multiples of 32, so only biases could make one, and they do not. */
    for (int64_t l = 1; l < d->spec.layers; l++) {
        snprintf(name, sizeof name, "decoder.%lld.w", (long long)l);
        het_layout_add(layout, name, (int64_t[4]){h, h}, HET_INIT_LINEAR, h, 1);
        snprintf(name, sizeof name, "decoder.%lld.b", (long long)l);
        het_layout_add(layout, name, (int64_t[4]){h}, HET_INIT_LINEAR, h, 1);
    }
    const int64_t out = het_layout_add(layout, "decoder.out.w", (int64_t[4]){h, 2}, HET_INIT_LINEAR, h, 1);
    const int64_t end = het_layout_add(layout, "decoder.out.b", (int64_t[4]){2}, HET_INIT_ZERO, 0, 1);
    HET_ASSERT(end + 2 - d->block == het_decode_params_count(d->spec.frequencies, h, d->spec.layers) && out < end);
}

het_status het_decoder_new(het_decoder **decoder, het_device *dev, const het_decoder_spec *spec, int64_t max_points,
                           const int32_t *kxy, uint64_t seed, het_layout *layout)
{
    het_status status = HET_OK;
    float *host = NULL;
    het_decoder *d = het_alloc(sizeof *d);
    *decoder = d;
    if (d == NULL) return het_fail(HET_E_MEMORY, "no memory for the decoder");
    d->dev = dev;
    d->spec = *spec;
    HET_TRY(dev->ops->decode_new(dev, &d->network, &(het_decode_spec){spec->box, spec->frequencies, spec->width,
                                                                     spec->layers, max_points, kxy, spec->plain}));
    add_layers(d, layout);
    const size_t bytes = (size_t)spec->frequencies * 3 * sizeof(float);
    host = het_alloc(bytes);
    d->freq = dev->ops->alloc(dev, bytes);
    if (host == NULL || d->freq == NULL) HET_TRY(het_fail(HET_E_MEMORY, "no memory for the decoder's frequencies"));
    het_rng rng = het_rng_at(seed, HET_STREAM_INIT, 1, 0);
    const float sigma = (float)(spec->sigma * (double)spec->box / 4.0);
    for (int64_t i = 0; i < 3 * spec->frequencies; i++) host[i] = sigma * het_rng_normal(&rng);
    dev->ops->upload(dev, d->freq, host, bytes);
done:
    het_release(host);
    if (status != HET_OK) {
        het_decoder_free(d);
        *decoder = NULL;
    }
    return status;
}

void het_decoder_free(het_decoder *d)
{
    if (d == NULL) return;
    if (d->network != NULL) d->dev->ops->decode_free(d->network);
    if (d->freq != NULL) d->dev->ops->release(d->dev, d->freq);
    het_release(d);
}

void het_decoder_bind(het_decoder *d, het_workspace *ws)
{
    d->bias = het_workspace_take(ws, (size_t)(d->spec.max_batch * d->spec.width) * sizeof(float));
    d->dbias = het_workspace_take(ws, (size_t)(d->spec.max_batch * d->spec.width) * sizeof(float));
}

void het_decoder_load(het_decoder *d, const float *params)
{
    d->dev->ops->decode_load(d->network, params + d->block, d->freq);
}

void het_decoder_forward(het_decoder *d, float *slice, const float *params, const float *rot, const float *z,
                         const float *kz, int64_t b, int64_t p)
{
    HET_ASSERT(b <= d->spec.max_batch);
    d->dev->ops->linear(d->dev, d->bias, z, params + d->w_z, params + d->b_0, b, d->spec.width, d->spec.z_dim, 0);
    d->dev->ops->decode_forward(d->network, slice, rot, d->bias, kz, b, p);
}

void het_decoder_backward(het_decoder *d, float *grads, float *drot, float *dz, const float *dslice,
                          const float *params, const float *rot, const float *z, const int32_t *which, int64_t n,
                          int64_t b, int64_t p)
{
    d->dev->ops->decode_backward(d->network, grads + d->block, drot, d->dbias, dslice, rot, d->bias, which, n, b, p);
    d->dev->ops->linear_backward(d->dev, dz, grads + d->w_z, grads + d->b_0, d->dbias, z, NULL, params + d->w_z, b,
                                 d->spec.width, d->spec.z_dim, 0);
}
