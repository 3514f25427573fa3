/* What must hold of a model whatever its numbers: gradients are slopes, batches may be split, mirrors mirror.
 * */
#include <malloc.h>

#include "model_fixture.h"

#include "../src/physics/rotation.h"
#include "../src/physics/slicer.h"

enum { BOX = 16, BATCH = 4 };

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static void set_params(het_model *m, const float *params)
{
    memcpy(m->params, params, (size_t)m->layout.total * sizeof *params);
    het_decoder_load(m->decoder, m->params);
}

static double loss_at(fixture *f, het_task task, const float *params, const float *direction, double step)
{
    het_model *m = f->model;
    float *moved = het_alloc((size_t)m->layout.total * sizeof *moved);
    for (int64_t i = 0; i < m->layout.total; i++) moved[i] = params[i] + (float)(step * direction[i]);
    set_params(m, moved);
    het_release(moved);
    return fixture_run(f, task, 0, 0);
}

/* Slopes along directions that lean towards the gradient (others have next to none in so many dimensions), by
 * central differences of two steps that cancel the error of second order. */
static void check_slopes(fixture *f, het_task task, int64_t first, int64_t end, double reach, double limit)
{
    het_model *m = f->model;
    const size_t bytes = (size_t)m->layout.total * sizeof(float);
    float *params = het_alloc(bytes), *gradient = het_alloc(bytes), *direction = het_alloc(bytes);
    memcpy(params, m->params, bytes);
    fixture_run(f, task, 0, 0);
    memcpy(gradient, m->grads, bytes);
    for (uint64_t k = 0; k < 3; k++) {
        het_rng rng = het_rng_at(5, HET_STREAM_SEARCH, 0, k);
        memset(direction, 0, bytes);
        for (int64_t i = first; i < end; i++) direction[i] = gradient[i] * het_rng_uniform(&rng);
        const double length = sqrt(dot(direction, direction, m->layout.total)), step = reach / length;
        const double wide = loss_at(f, task, params, direction, step) -
                            loss_at(f, task, params, direction, -step);
        const double near = loss_at(f, task, params, direction, 0.5 * step) -
                            loss_at(f, task, params, direction, -0.5 * step);
        const double slope = (8.0 * near - wide) / (6.0 * step),
                     expected = dot(gradient, direction, m->layout.total);
        if (!(fabs(slope - expected) < limit * expected))
            fail_msg("slope %.6g, gradient along the direction %.6g", slope, expected);
    }
    set_params(m, params);
    het_release(params);
    het_release(gradient);
    het_release(direction);
}

/* Steps are short: where a point crosses the border of the half-space (kernels/ops.h) the slice of an
 * untrained network jumps, and so does the loss. Few points make that rare; float32 then leaves two or three
 * digits. */
