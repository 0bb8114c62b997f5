#include "engine/base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"

/* Long enough to bridge the gap between two operations of a step, short enough to cost nothing when
 * idle. */
#define SPIN_NS       50000u
#define SPIN_PER_LOOK 64

struct worker {
    pthread_t thread;
    struct pool *pool;
    size_t index;
};

/* A line of its own for each thread. Written in a task by its thread, before `done` counts the
 * task. */
struct busy {
    _Alignas(64) uint64_t ns;
};

/* A thread's tasks that nobody has taken: first in the low half, end in the high half. Set with
 * release by pool_run after the fields of the run; a task is taken by compare-and-swap, whose
 * success is the acquire. So whoever takes a task, however late he comes, sees the run it belongs
 * to, and that run can not end before. */
struct range {
    _Alignas(64) _Atomic uint64_t tasks;
};

struct pool {
    /* Written by pool_run while no task can be taken. */
    pool_task task;
    void *context;
    size_t count;
    struct range *ranges; /* of each thread */

    _Alignas(64) _Atomic uint64_t runs; /* so far; counted when a run's ranges are set */
    _Alignas(64) _Atomic size_t
        done; /* tasks finished in this run; release by the doer, acquire by the caller */
    _Atomic size_t sleepers; /* threads in `wake`; sequentially consistent against runs */
    _Atomic bool
        caller_sleeps; /* the caller is in `finished`; sequentially consistent against done */
    _Atomic bool stop;

    pthread_mutex_t mutex;
    pthread_cond_t wake;     /* there is a run, or stop */
    pthread_cond_t finished; /* done reached count */

    size_t threads;
    size_t started; /* workers that exist */
    struct worker *workers;
    bool measured;
    bool pin_caller;
    struct busy *busy; /* of each thread */
};

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes the first task of a range, or the last one. */
static bool take_from(struct range *range, bool last, size_t *ret_task)
{
    uint64_t tasks = atomic_load_explicit(&range->tasks, memory_order_relaxed);
    for (;;) {
        uint64_t first = (uint32_t)tasks;
        uint64_t end = tasks >> 32;
        if (first == end) {
            return false;
        }
        uint64_t left = last ? (end - 1) << 32 | first : end << 32 | (first + 1);
        if (atomic_compare_exchange_weak_explicit(&range->tasks, &tasks, left, memory_order_acquire,
                                                  memory_order_relaxed)) {
            *ret_task = last ? end - 1 : first;
            return true;
        }
    }
}

/* Its own tasks in order, then those that others would come to last. */
static bool take(struct pool *pool, size_t thread, size_t *ret_task)
{
    if (take_from(&pool->ranges[thread], false, ret_task)) {
        return true;
    }
    for (size_t i = 1; i < pool->threads; i++) {
        if (take_from(&pool->ranges[(thread + i) % pool->threads], true, ret_task)) {
            return true;
        }
    }
    return false;
}

static void run_task(struct pool *pool, size_t task, size_t thread)
{
    if (!pool->measured) {
        pool->task(pool->context, task, thread);
        return;
    }
    uint64_t start = clock_now_ns();
    pool->task(pool->context, task, thread);
    pool->busy[thread].ns += clock_now_ns() - start;
}

/* Works until no task is left to take. */
static void work(struct pool *pool, size_t thread)
{
    size_t task;
    while (take(pool, thread, &task)) {
        size_t count = pool->count;
        run_task(pool, task, thread);
        /* After the last one is counted the caller may return and start another run: touch nothing
         * of this one. */
        if (atomic_fetch_add(&pool->done, 1) + 1 == count && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

/* Whether there was a run after number `seen`, within a moment. */
static bool spin_for_run(struct pool *pool, uint64_t seen)
{
    uint64_t start = clock_now_ns();
    do {
        for (int i = 0; i < SPIN_PER_LOOK; i++) {
            if (atomic_load_explicit(&pool->runs, memory_order_relaxed) != seen) {
                return true;
            }
            pause_briefly();
        }
    } while (clock_now_ns() - start < SPIN_NS &&
             !atomic_load_explicit(&pool->stop, memory_order_relaxed));
    return false;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    while (!atomic_load(&pool->stop)) {
        uint64_t seen = atomic_load(&pool->runs);
        work(pool, worker->index);
        if (spin_for_run(pool, seen)) {
            continue;
        }
        pthread_mutex_lock(&pool->mutex);
        /* Announce first, look again after: pool_run publishes first and looks for sleepers after.
         */
        atomic_fetch_add(&pool->sleepers, 1);
        while (atomic_load(&pool->runs) == seen && !atomic_load(&pool->stop)) {
            pthread_cond_wait(&pool->wake, &pool->mutex);
        }
        atomic_fetch_sub(&pool->sleepers, 1);
        pthread_mutex_unlock(&pool->mutex);
    }
    return NULL;
}

static void wait_until_done(struct pool *pool, size_t count)
{
    uint64_t start = clock_now_ns();
    do {
        for (int i = 0; i < SPIN_PER_LOOK; i++) {
            if (atomic_load_explicit(&pool->done, memory_order_acquire) == count) {
                return;
            }
            pause_briefly();
        }
    } while (clock_now_ns() - start < SPIN_NS);

    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != count) {
        pthread_cond_wait(&pool->finished, &pool->mutex);
    }
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->mutex);
}

/* At most UINT32_MAX tasks. */
static void run_part(struct pool *pool, pool_task task, void *context, size_t count)
{
    pool->task = task;
    pool->context = context;
    pool->count = count;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    for (size_t i = 0; i < pool->threads; i++) {
        uint64_t first = i * count / pool->threads;
        uint64_t end = (i + 1) * count / pool->threads;
        atomic_store_explicit(&pool->ranges[i].tasks, end << 32 | first, memory_order_release);
    }
    atomic_fetch_add(&pool->runs, 1);
    if (atomic_load(&pool->sleepers) != 0) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    wait_until_done(pool, count);
}

struct shifted {
    pool_task task;
    void *context;
    size_t first;
};

static void run_shifted(void *context, size_t task, size_t thread)
{
    const struct shifted *shifted = context;
    shifted->task(shifted->context, shifted->first + task, thread);
}

/* Moves `thread` to the core with this number among those of the process. */
static void pin(pthread_t thread, const cpu_set_t *allowed, size_t number)
{
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, allowed) && number-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            (void)pthread_setaffinity_np(thread, sizeof(one), &one);
            return;
        }
    }
}

