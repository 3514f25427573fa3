/* Operations on host arrays for a device whose memory is its own: copy in, run, copy out. What an operation only writes
 * is filled with NaN before, so that a number it leaves out or adds to shows. */
#include <stdlib.h>
#include <string.h>

#include "device.h"

static het_device real; /* the device itself */

enum { PIECES_MAX = 12 };
static struct piece {
    void *device, *host; /* host NULL: not copied back */
    size_t bytes;
} pieces[PIECES_MAX];
static int count;

static void *put(const void *from, void *back, int64_t bytes)
{
    HET_ASSERT(count < PIECES_MAX && bytes >= 0);
    struct piece *p = &pieces[count++];
    *p = (struct piece){real.ops->alloc(&real, (size_t)bytes), back, (size_t)bytes};
    HET_ASSERT(p->device != NULL);
    real.ops->upload(&real, p->device, from, (size_t)bytes);
    return p->device;
}

static const void *in(const void *host, int64_t bytes)
{
    return host == NULL ? NULL : put(host, NULL, bytes);
}

static void *inout(void *host, int64_t bytes)
{
    return host == NULL ? NULL : put(host, host, bytes);
}

static void *out(void *host, int64_t bytes)
{
    if (host == NULL) return NULL;
    void *nan = malloc((size_t)bytes + 1);
    HET_ASSERT(nan != NULL);
    memset(nan, 0xff, (size_t)bytes);
    void *device = put(nan, host, bytes);
    free(nan);
    return device;
}

static void finish(void)
{
    for (int i = 0; i < count; i++) {
        struct piece *p = &pieces[i];
        if (p->host != NULL) real.ops->download(&real, p->host, p->device, p->bytes);
        real.ops->release(&real, p->device);
    }
    count = 0;
    HET_ASSERT(real.ops->sync(&real) == HET_OK);
}

#define F(n) ((int64_t)sizeof(float) * (n))

/* ---- poses ---- */

static void s2s2(het_device *dev, float *rot, const float *v, int64_t b)
{
    (void)dev;
    real.ops->s2s2(&real, out(rot, F(9 * b)), in(v, F(6 * b)), b);
    finish();
}

static void s2s2_backward(het_device *dev, float *dv, const float *drot, const float *v, int64_t b)
{
    (void)dev;
    real.ops->s2s2_backward(&real, out(dv, F(6 * b)), in(drot, F(9 * b)), in(v, F(6 * b)), b);
    finish();
}

static void turn_poses(het_device *dev, float *rot, float *shift, const uint8_t *quarters, int back, int64_t b)
{
    (void)dev;
    real.ops->turn_poses(&real, inout(rot, F(9 * b)), inout(shift, F(2 * b)), in(quarters, b), back, b);
    finish();
}

static void latent(het_device *dev, float *z, float *kl, const float *head, const float *eps, int64_t b, int64_t zdim)
{
    (void)dev;
    real.ops->latent(&real, out(z, F(b * zdim)), out(kl, F(b)), in(head, F(2 * b * zdim)), in(eps, F(b * zdim)), b, zdim);
    finish();
}

static void latent_backward(het_device *dev, float *dhead, const float *dz, const float *dkl, const float *head,
                            const float *eps, int64_t b, int64_t zdim)
{
    (void)dev;
    real.ops->latent_backward(&real, out(dhead, F(2 * b * zdim)), in(dz, F(b * zdim)), in(dkl, F(b)),
                              in(head, F(2 * b * zdim)), in(eps, F(b * zdim)), b, zdim);
    finish();
}

static void pose_loss(het_device *dev, float *loss, float *drot, float *dshift, const float *rot, const float *shift,
                      const float *rot_true, const float *shift_true, float scale, int64_t b)
{
    (void)dev;
    real.ops->pose_loss(&real, out(loss, F(b)), out(drot, F(9 * b)), out(dshift, F(2 * b)), in(rot, F(9 * b)),
                        in(shift, F(2 * b)), in(rot_true, F(9 * b)), in(shift_true, F(2 * b)), scale, b);
    finish();
}

