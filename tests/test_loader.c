/* Batches for training: every image once per epoch, the same for any way of asking, read errors at the right step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/data/loader.h"

enum { N = 23, D = 8, PIXELS = D * D, BATCH = 5, STEPS = N / BATCH };

static het_comm *comm;
static char folder[64], path[80];
static float images[N * PIXELS];

static void assert_ok(het_status status)
{
    if (status != HET_OK) fail_msg("status %d: %s", (int)status, het_status_message());
}

/* Every pixel of image i is about i, so that a pixel tells its image. */
static int begin(void **state)
{
    (void)state;
    int argc = 0;
    char **argv = NULL;
    het_ctf_row ctf[N] = {{0}};
    strcpy(folder, "/tmp/het-loader-XXXXXX");
    if (mkdtemp(folder) == NULL || het_comm_open(&comm, &argc, &argv) != HET_OK) return 1;
    snprintf(path, sizeof path, "%s/s.h5", folder);
    for (int i = 0; i < N * PIXELS; i++) images[i] = (float)(i / PIXELS) + 0.001f * (float)(i % PIXELS);
    for (int i = 0; i < N; i++) ctf[i].defocus_u = (float)i;
    const het_stack_info info = {.count = N, .box = D, .apix = 1, .type = HET_F32};
    het_stack_writer *writer;
    if (het_stack_create(&writer, comm, path, &info) != HET_OK) return 1;
    return het_stack_finish(writer, 1, het_stack_write(writer, 0, N, images, ctf, NULL)) != HET_OK;
}

static int end(void **state)
{
    (void)state;
    het_comm_close(comm);
    unlink(path);
    return rmdir(folder) != 0 || het_arena_live() != 0;
}

static void check_batch(const het_stack *stack, const het_batch *batch)
{
    const het_stack_info *info = het_stack_get_info(stack);
    assert_int_equal(batch->count, BATCH);
    assert_int_equal(batch->first, 0);
    for (int i = 0; i < BATCH; i++) {
        assert_true(batch->ctf[i].defocus_u == (float)batch->index[i]);
        for (int j = 0; j < PIXELS; j++) {
            const double expected = (images[batch->index[i] * PIXELS + j] - info->mean) / info->std;
            assert_true(fabs(((const float *)batch->images)[i * PIXELS + j] - expected) < 1e-5);
        }
    }
}

static void every_image_once_per_epoch(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    int64_t order[3][STEPS * BATCH];
    assert_ok(het_stack_open(&stack, path));
    assert_ok(het_loader_new(&loader, stack, comm, 7, BATCH, (het_images){0}));
    assert_int_equal(het_loader_steps_per_epoch(loader), STEPS);
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[N] = {0};
        for (int step = 0; step < STEPS; step++) {
            assert_ok(het_loader_next(loader, epoch * STEPS + step, &batch));
            check_batch(stack, &batch);
            for (int i = 0; i < BATCH; i++) seen[batch.index[i]]++;
            memcpy(order[epoch] + step * BATCH, batch.index, sizeof(int64_t) * BATCH);
        }
        int total = 0;
        for (int i = 0; i < N; i++) {
            assert_true(seen[i] <= 1);
            total += seen[i];
        }
        assert_int_equal(total, STEPS * BATCH);
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    assert_memory_not_equal(order[1], order[2], sizeof order[0]);
    het_loader_free(loader);

    /* Resumed in the middle, with jumps and the same step twice: the same images. */
    static const int64_t steps[] = {6, 7, 1, 11, 11, 0, 5, 4, 4, 10};
    assert_ok(het_loader_new(&loader, stack, comm, 7, BATCH, (het_images){0}));
    for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++) {
        assert_ok(het_loader_next(loader, steps[k], &batch));
        check_batch(stack, &batch);
        assert_memory_equal(batch.index, order[steps[k] / STEPS] + steps[k] % STEPS * BATCH,
                            sizeof(int64_t) * BATCH);
    }
    het_loader_free(loader);
    assert_ok(het_loader_new(&loader, stack, comm, 8, BATCH, (het_images){0})); /* another seed, another order */
    assert_ok(het_loader_next(loader, 0, &batch));
    assert_memory_not_equal(batch.index, order[0], sizeof(int64_t) * BATCH);
    het_loader_free(loader);
    het_stack_close(stack);
}

