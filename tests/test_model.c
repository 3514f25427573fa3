/* The whole model, both tasks, against an independent one in float64 (bench/pytorch/reference.py) through
 * torch_dump.h5 and torch_open.h5: heads, losses, gradients of every parameter, statistics, one Adam step of each task,
 * inference. */
#include "model_fixture.h"

enum { PROBES = 4, VALUES = 8, DIGEST = 1 + PROBES + VALUES, IMAGES_SAMPLE = 1000 };

static const char *dump;

static double attribute(hid_t group, const char *name)
{
    double value = NAN;
    const hid_t a = H5Aopen(group, name, H5P_DEFAULT);
    assert_true(a >= 0 && H5Aread(a, H5T_NATIVE_DOUBLE, &value) >= 0);
    H5Aclose(a);
    return value;
}

/* A data set as floats; the caller frees it. */
static float *array(hid_t group, const char *name, int64_t *count)
{
    const hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    if (set < 0) fail_msg("%s: no data set %s", dump, name);
    const hid_t space = H5Dget_space(set);
    const int64_t n = H5Sget_simple_extent_npoints(space);
    float *values = het_alloc((size_t)n * sizeof *values);
    assert_true(values != NULL && H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    if (count != NULL) *count = n;
    return values;
}

static void read_settings(fixture *f, hid_t group)
{
    const hid_t a = H5Aopen(group, "settings", H5P_DEFAULT), type = H5Aget_type(a);
    char text[2048] = {0};
    assert_true(H5Tget_size(type) < sizeof text && H5Aread(a, type, text) >= 0);
    H5Tclose(type);
    H5Aclose(a);
    het_config_default(&f->config);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        assert_ok(het_config_set(&f->config, line));
}

static void read_case(fixture *f, hid_t group, het_precision precision)
{
    *f = (fixture){.radius = attribute(group, "radius")};
    read_settings(f, group);
    const int64_t batch = (int64_t)attribute(group, "batch"), groups = (int64_t)attribute(group, "groups");
    f->spec = (het_model_spec){.box = (int64_t)attribute(group, "box"),
                               .apix = attribute(group, "apix"),
                               .batch = batch,
                               .global_batch = batch,
                               .groups = groups,
                               .global_groups = groups,
                               .shift_range = attribute(group, "shift_range")};
    assert_ok(het_survey_new(&f->survey, f->spec.box));
    float *power = array(group, "power", NULL), *envelope = array(group, "envelope", NULL),
          *rows = array(group, "ctf", NULL);
    for (int64_t r = 0; r < f->survey.shells; r++) {
        f->survey.power[r] = power[r];
        f->survey.envelope[r] = envelope[r];
    }
    f->survey.snr = attribute(group, "snr");
    f->survey.noise_variance = attribute(group, "noise_variance");
    f->images = array(group, "images", NULL);
    f->rows = het_alloc((size_t)batch * sizeof *f->rows);
    for (int64_t i = 0; i < batch; i++) {
        const float *c = rows + 7 * i;
        f->rows[i] = (het_ctf_row){c[0], c[1], c[2], c[3], c[4], c[5], c[6]};
    }
    het_release(power);
    het_release(envelope);
    het_release(rows);
    fixture_open(f, precision);
}

/* Largest deviation of numbers, relative to the largest expected one. */
static double deviation(const float *x, const float *expected, int64_t n)
{
    double worst = 0.0, largest = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)x[i] - expected[i]));
        largest = fmax(largest, fabs((double)expected[i]));
        if (!isfinite(x[i])) return INFINITY;
    }
    return worst / largest;
}

static void digest(double out[DIGEST], const float *x, int64_t n, uint64_t sample)
{
    het_rng rng = het_rng_at(7, HET_STREAM_SEARCH, 0, sample);
    memset(out, 0, DIGEST * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = het_rng_u32(&rng);
        out[0] += (double)x[i] * x[i];
        for (int k = 0; k < PROBES; k++) out[1 + k] += (bits >> k & 1) ? -x[i] : x[i];
        if (i < VALUES) out[1 + PROBES + i] = x[i];
    }
    out[0] = sqrt(out[0]);
}

/* A product with random signs deviates by about the norm of the deviation, so all of a digest is of its size.
 * */
static double digest_deviation(const float *x, int64_t n, uint64_t sample, const float *expected,
                               double scale)
{
    double mine[DIGEST], worst = 0.0;
    digest(mine, x, n, sample);
    for (int i = 0; i < DIGEST; i++) {
        const double d = fabs(mine[i] - expected[i]) * (i >= 1 && i <= PROBES ? 0.5 : 1.0);
        worst = isfinite(d) ? fmax(worst, d) : INFINITY;
    }
    return worst / scale;
}