static void conformation_loss(het_device *dev, float *loss, float *dhead, const float *head, const float *z, float scale,
                              int64_t b, int64_t zdim)
{
    (void)dev;
    real.ops->conformation_loss(&real, out(loss, F(b)), out(dhead, F(2 * b * zdim)), in(head, F(2 * b * zdim)),
                                in(z, F(b * zdim)), scale, b, zdim);
    finish();
}

/* ---- rows and the optimiser ---- */

static void fill(het_device *dev, float *y, float value, int64_t n)
{
    (void)dev;
    real.ops->fill(&real, out(y, F(n)), value, n);
    finish();
}

static void winners(het_device *dev, float *total, int32_t *which, float *weight, const float *loss, const float *kl,
                    const float *shift, float lambda_z, float lambda_t, float scale, int64_t b, int group)
{
    (void)dev;
    real.ops->winners(&real, out(total, F(b)), out(which, b / group * (int64_t)sizeof *which), out(weight, F(b)),
                      in(loss, F(b)), in(kl, F(b)), in(shift, F(2 * b)), lambda_z, lambda_t, scale, b, group);
    finish();
}

static void shift_backward(het_device *dev, float *dshift, const float *dshift_px, const float *shift, const float *weight,
                           float lambda_t, float pixels, int64_t b)
{
    (void)dev;
    real.ops->shift_backward(&real, out(dshift, F(2 * b)), in(dshift_px, F(2 * b)), in(shift, F(2 * b)),
                             in(weight, F(b)), lambda_t, pixels, b);
    finish();
}

static void scale_rows(het_device *dev, float *y, const float *x, const float *scale, int64_t b, int64_t n)
{
    (void)dev;
    real.ops->scale_rows(&real, out(y, F(b * n)), in(x, F(b * n)), in(scale, F(b)), b, n);
    finish();
}

static void gather_rows(het_device *dev, float *y, const float *x, const int32_t *index, int64_t rows, int64_t repeat,
                        int64_t n)
{
    const int64_t listed = (rows + repeat - 1) / repeat;
    int64_t most = listed;
    (void)dev;
    for (int64_t i = 0; index != NULL && i < listed; i++)
        if (index[i] >= most) most = index[i] + 1;
    real.ops->gather_rows(&real, out(y, F(rows * n)), in(x, F(most * n)), in(index, listed * (int64_t)sizeof *index), rows,
                          repeat, n);
    finish();
}

static void take_images(het_device *dev, float *image, const void *images, int half, const int64_t *index, int64_t b,
                        int64_t n)
{
    int64_t most = b;
    (void)dev;
    for (int64_t i = 0; index != NULL && i < b; i++)
        if (index[i] >= most) most = index[i] + 1;
    real.ops->take_images(&real, out(image, F(b * n)), in(images, most * n * (half ? 2 : 4)), half,
                          in(index, b * (int64_t)sizeof *index), b, n);
    finish();
}

static void sum_rows(het_device *dev, float *y, const float *x, float factor, int64_t b, int64_t n)
{
    (void)dev;
    real.ops->sum_rows(&real, inout(y, F(n)), in(x, F(b * n)), factor, b, n);
    finish();
}

static void blend(het_device *dev, float *y, const float *x, float a, int64_t n)
{
    (void)dev;
    real.ops->blend(&real, inout(y, F(n)), in(x, F(n)), a, n);
    finish();
}

static void adam(het_device *dev, float *w, float *m, float *v, const float *g, int64_t n, float rate, float beta1,
                 float beta2, float eps, int64_t step)
{
    (void)dev;
    real.ops->adam(&real, inout(w, F(n)), inout(m, F(n)), inout(v, F(n)), in(g, F(n)), n, rate, beta1, beta2, eps, step);
    finish();
}

static void norm2(het_device *dev, double *sum, int64_t *non_finite, const float *x, int64_t n)
{
    (void)dev;
    real.ops->norm2(&real, sum, non_finite, in(x, F(n)), n);
    finish();
}

/* ---- points: a plan of ours holds the device's ---- */

