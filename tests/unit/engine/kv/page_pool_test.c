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

/* Takes a page, fills it as the first page of some text, gives it back: it is idle then. */
static uint32_t use_page(struct page_pool *pool, int32_t text)
{
    int32_t tokens[BACKEND_PAGE_TOKENS];
    uint32_t id = 0;
    assert_true(page_pool_take(pool, &id));
    for (int i = 0; i < BACKEND_PAGE_TOKENS; i++) {
        tokens[i] = text + i;
    }
    struct prefix_hash link =
        prefix_hash_next(&pool->prefixes->secret, (struct prefix_hash){0}, tokens);
    prefix_put(pool->prefixes, &(struct prefix_page){.page = id,
                                                     .parent = PREFIX_NONE,
                                                     .link = link,
                                                     .tokens = tokens,
                                                     .count = BACKEND_PAGE_TOKENS});
    page_pool_unref(pool, id);
    return id;
}

/* Memory is not touched for the first time while there are old pages that nobody came back to. */
static void test_page_pool_reuses_old_pages_first(void **state)
{
    enum { PAGES = 80, KEPT = PAGES / PAGE_POOL_KEEP };
    struct page_pool pool;
    struct prefix_tree tree;
    struct prefix_secret secret = {{1, 2}};
    assert_int_equal(page_pool_init(&pool, PAGES, NULL), PHID_OK);
    assert_int_equal(prefix_init(&tree, &secret, PAGES, NULL), PHID_OK);
    pool.prefixes = &tree;
    tree.now_ns = 5;
    for (uint32_t i = 0; i < KEPT + 3; i++) {
        assert_int_equal(use_page(&pool, (int32_t)i * 1000), i);
    }
    tree.now_ns += PAGE_POOL_KEEP_NS - 1; /* not old yet */
    assert_int_equal(use_page(&pool, 500000), KEPT + 3);
    tree.now_ns++;
    for (uint32_t i = 0; i < KEPT + 3; i++) {
        assert_int_equal(use_page(&pool, 600000 + (int32_t)i * 1000), i);
    }
    assert_int_equal(use_page(&pool, 700000), KEPT + 4); /* the oldest is new enough again */
    assert_int_equal(tree.idle_count, KEPT + 5);
    prefix_fini(&tree);
    page_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_pool_gives_each_page_once),
        cmocka_unit_test(test_page_pool_counts_readers),
        cmocka_unit_test(test_page_pool_sizes),
        cmocka_unit_test(test_page_pool_reuses_old_pages_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
