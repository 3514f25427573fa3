#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "../kernels/ops.h"
#include "../src/arena.h"
#include "../src/train_memory.h"

static size_t asked;

static void *counting_alloc(het_device *dev, size_t bytes)
{
    (void)dev;
    asked += bytes;
    return het_alloc(bytes);
}

static het_model_spec spec_of(int64_t batch)
{
    return (het_model_spec){.box = 16, .apix = 3.0, .batch = batch, .global_batch = batch, .groups = 1, .global_groups = 1,
                            .shift_range = 1.0};
}

static void small(het_config *c)
{
    het_config_default(c);
    c->encoder.width = 16;
    c->encoder.head = 32;
    c->decoder.width = 32;
    c->decoder.frequencies = 16;
    c->train.method = HET_METHOD_HETACUMN;
}

/* What was told of a plan is what is then asked of the device, to the byte, and what the process then holds. */
static void told_is_taken(void **state)
{
    (void)state;
    het_config config;
    het_device dev;
    het_model *model = NULL;
    small(&config);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    het_ops counting = *dev.ops;
    counting.alloc = counting_alloc;
    dev.ops = &counting;
    for (int pass = 0; pass < 3; pass++) {
        config.train.pose_images = pass == 1 ? 3 : 1;
        config.train.mirror = pass != 2;
        const het_model_spec spec = spec_of(6);
        const size_t before = het_arena_bytes();
        assert_int_equal(het_model_plan(&model, &dev, &config, &spec), HET_OK);
        const het_train_memory told = het_train_memory_of(model, 1000, 1, 0, 0);
        const size_t planned = asked;
        assert_int_equal(het_model_allocate(model), HET_OK);
        assert_int_equal(asked - planned, het_train_memory_device(&told));
        const double taken = (double)(het_arena_bytes() - before), all = (double)(het_train_memory_device(&told) + told.plans);
        assert_true(fabs(taken / all - 1.0) < 0.01);
        het_model_free(model);
        assert_int_equal(het_arena_bytes(), before);
    }
    het_device_close(&dev);
}

/* Twice the images take twice the batches, and no more parameters; other ranks write no checkpoints. */
static void parts(void **state)
{
    (void)state;
    het_config config;
    het_device dev;
    het_model *model = NULL;
    het_train_memory of[2];
    small(&config);
    assert_int_equal(het_device_open_cpu(&dev, 1, HET_PRECISION_F32), HET_OK);
    for (int i = 0; i < 2; i++) {
        const het_model_spec spec = spec_of(8 << i);
        assert_int_equal(het_model_plan(&model, &dev, &config, &spec), HET_OK);
        of[i] = het_train_memory_of(model, 1000, 1, 0, 0);
        assert_true(het_train_memory_of(model, 1000, 0, 0, 0).checkpoint < of[i].checkpoint);
        assert_true(het_train_memory_of(model, 3000, 1, 0, 0).images == 3 * of[i].images);
        const het_train_memory with = het_train_memory_of(model, 1000, 1, 0, 1);
        assert_true(with.stored == 1000 * 16 * 16 * sizeof(float) && with.batches < of[i].batches / 10);
        assert_int_equal(het_train_memory_device(&with), het_train_memory_device(&of[i]) + with.stored);
        het_model_free(model);
    }
    assert_int_equal(of[0].parameters, of[1].parameters);
    assert_int_equal(of[0].optimiser, of[1].optimiser);
    assert_int_equal(2 * of[0].batches, of[1].batches);
    assert_true(of[1].workspace > of[0].workspace && of[1].workspace < 2 * of[0].workspace);
    assert_true(het_train_memory_host(&of[0], 1) == het_train_memory_host(&of[0], 0) + het_train_memory_device(&of[0]));
    het_device_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(told_is_taken), cmocka_unit_test(parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