/* The choices that have a default of their own, the other way round. */
static void set_open_choices(fixture *f)
{
    static const char *const settings[] = {"encoder.norm=group", "encoder.shift_unit=pixel",
                                           "encoder.standardise=image", "decoder.residual=false",
                                           "train.augment=true"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        assert_ok(het_config_set(&f->config, settings[i]));
}

/* Slopes of both tasks, with the defaults or otherwise. */
static void check_gradients(int otherwise)
{
    fixture f;
    fixture_fill(&f, 32, 2 * BATCH);
    f.radius = 4.0;
    if (otherwise) set_open_choices(&f);
    fixture_open(&f, HET_PRECISION_F32);
    const het_model *m = f.model;
    check_slopes(&f, HET_TASK_IMAGE, 0, m->trained_encoder, 1e-4, 0.02);
    check_slopes(&f, HET_TASK_IMAGE, m->decoder_first, m->layout.total, 1e-3, 2e-3);
    check_slopes(&f, HET_TASK_POSE, 0, m->trained_encoder, 1e-4, 0.02);
    fixture_close(&f);
}

static void gradients_are_slopes(void **state)
{
    (void)state;
    check_gradients(0);
}

static void gradients_are_slopes_otherwise(void **state)
{
    (void)state;
    check_gradients(1);
}

static double size_of(const float *x, int64_t n)
{
    return sqrt(dot(x, x, n));
}

static void losers_get_no_gradient(void **state)
{
    (void)state;
    fixture f;
    fixture_fill(&f, BOX, BATCH);
    fixture_open(&f, HET_PRECISION_F32);
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    const het_model_buffers *b = f.model->buffers;
    for (int64_t j = 0; j < BATCH; j++) {
        const int64_t won = b->which[j], lost = 4 * j + 1 - won;
        assert_true(won / 2 == j && b->total[won] <= b->total[lost]);
        assert_true(size_of(b->dhead[HET_ENCODER_ROTATION] + 6 * won, 6) > 0.0);
        assert_true(size_of(b->dhead[HET_ENCODER_ROTATION] + 6 * lost, 6) == 0.0);
        assert_true(size_of(b->dhead[HET_ENCODER_SHIFT] + 2 * lost, 2) == 0.0);
        assert_true(size_of(b->dhead[HET_ENCODER_LATENT] + 6 * lost, 6) == 0.0);
    }
    fixture_close(&f);
}

/* A batch in two groups is two batches of half the size, added up: gradients, statistics, losses. */
static void groups_are_separate_batches(void **state)
{
    (void)state;
    fixture whole, half;
    fixture_fill(&whole, BOX, 2 * BATCH);
    fixture_fill(&half, BOX, BATCH);
    whole.spec.groups = whole.spec.global_groups = half.spec.global_groups = 2;
    half.spec.global_batch = 2 * BATCH;
    fixture_open(&whole, HET_PRECISION_F32);
    fixture_open(&half, HET_PRECISION_F32);
    const int64_t total = whole.model->layout.total;
    float *sum = het_alloc(2 * (size_t)total * sizeof *sum);
    double loss[2] = {0};
    for (int part = 0; part < 2; part++) {
        half.batch.first = part * BATCH;
        half.batch.images = whole.images + part * BATCH * BOX * BOX;
        half.batch.ctf = whole.rows + part * BATCH;
        for (int task = 0; task < 2; task++) {
            loss[task] += fixture_run(&half, task, task, 0);
            for (int64_t i = 0; i < total; i++) sum[task * total + i] += half.model->grads[i];
        }
    }
    for (int task = 0; task < 2; task++) {
        assert_true(fabs(fixture_run(&whole, task, task, 0) / loss[task] - 1.0) < 1e-5);
        float *difference = sum + task * total;
        const double size = size_of(whole.model->grads, whole.model->trained_encoder);
        const int64_t stats = het_encoder_stats(whole.model->encoder[0]);
        for (int64_t i = 0; i < total; i++) difference[i] -= whole.model->grads[i];
        const float *of_stats = whole.model->grads + whole.model->trained_encoder;
        assert_true(size > 0.0 && size_of(difference, whole.model->trained_encoder) < 1e-4 * size);
        assert_true(size_of(difference + whole.model->trained_encoder, stats) <
                    1e-5 * size_of(of_stats, stats));
        const int64_t first = whole.model->decoder_first;
        assert_true(size_of(difference + first, total - first) <=
                    1e-4 * size_of(whole.model->grads + first, total - first));
    }
    het_release(sum);
    fixture_close(&whole);
    fixture_close(&half);
}

/* x -> (D-x) mod D, and the CTF's astigmatism with it */
static void mirror_batch(fixture *f)
{
    const int64_t d = f->spec.box;
    for (int64_t i = 0; i < f->spec.batch; i++) {
        for (int64_t y = 0; y < d; y++) {
            float *line = f->images + (i * d + y) * d;
            for (int64_t x = 1; x < d / 2; x++) {
                const float kept = line[x];
                line[x] = line[d - x];
                line[d - x] = kept;
            }
        }
        f->rows[i].angle = (float)M_PI - f->rows[i].angle;
    }
}

static void mirror_images_swap_roles(void **state)
{
    (void)state;
    fixture f;
    float loss[2 * BATCH];
    int32_t which[BATCH];
    fixture_fill(&f, BOX, BATCH);
    fixture_open(&f, HET_PRECISION_F32);
    const double sum = fixture_run(&f, HET_TASK_IMAGE, 0, 1);
    memcpy(loss, f.model->buffers->loss, sizeof loss);
    memcpy(which, f.model->buffers->which, sizeof which);
    mirror_batch(&f);
    assert_true(fabs(fixture_run(&f, HET_TASK_IMAGE, 0, 1) / sum - 1.0) < 1e-5);
    for (int64_t i = 0; i < 2 * BATCH; i++)
        assert_true(fabsf(f.model->buffers->loss[i ^ 1] - loss[i]) < 1e-5f * loss[i]);
    for (int64_t j = 0; j < BATCH; j++) assert_int_equal(f.model->buffers->which[j], which[j] ^ 1);
    fixture_close(&f);
}

typedef struct answers {
    float rot[9 * BATCH], shift[2 * BATCH], z[3 * BATCH], deviation[3 * BATCH], loss[BATCH];
    float other_rot[9 * BATCH], other_shift[2 * BATCH];
    uint8_t mirrored[BATCH];
} answers;

static void infer(fixture *f, answers *a, int64_t n)
{
    const het_answers out = {a->rot,      a->shift,     a->z,          a->deviation, a->loss,
                             a->mirrored, a->other_rot, a->other_shift};
    assert_ok(het_model_infer(f->model, f->images, f->rows, n, &out));
}

/* (x,y) -> (-y,x) about pixel (D/2,D/2), `quarters` times */
static void turn_image(float *image, int64_t d, int quarters)
{
    float *old = het_alloc((size_t)(d * d) * sizeof *old);
    for (; quarters > 0; quarters--) {
        memcpy(old, image, (size_t)(d * d) * sizeof *old);
        for (int64_t y = 0; y < d; y++)
            for (int64_t x = 0; x < d; x++) image[x * d + (d - y) % d] = old[y * d + x];
    }
    het_release(old);
}

/* train.augment: the encoder sees the very images, turned; its answers for them are turned back. An encoder
 * without error is then right: the model's image at the pose (R,t), turned, is that at the pose turned alike. */
static void turned_images(void **state)
{
    (void)state;
    enum { ROWS = 2 * BATCH, PIXELS = BOX * BOX };
    fixture f;
    float seen[ROWS * PIXELS], rot[9 * ROWS], shift[2 * ROWS];
    int used = 0;
    fixture_fill(&f, BOX, BATCH);
    fixture_open(&f, HET_PRECISION_F32);
    het_model *m = f.model;
    const het_ops *ops = m->dev->ops;
    const het_model_buffers *b = m->buffers;
    const int64_t p = m->active;
    for (int64_t step = 0; step < 4; step++) {
        m->config.train.augment = 0;
        fixture_run(&f, HET_TASK_IMAGE, step, 0);
        memcpy(seen, b->image, sizeof seen);
        m->config.train.augment = 1;
        fixture_run(&f, HET_TASK_IMAGE, step, 0);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(b->quarters[i], b->quarters[i - i % 2]);
            used |= 1 << b->quarters[i];
            turn_image(seen + i * PIXELS, BOX, b->quarters[i]);
            for (int j = i * PIXELS; j < (i + 1) * PIXELS; j++) assert_true(fabsf(seen[j] - b->image[j]) < 1e-5f);
        }
        ops->s2s2(m->dev, rot, b->head[HET_ENCODER_ROTATION], ROWS);
        for (int i = 0; i < 2 * ROWS; i++) shift[i] = (float)BOX * b->head[HET_ENCODER_SHIFT][i];
        ops->turn_poses(m->dev, rot, shift, b->quarters, 1, ROWS);
        assert_memory_equal(rot, b->rot, sizeof rot);
        for (int i = 0; i < 2 * ROWS; i++) assert_true(shift[i] == b->shift_px[i]);
    }
    assert_int_equal(used, 15);
    float *slice = het_alloc((size_t)(4 * ROWS * p * 2) * sizeof *slice), *image = slice + ROWS * p * 2,
          *turned = image + ROWS * p * 2, *again = turned + ROWS * p * 2;
    for (int64_t i = 0; i < ROWS * p; i++) b->ctf[i] = 1.0f; /* it is not turned in training: no target is */
    het_decoder_forward(m->decoder, slice, m->params, rot, b->z, NULL, ROWS, p);
    ops->project(m->fourier, image, slice, b->ctf, shift, ROWS, p);
    ops->turn_points(m->fourier, turned, image, b->quarters, ROWS, p);
    ops->turn_poses(m->dev, rot, shift, b->quarters, 0, ROWS);
    het_decoder_forward(m->decoder, slice, m->params, rot, b->z, NULL, ROWS, p);
    ops->project(m->fourier, again, slice, b->ctf, shift, ROWS, p);
    for (int64_t i = 0; i < ROWS * p * 2; i++) {
        if (!(fabsf(turned[i] - again[i]) < 1e-4f)) fail_msg("%g against %g", (double)turned[i], (double)again[i]);
    }
    het_release(slice);
    fixture_close(&f);
}

