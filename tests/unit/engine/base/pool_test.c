/* The thread pool: every task once, by a thread below the count, seen by the caller; also after
 * sleeping. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "engine/base/pool.h"

#define TASKS_MAX 5000

struct record {
    unsigned runs[TASKS_MAX]; /* plain: each task belongs to one thread */
    _Atomic size_t highest_thread;
    _Atomic size_t inside[64]; /* tasks a thread is in: never more than one */
    _Atomic bool twice_inside;
};

static void count_task(void *context, size_t task, size_t thread)
{
    struct record *r = context;
    if (atomic_fetch_add(&r->inside[thread], 1) != 0) {
        atomic_store(&r->twice_inside, true);
    }
    r->runs[task]++;
    size_t highest = atomic_load(&r->highest_thread);
    while (thread > highest &&
           !atomic_compare_exchange_weak(&r->highest_thread, &highest, thread)) {
    }
    atomic_fetch_sub(&r->inside[thread], 1);
}

static void run_many(size_t threads, const size_t *counts, size_t runs,
                     const struct timespec *pause)
{
    struct phid_error err;
    struct pool *pool;
    assert_int_equal(pool_new(threads, &pool, &err), PHID_OK);
    assert_int_equal(pool_threads(pool), threads);
    struct record *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    for (size_t i = 0; i < runs; i++) {
        pool_run(pool, count_task, r, counts[i]);
        if (pause != NULL) {
            nanosleep(pause, NULL);
        }
    }
    for (size_t task = 0; task < TASKS_MAX; task++) {
        unsigned expected = 0;
        for (size_t i = 0; i < runs; i++) {
            expected += task < counts[i];
        }
        assert_int_equal(r->runs[task], expected);
    }
    assert_true(atomic_load(&r->highest_thread) < threads);
    assert_false(atomic_load(&r->twice_inside));
    free(r);
    pool_free(pool);
}

static void test_pool_every_task_once(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, 3, 7, 64, 1000, TASKS_MAX, 1, 2};
    for (size_t threads = 1; threads <= 9; threads += 2) {
        run_many(threads, counts, sizeof(counts) / sizeof(counts[0]), NULL);
    }
}

static void test_pool_short_runs_in_a_row(void **state)
{
    (void)state;
    enum { runs = 3000 };
    static size_t counts[runs];
    for (size_t i = 0; i < runs; i++) {
        counts[i] = 2 + i % 5;
    }
    run_many(4, counts, runs, NULL);
}

static void test_pool_wakes_after_sleep(void **state)
{
    (void)state;
    static const size_t counts[] = {8, 8, 8, 8, 8};
    const struct timespec pause = {.tv_nsec = 2000000}; /* far longer than threads spin */
    run_many(3, counts, sizeof(counts) / sizeof(counts[0]), &pause);
}

struct held {
    size_t tasks;
    _Atomic size_t ended;
    size_t order[64]; /* of the tasks that ended */
};

/* The first task does not end before all others have. */
static void held_task(void *context, size_t task, size_t thread)
{
    struct held *held = context;
    (void)thread;
    while (task == 0 && atomic_load(&held->ended) < held->tasks - 1) {
        sched_yield();
    }
    held->order[atomic_fetch_add(&held->ended, 1)] = task;
}

/* A thread that is held up keeps others from none of its tasks but the one it is in, and those it
 * would have come to last go first. */
static void test_pool_takes_over_from_a_held_thread(void **state)
{
    (void)state;
    struct phid_error err;
    struct pool *pool;
    assert_int_equal(pool_new(2, &pool, &err), PHID_OK);
    for (int run = 0; run < 50; run++) {
        struct held held = {.tasks = 64};
        pool_run(pool, held_task, &held, held.tasks);
        assert_int_equal(atomic_load(&held.ended), held.tasks);
        assert_int_equal(held.order[63], 0);
        assert_int_equal(held.order[62], 1);
    }
    pool_free(pool);
}

static void nap_task(void *context, size_t task, size_t thread)
{
    (void)context;
    (void)task;
    (void)thread;
    const struct timespec nap = {.tv_nsec = 2000000};
    nanosleep(&nap, NULL);
}

/* Tasks alone count, on every thread and on the caller's way around the threads. */
static void test_pool_measures_tasks(void **state)
{
    (void)state;
    struct phid_error err;
    struct pool *pool;
    assert_int_equal(pool_new(3, &pool, &err), PHID_OK);
    pool_run(pool, nap_task, NULL, 4);
    assert_int_equal(pool_busy_ns(pool), 0);
    pool_measure(pool);
    pool_run(pool, nap_task, NULL, 9);
    assert_true(pool_busy_ns(pool) >= 9 * 2000000u);
    uint64_t before = pool_busy_ns(pool);
    pool_run(pool, nap_task, NULL, 1);
    assert_true(pool_busy_ns(pool) - before >= 2000000u);
    pool_free(pool);
}

struct seen {
    cpu_set_t cores[2]; /* [thread]: where it may run */
    _Atomic size_t in_task;
};

/* Two at a time: waits for the other, so that each thread does one. */
static void see_task(void *context, size_t task, size_t thread)
{
    struct seen *seen = context;
    (void)task;
    assert_int_equal(sched_getaffinity(0, sizeof(cpu_set_t), &seen->cores[thread]), 0);
    atomic_fetch_add(&seen->in_task, 1);
    while (atomic_load(&seen->in_task) < 2) {
        sched_yield();
    }
}

static void *run_pinned(void *context)
{
    struct phid_error err;
    struct pool *pool;
    assert_int_equal(pool_new(2, &pool, &err), PHID_OK);
    pool_pin(pool);
    pool_run(pool, see_task, context, 2);
    pool_free(pool);
    return NULL;
}

/* Each thread on a core of its own where there are enough, and none of it in this thread. */
static void test_pool_pins_its_threads(void **state)
{
    (void)state;
    cpu_set_t before, after, both;
    struct seen seen = {.in_task = 0};
    pthread_t thread;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, run_pinned, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    if (CPU_COUNT(&before) < 2) {
        assert_true(CPU_EQUAL(&seen.cores[0], &before));
        return;
    }
    CPU_AND(&both, &seen.cores[0], &seen.cores[1]);
    assert_int_equal(CPU_COUNT(&seen.cores[0]), 1);
    assert_int_equal(CPU_COUNT(&seen.cores[1]), 1);
    assert_int_equal(CPU_COUNT(&both), 0);
}

static void test_pool_limits(void **state)
{
    (void)state;
    struct phid_error err;
    struct pool *pool;
    assert_int_equal(pool_new(POOL_THREADS_MAX + 1, &pool, &err), PHID_ERR_ARGUMENT);
    assert_int_equal(pool_new(0, &pool, &err), PHID_OK);
    assert_int_equal(pool_threads(pool), pool_default_threads());
    pool_free(pool);
    pool_free(NULL);
    assert_true(pool_default_threads() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_every_task_once),
        cmocka_unit_test(test_pool_short_runs_in_a_row),
        cmocka_unit_test(test_pool_wakes_after_sleep),
        cmocka_unit_test(test_pool_takes_over_from_a_held_thread),
        cmocka_unit_test(test_pool_measures_tasks),
        cmocka_unit_test(test_pool_pins_its_threads),
        cmocka_unit_test(test_pool_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
