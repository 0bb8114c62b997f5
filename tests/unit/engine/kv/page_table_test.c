#include "engine/kv/page_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_page_table_pages(void **state)
{
    assert_int_equal(page_table_pages(0), 0);
    assert_int_equal(page_table_pages(1), 1);
    assert_int_equal(page_table_pages(64), 1);
    assert_int_equal(page_table_pages(65), 2);
    assert_int_equal(page_table_pages(SIZE_MAX), SIZE_MAX / 64 + 1);
}

static void test_page_table_grows_all_or_nothing(void **state)
{
    struct page_pool pool;
    struct page_table a, b;
    assert_int_equal(page_pool_init(&pool, 5, NULL), PHID_OK);
    assert_int_equal(page_table_init(&a, 300, NULL), PHID_OK);
    assert_int_equal(page_table_init(&b, 300, NULL), PHID_OK);
    assert_true(page_table_grow(&a, &pool, 65));
    assert_int_equal(a.count, 2);
    assert_true(page_table_grow(&a, &pool, 128)); /* it has them already */
    assert_true(page_table_grow(&a, &pool, 1));
    assert_int_equal(a.count, 2);
    assert_false(page_table_grow(&b, &pool, 64 * 4));
    assert_int_equal(b.count, 0);
    assert_int_equal(pool.free_count, 3);
    assert_true(page_table_grow(&b, &pool, 64 * 3));
    for (size_t i = 0; i < a.count; i++) {
        for (size_t j = 0; j < b.count; j++) {
            assert_int_not_equal(a.ids[i], b.ids[j]);
        }
    }
    page_table_clear(&a, &pool);
    assert_int_equal(pool.free_count, 2);
    assert_true(page_table_grow(&b, &pool, 300));
    page_table_clear(&b, &pool);
    assert_false(page_table_grow(&b, &pool, 321)); /* more than it was made for */
    assert_int_equal(pool.free_count, 5);
    page_table_fini(&a);
    page_table_fini(&b);
    page_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_table_pages),
        cmocka_unit_test(test_page_table_grows_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
