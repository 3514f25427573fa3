/* Arenas: alignment, zeroed memory, the count of live blocks, exhaustion. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../src/arena.h"

static void sizes_round_up_to_the_alignment(void **state)
{
    (void)state;
    assert_int_equal(het_arena_round(0), 0);
    assert_int_equal(het_arena_round(1), HET_ALIGN);
    assert_int_equal(het_arena_round(HET_ALIGN), HET_ALIGN);
    assert_int_equal(het_arena_round(HET_ALIGN + 1), 2 * HET_ALIGN);
}

static int is_zero(const char *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (memory[i] != 0) return 0;
    return 1;
}

/* Pieces are aligned, zeroed and apart, and the sum of their rounded sizes is just enough. */
static void pieces_fill_the_block(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 64, 100, 4096, 3};
    size_t total = 0;
    het_arena arena;
    char *end = NULL;
    for (int i = 0; i < 5; i++) total += het_arena_round(sizes[i]);
    assert_int_equal(het_arena_new(&arena, total), HET_OK);
    for (int i = 0; i < 5; i++) {
        char *piece = het_arena_take(&arena, sizes[i]);
        assert_int_equal((uintptr_t)piece % HET_ALIGN, 0);
        assert_true(end == NULL || piece >= end);
        assert_true(is_zero(piece, sizes[i]));
        memset(piece, 0x5a, sizes[i]);
        end = piece + sizes[i];
    }
    assert_int_equal(arena.used, total);
    het_arena_free(&arena);
}

static void live_blocks_are_counted(void **state)
{
    (void)state;
    het_arena arena, empty = {0};
    const long before = het_arena_live();
    assert_int_equal(het_arena_new(&arena, 1000), HET_OK);
    void *memory = het_alloc(10);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % HET_ALIGN, 0);
    assert_true(is_zero(memory, 10));
    assert_int_equal(het_arena_live(), before + 2);
    het_arena_take(&arena, 10); /* a piece is no block of its own */
    assert_int_equal(het_arena_live(), before + 2);
    het_release(memory);
    het_release(NULL);
    het_arena_free(&arena);
    assert_null(arena.base);
    het_arena_free(&arena);
    het_arena_free(&empty);
    assert_int_equal(het_arena_live(), before);
}

static void too_much_is_an_error_that_names_the_need(void **state)
{
    (void)state;
    het_arena arena;
    const long before = het_arena_live();
    assert_int_equal(het_arena_new(&arena, SIZE_MAX - HET_ALIGN / 2), HET_E_MEMORY);
    assert_non_null(strstr(het_status_message(), "MiB"));
    het_arena_free(&arena);
    assert_null(het_alloc(SIZE_MAX));
    assert_int_equal(het_arena_live(), before);
}

/* Does a child that takes `bytes` from an arena of 256 stop with an assertion? */
static int taking_aborts(size_t bytes)
{
    const pid_t child = fork();
    if (child == 0) {
        het_arena arena;
        signal(SIGABRT, SIG_DFL);
        fclose(stderr);
        if (het_arena_new(&arena, 256) != HET_OK) _exit(2);
        het_arena_take(&arena, 100);
        het_arena_take(&arena, bytes);
        _exit(0);
    }
    int result = 0;
    waitpid(child, &result, 0);
    assert_true(WIFSIGNALED(result) || WEXITSTATUS(result) == 0);
    return WIFSIGNALED(result) && WTERMSIG(result) == SIGABRT;
}

static void exhaustion_is_an_assertion(void **state)
{
    (void)state;
    assert_false(taking_aborts(128));
    assert_true(taking_aborts(129));
    assert_true(taking_aborts(SIZE_MAX)); /* rounding up must not wrap to a small piece */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_round_up_to_the_alignment),
        cmocka_unit_test(pieces_fill_the_block),
        cmocka_unit_test(live_blocks_are_counted),
        cmocka_unit_test(too_much_is_an_error_that_names_the_need),
        cmocka_unit_test(exhaustion_is_an_assertion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
