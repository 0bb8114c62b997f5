/* The quotas of each API key: requests in flight, requests a minute, tokens a minute.
 *
 * Both rates are buckets that fill evenly and hold a minute's worth. A request takes one from the
 * first at its head; its prompt's tokens and its answer's are taken from the second once they are
 * known, so the bucket may be overdrawn, and nothing is let in until it has filled up again.
 * Requests without a key are one client together. I/O thread only. */
#ifndef PHID_SERVER_HTTP_QUOTA_H
#define PHID_SERVER_HTTP_QUOTA_H

#include "server/api/error.h"
#include "server/http/keys.h"

struct quota_limits { /* 0: no limit */
    uint32_t in_flight;
    uint32_t requests_per_minute;
    uint64_t tokens_per_minute;
};

/* One key's account. */
struct quota {
    uint64_t caller_id;
    size_t in_flight;
    double requests, tokens; /* left in the buckets */
    uint64_t filled_ms;      /* when they were last filled up to */
    struct quota *next;
};

struct quotas {
    struct quota_limits limits;
    struct quota *list; /* heap */
};

void quotas_init(struct quotas *q, const struct quota_limits *limits);
void quotas_fini(struct quotas *q);

/* Lets a request in: *ret_quota is what it holds until quota_leave, NULL when there are no limits.
 * API_RATE_LIMITED, with retry_after; API_OVERLOADED: out of memory. */
enum api_fault quota_enter(struct quotas *q, const struct caller *caller, uint64_t now_ms,
                           struct quota **ret_quota, struct api_error *err);

/* It has used so many tokens; it is done. NULL is fine. */
void quota_use(struct quota *quota, size_t tokens);
void quota_leave(struct quota *quota);

#endif
