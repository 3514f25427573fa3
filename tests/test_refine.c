/* Poses of a stack against a model's decoder: the stack's images are made by that decoder. */
#include <unistd.h>

#include "model_fixture.h"

#include "../src/physics/rotation.h"
#include "../src/refine_poses.h"

enum { BOX = 16, BATCH = 16, COUNT = 40, Z = 3 };

typedef struct world {
    fixture f;
    het_stack *stack;
    char folder[64], path[80];
    float apart; /* two conformations, z = (-apart,0,0) and (apart,0,0) in turn; 0: one */
    float rotation[9 * COUNT], shift[2 * COUNT], z[Z * COUNT];
} world;

static het_comm *comm;

static void open_model(fixture *f)
{
    fixture_fill(f, BOX, BATCH);
    assert_ok(het_config_set(&f->config, "decoder.sigma=0.6"));
    f->radius = BOX / 2 - 1;
    fixture_open(f, HET_PRECISION_F32);
}

static void draw(float *rotation, float *shift, float *z, int64_t i, double range)
{
    het_rng rng = het_rng_at(4, HET_STREAM_SIMULATE, 0, (uint64_t)i);
    const double u = het_rng_uniform(&rng), v = het_rng_uniform(&rng), w = het_rng_uniform(&rng);
    double r[9];
    het_rotation_uniform(r, u, v, w);
    for (int j = 0; j < 9; j++) rotation[9 * i + j] = (float)r[j];
    for (int j = 0; j < 2; j++) shift[2 * i + j] = (float)(range * (2.0 * het_rng_uniform(&rng) - 1.0));
    for (int j = 0; j < Z; j++) z[Z * i + j] = het_rng_normal(&rng);
}

/* slices of given z, one for each image */
static void slices_of(void *context, float *slices, const float *rot, const int64_t *image, int64_t n,
                      int64_t p)
{
    const world *w = context;
    float z[Z * 4 * BATCH];
    assert_true(n <= 4 * BATCH);
    for (int64_t i = 0; i < n; i++) memcpy(z + Z * i, w->z + Z * image[i], Z * sizeof *z);
    het_model_slices(w->f.model, slices, rot, z, n, p);
}

/* One image of the model: the inverse transform of CTF, shift and slice. */
static void make_image(const world *w, float *image, int64_t i, const float *ctf, float *slice)
{
    const het_model *m = w->f.model;
    slices_of((void *)w, slice, w->rotation + 9 * i, &i, 1, m->active);
    for (int64_t at = 0; at < BOX * BOX; at++) {
        double sum = 0.0;
        const double x = (double)(at % BOX) - BOX / 2 - w->shift[2 * i],
                     y = (double)(at / BOX) - BOX / 2 - w->shift[2 * i + 1];
        for (int64_t k = 0; k < m->active; k++) {
            const double angle = 2.0 * M_PI / BOX * (m->points.kxy[2 * k] * x + m->points.kxy[2 * k + 1] * y);
            sum += m->points.weight[k] * ctf[k] *
                   (slice[2 * k] * cos(angle) - slice[2 * k + 1] * sin(angle)) / BOX;
        }
        image[at] = (float)sum;
    }
}

static double deviation(const float *x, int64_t n)
{
    double sum = 0.0, square = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        square += (double)x[i] * x[i];
    }
    return sqrt(square / (double)n - sum * sum / (double)(n * n));
}

/* A stack of the decoder's images, which the decoder, its envelope scaled, fits in units of standardised
 * images. */
