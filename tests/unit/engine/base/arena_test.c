#include "engine/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/rng.h"

static void test_arena_pieces_are_aligned_and_apart(void **state)
{
    enum { PIECES = 2000 };
    static unsigned char *piece[PIECES];
    static size_t size[PIECES];
    struct arena a;
    struct rng r;
    arena_init(&a, 64u << 20);
    rng_init(&r, 1);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < PIECES; i++) {
            size_t align = (size_t)1 << rng_below(&r, 7);
            size[i] = rng_below(&r, i % 100 == 0 ? 100000 : 300);
            piece[i] = arena_alloc_array(&a, size[i], 1, align);
            assert_non_null(piece[i]);
            assert_int_equal((uintptr_t)piece[i] % align, 0);
            memset(piece[i], (int)(i & 0xff), size[i]);
        }
        for (size_t i = 0; i < PIECES; i++) {
            for (size_t k = 0; k < size[i]; k++) {
                assert_int_equal(piece[i][k], i & 0xff);
            }
        }
        arena_reset(&a);
    }
    arena_fini(&a);
}

static void test_arena_plain_alloc_alignment(void **state)
{
    struct arena a;
    arena_init(&a, 1u << 20);
    assert_non_null(arena_alloc(&a, 0));
    assert_string_equal(arena_dup(&a, STR("abc")), "abc");
    assert_string_equal(arena_dup(&a, (struct str){.data = NULL, .size = 0}), "");
    assert_int_equal((uintptr_t)arena_alloc(&a, 8) % 16, 0);
    arena_fini(&a);
}

static void test_arena_maximum(void **state)
{
    struct arena a;
    arena_init(&a, 1u << 20);
    assert_null(arena_alloc(&a, 1u << 20)); /* no room for the block's own header */
    assert_non_null(arena_alloc(&a, 500000));
    assert_non_null(arena_alloc(&a, 500000));
    assert_null(arena_alloc(&a, 500000));
    assert_true(a.total <= 1u << 20);
    arena_fini(&a);
    arena_init(&a, 0);
    assert_null(arena_alloc(&a, 1));
    arena_fini(&a);
}

static void test_arena_refuses_nonsense(void **state)
{
    struct arena a;
    arena_init(&a, SIZE_MAX);
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 100));
    assert_null(arena_alloc_array(&a, SIZE_MAX / 2, 3, 8));
    assert_null(arena_alloc_array(&a, 1, 1, 0));
    assert_null(arena_alloc_array(&a, 1, 1, 3));
    assert_null(arena_alloc_array(&a, 1, 1, 2 * ARENA_ALIGN_MAX));
    assert_null(arena_dup(&a, (struct str){.data = "", .size = SIZE_MAX}));
    assert_non_null(arena_alloc(&a, 1));
    arena_fini(&a);
}

static void test_arena_reset_stops_allocating(void **state)
{
    struct arena a;
    arena_init(&a, 64u << 20);
    size_t total = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 100; i++) {
            assert_non_null(arena_alloc(&a, 1000));
        }
        if (round == 10) {
            total = a.total;
        }
        arena_reset(&a);
    }
    for (int i = 0; i < 100; i++) {
        assert_non_null(arena_alloc(&a, 1000));
    }
    assert_int_equal(a.total, total);
    arena_fini(&a);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_pieces_are_aligned_and_apart),
        cmocka_unit_test(test_arena_plain_alloc_alignment),
        cmocka_unit_test(test_arena_maximum),
        cmocka_unit_test(test_arena_refuses_nonsense),
        cmocka_unit_test(test_arena_reset_stops_allocating),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