typedef struct staged_plan {
    het_fourier *plan;
    int64_t box;
} staged_plan;

static het_status fourier_new(het_device *dev, het_fourier **plan, int64_t box, int64_t max_points, const int32_t *kxy)
{
    (void)dev;
    *plan = NULL;
    staged_plan *s = malloc(sizeof *s);
    HET_ASSERT(s != NULL);
    s->box = box;
    const het_status status = real.ops->fourier_new(&real, &s->plan, box, max_points, kxy);
    if (status == HET_OK) *plan = (het_fourier *)s;
    else free(s);
    return status;
}

static void fourier_free(het_fourier *plan)
{
    if (plan != NULL) real.ops->fourier_free(((staged_plan *)plan)->plan);
    free(plan);
}

static het_fourier *of(het_fourier *plan)
{
    return ((staged_plan *)plan)->plan;
}

static int64_t pixels(het_fourier *plan)
{
    return ((staged_plan *)plan)->box * ((staged_plan *)plan)->box;
}

static void image_to_points(het_fourier *plan, float *points, const float *image, int64_t b, int64_t p)
{
    real.ops->image_to_points(of(plan), out(points, F(2 * b * p)), in(image, F(b * pixels(plan))), b, p);
    finish();
}

static void points_to_image(het_fourier *plan, float *image, const float *points, const float *window, const float *scale,
                            int64_t b, int64_t p)
{
    real.ops->points_to_image(of(plan), out(image, F(b * pixels(plan))), in(points, F(2 * b * p)),
                              in(window, F(pixels(plan))), in(scale, F(b)), b, p);
    finish();
}

static void standardise(het_device *dev, float *image, const float *window, int64_t b, int64_t n)
{
    (void)dev;
    real.ops->standardise(&real, inout(image, F(b * n)), in(window, F(n)), b, n);
    finish();
}

static void mirror_pairs(het_fourier *plan, float *both, const float *points, int64_t b, int64_t p)
{
    real.ops->mirror_pairs(of(plan), out(both, F(4 * b * p)), in(points, F(2 * b * p)), b, p);
    finish();
}

static void turn_points(het_fourier *plan, float *turned, const float *points, const uint8_t *quarters, int64_t b, int64_t p)
{
    real.ops->turn_points(of(plan), out(turned, F(2 * b * p)), in(points, F(2 * b * p)), in(quarters, b), b, p);
    finish();
}

static void ctf(het_fourier *plan, float *values, const het_ctf_row *rows, const uint8_t *mirrored, const float *envelope,
                float apix, int64_t b, int64_t p)
{
    real.ops->ctf(of(plan), out(values, F(b * p)), in(rows, b * (int64_t)sizeof *rows), in(mirrored, b),
                  in(envelope, F(p)), apix, b, p);
    finish();
}

static void project(het_fourier *plan, float *model, const float *slice, const float *ctf_values, const float *shift,
                    int64_t b, int64_t p)
{
    real.ops->project(of(plan), out(model, F(2 * b * p)), in(slice, F(2 * b * p)), in(ctf_values, F(b * p)),
                      in(shift, F(2 * b)), b, p);
    finish();
}

static void project_loss(het_fourier *plan, float *loss, float *dslice, float *dshift, const float *slice,
                         const float *ctf_values, const float *shift, const float *target, int64_t b, int64_t p)
{
    real.ops->project_loss(of(plan), out(loss, F(b)), out(dslice, F(2 * b * p)), out(dshift, F(2 * b)),
                           in(slice, F(2 * b * p)), in(ctf_values, F(b * p)), in(shift, F(2 * b)),
                           in(target, F(2 * b * p)), b, p);
    finish();
}

static void points_power(het_fourier *plan, float *power, const float *points, int64_t b, int64_t p, int64_t groups)
{
    real.ops->points_power(of(plan), out(power, F(groups)), in(points, F(2 * b * p)), b, p, groups);
    finish();
}

