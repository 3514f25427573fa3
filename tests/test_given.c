/* What is known of the images, given to a batch: the batch's rows, in its order; z only when asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../src/arena.h"
#include "../src/given.h"

enum { COUNT = 7, BATCH = 3, Z = 4 };

static void rows_follow_the_index(void **state)
{
    (void)state;
    static const int64_t index[BATCH] = {5, 0, 6};
    float rotation[9 * COUNT], shift[2 * COUNT], z[Z * COUNT];
    het_given given;
    for (int i = 0; i < 9 * COUNT; i++) rotation[i] = (float)i;
    for (int i = 0; i < 2 * COUNT; i++) shift[i] = 1000.0F + (float)i;
    for (int i = 0; i < Z * COUNT; i++) z[i] = 2000.0F + (float)i;
    assert_int_equal(het_given_new(&given, BATCH, Z), HET_OK);
    for (int count = BATCH; count > 0; count--) { /* the last batch may be a smaller one */
        het_batch batch = {.count = count, .index = index + BATCH - count};
        het_given_set(&given, &batch, rotation, shift, z);
        for (int i = 0; i < count; i++) {
            const int64_t at = batch.index[i];
            assert_memory_equal(batch.rotation + 9 * i, rotation + 9 * at, 9 * sizeof(float));
            assert_memory_equal(batch.shift + 2 * i, shift + 2 * at, 2 * sizeof(float));
            assert_memory_equal(batch.z + Z * i, z + Z * at, Z * sizeof(float));
        }
        het_given_set(&given, &batch, rotation, shift, NULL);
        assert_null(batch.z);
        assert_memory_equal(batch.rotation, rotation + 9 * batch.index[0], 9 * sizeof(float));
    }
    het_given_free(&given);
    assert_int_equal(het_arena_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_follow_the_index)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