static void compare(hid_t group, const char *name, const float *x, int64_t n, double limit)
{
    int64_t count;
    float *expected = array(group, name, &count);
    assert_int_equal(count, n);
    const double d = deviation(x, expected, n);
    if (getenv("HET_TEST_SHOW") != NULL) printf("    %-12s %.1e\n", name, d);
    if (!(d < limit)) fail_msg("%s deviates by %.1e, limit %.1e", name, d, limit);
    het_release(expected);
}

static void compare_digest(hid_t group, const char *name, const float *x, int64_t n, uint64_t sample,
                           double limit)
{
    float *expected = array(group, name, NULL);
    const double d = digest_deviation(x, n, sample, expected, fmax(expected[0], 1e-30));
    if (getenv("HET_TEST_SHOW") != NULL) printf("    %-12s %.1e\n", name, d);
    if (!(d < limit)) fail_msg("%s deviates by %.1e, limit %.1e", name, d, limit);
    het_release(expected);
}

/* Every parameter's gradient against its own norm; parameters whose gradient is next to nothing against all
 * of them. */
static void compare_gradient(hid_t group, const het_model *m, double limit)
{
    float *expected = array(group, "gradient", NULL);
    double all = 0.0, worst = 0.0;
    for (int i = 0; i < m->layout.count; i++) all = fmax(all, expected[i * DIGEST]);
    for (int i = 0; i < m->layout.count; i++) {
        const het_parameter *p = &m->layout.list[i];
        if (p->offset == m->trained_encoder) continue; /* statistics, not a gradient */
        const double scale = fmax(expected[i * DIGEST], 1e-4 * all);
        const double d = digest_deviation(m->grads + p->offset, p->count, (uint64_t)i, expected + i * DIGEST,
                                          scale);
        worst = fmax(worst, d);
        if (!(d < limit)) fail_msg("gradient of %s deviates by %.1e, limit %.1e", p->name, d, limit);
    }
    if (getenv("HET_TEST_SHOW") != NULL) printf("    %-12s %.1e\n", "gradient", worst);
    het_release(expected);
}

/* scale > 0: relative to steps of that size in every number, otherwise to the parameter's norm */
static void compare_params(hid_t group, const char *name, const het_model *m, double scale, double limit)
{
    float *expected = array(group, name, NULL);
    double worst = 0.0;
    for (int i = 0; i < m->layout.count; i++) {
        const het_parameter *p = &m->layout.list[i];
        const double norm = scale > 0.0 ? scale * (4.0 + sqrt((double)p->count))
                                        : fmax(expected[i * DIGEST], 1e-30);
        const double d = digest_deviation(m->params + p->offset, p->count, (uint64_t)i, expected + i * DIGEST,
                                          norm);
        worst = fmax(worst, d);
        if (!(d < limit)) fail_msg("%s: %s deviates by %.1e, limit %.1e", name, p->name, d, limit);
    }
    if (getenv("HET_TEST_SHOW") != NULL) printf("    %-12s %.1e\n", name, worst);
    het_release(expected);
}

static void compare_common(hid_t group, const fixture *f, int64_t rows, double limit)
{
    const het_model_buffers *b = f->model->buffers;
    const int64_t z = f->config.z_dim, d = f->spec.box;
    compare_digest(group, "seen", b->image, rows * d * d, IMAGES_SAMPLE, 1e-5);
    compare(group, "rotation", b->head[HET_ENCODER_ROTATION], rows * 6, 1e-4);
    compare(group, "shift", b->head[HET_ENCODER_SHIFT], rows * 2, 1e-4);
    compare(group, "latent", b->head[HET_ENCODER_LATENT], rows * 2 * z, 1e-4);
    compare(group, "rotation_gradient", b->dhead[HET_ENCODER_ROTATION], rows * 6, limit);
    compare(group, "shift_gradient", b->dhead[HET_ENCODER_SHIFT], rows * 2, limit);
    if (H5Lexists(group, "latent_gradient", H5P_DEFAULT) > 0)
        compare(group, "latent_gradient", b->dhead[HET_ENCODER_LATENT], rows * 2 * z, limit);
    compare(group, "rot", b->rot, rows * 9, 1e-4);
    compare(group, "loss", b->loss, rows, 1e-4);
    compare_digest(group, "statistics", f->model->grads + f->model->trained_encoder,
                   het_encoder_stats(f->model->encoder[0]), IMAGES_SAMPLE + 1, 1e-4);
    compare_gradient(group, f->model, limit);
}

static void check_objective(hid_t group, double objective)
{
    const float value = (float)objective;
    compare(group, "objective", &value, 1, 1e-4);
}