static void pin_caller(struct pool *pool)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    pool->pin_caller = false;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        pin(pthread_self(), &allowed, 0);
    }
}

void pool_run(struct pool *pool, pool_task task, void *context, size_t count)
{
    if (pool->pin_caller) {
        pin_caller(pool);
    }
    if (count <= 1 || pool->started == 0) {
        pool->task = task;
        pool->context = context;
        for (size_t i = 0; i < count; i++) {
            run_task(pool, i, 0);
        }
        return;
    }
    if (count <= UINT32_MAX) {
        run_part(pool, task, context, count);
        return;
    }
    for (size_t first = 0; first < count; first += UINT32_MAX) {
        struct shifted shifted = {.task = task, .context = context, .first = first};
        size_t part = count - first < UINT32_MAX ? count - first : UINT32_MAX;
        run_part(pool, run_shifted, &shifted, part);
    }
}

void pool_pin(struct pool *pool)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 ||
        (size_t)CPU_COUNT(&allowed) < pool->threads) {
        return;
    }
    for (size_t i = 0; i < pool->started; i++) {
        pin(pool->workers[i].thread, &allowed, pool->workers[i].index);
    }
    pool->pin_caller = true;
}

void pool_measure(struct pool *pool)
{
    pool->measured = true;
}

uint64_t pool_busy_ns(const struct pool *pool)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pool->threads; i++) {
        sum += pool->busy[i].ns;
    }
    return sum;
}

size_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}

/* Signals are the program's business and not these threads'; but a fault of their own, such as a
 * mapped page that can not be read, comes to them in any case and must find the program's handler.
 */
static int start_worker(struct worker *worker)
{
    sigset_t blocked, before;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    int error = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

enum phid_status pool_new(size_t threads, struct pool **ret, struct phid_error *err)
{
    if (threads == 0) {
        threads = pool_default_threads();
    }
    if (threads > POOL_THREADS_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%zu threads are more than %d", threads,
                         POOL_THREADS_MAX);
    }
    struct pool *pool = aligned_alloc(64, sizeof(*pool));
    struct worker *workers = calloc(threads, sizeof(*workers));
    struct busy *busy = aligned_alloc(64, threads * sizeof(*busy));
    struct range *ranges = aligned_alloc(64, threads * sizeof(*ranges));
    if (pool == NULL || workers == NULL || busy == NULL || ranges == NULL) {
        free(pool);
        free(workers);
        free(busy);
        free(ranges);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a pool of %zu threads", threads);
    }
    memset(pool, 0, sizeof(*pool));
    memset(busy, 0, threads * sizeof(*busy));
    memset(ranges, 0, threads * sizeof(*ranges));
    pool->busy = busy;
    pool->ranges = ranges;
    pool->threads = threads;
    pool->workers = workers;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (size_t i = 1; i < threads; i++) {
        struct worker *worker = &workers[pool->started];
        *worker = (struct worker){.pool = pool, .index = i};
        int error = start_worker(worker);
        if (error != 0) {
            pool_free(pool);
            return phid_fail(err, PHID_ERR_MEMORY, "cannot start thread %zu of %zu: %s", i + 1,
                             threads, strerror(error));
        }
        pool->started++;
    }
    *ret = pool;
    return PHID_OK;
}

void pool_free(struct pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; i < pool->started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool->busy);
    free(pool->ranges);
    free(pool);
}

/* Whole cores of the control group's quota (cgroup v2's cpu.max, "quota period" or "max period"); 0
 * when unlimited or unknown. In a container the file of its own group is at the root of the mount.
 */
static size_t quota_cores(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL) {
        return 0;
    }
    char line[64] = "";
    bool read = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    if (!read) {
        return 0;
    }
    char *end;
    errno = 0;
    unsigned long long quota = strtoull(line, &end, 10);
    if (errno != 0 || end == line || quota == 0) {
        return 0;
    }
    unsigned long long period = strtoull(end, NULL, 10);
    if (errno != 0 || period == 0) {
        return 0;
    }
    return (size_t)((quota - 1) / period + 1);
}

static size_t affinity_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count > 0 ? (size_t)count : 1;
}

size_t pool_default_threads(void)
{
    size_t cores = affinity_cores();
    size_t quota = quota_cores();
    if (quota != 0 && quota < cores) {
        cores = quota;
    }
    return cores < POOL_THREADS_MAX ? cores : POOL_THREADS_MAX;
}
