/* The event loop: when requests are made, and what became of them. One thread. */
#ifndef PHID_BENCH_RUN_H
#define PHID_BENCH_RUN_H

#include <stdio.h>

#include "tests/bench/client.h"
#include "tests/bench/tally.h"

struct run {
    const struct options *options;
    const struct target *target;
    struct traffic *traffic;
    FILE *trace; /* NULL: none */
    int epoll_fd, timer_fd;
    char *scratch;
    struct client *free; /* clients without a request */
    struct client **clients;
    size_t client_count, client_capacity;
    /* Of the phase. */
    size_t limit;       /* requests to make */
    size_t concurrency; /* in flight at most */
    bool open;          /* arrivals decide, not answers */
    uint64_t begin_ns, stop_ns, next_ns;
    size_t started, in_flight;
    size_t late; /* arrived and not yet started */
    struct tally tally;
};

bool run_init(struct run *r, const struct options *o, const struct target *target,
              struct traffic *traffic);
void run_fini(struct run *r);

/* The warm-up, then the measured requests, whose results are in r->tally afterwards. Ends early,
 * with what there is, when `*stop` becomes true. False: out of memory or descriptors. */
bool run_all(struct run *r, volatile int *stop);

#endif
