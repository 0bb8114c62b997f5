#include "engine/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_buf_appends(void **state)
{
    struct buf b;
    buf_init(&b, 1000);
    assert_int_equal(buf_view(&b).size, 0);
    buf_append_c(&b, "one");
    buf_append_byte(&b, ' ');
    buf_append_str(&b, STR("two"));
    buf_append(&b, "\0x", 2);
    buf_printf(&b, " %d %s", 3, "three");
    assert_false(b.failed);
    assert_int_equal(b.size, 3 + 1 + 3 + 2 + 8);
    assert_memory_equal(b.data, "one two\0x 3 three", 18); /* and the NUL behind */
    buf_append(&b, NULL, 0);
    assert_int_equal(b.size, 17);
    buf_fini(&b);
}

static void test_buf_maximum_is_exact(void **state)
{
    for (size_t max = 0; max < 200; max++) {
        struct buf b;
        buf_init(&b, max);
        for (size_t i = 0; i < max; i++) {
            buf_append_byte(&b, (char)i);
        }
        assert_false(b.failed);
        assert_int_equal(b.size, max);
        assert_true(b.capacity <= max + 1);
        buf_append_byte(&b, 'x');
        assert_true(b.failed);
        assert_int_equal(b.size, max);
        buf_fini(&b);
    }
}

static void test_buf_failure_is_sticky_and_keeps_content(void **state)
{
    struct buf b;
    buf_init(&b, 8);
    buf_append_c(&b, "12345");
    buf_append_c(&b, "6789");
    assert_true(b.failed);
    buf_append_c(&b, "6");
    buf_printf(&b, "%d", 7);
    assert_null(buf_extend(&b, 1));
    assert_string_equal(b.data, "12345");
    char *bytes = (char *)1;
    size_t size = 7;
    struct phid_error error;
    assert_int_equal(buf_take(&b, &bytes, &size, &error), PHID_ERR_MEMORY);
    assert_ptr_equal(bytes, (char *)1);
    buf_clear(&b);
    assert_false(b.failed);
    buf_append_c(&b, "12345678");
    assert_false(b.failed);
    buf_fini(&b);
}

static void test_buf_huge_sizes_do_not_wrap(void **state)
{
    struct buf b;
    buf_init(&b, SIZE_MAX);
    buf_append_c(&b, "x");
    assert_null(buf_extend(&b, SIZE_MAX));
    assert_true(b.failed);
    buf_clear(&b);
    assert_null(buf_extend(&b, SIZE_MAX - 1));
    assert_true(b.failed);
    buf_clear(&b);
    assert_null(buf_extend(&b, SIZE_MAX / 2 + 2)); /* cannot be allocated */
    assert_true(b.failed);
    assert_string_equal(b.data, "");
    buf_fini(&b);
}

static void test_buf_drop(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    buf_drop(&b, 3);
    buf_append_c(&b, "abcdef");
    buf_drop(&b, 2);
    assert_string_equal(b.data, "cdef");
    buf_drop(&b, 0);
    assert_string_equal(b.data, "cdef");
    buf_drop(&b, 99);
    assert_int_equal(b.size, 0);
    assert_string_equal(b.data, "");
    buf_fini(&b);
}

static void test_buf_take(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    char *bytes = NULL;
    size_t size = 7;
    assert_int_equal(buf_take(&b, &bytes, &size, NULL), PHID_OK);
    assert_string_equal(bytes, "");
    assert_int_equal(size, 0);
    free(bytes);
    buf_append_c(&b, "abc");
    assert_int_equal(buf_take(&b, &bytes, &size, NULL), PHID_OK);
    assert_string_equal(bytes, "abc");
    assert_int_equal(size, 3);
    assert_null(b.data);
    assert_int_equal(b.max, 100);
    free(bytes);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_appends),
        cmocka_unit_test(test_buf_maximum_is_exact),
        cmocka_unit_test(test_buf_failure_is_sticky_and_keeps_content),
        cmocka_unit_test(test_buf_huge_sizes_do_not_wrap),
        cmocka_unit_test(test_buf_drop),
        cmocka_unit_test(test_buf_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