/* With group norm an image's answer is the same in training and in inference, whatever the statistics kept. */
static void group_norm_needs_no_statistics(void **state)
{
    (void)state;
    fixture f;
    answers a, b;
    fixture_fill(&f, BOX, BATCH);
    f.config.encoder.norm = HET_ENCODER_GROUP_NORM;
    fixture_open(&f, HET_PRECISION_F32);
    infer(&f, &a, BATCH);
    infer(&f, &b, 1);
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    for (int j = 0; j < BATCH; j++) {
        const int64_t row = 2 * j + a.mirrored[j];
        for (int i = 0; i < 9; i++) {
            const float sign = a.mirrored[j] && i / 3 != 1 ? -1.0f : 1.0f;
            assert_true(fabsf(f.model->buffers->rot[9 * row + i] - sign * a.rot[9 * j + i]) < 1e-5f);
        }
    }
    for (int i = 0; i < 9; i++) assert_true(fabsf(a.rot[i] - b.rot[i]) < 1e-5f);
    assert_true(size_of(f.model->grads + f.model->trained_encoder, het_encoder_stats(f.model->encoder[0])) == 0.0);
    fixture_close(&f);
}

/* A shift head that answers in pixels has weights larger by the box: then images, and so losses, are the same. */
static void shifts_in_pixels(void **state)
{
    (void)state;
    enum { ROWS = 2 * BATCH };
    fixture f[2];
    float shift[2 * ROWS], pose_loss[2 * BATCH];
    double loss[2];
    answers a[2];
    for (int u = 0; u < 2; u++) {
        fixture_fill(&f[u], BOX, BATCH);
        f[u].config.encoder.shift_unit = u == 0 ? HET_SHIFT_BOX : HET_SHIFT_PIXEL;
        f[u].config.train.lambda_t = 0.05 / (u == 0 ? 1.0 : BOX);
        fixture_open(&f[u], HET_PRECISION_F32);
        het_model *m = f[u].model;
        for (int i = 0; i < 2; i++) {
            const het_parameter *w = het_layout_find(&m->layout, i == 0 ? "encoder.shift.w2" : "encoder.shift.b2");
            for (int64_t j = 0; u == 1 && j < w->count; j++) m->params[w->offset + j] *= (float)BOX;
        }
        loss[u] = fixture_run(&f[u], HET_TASK_IMAGE, 0, 0);
        if (u == 0) memcpy(shift, m->buffers->shift_px, sizeof shift);
        for (int i = 0; i < 2 * ROWS; i++) assert_true(fabsf(m->buffers->shift_px[i] - shift[i]) < 1e-5f);
        infer(&f[u], &a[u], BATCH);
        fixture_run(&f[u], HET_TASK_POSE, 1, 0);
        for (int64_t i = 0; i < m->synthetic && i < 2 * BATCH; i++) {
            double about_rotation = 0.0;
            for (int64_t j = 9 * i; j < 9 * i + 9; j++)
                about_rotation += pow(m->buffers->rot[j] - m->buffers->rot_true[j], 2.0);
            const float about_shift = m->buffers->loss[i] - (float)(about_rotation / 9.0);
            if (u == 0) pose_loss[i] = about_shift;
            else assert_true(fabsf(about_shift - (float)BOX * pose_loss[i]) < 1e-4f * (1.0f + about_shift));
        }
    }
    assert_true(fabs(loss[0] - loss[1]) < 1e-5 * loss[0]);
    for (int i = 0; i < 2 * BATCH; i++) assert_true(fabsf(a[0].shift[i] - a[1].shift[i]) < 1e-5f);
    fixture_close(&f[0]);
    fixture_close(&f[1]);
}