static void the_batch_stays_while_the_next_is_read(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    assert_ok(het_stack_open(&stack, path));
    assert_ok(het_loader_new(&loader, stack, comm, 1, BATCH, (het_images){0}));
    for (int64_t step = 0; step < 50; step++) {
        assert_ok(het_loader_next(loader, step, &batch));
        usleep(step % 5 == 0 ? 500 : 0);
        check_batch(stack, &batch);
    }
    het_loader_free(loader); /* while it reads step 50 */
    assert_ok(het_loader_new(&loader, stack, comm, 1, BATCH, (het_images){0}));
    het_loader_free(loader); /* never asked */
    het_stack_close(stack);
}

/* The same images in fp16, to half a unit in its last place; the largest number in place of what is beyond. */
static void halves(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    assert_ok(het_stack_open(&stack, path));
    const het_stack_info *info = het_stack_get_info(stack);
    assert_ok(het_loader_new(&loader, stack, comm, 7, BATCH, (het_images){.type = HET_F16}));
    assert_ok(het_loader_next(loader, 3, &batch));
    assert_int_equal(batch.type, HET_F16);
    for (int i = 0; i < BATCH * PIXELS; i++) {
        const double exact = (images[batch.index[i / PIXELS] * PIXELS + i % PIXELS] - info->mean) / info->std;
        assert_true(fabs((double)((const _Float16 *)batch.images)[i] - exact) <= fabs(exact) / 2048 + 1e-6);
    }
    het_loader_free(loader);
    het_stack_close(stack);
}

/* Where images are stored the loader names them, and reads no pixel. */
static void stored_images_are_named(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *there, *usual;
    het_batch batch, same;
    int somewhere;
    assert_ok(het_stack_open(&stack, path));
    assert_ok(het_loader_new(&usual, stack, comm, 7, BATCH, (het_images){0}));
    assert_ok(het_loader_new(&there, stack, comm, 7, BATCH, (het_images){.stored = &somewhere}));
    assert_int_equal(het_loader_bytes(BATCH, D, 0) - het_loader_bytes(BATCH, D, 1), 2 * BATCH * PIXELS * sizeof(float));
    for (int64_t step = 0; step < 2 * STEPS; step++) {
        assert_ok(het_loader_next(there, step, &batch));
        assert_ok(het_loader_next(usual, step, &same));
        assert_true(batch.images == NULL && batch.stored == &somewhere && same.stored == NULL);
        assert_memory_equal(batch.index, same.index, BATCH * sizeof *batch.index);
        assert_memory_equal(batch.ctf, same.ctf, BATCH * sizeof *batch.ctf);
    }
    het_loader_free(there);
    het_loader_free(usual);
    het_stack_close(stack);
}

static void sizes(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    assert_ok(het_stack_open(&stack, path));
    assert_int_equal(het_loader_new(&loader, stack, comm, 1, 0, (het_images){0}), HET_E_USAGE);
    assert_int_equal(het_loader_new(&loader, stack, comm, 1, N + 1, (het_images){0}), HET_E_USAGE);
    assert_non_null(strstr(het_status_message(), "to 23"));
    assert_null(loader);
    assert_ok(het_loader_new(&loader, stack, comm, 1, N, (het_images){0}));
    assert_int_equal(het_loader_steps_per_epoch(loader), 1);
    assert_ok(het_loader_next(loader, 3, &batch));
    assert_int_equal(batch.count, N);
    het_loader_free(loader);
    het_stack_close(stack);
}

static void a_read_error_surfaces(void **state)
{
    (void)state;
    het_stack *stack;
    het_loader *loader;
    het_batch batch;
    assert_ok(het_stack_open(&stack, path));
    assert_ok(het_loader_new(&loader, stack, comm, 1, BATCH, (het_images){0}));
    assert_int_equal(truncate(path, 3000), 0);
    het_status status = HET_OK;
    for (int64_t step = 0; step < 2 * STEPS && status == HET_OK; step++)
        status = het_loader_next(loader, step, &batch);
    assert_int_equal(status, HET_E_INPUT);
    assert_non_null(strstr(het_status_message(), "was changed"));
    assert_int_equal(het_loader_next(loader, 2, &batch), HET_E_INPUT); /* and does not hang afterwards */
    het_loader_free(loader);
    het_stack_close(stack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_image_once_per_epoch),
        cmocka_unit_test(the_batch_stays_while_the_next_is_read),
        cmocka_unit_test(halves),
        cmocka_unit_test(stored_images_are_named),
        cmocka_unit_test(sizes),
        cmocka_unit_test(a_read_error_surfaces), /* the last one: it destroys the file */
    };
    return cmocka_run_group_tests(tests, begin, end);
}
