/* What the server counts about itself, and the page that GET /metrics answers.
 *
 * One struct metrics in the I/O loop: the I/O thread adds, the I/O thread writes the page, so plain
 * numbers will do. The engine's own counters and histograms are read without a lock. Every name is
 * described in README.md beside this file. */
#ifndef PHID_SERVER_METRICS_METRICS_H
#define PHID_SERVER_METRICS_METRICS_H

#include "engine/phid.h"
#include "server/api/error.h"

#define METRICS_PATHS    16
#define METRICS_STATUSES 24

#define METRICS_SIZES 17

/* How many values fell below each of some bounds (sizes[] in metrics.c), and their sum. */
struct metrics_sizes {
    uint64_t counts[METRICS_SIZES + 1];
    uint64_t sum;
};

struct metrics {
    uint64_t requests[METRICS_PATHS][METRICS_STATUSES]; /* answered, by path and statuses[] */
    unsigned statuses[METRICS_STATUSES];                /* as they first came up; 0: none yet */
    uint64_t faults[API_FAULT_COUNT];                   /* errors answered */
    uint64_t clients_gone;                              /* left before their answer's end */
    uint64_t connections;                               /* accepted */
    struct metrics_sizes candidates, longest;           /* of requests answered to their end */
};

/* One request answered to its end: how many candidates it asked for, tokens of the longest. */
void metrics_count_answer(struct metrics *m, size_t candidates, size_t longest);

/* One request more. status 0: the client left before one was sent. */
void metrics_count_request(struct metrics *m, size_t path, unsigned status);
void metrics_count_fault(struct metrics *m, enum api_fault fault); /* API_OK counts nothing */

/* What is true now. */
struct metrics_now {
    struct phid_engine *engine; /* NULL while the model loads */
    const char *model;          /* the served name; NULL with it */
    bool ready, draining;
    size_t connections, requests, preparing, body_bytes;
    const char *(*path_name)(size_t path); /* NULL: there is no such path */
};

void metrics_write(const struct metrics *m, const struct metrics_now *now, struct buf *out);

#endif