static void check_standardised(const fixture *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float *image = f->model->buffers->image + i * BOX * BOX;
        double sum = 0.0;
        for (int j = 0; j < BOX * BOX; j++) sum += image[j];
        assert_true(fabs(sum) < 1e-3 && image[0] == 0.0f);
        assert_true(fabs(dot(image, image, BOX * BOX) / (BOX * BOX) - 1.0) < 1e-5);
    }
}

/* In both tasks and in inference. */
static void images_standardised_one_by_one(void **state)
{
    (void)state;
    fixture f;
    answers a;
    fixture_fill(&f, BOX, BATCH);
    f.config.encoder.standardise = HET_STANDARDISE_IMAGE;
    fixture_open(&f, HET_PRECISION_F32);
    const double loss = fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    check_standardised(&f, 2 * BATCH);
    fixture_run(&f, HET_TASK_POSE, 1, 0);
    check_standardised(&f, f.model->synthetic);
    infer(&f, &a, BATCH);
    check_standardised(&f, 2 * BATCH);
    f.model->real_scale *= 3.0; /* without it the encoder would see other images */
    assert_true(fabs(fixture_run(&f, HET_TASK_IMAGE, 0, 0) - loss) < 1e-5 * loss);
    fixture_close(&f);
}

/* Image and mirror image get the same answers, the better and the other, up to R -> diag(-1,1,-1) R,
 * t -> (-tx, ty); and no image's answer depends on the others of its batch. */
