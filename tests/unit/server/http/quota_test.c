#include "server/http/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct caller anna = {.id = 11, .name = "anna"}, bert = {.id = 22, .name = "bert"};

static enum api_fault enter(struct quotas *q, const struct caller *who, uint64_t now_ms,
                            struct quota **quota, unsigned *retry_after)
{
    struct api_error err = {0};
    enum api_fault fault = quota_enter(q, who, now_ms, quota, &err);
    *retry_after = fault == API_OK ? 0 : api_error_retry_after(&err);
    assert_true(fault == API_OK || api_error_status(fault) == 429);
    return fault;
}

static void test_quota_none(void **state)
{
    struct quotas q;
    struct quota *quota;
    unsigned after;
    quotas_init(&q, &(struct quota_limits){0});
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(enter(&q, &anna, 0, &quota, &after), API_OK);
        assert_null(quota);
        quota_use(quota, 1000);
        quota_leave(quota);
    }
    quotas_fini(&q);
}

static void test_quota_in_flight(void **state)
{
    struct quotas q;
    struct quota *held[3], *other;
    unsigned after;
    quotas_init(&q, &(struct quota_limits){.in_flight = 3});
    for (int i = 0; i < 3; i++) {
        assert_int_equal(enter(&q, &anna, 0, &held[i], &after), API_OK);
    }
    assert_int_equal(enter(&q, &anna, 0, &other, &after), API_RATE_LIMITED);
    assert_int_equal(after, 1);
    assert_int_equal(enter(&q, &bert, 0, &other, &after), API_OK); /* has its own */
    quota_leave(held[1]);
    assert_int_equal(enter(&q, &anna, 0, &held[1], &after), API_OK);
    assert_int_equal(enter(&q, &anna, 0, &other, &after), API_RATE_LIMITED);
    quotas_fini(&q);
}

static void test_quota_requests_per_minute(void **state)
{
    struct quotas q;
    struct quota *quota;
    unsigned after;
    quotas_init(&q, &(struct quota_limits){.requests_per_minute = 6});
    for (int i = 0; i < 6; i++) {
        assert_int_equal(enter(&q, &anna, 1000, &quota, &after), API_OK);
        quota_leave(quota);
    }
    assert_int_equal(enter(&q, &anna, 1000, &quota, &after), API_RATE_LIMITED);
    assert_int_equal(after, 10);
    assert_int_equal(enter(&q, &anna, 8000, &quota, &after), API_RATE_LIMITED);
    assert_int_equal(after, 3);
    assert_int_equal(enter(&q, &anna, 11000, &quota, &after), API_OK);
    assert_int_equal(enter(&q, &anna, 11000, &quota, &after), API_RATE_LIMITED);
    /* Never more than a minute's worth, however long nothing came. */
    for (int i = 0; i < 6; i++) {
        assert_int_equal(enter(&q, &anna, 10000000, &quota, &after), API_OK);
    }
    assert_int_equal(enter(&q, &anna, 10000000, &quota, &after), API_RATE_LIMITED);
    quotas_fini(&q);
}

static void test_quota_tokens_per_minute(void **state)
{
    struct quotas q;
    struct quota *quota;
    unsigned after;
    quotas_init(&q, &(struct quota_limits){.tokens_per_minute = 600});
    assert_int_equal(enter(&q, &anna, 0, &quota, &after), API_OK);
    quota_use(quota, 500); /* the prompt */
    struct quota *second;
    assert_int_equal(enter(&q, &anna, 0, &second, &after), API_OK);
    quota_use(quota, 300); /* the answer */
    quota_leave(quota);
    quota_leave(second);
    assert_int_equal(enter(&q, &anna, 0, &quota, &after), API_RATE_LIMITED);
    assert_int_equal(after, 21); /* 200 too many, ten a second */
    assert_int_equal(enter(&q, &anna, 19000, &quota, &after), API_RATE_LIMITED);
    assert_int_equal(enter(&q, &anna, 20200, &quota, &after), API_OK);
    quota_use(quota, 1000000); /* a Retry-After nobody would wait for is cut */
    assert_int_equal(enter(&q, &anna, 20200, &second, &after), API_RATE_LIMITED);
    assert_int_equal(after, API_RETRY_MAX);
    quota_leave(quota);
    quotas_fini(&q);
}

static void test_quota_forgets_keys(void **state)
{
    struct quotas q;
    struct quota *quota;
    unsigned after;
    quotas_init(&q, &(struct quota_limits){.in_flight = 1});
    for (uint64_t i = 1; i <= 1000; i++) {
        struct caller caller = {.id = i};
        assert_int_equal(enter(&q, &caller, i * 10000, &quota, &after), API_OK);
        quota_leave(quota);
    }
    size_t count = 0;
    for (quota = q.list; quota != NULL; quota = quota->next) {
        count++;
    }
    assert_in_range(count, 1, 13); /* two minutes' */
    quotas_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota_none),
        cmocka_unit_test(test_quota_in_flight),
        cmocka_unit_test(test_quota_requests_per_minute),
        cmocka_unit_test(test_quota_tokens_per_minute),
        cmocka_unit_test(test_quota_forgets_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
