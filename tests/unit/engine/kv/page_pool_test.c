#include "engine/kv/page_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_page_pool_gives_each_page_once(void **state)
{
    enum { PAGES = 100 };
    struct page_pool pool;
    assert_int_equal(page_pool_init(&pool, PAGES, NULL), PHID_OK);
    bool seen[PAGES] = {0};
    uint32_t id = 0;
    for (int i = 0; i < PAGES; i++) {
        assert_true(page_pool_take(&pool, &id));
        assert_true(id < PAGES && !seen[id]);
        seen[id] = true;
    }
    id = 77;
    assert_false(page_pool_take(&pool, &id));
    assert_int_equal(id, 77);
    assert_int_equal(pool.free_count, 0);
    page_pool_unref(&pool, 13);
    assert_true(page_pool_take(&pool, &id));
    assert_int_equal(id, 13);
    page_pool_fini(&pool);
}

static void test_page_pool_counts_readers(void **state)
{
    struct page_pool pool;
    assert_int_equal(page_pool_init(&pool, 3, NULL), PHID_OK);
    uint32_t id;
    assert_true(page_pool_take(&pool, &id));
    page_pool_ref(&pool, id);
    page_pool_ref(&pool, id);
    page_pool_unref(&pool, id);
    page_pool_unref(&pool, id);
    assert_int_equal(pool.free_count, 2);
    page_pool_unref(&pool, id);
    assert_int_equal(pool.free_count, 3);
    page_pool_fini(&pool);
}

static void test_page_pool_sizes(void **state)
{
    struct page_pool pool;
    struct phid_error error;
    assert_int_equal(page_pool_init(&pool, (size_t)1 << 40, &error), PHID_ERR_ARGUMENT);
    page_pool_fini(&pool);
    assert_int_equal(page_pool_init(&pool, 0, NULL), PHID_OK);
    uint32_t id;
    assert_false(page_pool_take(&pool, &id));
    page_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_pool_gives_each_page_once),
        cmocka_unit_test(test_page_pool_counts_readers),
        cmocka_unit_test(test_page_pool_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