static void add_noise(het_fourier *plan, float *points, const float *power, float snr, uint64_t seed, const uint64_t *at,
                      int64_t b, int64_t p, int64_t groups)
{
    real.ops->add_noise(of(plan), inout(points, F(2 * b * p)), in(power, F(groups)), snr, seed, in(at, 2 * sizeof *at), b, p,
                        groups);
    finish();
}

static void unit_scale(het_device *dev, float *scale, const float *power, int64_t b, int64_t groups)
{
    (void)dev;
    real.ops->unit_scale(&real, out(scale, F(b)), in(power, F(groups)), b, groups);
    finish();
}

/* ---- slices ---- */

typedef struct staged_decode {
    het_decode *plan;
    int64_t frequencies, width, params;
} staged_decode;

static het_status decode_new(het_device *dev, het_decode **dec, const het_decode_spec *spec)
{
    (void)dev;
    *dec = NULL;
    staged_decode *s = malloc(sizeof *s);
    HET_ASSERT(s != NULL);
    *s = (staged_decode){NULL, spec->frequencies, spec->width,
                         het_decode_params_count(spec->frequencies, spec->width, spec->layers)};
    const het_status status = real.ops->decode_new(&real, &s->plan, spec);
    if (status == HET_OK) *dec = (het_decode *)s;
    else free(s);
    return status;
}

static void decode_free(het_decode *dec)
{
    if (dec != NULL) real.ops->decode_free(((staged_decode *)dec)->plan);
    free(dec);
}

static void decode_load(het_decode *dec, const float *params, const float *freq)
{
    const staged_decode *s = (staged_decode *)dec;
    real.ops->decode_load(s->plan, in(params, F(s->params)), in(freq, F(3 * s->frequencies)));
    finish();
}

static void decode_forward(het_decode *dec, float *slice, const float *rot, const float *bias, const float *kz, int64_t b,
                           int64_t p)
{
    const staged_decode *s = (staged_decode *)dec;
    real.ops->decode_forward(s->plan, out(slice, F(2 * b * p)), in(rot, F(9 * b)), in(bias, F(b * s->width)),
                             in(kz, F(b)), b, p);
    finish();
}

static void decode_backward(het_decode *dec, float *dparams, float *drot, float *dbias, const float *dslice,
                            const float *rot, const float *bias, const int32_t *which, int64_t n, int64_t b, int64_t p)
{
    const staged_decode *s = (staged_decode *)dec;
    real.ops->decode_backward(s->plan, inout(dparams, F(s->params)), out(drot, F(9 * b)), out(dbias, F(b * s->width)),
                              in(dslice, F(2 * b * p)), in(rot, F(9 * b)), in(bias, F(b * s->width)),
                              in(which, n * (int64_t)sizeof *which), n, b, p);
    finish();
}

static void close_real(het_device *device)
{
    (void)device;
    het_device_close(&real);
}

void ref_device_stage(het_device *device)
{
    static const het_ops staged = {
        .name = "staged", .s2s2 = s2s2, .s2s2_backward = s2s2_backward, .turn_poses = turn_poses, .latent = latent,
        .latent_backward = latent_backward, .pose_loss = pose_loss, .conformation_loss = conformation_loss, .fill = fill,
        .winners = winners, .shift_backward = shift_backward,
        .scale_rows = scale_rows, .gather_rows = gather_rows, .take_images = take_images, .sum_rows = sum_rows, .blend = blend, .adam = adam,
        .norm2 = norm2, .fourier_new = fourier_new, .fourier_free = fourier_free, .image_to_points = image_to_points,
        .points_to_image = points_to_image, .standardise = standardise, .mirror_pairs = mirror_pairs,
        .turn_points = turn_points, .ctf = ctf, .project = project, .project_loss = project_loss,
        .points_power = points_power, .add_noise = add_noise, .unit_scale = unit_scale,
        .decode_new = decode_new, .decode_free = decode_free,
        .decode_load = decode_load, .decode_forward = decode_forward, .decode_backward = decode_backward};
    HET_ASSERT(real.ops == NULL); /* one at a time */
    real = *device;
    device->ops = &staged;
    device->close = close_real;
}