static void inference_of_mirror_images(void **state)
{
    (void)state;
    static const float sign[3] = {-1.0f, 1.0f, -1.0f};
    fixture f;
    answers straight, few, mirrored;
    fixture_fill(&f, BOX, BATCH);
    fixture_open(&f, HET_PRECISION_F32);
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    het_model_update(f.model, 0.0, 0.0); /* takes the statistics */
    infer(&f, &straight, BATCH);
    infer(&f, &few, 2);
    mirror_batch(&f);
    infer(&f, &mirrored, BATCH);
    for (int i = 0; i < 18; i++) assert_true(fabsf(few.rot[i] - straight.rot[i]) < 1e-5f);
    for (int j = 0; j < BATCH; j++) {
        assert_int_equal(mirrored.mirrored[j], !straight.mirrored[j]);
        assert_true(fabsf(mirrored.loss[j] - straight.loss[j]) < 1e-5f * straight.loss[j]);
        float apart = 0.0f;
        for (int i = 9 * j; i < 9 * j + 9; i++) {
            const float s = sign[i % 9 / 3];
            assert_true(fabsf(mirrored.rot[i] - s * straight.rot[i]) < 1e-4f);
            assert_true(fabsf(mirrored.other_rot[i] - s * straight.other_rot[i]) < 1e-4f);
            apart = fmaxf(apart, fabsf(straight.other_rot[i] - straight.rot[i]));
        }
        assert_true(apart > 1e-3f);
        for (int i = 0; i < 2; i++) {
            assert_true(fabsf(mirrored.shift[2 * j + i] - sign[i] * straight.shift[2 * j + i]) < 1e-4f);
            assert_true(fabsf(mirrored.other_shift[2 * j + i] - sign[i] * straight.other_shift[2 * j + i]) < 1e-4f);
        }
        for (int i = 0; i < 3; i++) assert_true(fabsf(mirrored.z[3 * j + i] - straight.z[3 * j + i]) < 1e-4f);
    }
    fixture_close(&f);
}

