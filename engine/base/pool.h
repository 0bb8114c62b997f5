/* A pool of threads that share out numbered tasks: pool_run calls a function once for every task
 * and returns when all are done. The thread that calls pool_run works along, so a pool of one has
 * no thread of its own.
 *
 * Every thread begins with an equal share of neighbouring tasks, which it does in ascending order:
 * one stream of memory for each thread, which is read ahead from task to task. Who has none left
 * takes the last one of another's, so a thread whose core was taken away holds up no more than the
 * task it is in. Between runs the threads spin for a moment (steps of a model follow each other
 * within microseconds), then sleep. pool_run may be called by one thread at a time; tasks must not
 * call it. */
#ifndef PHID_BASE_POOL_H
#define PHID_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define POOL_THREADS_MAX 1024

struct pool;

/* `thread` is below pool_threads() and different in tasks that run at the same time: an index of
 * scratch memory. */
typedef void (*pool_task)(void *context, size_t task, size_t thread);

/* `threads` includes the caller of pool_run; 0 means pool_default_threads(). */
enum phid_status pool_new(size_t threads, struct pool **ret, struct phid_error *err);

/* Not while a run is in progress. */
void pool_free(struct pool *pool);

size_t pool_threads(const struct pool *pool);

/* From now on each thread keeps to one of the cores this process may use, the caller of pool_run
 * from its next run on: threads it starts later would inherit that. Nothing changes when there are
 * more threads than cores. Not while a run is in progress. */
void pool_pin(struct pool *pool);

/* What tasks wrote is visible to the caller when this returns. */
void pool_run(struct pool *pool, pool_task task, void *context, size_t count);

/* From now on, for as long as the pool lives, the time of every task is taken. Not while a run is
 * in progress. */
void pool_measure(struct pool *pool);

/* Time spent in tasks, all threads together. Between runs, by whoever calls pool_run. */
uint64_t pool_busy_ns(const struct pool *pool);

/* How many threads this process may run at once: its affinity mask, limited by its control group's
 * quota (rounded up). At least 1. */
size_t pool_default_threads(void);

#endif
