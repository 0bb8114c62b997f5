/* A connection to the server with at most one request on it, and what is measured of that.
 *
 *   client_ask -> epoll events -> client_on_event says that the answer is there -> client_ask ...
 *
 * Owned by the run; its conversation too. */
#ifndef PHID_BENCH_CLIENT_H
#define PHID_BENCH_CLIENT_H

#include "tests/bench/response.h"
#include "tests/bench/samples.h"
#include "tests/bench/sse.h"
#include "tests/bench/target.h"
#include "tests/bench/traffic.h"

#define CLIENT_SCRATCH 65536

enum outcome {
    OUTCOME_NONE,    /* not there yet */
    OUTCOME_GOOD,    /* 200 and a whole stream */
    OUTCOME_REFUSED, /* 429 or 503, before anything else */
    OUTCOME_FAILED,
    OUTCOME_CUT, /* by the end of the run */
};

struct client_result {
    enum outcome outcome;
    unsigned status;
    uint64_t start_ns;
    double ttft_ms, e2el_ms; /* ttft 0: no piece came */
    struct sse_usage usage;
    size_t pieces;
    bool has_usage, has_retry_after, well_formed; /* the last two: of an error's answer */
    char reason[96];                              /* "503 overloaded"; empty when good */
};

struct client {
    struct client *next_free;
    int fd; /* -1: not connected */
    int epoll_fd;
    uint32_t events;
    bool busy, reused;
    struct buf out; /* the request */
    size_t sent;
    struct response response;
    struct sse sse;
    struct buf error_body;
    bool done_seen;
    uint64_t last_ns; /* of the last piece */
    struct samples gaps;
    struct client_result result;
    struct conversation talk;
};

void client_init(struct client *c, int epoll_fd);
void client_fini(struct client *c);

/* Sends the conversation's next question; `target` and `traffic` as in every call. False when it
 * already failed: the result is there. */
bool client_ask(struct client *c, const struct target *target, struct traffic *traffic);

/* True when the request has ended: the result is there. `scratch` holds CLIENT_SCRATCH bytes. */
bool client_on_event(struct client *c, const struct target *target, struct traffic *traffic,
                     uint32_t events, char *scratch);

/* Ends a request that nobody waits for any more, or an idle connection. */
void client_cut(struct client *c);

#endif
