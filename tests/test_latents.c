/* Conformations of their own for images: a step against Adam in double precision, and what many of them reach. */
#include "model_fixture.h"

#include "../src/latents.h"
#include "../src/physics/rotation.h"

enum { BATCH = 4, COUNT = 2 * BATCH, Z = 3 };

typedef struct world {
    fixture f;
    het_latents latents;
    float rotation[9 * BATCH], shift[2 * BATCH], z[Z * BATCH];
    int64_t index[BATCH];
} world;

static het_comm *comm;

/* A batch of the images 1, 3, .. of the stack. */
static void world_open(world *w)
{
    fixture *f = &w->f;
    fixture_fill(f, 16, BATCH);
    f->radius = 4.0;
    fixture_open(f, HET_PRECISION_F32);
    assert_ok(het_latents_new(&w->latents, COUNT, &f->config, &f->spec));
    for (int64_t i = 0; i < BATCH; i++) {
        double r[9];
        het_rng rng = het_rng_at(9, HET_STREAM_SEARCH, 0, (uint64_t)i);
        const double u = het_rng_uniform(&rng), v = het_rng_uniform(&rng), x = het_rng_uniform(&rng);
        het_rotation_uniform(r, u, v, x);
        for (int j = 0; j < 9; j++) w->rotation[9 * i + j] = (float)r[j];
        w->shift[2 * i] = w->shift[2 * i + 1] = 0.0F;
        w->index[i] = 2 * i + 1;
    }
    f->batch.rotation = w->rotation;
    f->batch.shift = w->shift;
    f->batch.z = w->z;
    f->batch.index = w->index;
}

static void world_close(world *w)
{
    het_latents_free(&w->latents);
    fixture_close(&w->f);
}

/* Task one with the present conformations, no network learns; returns the mean loss. */
static double visit(world *w)
{
    double sum = 0.0;
    for (int i = 0; i < BATCH; i++)
        memcpy(w->z + Z * i, w->latents.z + Z * w->index[i], Z * sizeof *w->z);
    het_tally tally = {0};
    fixture_run(&w->f, HET_TASK_IMAGE, 0, 0);
    assert_ok(het_model_tally(w->f.model, &tally));
    for (int i = 0; i < BATCH; i++) sum += w->f.model->buffers->loss[i] / BATCH;
    return sum;
}

static void test_steps_of_adam(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    het_latents *l = &w.latents;
    const double rate = 0.02, lambda = het_latents_prior(w.f.model);
    assert_float_equal(lambda, 4.0 * 0.7 / (double)(w.f.spec.box * w.f.spec.box), 1e-9); /* by the noise */
    double z[COUNT * Z], m[COUNT * Z] = {0}, v[COUNT * Z] = {0};
    for (int i = 0; i < COUNT * Z; i++) z[i] = l->z[i];
    for (int step = 1; step <= 4; step++) {
        float dz[Z * BATCH], loss[BATCH];
        visit(&w);
        het_model_answers_given(w.f.model, dz, loss);
        assert_ok(het_latents_learn(l, comm, &w.f.batch, w.f.model, rate));
        for (int i = 0; i < BATCH * Z; i++) {
            const int64_t at = Z * w.index[i / Z] + i % Z;
            const double g = dz[i] + lambda * z[at];
            m[at] = 0.8 * m[at] + 0.2 * g;
            v[at] = 0.95 * v[at] + 0.05 * g * g;
            z[at] -= rate * m[at] / (1.0 - pow(0.8, step)) / (sqrt(v[at] / (1.0 - pow(0.95, step))) + 1e-8);
        }
        for (int i = 0; i < COUNT * Z; i++) assert_float_equal(l->z[i], z[i], 1e-5); /* also those not visited */
        for (int i = 0; i < BATCH; i++) assert_true(l->loss[w.index[i]] == loss[i]);
        for (int i = 0; i < COUNT; i++) assert_true(l->visits[i] == (i % 2 == 1 ? (float)step : 0.0F));
    }
    world_close(&w);
}

/* Many steps lower the loss; nothing happens where the batch's conformations were not given. */
static void test_learned(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    const double before = visit(&w);
    for (int step = 0; step < 60; step++) {
        assert_ok(het_latents_learn(&w.latents, comm, &w.f.batch, w.f.model, 0.05));
        visit(&w);
    }
    const double after = visit(&w);
    if (!(after < 0.99 * before)) fail_msg("loss %.5f, before %.5f", after, before);
    float z[COUNT * Z];
    memcpy(z, w.latents.z, sizeof z);
    w.f.batch.z = NULL;
    memset(w.latents.loss, 0, COUNT * sizeof *w.latents.loss);
    assert_ok(het_latents_learn(&w.latents, comm, &w.f.batch, w.f.model, 0.05));
    assert_memory_equal(z, w.latents.z, sizeof z);
    for (int i = 0; i < BATCH; i++) assert_true(w.latents.loss[w.index[i]] > 0.0F); /* what they lose is known all the same */
    world_close(&w);
}

/* First values: another for every image, the same each time, of a spread that tells images apart. */
static void test_first_values(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    fixture f;
    het_latents a, b;
    double sum = 0.0, square = 0.0;
    fixture_fill(&f, 16, BATCH);
    assert_ok(het_latents_new(&a, MANY, &f.config, &f.spec));
    assert_ok(het_latents_new(&b, MANY, &f.config, &f.spec));
    assert_memory_equal(a.z, b.z, MANY * Z * sizeof *a.z);
    for (int i = 0; i < MANY * Z; i++) {
        sum += a.z[i];
        square += (double)a.z[i] * a.z[i];
    }
    assert_float_equal(sum / (MANY * Z), 0.0, 0.02);
    assert_float_equal(sqrt(square / (MANY * Z)), 0.3, 0.02);
    het_latents_free(&a);
    het_latents_free(&b);
    het_survey_free(&f.survey);
    het_release(f.images);
    het_release(f.rows);
}

static int begin(void **state)
{
    (void)state;
    int argc = 0;
    char **argv = NULL;
    return het_comm_open(&comm, &argc, &argv) != HET_OK;
}

static int end(void **state)
{
    (void)state;
    het_comm_close(comm);
    return het_arena_live() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_of_adam), cmocka_unit_test(test_learned),
                                       cmocka_unit_test(test_first_values)};
    return cmocka_run_group_tests(tests, begin, end);
}
