#include "engine/kv/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A context of 16 pages of 1000 bytes. */
static struct kv_budget budget(uint64_t memory_bytes, uint64_t free_bytes)
{
    return (struct kv_budget){.context = 1024,
                              .max_running = 32,
                              .page_bytes = 1000,
                              .memory_bytes = memory_bytes,
                              .free_bytes = free_bytes};
}

static void expect_pages(struct kv_budget b, size_t pages)
{
    size_t found = 0;
    assert_int_equal(kv_budget_pages(&b, &found, NULL), PHID_OK);
    assert_int_equal(found, pages);
}

static void test_kv_budget_stated(void **state)
{
    expect_pages(budget(16000, 0), 16);
    expect_pages(budget(16999, 5), 16); /* whatever is free: it was stated */
    expect_pages(budget(100000, 0), 100);
    struct kv_budget small = budget(15999, 0);
    struct phid_error error;
    size_t pages = 77;
    assert_int_equal(kv_budget_pages(&small, &pages, &error), PHID_ERR_MEMORY);
    assert_non_null(strstr(error.message, "16000 bytes"));
    assert_non_null(strstr(error.message, "15999"));
    assert_int_equal(pages, 77);
}

static void test_kv_budget_default(void **state)
{
    const uint64_t gib = UINT64_C(1) << 30;
    expect_pages(budget(0, 0), 8 * 16);             /* the system does not say */
    expect_pages(budget(0, 20 * gib), 2 * 32 * 16); /* twice all sequences, and no more */
    expect_pages(budget(0, gib + 500000), 500);     /* what is left after the reserve */
    expect_pages(budget(0, gib + 5000), 16);        /* but one context */
    expect_pages(budget(0, 16000), 16);
    struct kv_budget large = budget(0, 20 * gib);
    large.page_bytes = 1 << 26;
    expect_pages(large, 20 * 16 - 2 * 16); /* a tenth of much is more than 1 GiB */
    struct kv_budget none = budget(0, 15999);
    struct phid_error error;
    size_t pages;
    assert_int_equal(kv_budget_pages(&none, &pages, &error), PHID_ERR_MEMORY);
    assert_non_null(strstr(error.message, "16000 bytes"));
    struct kv_budget few = budget(0, 0);
    few.max_running = 3;
    expect_pages(few, 16);
}

static void test_kv_budget_free_bytes(void **state)
{
    assert_true(kv_budget_free_bytes() > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_budget_stated),
        cmocka_unit_test(test_kv_budget_default),
        cmocka_unit_test(test_kv_budget_free_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