/* Largest difference between slices of the volume and of the decoder, relative to the largest number. */
static double volume_deviation(fixture *f, const double r[9])
{
    het_model *m = f->model;
    const int64_t d = f->spec.box, p = m->active;
    const float z[3] = {0.7f, -0.4f, 1.1f};
    float rot[9], *slice = het_alloc((size_t)p * 2 * sizeof *slice),
                  *sampled = het_alloc((size_t)p * 2 * sizeof *sampled);
    het_volume volume;
    het_slicer slicer;
    assert_ok(het_volume_new(&volume, d, 1.0));
    assert_ok(het_model_volume(m, z, volume.data));
    assert_ok(het_slicer_new(&slicer, &volume));
    het_slicer_slice(&slicer, sampled, r, m->points.kxy, p);
    for (int i = 0; i < 9; i++) rot[i] = (float)r[i];
    het_decoder_forward(m->decoder, slice, m->params, rot, z, NULL, 1, p);
    double worst = 0.0, largest = 0.0;
    for (int64_t i = 0; i < 2 * p; i++) {
        const double value = slice[i] * m->buffers->envelope[i / 2];
        worst = fmax(worst, fabs(value - sampled[i]));
        largest = fmax(largest, fabs(value));
    }
    het_slicer_free(&slicer);
    het_volume_free(&volume);
    het_release(slice);
    het_release(sampled);
    return worst / largest;
}

/* In general the two half-spaces of an untrained network do not fit together where they meet, and only at
 * grid points - for rotations of the cube - does the volume hold what the decoder says. Where the network is
 * even and real they fit. */
static void volume_has_the_slices(void **state)
{
    (void)state;
    const double cube[3][9] = {
        {1, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 0, 1, 1, 0, 0, 0, 1, 0}, {0, -1, 0, 0, 0, 1, -1, 0, 0}};
    double random[9];
    fixture f;
    fixture_fill(&f, 32, BATCH);
    f.config.decoder.sigma = 0.05;
    f.radius = 15.0;
    for (int64_t r = 0; r < f.survey.shells; r++) f.survey.envelope[r] = expf(-0.03f * (float)(r * r));
    fixture_open(&f, HET_PRECISION_F32);
    het_model *m = f.model;
    for (int i = 0; i < 3; i++) assert_true(volume_deviation(&f, cube[i]) < 3e-3);
    const het_parameter *w = het_layout_find(&m->layout, "decoder.0.w"),
                        *out = het_layout_find(&m->layout, "decoder.out.w");
    memset(m->params + w->offset + w->count / 2, 0, (size_t)(w->count / 2) * sizeof(float)); /* sines */
    for (int64_t i = 1; i < out->count; i += 2) m->params[out->offset + i] = 0.0f; /* imaginary part */
    het_decoder_load(m->decoder, m->params);
    het_rotation_uniform(random, 0.3, 0.6, 0.8);
    assert_true(volume_deviation(&f, random) < 1e-2);
    random[0] += 0.2; /* another point of space: seen */
    assert_true(volume_deviation(&f, random) > 1e-2);
    fixture_close(&f);
}

typedef struct order {
    int64_t last;
    int calls;
} order;

static void note(void *context, int64_t offset)
{
    order *o = context;
    assert_true(offset < o->last);
    o->last = offset;
    o->calls++;
}

/* Gradients become final from the end of the block to its start; steps leave no memory behind; the tally
 * counts. */
