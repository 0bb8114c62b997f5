/* The meter's word on whether the step thread moves. */
#include "engine/sched/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/sched/doorbell.h"

static void pass_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static void test_meter_stalled(void **state)
{
    (void)state;
    struct meter m;
    struct doorbell *bell;
    meter_init(&m);
    assert_int_equal(doorbell_new(&bell, NULL), PHID_OK);
    assert_int_equal(meter_stalled_ns(&m, 0), 0);
    meter_wake(&m);
    pass_ms(20);
    assert_true(meter_stalled_ns(&m, 0) >= 20 * CLOCK_NS_PER_MS);
    meter_beat(&m);
    uint64_t moved_ns = clock_now_ns();
    assert_true(meter_stalled_ns(&m, 0) <= clock_now_ns() - moved_ns + CLOCK_NS_PER_S);

    /* Asleep it is well, until somebody calls and it sleeps on. */
    meter_rest(&m, false);
    pass_ms(20);
    assert_int_equal(meter_stalled_ns(&m, doorbell_rung_ns(bell)), 0);
    doorbell_ring(bell);
    pass_ms(20);
    doorbell_ring(bell); /* the first call counts */
    uint64_t stalled_ns = meter_stalled_ns(&m, doorbell_rung_ns(bell));
    assert_true(stalled_ns >= 20 * CLOCK_NS_PER_MS);

    /* A call from before it fell asleep is about to be heard. */
    uint64_t called_ns = doorbell_rung_ns(bell);
    pass_ms(20);
    meter_rest(&m, false);
    assert_true(meter_stalled_ns(&m, called_ns) < clock_now_ns() - called_ns);
    doorbell_wait(bell, UINT64_MAX);
    assert_int_equal(doorbell_rung_ns(bell), 0);
    assert_int_equal(meter_stalled_ns(&m, doorbell_rung_ns(bell)), 0);
    doorbell_unref(bell);
}

/* Waking, looking and sleeping again is no move while there is work. */
static void test_meter_sleeps_beside_work(void **state)
{
    (void)state;
    struct meter m;
    meter_init(&m);
    for (int i = 0; i < 4; i++) {
        meter_wake(&m);
        meter_rest(&m, true);
        pass_ms(10);
    }
    assert_true(meter_stalled_ns(&m, 0) >= 40 * CLOCK_NS_PER_MS);
    meter_wake(&m);
    uint64_t before_ns = meter_stalled_ns(&m, 0);
    assert_true(before_ns >= 40 * CLOCK_NS_PER_MS);
    meter_beat(&m);
    assert_true(meter_stalled_ns(&m, 0) < before_ns);

    /* Without work it begins anew when it wakes. */
    meter_rest(&m, false);
    assert_int_equal(meter_stalled_ns(&m, 0), 0);
    pass_ms(20);
    uint64_t woken_ns = clock_now_ns();
    meter_wake(&m);
    assert_true(meter_stalled_ns(&m, 0) <= clock_now_ns() - woken_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_meter_stalled),
                                       cmocka_unit_test(test_meter_sleeps_beside_work)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