static void world_open(world *w)
{
    het_stack_writer *writer;
    fixture *f = &w->f;
    open_model(f);
    const het_model *m = f->model;
    float *images = het_alloc(COUNT * BOX * BOX * sizeof *images),
          *slice = het_alloc((size_t)(2 * m->active) * sizeof *slice);
    float *points = het_alloc((size_t)(BATCH * 2 * m->active) * sizeof *points);
    float *ctf = het_alloc((size_t)(BATCH * m->active) * sizeof *ctf);
    het_ctf_row rows[COUNT];
    assert_ok(het_model_observe(f->model, points, ctf, f->images, f->rows, BATCH));
    for (int64_t i = 0; i < COUNT; i++) {
        draw(w->rotation, w->shift, w->z, i, 1.0);
        for (int j = 0; j < Z; j++) w->z[Z * i + j] = 0.0f;
        w->z[Z * i] = i % 2 == 0 ? -w->apart : w->apart;
        rows[i] = f->rows[i % BATCH];
        make_image(w, images + i * BOX * BOX, i, ctf + (i % BATCH) * m->active, slice);
    }
    const double scale = deviation(images, COUNT * BOX * BOX);
    for (int64_t r = 0; r < f->survey.shells; r++) f->survey.envelope[r] /= (float)scale;
    het_model_set_survey(f->model, &f->survey);
    f->model->frozen = 1; /* so the encoder answers z = 0 */
    strcpy(w->folder, "/tmp/het-refine-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path, sizeof w->path, "%s/s.h5", w->folder);
    const het_stack_info info = {.count = COUNT, .box = BOX, .apix = 3, .type = HET_F32};
    assert_ok(het_stack_create(&writer, comm, w->path, &info));
    assert_ok(het_stack_finish(writer, 1, het_stack_write(writer, 0, COUNT, images, rows, NULL)));
    assert_ok(het_stack_open(&w->stack, w->path));
    het_release(images);
    het_release(slice);
    het_release(points);
    het_release(ctf);
}

static void world_close(world *w)
{
    het_stack_close(w->stack);
    unlink(w->path);
    rmdir(w->folder);
    fixture_close(&w->f);
}

/* Row i of `out` is `degrees` away from that of `rotation`, about an axis of its own. */
static void turn(float *out, const float *rotation, int64_t i, double degrees)
{
    const double angle = 2.4 * (double)i, axis[3] = {cos(angle), sin(angle), 0.5};
    double about[9], from[9], turned[9];
    het_rotation_about(about, axis, degrees * M_PI / 180.0);
    for (int j = 0; j < 9; j++) from[j] = rotation[9 * i + j];
    het_rotation_multiply(turned, about, from);
    for (int j = 0; j < 9; j++) out[9 * i + j] = (float)turned[j];
}

static double share_found(const world *w, const het_poses *p)
{
    double found = 0.0;
    for (int64_t i = 0; i < COUNT; i++) {
        double d2 = 0.0, t2 = 0.0;
        for (int j = 0; j < 9; j++)
            d2 += pow((double)p->all.rotation[9 * i + j] - w->rotation[9 * i + j], 2.0);
        for (int j = 0; j < 2; j++) t2 += pow((double)p->all.shift[2 * i + j] - w->shift[2 * i + j], 2.0);
        found += d2 < 0.01 && t2 < 0.01;
    }
    return found / COUNT;
}

/* The loss and its slopes of a training step with poses given, and those of the pose's normal equations. */
static void test_as_in_training(void **state)
{
    (void)state;
    world *w = het_alloc(sizeof *w);
    fixture *f = &w->f;
    world_open(w);
    het_model *m = f->model;
    const het_stack_info *info = het_stack_get_info(w->stack);
    float rotation[9 * BATCH], shift[2 * BATCH];
    int64_t index[BATCH];
    for (int64_t i = 0; i < BATCH; i++) {
        index[i] = i;
        turn(rotation, w->rotation, i, 4.0);
        for (int j = 0; j < 2; j++) shift[2 * i + j] = w->shift[2 * i + j] + 0.2f;
    }
    assert_ok(het_stack_read(w->stack, f->images, index, BATCH));
    for (int64_t i = 0; i < BATCH * BOX * BOX; i++)
        f->images[i] = (float)((f->images[i] - info->mean) / info->std);
    f->batch.rotation = rotation;
    f->batch.shift = shift;
    f->batch.z = w->z;
    fixture_run(f, HET_TASK_IMAGE, 0, 0);
    float loss[BATCH], drot[9 * BATCH], dshift[2 * BATCH];
    memcpy(loss, m->buffers->loss, sizeof loss);
    memcpy(drot, m->buffers->drot, sizeof drot);
    memcpy(dshift, m->buffers->dshift_px, sizeof dshift);
    float *points = het_alloc((size_t)(BATCH * 2 * m->active) * sizeof *points);
    float *ctf = het_alloc((size_t)(BATCH * m->active) * sizeof *ctf);
    assert_ok(het_model_observe(m, points, ctf, f->images, f->rows, BATCH));
    const het_fit_spec spec = {.points = &m->points,
                               .row = m->active,
                               .radius = f->radius,
                               .threads = 1,
                               .slices = slices_of,
                               .context = w};
    for (int64_t i = 0; i < BATCH; i++) {
        het_fit_pose pose = {.image = i};
        double jtj[25], jtr[5], expected[5];
        memcpy(pose.rotation, rotation + 9 * i, sizeof pose.rotation);
        memcpy(pose.shift, shift + 2 * i, sizeof pose.shift);
        assert_ok(het_fit_normal(&spec, jtj, jtr, &pose, points, ctf));
        assert_ok(het_fit_run(&spec, &pose, 1, points, ctf));
        assert_float_equal(pose.loss, loss[i], 1e-4 * loss[i]);
        /* d exp([omega]x) R / d omega_a = [e_a]x R: rows b, c of R change places */
        for (int a = 0; a < 3; a++) {
            const int b = (a + 1) % 3, c = (a + 2) % 3;
            expected[a] = 0.0;
            for (int j = 0; j < 3; j++)
                expected[a] += drot[9 * i + 3 * c + j] * (double)pose.rotation[3 * b + j] -
                               drot[9 * i + 3 * b + j] * (double)pose.rotation[3 * c + j];
            expected[a] *= BATCH; /* the step's gradients are of the mean over the batch */
        }
        for (int a = 0; a < 2; a++) expected[3 + a] = dshift[2 * i + a];
        /* Turned slices are a step apart: slopes agree but for that. */
        double along = 0.0, one = 0.0, other = 0.0;
        for (int a = 0; a < 3; a++) {
            along += -2.0 * jtr[a] * expected[a];
            one += 4.0 * jtr[a] * jtr[a];
            other += expected[a] * expected[a];
        }
        assert_true(along > 0.97 * sqrt(one * other));
        assert_float_equal(sqrt(one), sqrt(other), 0.2 * sqrt(other));
        for (int a = 3; a < 5; a++)
            assert_float_equal(-2.0 * jtr[a], expected[a], 1e-3 * fabs(expected[a]) + 1e-5);
    }
    het_release(points);
    het_release(ctf);
    world_close(w);
    het_release(w);
}

static void test_poses_of_a_stack(void **state)
{
    (void)state;
    world *w = het_alloc(sizeof *w);
    het_poses poses;
    int stopped = 0;
    world_open(w);
    assert_ok(het_poses_open(&poses, comm, w->f.model, w->stack, 0.05));
    for (int64_t i = 0; i < COUNT; i++) { /* 10 degrees and 0.7 px away */
        const double angle = 2.4 * (double)i;
        turn(poses.all.rotation, w->rotation, i, 10.0);
        poses.all.shift[2 * i] = w->shift[2 * i] + 0.7f * (float)sin(angle);
        poses.all.shift[2 * i + 1] = w->shift[2 * i + 1] + 0.7f * (float)cos(angle);
    }
    assert_true(share_found(w, &poses) == 0.0);
    assert_ok(het_poses_improve(&poses, 0, &stopped)); /* at the full radius at once */
    assert_true(share_found(w, &poses) > 0.8);
    /* from the untrained encoder's answers, which are anywhere */
    assert_ok(het_poses_encode(&poses, &stopped));
    assert_true(share_found(w, &poses) < 0.2);
    assert_ok(het_poses_improve(&poses, 1, &stopped));
    assert_true(share_found(w, &poses) > 0.9);
    assert_int_equal(stopped, 0);
    het_poses_close(&poses);
    world_close(w);
    het_release(w);
}

/* The search alone, from no poses at all, against the decoder that made the images. */
static void test_located(void **state)
{
    (void)state;
    world *w = het_alloc(sizeof *w);
    het_poses poses;
    int stopped = 0;
    world_open(w);
    assert_ok(het_poses_open(&poses, comm, w->f.model, w->stack, 0.05));
    for (int64_t i = 0; i < Z * COUNT; i++) poses.all.z[i] = 7.0f; /* frozen: z is 0 */
    assert_ok(het_poses_locate(&poses, &stopped));
    assert_int_equal(stopped, 0);
    assert_true(share_found(w, &poses) > 0.9);
    const het_predictions found = poses.all;
    double worst = 0.0;
    for (int64_t i = 0; i < COUNT; i++) worst = fmax(worst, found.loss[i]);
    assert_true(worst < 0.1); /* of images of variance 1 without noise */
    for (int64_t i = 0; i < Z * COUNT; i++) assert_true(found.z[i] == 0.0f);
    /* the loss is that of training at these poses */
    float *rotation = found.rotation, *shift = found.shift, loss[BATCH], z[Z * BATCH] = {0};
    for (int64_t i = 0; i < BATCH; i++) loss[i] = found.loss[i];
    int64_t index[BATCH];
    for (int64_t i = 0; i < BATCH; i++) index[i] = i;
    assert_ok(het_stack_read_standardised(w->stack, w->f.images, index, BATCH));
    w->f.batch.rotation = rotation;
    w->f.batch.shift = shift;
    w->f.batch.z = z;
    fixture_run(&w->f, HET_TASK_IMAGE, 0, 0);
    for (int64_t i = 0; i < BATCH; i++)
        assert_float_equal(w->f.model->buffers->loss[i], loss[i], 1e-3 * loss[i] + 1e-4);
    het_poses_close(&poses);
    world_close(w);
    het_release(w);
}

/* Every fifth image has a wrong pose, and a z far out on the other side. */
static void test_relocated(void **state)
{
    (void)state;
    world *w = het_alloc(sizeof *w);
    het_poses poses;
    int stopped = 0;
    w->apart = 1.5f;
    world_open(w);
    assert_ok(het_poses_open(&poses, comm, w->f.model, w->stack, 0.05));
    het_predictions *all = &poses.all;
    for (int64_t i = 0; i < COUNT; i++) {
        const int lost = i % 5 == 0;
        het_rng rng = het_rng_at(5, HET_STREAM_SIMULATE, 0, (uint64_t)i);
        turn(all->rotation, w->rotation, i, lost ? 100.0 : 0.0);
        memcpy(all->shift + 2 * i, w->shift + 2 * i, 2 * sizeof *all->shift);
        for (int j = 0; j < Z; j++) all->z[Z * i + j] = 0.1f * het_rng_normal(&rng);
        all->z[Z * i] += lost ? -2.0f * w->z[Z * i] : w->z[Z * i];
    }
    assert_true(share_found(w, &poses) <= 0.8);
    assert_ok(het_poses_improve(&poses, 0, &stopped)); /* minima are not what is lacking */
    assert_true(share_found(w, &poses) <= 0.85);
    assert_ok(het_poses_confirm(&poses, &stopped));
    double confirmed[2] = {0.0, 0.0}; /* of right ones, of lost ones */
    for (int64_t i = 0; i < COUNT; i++) confirmed[i % 5 == 0] += (double)all->confirmed[i] / COUNT * 5.0 / (i % 5 == 0 ? 1.0 : 4.0);
    assert_true(confirmed[0] > 0.9);
    assert_true(confirmed[1] < 0.5);
    assert_ok(het_poses_relocate(&poses, &stopped));
    assert_int_equal(stopped, 0);
    assert_true(share_found(w, &poses) > 0.9);
    int right = 0;
    for (int64_t i = 0; i < COUNT; i++) right += fabsf(all->z[Z * i] - w->z[Z * i]) < w->apart;
    assert_true(right >= COUNT * 9 / 10);
    het_poses_close(&poses);
    world_close(w);
    het_release(w);
}

/* Images that training has not seen, of which nothing is known, among conformations that it knows. */
static void test_placed(void **state)
{
    (void)state;
    enum { KNOWN = 30 };
    world *w = het_alloc(sizeof *w);
    het_poses poses;
    het_predictions known;
    int stopped = 0;
    w->apart = 1.5f;
    world_open(w);
    het_rng rng = het_rng_at(6, HET_STREAM_SIMULATE, 0, 0);
    assert_ok(het_predictions_new(&known, KNOWN, Z));
    for (int i = 0; i < Z * KNOWN; i++) known.z[i] = 0.3f * het_rng_normal(&rng);
    for (int i = 0; i < KNOWN; i++) known.z[Z * i] += i % 2 == 0 ? w->apart : -w->apart;
    assert_ok(het_poses_open(&poses, comm, w->f.model, w->stack, 0.05));
    assert_ok(het_poses_place(&poses, &known, &stopped));
    assert_int_equal(stopped, 0);
    assert_true(share_found(w, &poses) > 0.9);
    int right = 0;
    for (int64_t i = 0; i < COUNT; i++) {
        right += fabsf(poses.all.z[Z * i] - w->z[Z * i]) < 0.5f * w->apart;
        assert_true(poses.all.zstd[Z * i] > 0.0f);
    }
    assert_true(right >= COUNT * 9 / 10);
    het_predictions_free(&known);
    het_poses_close(&poses);
    world_close(w);
    het_release(w);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_in_training),
                                       cmocka_unit_test(test_poses_of_a_stack),
                                       cmocka_unit_test(test_located),
                                       cmocka_unit_test(test_relocated), cmocka_unit_test(test_placed)};
    return cmocka_run_group_tests(tests, begin, end);
}