static void check_image(fixture *f, hid_t group, int frozen, double limit)
{
    const het_model_buffers *b = f->model->buffers;
    const int64_t both = f->spec.batch * (f->config.train.mirror ? 2 : 1);
    check_objective(group, fixture_run(f, HET_TASK_IMAGE, 0, frozen));
    compare_common(group, f, both, limit);
    compare(group, "z", b->z, both * f->config.z_dim, 1e-4);
    compare(group, "kl", b->kl, both, 1e-4);
    compare(group, "total", b->total, both, 1e-4);
    float *which = array(group, "which", NULL);
    for (int64_t j = 0; j < f->spec.batch; j++) assert_int_equal(b->which[j], (int)which[j]);
    het_release(which);
}

static void check_pose(fixture *f, hid_t group, int frozen, double limit)
{
    const het_model_buffers *b = f->model->buffers;
    const int64_t n = f->model->synthetic;
    check_objective(group, fixture_run(f, HET_TASK_POSE, 1, frozen));
    compare(group, "rot_true", b->rot_true, n * 9, 1e-6);
    compare(group, "shift_true", b->shift_true, n * 2, 1e-6);
    compare(group, "z", b->z_synthetic, n * f->config.z_dim, 1e-4);
    compare_common(group, f, n, limit);
    const float snr = f->config.ablation.asn ? (float)f->model->snr : 1.0f;
    float *sigma2 = array(group, "sigma2", NULL); /* per image there, per group here */
    for (int64_t g = 0; g < f->spec.groups; g++)
        assert_true(fabsf(b->power[g] / snr / sigma2[g * (n / f->spec.groups)] - 1.0f) < 1e-5f);
    het_release(sigma2);
}

/* Two Adam steps: of the size of the learning rate each, whatever the gradient, so a gradient near zero may
 * go the other way here and there; the limit is relative to the step. */
static void check_updates(fixture *f, hid_t after, int frozen, double unused)
{
    (void)unused;
    const double re = f->config.train.rate_encoder, rd = f->config.train.rate_decoder;
    const int64_t both = f->spec.batch * (f->config.train.mirror ? 2 : 1),
                  stats = het_encoder_stats(f->model->encoder[0]);
    fixture_run(f, HET_TASK_IMAGE, 0, frozen);
    compare(after, "image_loss", f->model->buffers->loss, both, 1e-4);
    het_model_update(f->model, re, rd);
    compare_params(after, "image_params", f->model, re, 0.25);
    fixture_run(f, HET_TASK_POSE, 1, frozen);
    compare(after, "pose_loss", f->model->buffers->loss, f->model->synthetic, 1e-2);
    het_model_update(f->model, re, rd);
    compare_params(after, "pose_params", f->model, re, 0.4);
    int64_t count;
    float *running = array(after, "running", &count);
    for (int64_t set = 0; set < count / DIGEST; set++) {
        const double d = digest_deviation(f->model->running + set * stats, stats, IMAGES_SAMPLE + 1,
                                          running + set * DIGEST, fmax(running[set * DIGEST], 1e-30));
        if (!(d < 1e-2)) fail_msg("running statistics %d deviate by %.1e", (int)set, d);
    }
    het_release(running);
}

static void check_inference(fixture *f, hid_t group, int frozen, double unused)
{
    (void)unused;
    const int64_t n = f->spec.batch, z = f->config.z_dim;
    float rot[9 * 8], shift[2 * 8], mean[8 * 8], deviations[8 * 8], loss[8];
    uint8_t mirrored[8];
    assert_true(n <= 8 && z <= 8);
    const het_answers answers = {.rotation = rot, .shift = shift, .z = mean, .z_std = deviations, .loss = loss,
                                 .mirrored = mirrored};
    fixture_run(f, HET_TASK_IMAGE, 0, frozen);
    memcpy(f->model->running, f->model->grads + f->model->trained_encoder,
           (size_t)het_encoder_stats(f->model->encoder[0]) * sizeof(float));
    assert_ok(het_model_infer(f->model, f->images, f->rows, n, &answers));
    compare(group, "loss", loss, n, 1e-4);
    compare(group, "rot", rot, n * 9, 1e-3);
    compare(group, "shift", shift, n * 2, 1e-3);
    compare(group, "mu", mean, n * z, 1e-3);
    float *expected = array(group, "mirrored", NULL);
    for (int64_t i = 0; i < n; i++) assert_int_equal(mirrored[i], (int)expected[i]);
    het_release(expected);
}

typedef struct open_case {
    hid_t file, group;
    fixture f;
    int frozen;
} open_case;

