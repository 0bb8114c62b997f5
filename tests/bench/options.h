/* What the command line asks for: where to, what traffic, how much, what to report. Read once by
 * main; the others borrow it. */
#ifndef PHID_BENCH_OPTIONS_H
#define PHID_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/buf.h"

#define OPTIONS_HEADERS_MAX 8

enum workload { WORKLOAD_FIXED, WORKLOAD_SHARED_PREFIX, WORKLOAD_MULTI_TURN };

/* Limits of a request that counts as good, in milliseconds; 0: none. */
struct goals {
    double ttft_ms, tpot_ms, e2el_ms;
};

struct options {
    const char *url, *model, *api_key; /* model NULL: the first that the server lists */
    bool chat;                         /* /v1/chat/completions, else /v1/completions */
    enum workload workload;
    size_t concurrency; /* clients; with a rate, the most requests in flight, 0: no limit */
    double rate;        /* requests a second, Poisson arrivals; 0: closed loop */
    size_t requests;    /* 0: until the duration is over */
    double duration_s;  /* 0: until all requests are made */
    size_t warmup;      /* requests before the measured ones */
    size_t prompt_tokens, answer_tokens;
    size_t prefix_tokens, prefixes; /* of shared-prefix */
    size_t turns;                   /* of multi-turn */
    double spread;                  /* lengths vary by this part of themselves, 0 to 1 */
    uint32_t id_low, id_high;       /* token ids of random prompts */
    bool words;                     /* prompts as text, also for completions */
    bool plain;                     /* no fields that only inference servers know */
    bool reconnect;                 /* a connection for every request */
    double temperature;
    uint64_t seed;
    struct goals goals;
    const char *headers[OPTIONS_HEADERS_MAX]; /* "name: value" */
    size_t header_count;
    struct buf extra; /* members for the body, each with a comma before it */
    bool json;
    const char *trace; /* file for one JSON line a request; NULL: none */
};

/* 0: go on; else main ends with it less one: help was asked for, or the usage was wrong (said on
 * stderr). */
int options_read(struct options *o, int argc, char **argv);
void options_fini(struct options *o);

#endif
