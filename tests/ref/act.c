#include "act.h"

#include <math.h>
#include <stdlib.h>

#include "../../src/rng.h"

static int wide(const ref_array *a)
{
    return !a->is_act || a->dev->precision == HET_F32;
}

void ref_array_upload(ref_array *a)
{
    const size_t bytes = (size_t)a->n * sizeof(float);
    float *host = malloc(bytes);
    HET_ASSERT(host != NULL);
    for (int64_t i = 0; i < a->n; i++) host[i] = (float)a->host[i];
    if (wide(a)) {
        a->dev->ops->upload(a->dev, a->device, host, bytes);
    } else {
        float *f32 = a->dev->ops->alloc(a->dev, bytes);
        a->dev->ops->upload(a->dev, f32, host, bytes);
        a->dev->ops->from_float(a->dev, a->device, f32, a->n);
        a->dev->ops->release(a->dev, f32);
    }
    free(host);
    double *rounded = ref_array_download(a);
    for (int64_t i = 0; i < a->n; i++) a->host[i] = rounded[i];
    free(rounded);
}

ref_array ref_array_random(het_device *dev, int64_t n, int is_act, double scale, double offset,
                           uint64_t sample)
{
    ref_array a = {.dev = dev, .n = n, .is_act = is_act};
    a.device = dev->ops->alloc(dev, (size_t)n * sizeof(float));
    a.host = malloc((size_t)n * sizeof *a.host);
    HET_ASSERT(a.device != NULL && a.host != NULL);
    het_rng rng = het_rng_at(11, HET_STREAM_INIT, 0, sample);
    for (int64_t i = 0; i < n; i++) a.host[i] = scale * het_rng_normal(&rng) + offset;
    ref_array_upload(&a);
    return a;
}

void ref_array_free(ref_array *a)
{
    a->dev->ops->release(a->dev, a->device);
    free(a->host);
    *a = (ref_array){0};
}

double *ref_array_download(const ref_array *a)
{
    const size_t bytes = (size_t)a->n * sizeof(float);
    float *host = malloc(bytes);
    double *out = malloc((size_t)a->n * sizeof *out);
    HET_ASSERT(host != NULL && out != NULL);
    if (wide(a)) {
        a->dev->ops->download(a->dev, host, a->device, bytes);
    } else {
        float *f32 = a->dev->ops->alloc(a->dev, bytes);
        a->dev->ops->to_float(a->dev, f32, a->device, a->n);
        a->dev->ops->download(a->dev, host, f32, bytes);
        a->dev->ops->release(a->dev, f32);
    }
    for (int64_t i = 0; i < a->n; i++) out[i] = host[i];
    free(host);
    return out;
}

double ref_array_error(const ref_array *a, const double *expected)
{
    double *got = ref_array_download(a), worst = 0.0, largest = 1e-30;
    for (int64_t i = 0; i < a->n; i++) {
        const double difference = fabs(got[i] - expected[i]);
        worst = difference <= worst ? worst : difference; /* NaN counts */
        largest = fmax(largest, fabs(expected[i]));
    }
    free(got);
    return worst / largest;
}