static void open_dump(open_case *c, const char *name, het_precision precision)
{
    dump = strcmp(name, "open") == 0 ? "data/torch_open.h5" : "data/torch_dump.h5";
    c->file = H5Fopen(dump, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (c->file < 0) fail_msg("cannot open %s: run the tests in tests/", dump);
    c->group = H5Gopen2(c->file, name, H5P_DEFAULT);
    read_case(&c->f, c->group, precision);
    c->frozen = (int)attribute(c->group, "frozen");
}

static void close_dump(open_case *c)
{
    fixture_close(&c->f);
    H5Gclose(c->group);
    H5Fclose(c->file);
}

static void agrees(void **state)
{
    open_case c;
    open_dump(&c, *state, HET_PRECISION_F32);
    static void (*const checks[])(fixture *, hid_t, int, double) = {check_image, check_pose, check_inference,
                                                                    check_updates};
    static const char *const names[] = {"image", "pose", "infer", "after"};
    const double limit = attribute(c.group, "limit");
    compare_params(c.group, "initial", c.f.model, 0.0, 1e-6);
    for (int i = 0; i < 4 && H5Lexists(c.group, names[i], H5P_DEFAULT) > 0; i++) {
        const hid_t part = H5Gopen2(c.group, names[i], H5P_DEFAULT);
        if (getenv("HET_TEST_SHOW") != NULL) printf("  %s %s\n", (const char *)*state, names[i]);
        checks[i](&c.f, part, c.frozen, limit);
        H5Gclose(part);
    }
    close_dump(&c);
}

/* The comparison sees a gradient that is wrong in one number by twice the limit, and a weight that is off by
 * 1 %. */
static void deviations_are_seen(void **state)
{
    (void)state;
    open_case c;
    open_dump(&c, "flatten", HET_PRECISION_F32);
    het_model *m = c.f.model;
    fixture_run(&c.f, HET_TASK_IMAGE, 0, c.frozen);
    const hid_t part = H5Gopen2(c.group, "image", H5P_DEFAULT);
    float *expected = array(part, "gradient", NULL), *loss = array(part, "loss", NULL);
    for (int i = 0; i < m->layout.count; i += 7) {
        const het_parameter *p = &m->layout.list[i];
        const float *d = expected + i * DIGEST;
        float *one = m->grads + p->offset + p->count / 2;
        assert_true(digest_deviation(m->grads + p->offset, p->count, (uint64_t)i, d, d[0]) < 1e-3);
        *one += 3e-3f * d[0];
        assert_true(digest_deviation(m->grads + p->offset, p->count, (uint64_t)i, d, d[0]) > 1e-3);
    }
    const het_parameter *w = het_layout_find(&m->layout, "decoder.1.w");
    for (int64_t i = 0; i < w->count; i++) m->params[w->offset + i] *= 1.01f;
    het_decoder_load(m->decoder, m->params);
    fixture_run(&c.f, HET_TASK_IMAGE, 0, c.frozen);
    assert_true(deviation(m->buffers->loss, loss, 2 * c.f.spec.batch) > 1e-4);
    het_release(expected);
    het_release(loss);
    H5Gclose(part);
    close_dump(&c);
}

/* Mixed precision: losses of the batch within 2 %; skipped where the chip has no bf16. */
static void bf16_agrees(void **state)
{
    open_case c;
    het_device probe;
    if (het_device_open_cpu(&probe, 1, HET_PRECISION_BF16) != HET_OK) skip();
    het_device_close(&probe);
    open_dump(&c, *state, HET_PRECISION_BF16);
    const hid_t image = H5Gopen2(c.group, "image", H5P_DEFAULT),
                pose = H5Gopen2(c.group, "pose", H5P_DEFAULT);
    const float objective = (float)fixture_run(&c.f, HET_TASK_IMAGE, 0, c.frozen);
    compare(image, "objective", &objective, 1, 0.02);
    const float second = (float)fixture_run(&c.f, HET_TASK_POSE, 1, c.frozen);
    compare(pose, "objective", &second, 1, 0.02);
    H5Gclose(image);
    H5Gclose(pose);
    close_dump(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(agrees, "disc"), cmocka_unit_test_prestate(agrees, "flatten"),
        cmocka_unit_test_prestate(agrees, "average"),
        cmocka_unit_test_prestate(agrees, "frozen"),  cmocka_unit_test_prestate(agrees, "single"),
        cmocka_unit_test_prestate(agrees, "open"),
        cmocka_unit_test(deviations_are_seen),        cmocka_unit_test_prestate(bf16_agrees, "flatten"),
        cmocka_unit_test_prestate(bf16_agrees, "average"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
