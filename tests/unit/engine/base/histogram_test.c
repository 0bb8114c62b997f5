#include "engine/base/histogram.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t bounds[] = {1, 5, 10};

static void test_histogram_buckets(void **state)
{
    static const uint64_t values[] = {0, 1, 2, 5, 6, 10, 11, 1000, UINT32_MAX};
    struct histogram h;
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1];
    histogram_init(&h, bounds, 3);
    assert_int_equal(histogram_read(&h, counts), 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        histogram_add(&h, values[i]);
        sum += values[i];
    }
    assert_int_equal(histogram_read(&h, counts), sum);
    assert_int_equal(counts[0], 2); /* a bound belongs to its own bucket */
    assert_int_equal(counts[1], 2);
    assert_int_equal(counts[2], 2);
    assert_int_equal(counts[3], 3);
}

static void test_histogram_without_bounds(void **state)
{
    struct histogram h;
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1];
    histogram_init(&h, NULL, 0);
    histogram_add(&h, 7);
    assert_int_equal(histogram_read(&h, counts), 7);
    assert_int_equal(counts[0], 1);
}

static void test_histogram_too_many_bounds(void **state)
{
    uint64_t many[HISTOGRAM_BOUNDS_MAX + 5];
    struct histogram h;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS_MAX + 5; i++) {
        many[i] = i;
    }
    histogram_init(&h, many, HISTOGRAM_BOUNDS_MAX + 5);
    histogram_add(&h, UINT64_MAX / 2);
    assert_int_equal(h.bound_count, HISTOGRAM_BOUNDS_MAX);
    assert_int_equal(atomic_load(&h.counts[HISTOGRAM_BOUNDS_MAX]), 1);
}

enum { ADDS = 20000 };

static void *add_many(void *user)
{
    for (uint64_t i = 0; i < ADDS; i++) {
        histogram_add(user, i % 12);
    }
    return NULL;
}

static void test_histogram_many_threads(void **state)
{
    struct histogram h;
    pthread_t threads[4];
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1];
    histogram_init(&h, bounds, 3);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &h), 0);
    }
    uint64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t sum = histogram_read(&h, counts);
        assert_true(sum >= before);
        before = sum;
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    histogram_read(&h, counts);
    assert_int_equal(counts[0] + counts[1] + counts[2] + counts[3], 4 * ADDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram_buckets),
        cmocka_unit_test(test_histogram_without_bounds),
        cmocka_unit_test(test_histogram_too_many_bounds),
        cmocka_unit_test(test_histogram_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