static void steps_are_tidy(void **state)
{
    (void)state;
    fixture f;
    fixture_fill(&f, BOX, BATCH);
    f.config.train.pose_images = 3;
    fixture_open(&f, HET_PRECISION_F32);
    long live = 0;
    size_t used = 0;
    for (int step = 0; step < 6; step++) {
        const het_task task = step % 2 == 0 ? HET_TASK_IMAGE : HET_TASK_POSE;
        het_tally tally = {0};
        order o = {f.model->layout.total, 0};
        het_model_zero_grad(f.model);
        het_model_forward(f.model, task, &f.batch, step, 0);
        het_model_backward(f.model, note, &o);
        assert_ok(het_model_tally(f.model, &tally));
        het_model_update(f.model, 1e-4, 1e-4);
        assert_true(o.last == 0 && o.calls >= 5);
        assert_true(tally.non_finite == 0.0 && tally.images == (step % 2 == 0 ? BATCH : 0) &&
                    tally.synthetic == (step % 2 == 0 ? 0 : 3 * BATCH));
        assert_true(step % 2 == 0 ? tally.image_loss > 0.0 && tally.zero_loss > 0.0 : tally.pose_loss > 0.0);
        if (step == 1) {
            live = het_arena_live();
            used = mallinfo2().uordblks;
        }
    }
    assert_int_equal(het_arena_live(), live);
    assert_true(mallinfo2().uordblks <= used + 4096); /* libraries may keep something small */
    fixture_close(&f);
}

/* One dimension is the least that z can have. */
static void one_dimension(void **state)
{
    (void)state;
    fixture f;
    answers a;
    fixture_fill(&f, BOX, BATCH);
    f.config.z_dim = 1;
    fixture_open(&f, HET_PRECISION_F32);
    assert_true(isfinite(fixture_run(&f, HET_TASK_IMAGE, 0, 0)));
    het_model_update(f.model, 1e-4, 1e-4);
    infer(&f, &a, BATCH);
    for (int j = 0; j < BATCH; j++) assert_true(isfinite(a.loss[j]) && a.loss[j] > 0.0f);
    fixture_close(&f);
}

enum { GIVEN = 2 * BATCH, Z = 3 };

/* Answers from outside for GIVEN images. */
typedef struct outside {
    float rot[9 * GIVEN], shift[2 * GIVEN], z[Z * GIVEN];
} outside;

static void draw_outside(outside *o)
{
    for (int i = 0; i < GIVEN; i++) {
        het_rng rng = het_rng_at(9, HET_STREAM_SEARCH, 0, (uint64_t)i);
        const double u1 = het_rng_uniform(&rng), u2 = het_rng_uniform(&rng), u3 = het_rng_uniform(&rng);
        double r[9];
        het_rotation_uniform(r, u1, u2, u3);
        for (int j = 0; j < 9; j++) o->rot[9 * i + j] = (float)r[j];
        for (int j = 0; j < 2; j++) o->shift[2 * i + j] = het_rng_normal(&rng);
        for (int j = 0; j < Z; j++) o->z[Z * i + j] = het_rng_normal(&rng);
    }
}

/* Poses and conformations given from outside: gradients of the decoder, along z, and of the encoder, which then
 * learns z from synthetic images; the encoder takes no part in task one and is not moved by it. */
