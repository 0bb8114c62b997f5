/* The demand: how much a request takes and how much the engine gets done when it is full, both
 * measured, and so how long a new request would wait for its first step.
 *
 * The step thread tells it about turns and ended sequences; any thread may ask, without a lock. */
#ifndef PHID_SCHED_DEMAND_H
#define PHID_SCHED_DEMAND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct demand {
    /* Step thread. Sums over the last busy seconds, older ones fading. */
    double rows, seconds;
    double request_rows, answer_rows; /* running means, of a request and of its answer */
    uint64_t requests;

    /* Written by the step thread, read by any; relaxed, each is true by itself. 0: not known yet.
     */
    _Atomic uint64_t rows_per_second, rows_per_request, rows_per_answer;
};

/* What stands before a new request. */
struct demand_queue {
    size_t waiting; /* requests */
    size_t tokens;  /* of their prompts */
    size_t seats;   /* free */
};

void demand_init(struct demand *d);

/* A turn computed `rows` rows in `ns`; `full`: every seat was taken. Only full turns tell what the
 * engine can do. */
void demand_turn(struct demand *d, size_t rows, uint64_t ns, bool full);

/* A sequence ended that took so many rows, so many of them for its answer. */
void demand_end(struct demand *d, size_t rows, size_t answer);

/* How long a request that comes now would wait; 0 while nothing is known. */
uint64_t demand_wait_ns(const struct demand *d, const struct demand_queue *queue);

#endif
