#include "observe.h"

#include <math.h>

#include "arena.h"

/* W at the points, on the device. */
static het_status set_whitening(het_observer *o, const het_whitening *whitening)
{
    const size_t bytes = (size_t)o->p * sizeof(float);
    const int32_t *kxy = o->points->kxy;
    if (!het_whitening_is(whitening)) return HET_OK;
    float *host = het_alloc(bytes);
    o->whitening = o->dev->ops->alloc(o->dev, bytes);
    if (host != NULL && o->whitening != NULL) {
        for (int64_t j = 0; j < o->p; j++) host[j] = (float)het_whitening_at(whitening, hypot((double)kxy[2 * j], (double)kxy[2 * j + 1]), o->points->box);
        o->dev->ops->upload(o->dev, o->whitening, host, bytes);
    }
    const int complete = host != NULL && o->whitening != NULL;
    het_release(host);
    return complete ? HET_OK : het_fail(HET_E_MEMORY, "no memory for the noise of images");
}

het_status het_observer_new(het_observer *o, het_device *dev, const het_points *points, double apix, const het_whitening *whitening,
                            double radius)
{
    het_status status = HET_OK;
    const het_ops *ops = dev->ops;
    const int64_t box = points->box;
    *o = (het_observer){.dev = dev, .points = points, .p = het_points_within(points, radius), .apix = apix};
    HET_TRY(ops->fourier_new(dev, &o->plan, box, points->count, points->kxy));
    const size_t pixels = (size_t)(HET_OBSERVED * box * box) * sizeof(float), each = (size_t)(HET_OBSERVED * o->p) * sizeof(float);
    o->image = ops->alloc(dev, pixels);
    o->transform = ops->alloc(dev, 2 * each);
    o->ctf = ops->alloc(dev, each);
    o->rows = ops->alloc(dev, HET_OBSERVED * sizeof *o->rows);
    if (o->image == NULL || o->transform == NULL || o->ctf == NULL || o->rows == NULL)
        HET_TRY(het_fail(HET_E_MEMORY, "no memory for %d images of box %lld", HET_OBSERVED, (long long)box));
    status = set_whitening(o, whitening);
done:
    if (status != HET_OK) het_observer_free(o);
    return status;
}

void het_observer_free(het_observer *o)
{
    void *const pieces[] = {o->image, o->transform, o->ctf, o->rows, o->whitening};
    for (int i = 0; i < 5; i++)
        if (pieces[i] != NULL) o->dev->ops->release(o->dev, pieces[i]);
    if (o->plan != NULL) o->dev->ops->fourier_free(o->plan);
    *o = (het_observer){0};
}

het_status het_observe(het_observer *o, float *transform, float *ctf, const float *images, const het_ctf_row *rows, int64_t n)
{
    const het_ops *ops = o->dev->ops;
    const int64_t d = o->points->box, p = o->p;
    HET_ASSERT(n <= HET_OBSERVED);
    ops->upload(o->dev, o->image, images, (size_t)(n * d * d) * sizeof *images);
    ops->upload(o->dev, o->rows, rows, (size_t)n * sizeof *rows);
    ops->image_to_points(o->plan, o->transform, o->image, n, p);
    ops->ctf(o->plan, o->ctf, o->rows, NULL, o->whitening, (float)o->apix, n, p);
    ops->download(o->dev, transform, o->transform, (size_t)(n * 2 * p) * sizeof *transform);
    ops->download(o->dev, ctf, o->ctf, (size_t)(n * p) * sizeof *ctf);
    return ops->sync(o->dev);
}

het_status het_observe_stack(het_observer *o, float *transform, float *ctf, float *images, const het_stack *stack,
                             const int64_t *index, int64_t n)
{
    het_status status = HET_OK;
    het_ctf_row rows[HET_OBSERVED];
    HET_ASSERT(n <= HET_OBSERVED);
    HET_TRY(het_stack_read_standardised(stack, images, index, n));
    HET_TRY(het_stack_read_ctf(stack, rows, index, n));
    status = het_observe(o, transform, ctf, images, rows, n);
done:
    return status;
}