static void given_answers(void **state)
{
    (void)state;
    fixture f;
    outside o;
    float *z = o.z, dz[Z * GIVEN], loss[GIVEN], moved[GIVEN];
    het_tally tally = {0};
    draw_outside(&o);
    fixture_fill(&f, 32, GIVEN);
    f.radius = 4.0;
    f.config.init.lambda_z = 0.5;
    fixture_open(&f, HET_PRECISION_F32);
    f.batch.rotation = o.rot;
    f.batch.shift = o.shift;
    f.batch.z = o.z;
    het_model *m = f.model;
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    assert_true(size_of(m->grads, m->decoder_first) == 0.0);
    assert_ok(het_model_tally(m, &tally));
    het_model_answers_given(m, dz, loss);
    const float h = 0.01F;
    for (int j = 0; j < Z; j++) {
        for (int i = 0; i < GIVEN; i++) z[Z * i + j] += h;
        fixture_run(&f, HET_TASK_IMAGE, 0, 0);
        memcpy(moved, m->buffers->loss, sizeof moved);
        for (int i = 0; i < GIVEN; i++) z[Z * i + j] -= 2 * h;
        fixture_run(&f, HET_TASK_IMAGE, 0, 0);
        for (int i = 0; i < GIVEN; i++) {
            const double slope = (double)(moved[i] - m->buffers->loss[i]) / (2.0 * (double)h);
            if (fabs(slope - dz[Z * i + j]) > 0.02 * fabs(slope) + 2e-4)
                fail_msg("image %d: slope %.5g along z %d, gradient %.5g", i, slope, j, (double)dz[Z * i + j]);
            z[Z * i + j] += h;
        }
    }
    check_slopes(&f, HET_TASK_IMAGE, m->decoder_first, m->layout.total, 1e-3, 2e-3);
    check_slopes(&f, HET_TASK_POSE, 0, m->trained_encoder, 1e-4, 0.02);
    const float before = m->params[0];
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    het_model_update(m, 1e-3, 1e-3);
    assert_true(m->params[0] == before && m->adam_steps[0] == 0 && m->adam_steps[1] == 1);
    fixture_close(&f);
}

/* Poses given, conformations from the encoder, which learns them and nothing about poses; frozen, it rests. */
static void given_poses(void **state)
{
    (void)state;
    fixture f;
    outside o;
    draw_outside(&o);
    fixture_fill(&f, 32, GIVEN);
    f.radius = 4.0;
    fixture_open(&f, HET_PRECISION_F32);
    f.batch.rotation = o.rot;
    f.batch.shift = o.shift;
    het_model *m = f.model;
    const het_model_buffers *b = m->buffers;
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    assert_int_equal(m->pairs, 1); /* no mirror */
    for (int i = 0; i < 9 * GIVEN; i++) assert_true(b->rot[i] == o.rot[i]);
    for (int i = 0; i < GIVEN; i++) assert_int_equal(b->which[i], i);
    assert_true(size_of(b->dhead[HET_ENCODER_LATENT], 2 * Z * GIVEN) > 0.0);
    check_slopes(&f, HET_TASK_IMAGE, 0, m->trained_encoder, 1e-4, 0.02);
    check_slopes(&f, HET_TASK_IMAGE, m->decoder_first, m->layout.total, 1e-3, 2e-3);
    fixture_run(&f, HET_TASK_IMAGE, 0, 0);
    het_model_update(m, 1e-3, 1e-3);
    assert_int_equal(m->adam_steps[0], 1);
    fixture_run(&f, HET_TASK_IMAGE, 1, 1);
    assert_true(size_of(m->grads, m->decoder_first) == 0.0);
    het_model_update(m, 1e-3, 1e-3);
    assert_int_equal(m->adam_steps[0], 1);
    assert_int_equal(m->adam_steps[1], 2);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_slopes),        cmocka_unit_test(losers_get_no_gradient),
        cmocka_unit_test(groups_are_separate_batches), cmocka_unit_test(mirror_images_swap_roles),
        cmocka_unit_test(inference_of_mirror_images),  cmocka_unit_test(volume_has_the_slices),
        cmocka_unit_test(steps_are_tidy),              cmocka_unit_test(one_dimension),
        cmocka_unit_test(given_answers),               cmocka_unit_test(gradients_are_slopes_otherwise),
        cmocka_unit_test(turned_images),               cmocka_unit_test(group_norm_needs_no_statistics),
        cmocka_unit_test(shifts_in_pixels),            cmocka_unit_test(images_standardised_one_by_one),
        cmocka_unit_test(given_poses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
