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
    meter_beat(&m);
    pass_ms(20);
    assert_true(meter_stalled_ns(&m, 0) >= 20 * CLOCK_NS_PER_MS);
    meter_beat(&m);
    uint64_t moved_ns = clock_now_ns();
    assert_true(meter_stalled_ns(&m, 0) <= clock_now_ns() - moved_ns + CLOCK_NS_PER_S);

    /* Asleep it is well, until somebody calls and it sleeps on. */
    meter_rest(&m);
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
    meter_rest(&m);
    assert_true(meter_stalled_ns(&m, called_ns) < clock_now_ns() - called_ns);
    doorbell_wait(bell, UINT64_MAX);
    assert_int_equal(doorbell_rung_ns(bell), 0);
    assert_int_equal(meter_stalled_ns(&m, doorbell_rung_ns(bell)), 0);
    doorbell_unref(bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_meter_stalled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
