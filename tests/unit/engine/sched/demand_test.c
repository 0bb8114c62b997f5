#include "engine/sched/demand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

static uint64_t wait_ms(const struct demand *d, size_t waiting, size_t tokens, size_t seats)
{
    struct demand_queue queue = {.waiting = waiting, .tokens = tokens, .seats = seats};
    return demand_wait_ns(d, &queue) / MS;
}

static void test_demand_knows_nothing_at_first(void **state)
{
    struct demand d;
    demand_init(&d);
    assert_int_equal(wait_ms(&d, 1000, 100000, 0), 0);
    for (int i = 0; i < 100; i++) {
        demand_turn(&d, 1, 100 * MS, false); /* not full: says nothing about what it can do */
        demand_end(&d, 100, 50);
    }
    assert_int_equal(wait_ms(&d, 1000, 100000, 0), 0);
    demand_turn(&d, 30, 100 * MS, true); /* too short */
    assert_int_equal(wait_ms(&d, 1000, 100000, 0), 0);
}

static void test_demand_measures(void **state)
{
    struct demand d;
    demand_init(&d);
    for (int i = 0; i < 50; i++) {
        demand_turn(&d, 30, 100 * MS, true); /* 300 rows a second */
        demand_end(&d, 150, 50);             /* two requests a second */
    }
    assert_int_equal(wait_ms(&d, 3, 300, 4), 0); /* there are seats */
    assert_in_range(wait_ms(&d, 0, 0, 0), 450, 550);
    assert_in_range(wait_ms(&d, 9, 900, 0), 4700, 5300);
    assert_in_range(wait_ms(&d, 9, 900, 5), 2300, 2700);
    /* Those that wait are longer than those that came before. */
    assert_in_range(wait_ms(&d, 9, 9 * 1000, 0), 33000, 37000);
    /* Slower, then shorter: it follows. */
    for (int i = 0; i < 600; i++) {
        demand_turn(&d, 10, 100 * MS, true);
    }
    assert_in_range(wait_ms(&d, 9, 900, 0), 14000, 16500);
    for (int i = 0; i < 100; i++) {
        demand_end(&d, 15, 5);
    }
    assert_in_range(wait_ms(&d, 9, 90, 0), 1400, 1700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demand_knows_nothing_at_first),
        cmocka_unit_test(test_demand_measures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
